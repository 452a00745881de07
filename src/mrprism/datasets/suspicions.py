"""What is worth a second look in masks that read well: copies, shifts, corrections, inversions.

Each suspicion looks at one structure of one case at a time, keeps counts and no image, and says at the end
what it saw. To see something takes time and needs the masks, so another process may do it (`see`); to keep it is a matter
of counts (`keep`). All of them compare a rater with other raters or with the rater's own other masks: nobody
else can say what a structure should look like.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mrprism.datasets.lines import inner_lines, wider
from mrprism.datasets.odd_shapes import framed, is_inverted, odd_shape
from mrprism.datasets.pieces import Piece, joined, slabs, widened

SHARED = 3  # masks that two raters must share before their likeness says anything
STEADY = 5  # cases from which on a displacement is believed more readily
TELLING = 20  # pixels below which masks and outlines are alike by chance
_NUMBERS = 1 << 22  # in a table that is made at once
CORRECTED = 0.8  # share of the outline, equal to the pixel, that two people do not reach


@dataclass(frozen=True)
class Look:
    """The masks of one structure of one case that are not empty, by the rater's number, cut to one box."""

    case: str
    picture: str  # hash of the image
    structure: int
    masks: dict[int, Any]  # arrays of bool, or `Bits`
    reference: np.ndarray | None
    prints: dict[int, str]  # hashes of the masks
    reference_print: str | None
    whole: bool  # the box is the image


def look_at(
    case: str, picture: str, structure: int, pieces: Mapping[int, Piece], reference: Piece | None
) -> Look | None:
    """What there is to look at; None if there is nothing."""
    drawn = {rater: piece for rater, piece in pieces.items() if not piece.empty}
    if not drawn:
        return None
    known = reference is not None and not reference.empty
    all_of_them = [*drawn.values(), *([reference] if reference is not None and known else [])]
    shape = all_of_them[0].shape
    box = widened(joined(piece.box for piece in all_of_them), shape)
    on_box = None
    if reference is not None:
        on_box = reference.on(box) if known else np.zeros([part.stop - part.start for part in box], bool)
    return Look(
        case,
        picture,
        structure,
        {rater: piece.on(box) for rater, piece in drawn.items()},
        on_box,
        {rater: fingerprint(piece) for rater, piece in drawn.items()},
        None if reference is None else fingerprint(reference),
        all((part.start, part.stop) == (0, n) for part, n in zip(box, shape, strict=True)),
    )


@runtime_checkable
class Suspicion(Protocol):
    """Something to look out for."""

    def see(self, at: Look) -> Any:
        """What is worth keeping of it, without the masks; None: nothing."""

    def keep(self, seen: Any) -> None:
        """Count what was seen of one case after the other, in their order."""

    def say(self, raters: Sequence[str], structures: Sequence[str]) -> Iterator[str]: ...


def see(suspicions: Sequence[Suspicion], at: Look | None) -> list[Any]:
    """What each of them sees."""
    return [None if at is None else suspicion.see(at) for suspicion in suspicions]


def keep(suspicions: Sequence[Suspicion], seen: Sequence[Any]) -> None:
    """Have each of them keep what `see` saw."""
    for suspicion, its in zip(suspicions, seen, strict=True):
        if its is not None:
            suspicion.keep(its)


def suspicions() -> list[Suspicion]:
    return [
        NeverDiffer(),
        CopiedReference(),
        Shifted(),
        Corrections(),
        Inverted(),
        SameMask(),
        SameStructures(),
    ]


def fingerprint(piece: Piece) -> str:
    where = repr((piece.shape, [(part.start, part.stop) for part in piece.box]))
    bits = hashlib.sha256()
    for slab in slabs(piece.inside.shape):
        bits.update(np.packbits(piece.inside[slab]).tobytes())
    bits.update(where.encode())
    return bits.hexdigest()


class NeverDiffer:
    """Two raters whose masks are equal, all of them."""

    def __init__(self) -> None:
        self.both = _Table()
        self.equal = _Table()

    def see(self, at: Look) -> tuple[list[int], np.ndarray]:
        raters = sorted(at.masks)
        return raters, np.unique([at.prints[rater] for rater in raters], return_inverse=True)[1]

    def keep(self, seen: tuple[list[int], np.ndarray]) -> None:
        raters, kinds = seen
        self.both.add(raters, np.ones((len(raters), len(raters)), int))
        self.equal.add(raters, (kinds[:, None] == kinds[None, :]).astype(int))

    def say(self, raters: Sequence[str], structures: Sequence[str]) -> Iterator[str]:
        found = (self.both.counts >= SHARED) & (self.equal.counts == self.both.counts)
        for one, other in np.argwhere(np.triu(found, 1)).tolist():
            both = self.both.counts[one, other]
            yield f"raters '{raters[one]}' and '{raters[other]}' never differ ({both} masks)"


class _Table:
    """A number for every pair of raters, as many as have been met."""

    def __init__(self) -> None:
        self.counts = np.zeros((0, 0), int)

    def add(self, raters: list[int], more: np.ndarray) -> None:
        lacking = max(raters) + 1 - len(self.counts)
        if lacking > 0:
            self.counts = np.pad(self.counts, (0, lacking))
        self.counts[np.ix_(raters, raters)] += more


class CopiedReference:
    """A reference that is one rater's work."""

    def __init__(self) -> None:
        self.both: Counter[int] = Counter()
        self.equal: Counter[int] = Counter()

    def see(self, at: Look) -> dict[int, bool] | None:
        if at.reference is None:
            return None
        return {rater: own == at.reference_print for rater, own in at.prints.items()}

    def keep(self, seen: dict[int, bool]) -> None:
        for rater, equal in seen.items():
            self.both[rater] += 1
            self.equal[rater] += equal

    def say(self, raters: Sequence[str], structures: Sequence[str]) -> Iterator[str]:
        for rater, both in sorted(self.both.items()):
            if both >= SHARED and self.equal[rater] == both:
                yield f"the reference is rater '{raters[rater]}' copied ({both} masks)"


class Shifted:
    """A rater who lies to one side of the others by two pixels or more, steadily."""

    def __init__(self) -> None:
        self.moves: defaultdict[tuple[int, int], list[np.ndarray]] = defaultdict(list)
        self.apart: defaultdict[tuple[int, int, int], list[np.ndarray]] = defaultdict(list)

    def see(self, at: Look) -> tuple[int, dict[int, np.ndarray]]:
        return at.structure, {rater: _centre(mask) for rater, mask in at.masks.items()}

    def keep(self, seen: tuple[int, dict[int, np.ndarray]]) -> None:
        structure, centres = seen
        if len(centres) == 2:  # nobody can say which of the two moved
            (one, a), (other, b) = sorted(centres.items())
            self.apart[one, other, structure].append(b - a)
        elif len(centres) > 2:
            middle = np.median(list(centres.values()), axis=0)
            for rater, centre in centres.items():
                self.moves[rater, structure].append(centre - middle)

    def say(self, raters: Sequence[str], structures: Sequence[str]) -> Iterator[str]:
        for (rater, c), moves in sorted(self.moves.items()):
            if by := _steady(moves):
                masks = f"all {len(moves)} masks of '{structures[c]}' by rater '{raters[rater]}'"
                yield f"{masks} lie ({by}) pixels from the others'"
        for (one, other, c), moves in sorted(self.apart.items()):
            if by := _steady(moves):
                masks = f"all {len(moves)} masks of '{structures[c]}' by rater '{raters[other]}'"
                yield f"{masks} lie ({by}) pixels from those by rater '{raters[one]}'"


@dataclass(frozen=True)
class _Lines:
    """What raters with enough outline share of it; nothing but who they are where no two share much."""

    raters: list[int]
    share: np.ndarray | None = None  # (rater, rater) of the outlines, equal to the pixel
    differ: np.ndarray | None = None  # ... much is shared and the masks are not the same
    edited: np.ndarray | None = None  # ... and differ by more than a pixel


class Corrections:
    """Raters who began from one another's masks: their outlines are equal to the pixel but for some edits.

    Every mask is eroded and dilated once; all pairs of raters then come from products of tables.
    """

    def __init__(self) -> None:
        self.seen = _Table()  # cases with enough outline
        self.edited = _Table()  # of the cases below, those that differ by more than a pixel
        self.differ = _Table()  # cases with a large share that are not the same mask
        self.shares: defaultdict[tuple[int, int], list[float]] = defaultdict(list)  # those that are large

    def see(self, at: Look) -> _Lines | None:
        raters = sorted(at.masks)
        together = np.zeros(
            (len(raters), len(raters))
        )  # pixels of outlines that two share; alone: all of one's
        for lines in inner_lines(at.masks, 0):
            together += _together(lines, lines, raters)
        long = np.flatnonzero(np.diag(together) >= TELLING)
        if len(long) < 2:
            return None
        raters, together = [raters[place] for place in long], together[np.ix_(long, long)]
        lengths = np.diag(together)
        share = 2 * together / (lengths[:, None] + lengths[None, :])
        large = share >= CORRECTED
        if not np.triu(large, 1).any():
            return _Lines(raters)
        kinds = np.unique([at.prints[rater] for rater in raters], return_inverse=True)[1]
        other = large & (kinds[:, None] != kinds[None, :])
        strays = np.zeros(share.shape, bool)
        for lines in inner_lines({rater: at.masks[rater] for rater in raters}, 1):
            beside = {rater: ~wider(line)[1:-1] for rater, line in lines.items()}
            strays |= _together({rater: line[1:-1] for rater, line in lines.items()}, beside, raters) > 0
        return _Lines(raters, share, other, other & (strays | strays.T))

    def keep(self, seen: _Lines) -> None:
        raters = seen.raters
        self.seen.add(raters, np.ones((len(raters), len(raters)), int))
        if seen.share is None or seen.differ is None or seen.edited is None:
            return
        self.differ.add(raters, seen.differ.astype(int))
        self.edited.add(raters, seen.edited.astype(int))
        for one, two in np.argwhere(np.triu(seen.share >= CORRECTED, 1)).tolist():
            self.shares[raters[one], raters[two]].append(float(seen.share[one, two]))

    def say(self, raters: Sequence[str], structures: Sequence[str]) -> Iterator[str]:
        found = {}
        for (one, other), large in self.shares.items():
            count = int(self.seen.counts[one, other])
            differ = int(self.differ.counts[one, other])
            if count < SHARED or 2 * len(large) <= count or differ == 0:  # never different is said elsewhere
                continue
            if 2 * int(self.edited.counts[one, other]) < differ:  # merely jitter on a coarse grid
                continue
            small = [0.0] * (count - len(large))  # below the median, whatever they are
            found[one, other] = float(np.median(small + large))
        for links in _trees(found):
            names = ", ".join(f"'{raters[r]}'" for r in sorted({r for pair in links for r in pair}))
            how = ", ".join(
                f"{raters[one]}–{raters[other]} {100 * found[one, other]:.0f} %" for one, other in links
            )
            yield (
                f"masks by raters {names} seem to be corrections of one another: the share of their outlines "
                f"that is equal to the pixel is {how}"
            )


class Inverted:
    """Masks that mark the image's border and leave out what the others mark."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[int, int]] = Counter()
        self.cases: defaultdict[tuple[int, int], list[str]] = defaultdict(list)

    def see(self, at: Look) -> tuple[str, int, list[int], list[int]] | None:
        others = len(at.masks) - 1
        if others == 0 and at.reference is None:
            return None
        edged = [rater for rater, mask in at.masks.items() if at.whole and framed(mask) >= 0.9]
        inverted = []
        votes = np.zeros(at.masks[edged[0]].shape if edged else (), np.int16)
        for mask in at.masks.values() if edged else ():
            votes += mask
        for rater in edged:
            mask = at.masks[rater]
            middle = (votes - mask) * 2 > others if others else at.reference
            if middle is not None and is_inverted(mask, middle):
                inverted.append(rater)
        return at.case, at.structure, list(at.masks), inverted

    def keep(self, seen: tuple[str, int, list[int], list[int]]) -> None:
        case, structure, raters, inverted = seen
        for rater in raters:
            self.seen[rater, structure] += 1
        for rater in inverted:
            self.cases[rater, structure].append(case)

    def say(self, raters: Sequence[str], structures: Sequence[str]) -> Iterator[str]:
        for (rater, c), cases in sorted(self.cases.items()):
            count, own = len(cases), f"of '{structures[c]}' by rater '{raters[rater]}'"
            which = f"all {count} masks" if count == self.seen[rater, c] > 1 else f"masks ({_some(cases)})"
            yield f"{which} {own} look inverted: they mark what the others leave out"


class SameMask:
    """A rater who marks the very same mask on different images."""

    def __init__(self) -> None:
        self.cases: defaultdict[tuple[int, int, str], dict[str, str]] = defaultdict(dict)

    def see(self, at: Look) -> tuple[str, str, list[tuple[int, int, str]]]:
        told = [
            (rater, at.structure, at.prints[rater])
            for rater, mask in at.masks.items()
            if int(mask.sum()) >= TELLING and not (at.whole and odd_shape(mask))
        ]
        return at.case, at.picture, told

    def keep(self, seen: tuple[str, str, list[tuple[int, int, str]]]) -> None:
        case, picture, told = seen
        for mask in told:
            self.cases[mask][picture] = case

    def say(self, raters: Sequence[str], structures: Sequence[str]) -> Iterator[str]:
        for (rater, c, _), cases in sorted(self.cases.items()):
            if len(cases) >= SHARED:
                names = _some(list(cases.values()))
                yield f"rater '{raters[rater]}' has the same mask of '{structures[c]}' on different images: {names}"


class SameStructures:
    """A rater whose masks of two structures are equal, all of them."""

    def __init__(self) -> None:
        self.cases: dict[str, int] = {}
        self.present: defaultdict[tuple[int, int], int] = defaultdict(
            int
        )  # rater, structure: a bit for each case
        self.last: tuple[str, dict[tuple[int, str], list[int]]] = ("", {})
        self.equal: Counter[tuple[int, int, int]] = Counter()

    def see(self, at: Look) -> tuple[str, int, dict[int, str]]:
        return at.case, at.structure, at.prints

    def keep(self, seen: tuple[str, int, dict[int, str]]) -> None:
        case, structure, prints = seen
        bit = 1 << self.cases.setdefault(case, len(self.cases))
        if self.last[0] != case:
            self.last = (case, {})
        for rater, own in prints.items():
            self.present[rater, structure] |= bit
            same = self.last[1].setdefault((rater, own), [])
            for c in same:
                self.equal[rater, c, structure] += 1
            same.append(structure)

    def say(self, raters: Sequence[str], structures: Sequence[str]) -> Iterator[str]:
        for (rater, c, d), equal in sorted(self.equal.items()):
            both = (self.present[rater, c] & self.present[rater, d]).bit_count()
            if both >= SHARED and equal == both:
                pair = f"'{structures[c]}' and '{structures[d]}'"
                yield f"rater '{raters[rater]}' has the same mask for {pair} on all {both} cases with both"


def _together(
    some: Mapping[int, np.ndarray], others: Mapping[int, np.ndarray], raters: Sequence[int]
) -> np.ndarray:
    """How many pixels one mask of each rater shares with another mask of each, for all pairs."""
    size = some[raters[0]].size
    found = np.zeros((len(raters), len(raters)))
    step = max(1, _NUMBERS // len(raters))
    for start in range(0, size, step):
        a, b = (
            np.stack([masks[rater].ravel()[start : start + step] for rater in raters]).astype(np.float32)
            for masks in (some, others)
        )
        found += a @ b.T
    return found


def _centre(mask: np.ndarray) -> np.ndarray:
    """Centre of mass in pixels, by sums along the axes: a list of a volume's pixels would fill the memory."""
    total = int(mask.sum())
    sums = (mask.sum(axis=tuple(a for a in range(mask.ndim) if a != axis)) for axis in range(mask.ndim))
    return np.array([float(line @ np.arange(len(line))) / total for line in sums])


def _steady(moves: Sequence[np.ndarray]) -> str | None:
    """The mean displacement, if it is two pixels or more and twice what it varies by; on few cases, four."""
    path = np.array(moves)
    mean, spread = path.mean(axis=0), path.std(axis=0)
    least = 2.0 if len(path) >= STEADY else 4.0
    if len(path) < SHARED or not (np.abs(mean) >= least * np.maximum(1.0, spread)).any():
        return None
    return ", ".join(f"{m:+.1f}" for m in mean)


def _trees(shares: dict[tuple[int, int], float]) -> Iterator[list[tuple[int, int]]]:
    """Connected raters, each group by its strongest links: a chain of corrections becomes that chain."""
    group: dict[int, int] = {r: r for pair in shares for r in pair}
    links: list[tuple[int, int]] = []
    for one, other in sorted(shares, key=lambda pair: (-shares[pair], pair)):
        if group[one] != group[other]:
            links.append((one, other))
            joined = group[other]
            group = {r: group[one] if g == joined else g for r, g in group.items()}
    for root in sorted(set(group.values())):
        yield sorted(pair for pair in links if group[pair[0]] == root)


def _some(cases: Sequence[str]) -> str:
    more = f" and {len(cases) - 4} more" if len(cases) > 4 else ""
    return ", ".join(f"'{case}'" for case in cases[:4]) + more
