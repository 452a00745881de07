"""What is worth a second look in masks that read well: copies, shifts, corrections, inversions.

Each suspicion looks at one structure of one case at a time, keeps counts and no image, and says at the end
what it saw. All of them compare a rater with other raters or with the rater's own other masks: nobody
else can say what a structure should look like.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Protocol, runtime_checkable

import numpy as np

SHARED = 3  # masks that two raters must share before their likeness says anything
STEADY = 5  # cases from which on a displacement is believed more readily
TELLING = 20  # pixels below which masks and outlines are alike by chance
CORRECTED = 0.8  # share of the outline, equal to the pixel, that two people do not reach


@dataclass(frozen=True)
class Look:
    """The masks of one structure of one case that are not empty, by the rater's number."""

    case: str
    picture: str  # hash of the image
    structure: int
    masks: dict[int, np.ndarray]
    reference: np.ndarray | None
    prints: dict[int, str] = field(init=False)  # hashes of the masks

    def __post_init__(self) -> None:
        object.__setattr__(self, "prints", {r: fingerprint(mask) for r, mask in self.masks.items()})


@runtime_checkable
class Suspicion(Protocol):
    """Something to look out for."""

    def look(self, at: Look) -> None: ...
    def say(self, raters: Sequence[str], structures: Sequence[str]) -> Iterator[str]: ...


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


def odd_shape(mask: np.ndarray) -> str | None:
    """What is odd about a mask by itself, in words; of a volume also if it is odd in every slice drawn on."""
    if mask.all():
        return "covers the whole image"
    drawn = mask[mask.any(axis=(1, 2))] if mask.ndim == 3 else mask[:0]
    if _is_border(mask) or (len(drawn) and all(_is_border(plane) for plane in drawn)):
        return "is nothing but the image's border"
    return None


def fingerprint(mask: np.ndarray) -> str:
    return hashlib.sha256(np.packbits(mask).tobytes() + repr(mask.shape).encode()).hexdigest()


class NeverDiffer:
    """Two raters whose masks are equal, all of them."""

    def __init__(self) -> None:
        self.both: Counter[tuple[int, int]] = Counter()
        self.equal: Counter[tuple[int, int]] = Counter()

    def look(self, at: Look) -> None:
        for pair in combinations(sorted(at.masks), 2):
            self.both[pair] += 1
            self.equal[pair] += at.prints[pair[0]] == at.prints[pair[1]]

    def say(self, raters: Sequence[str], structures: Sequence[str]) -> Iterator[str]:
        for (one, other), both in sorted(self.both.items()):
            if both >= SHARED and self.equal[one, other] == both:
                yield f"raters '{raters[one]}' and '{raters[other]}' never differ ({both} masks)"


class CopiedReference:
    """A reference that is one rater's work."""

    def __init__(self) -> None:
        self.both: Counter[int] = Counter()
        self.equal: Counter[int] = Counter()

    def look(self, at: Look) -> None:
        if at.reference is None:
            return
        reference = fingerprint(at.reference)
        for rater, own in at.prints.items():
            self.both[rater] += 1
            self.equal[rater] += own == reference

    def say(self, raters: Sequence[str], structures: Sequence[str]) -> Iterator[str]:
        for rater, both in sorted(self.both.items()):
            if both >= SHARED and self.equal[rater] == both:
                yield f"the reference is rater '{raters[rater]}' copied ({both} masks)"


class Shifted:
    """A rater who lies to one side of the others by two pixels or more, steadily."""

    def __init__(self) -> None:
        self.moves: defaultdict[tuple[int, int], list[np.ndarray]] = defaultdict(list)
        self.apart: defaultdict[tuple[int, int, int], list[np.ndarray]] = defaultdict(list)

    def look(self, at: Look) -> None:
        centres = {rater: _centre(mask) for rater, mask in at.masks.items()}
        if len(centres) == 2:  # nobody can say which of the two moved
            (one, a), (other, b) = sorted(centres.items())
            self.apart[one, other, at.structure].append(b - a)
        elif len(centres) > 2:
            middle = np.median(list(centres.values()), axis=0)
            for rater, centre in centres.items():
                self.moves[rater, at.structure].append(centre - middle)

    def say(self, raters: Sequence[str], structures: Sequence[str]) -> Iterator[str]:
        for (rater, c), moves in sorted(self.moves.items()):
            if by := _steady(moves):
                masks = f"all {len(moves)} masks of '{structures[c]}' by rater '{raters[rater]}'"
                yield f"{masks} lie ({by}) pixels from the others'"
        for (one, other, c), moves in sorted(self.apart.items()):
            if by := _steady(moves):
                masks = f"all {len(moves)} masks of '{structures[c]}' by rater '{raters[other]}'"
                yield f"{masks} lie ({by}) pixels from those by rater '{raters[one]}'"


class Corrections:
    """Raters who began from one another's masks: their outlines are equal to the pixel but for some edits."""

    def __init__(self) -> None:
        self.shares: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
        self.edited: Counter[tuple[int, int]] = Counter()  # masks that differ by more than a pixel
        self.differ: Counter[tuple[int, int]] = Counter()

    def look(self, at: Look) -> None:
        outlines = _outlines(at.masks)
        for one, other in combinations(sorted(outlines), 2):
            a, b = outlines[one], outlines[other]
            length = int(a.sum()) + int(b.sum())
            if min(int(a.sum()), int(b.sum())) < TELLING:
                continue
            self.shares[one, other].append(2 * int((a & b).sum()) / length)
            if at.prints[one] != at.prints[other]:
                self.differ[one, other] += 1
                self.edited[one, other] += bool((b & ~_wider(a)).any() or (a & ~_wider(b)).any())

    def say(self, raters: Sequence[str], structures: Sequence[str]) -> Iterator[str]:
        shared = {pair: float(np.median(shares)) for pair, shares in self.shares.items()}
        found = {
            pair: share
            for pair, share in shared.items()
            if len(self.shares[pair]) >= SHARED
            and share >= CORRECTED
            and self.differ[pair] > 0  # else they never differ, which is said elsewhere
            and 2 * self.edited[pair] >= self.differ[pair]  # and not merely jitter on a coarse grid
        }
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

    def look(self, at: Look) -> None:
        votes = sum((mask.astype(np.int16) for mask in at.masks.values()), np.zeros((), np.int16))
        for rater, mask in at.masks.items():
            others = len(at.masks) - 1
            if others == 0 and at.reference is None:
                continue
            middle = (votes - mask) * 2 > others if others else at.reference
            self.seen[rater, at.structure] += 1
            if middle is not None and _is_inverted(mask, middle):
                self.cases[rater, at.structure].append(at.case)

    def say(self, raters: Sequence[str], structures: Sequence[str]) -> Iterator[str]:
        for (rater, c), cases in sorted(self.cases.items()):
            count, own = len(cases), f"of '{structures[c]}' by rater '{raters[rater]}'"
            which = f"all {count} masks" if count == self.seen[rater, c] > 1 else f"masks ({_some(cases)})"
            yield f"{which} {own} look inverted: they mark what the others leave out"


class SameMask:
    """A rater who marks the very same mask on different images."""

    def __init__(self) -> None:
        self.cases: defaultdict[tuple[int, int, str], dict[str, str]] = defaultdict(dict)

    def look(self, at: Look) -> None:
        for rater, mask in at.masks.items():
            if int(mask.sum()) >= TELLING and odd_shape(mask) is None:
                self.cases[rater, at.structure, at.prints[rater]][at.picture] = at.case

    def say(self, raters: Sequence[str], structures: Sequence[str]) -> Iterator[str]:
        for (rater, c, _), cases in sorted(self.cases.items()):
            if len(cases) >= SHARED:
                names = _some(list(cases.values()))
                yield f"rater '{raters[rater]}' has the same mask of '{structures[c]}' on different images: {names}"


class SameStructures:
    """A rater whose masks of two structures are equal, all of them."""

    def __init__(self) -> None:
        self.last: tuple[str, dict[int, dict[int, str]]] = ("", {})
        self.both: Counter[tuple[int, int, int]] = Counter()
        self.equal: Counter[tuple[int, int, int]] = Counter()

    def look(self, at: Look) -> None:
        if self.last[0] != at.case:
            self.last = (at.case, {})
        earlier = self.last[1]
        for rater, own in at.prints.items():
            for c, there in earlier.setdefault(rater, {}).items():
                self.both[rater, c, at.structure] += 1
                self.equal[rater, c, at.structure] += own == there
            earlier[rater][at.structure] = own

    def say(self, raters: Sequence[str], structures: Sequence[str]) -> Iterator[str]:
        for (rater, c, d), both in sorted(self.both.items()):
            if both >= SHARED and self.equal[rater, c, d] == both:
                pair = f"'{structures[c]}' and '{structures[d]}'"
                yield f"rater '{raters[rater]}' has the same mask for {pair} on all {both} cases with both"


def _is_border(mask: np.ndarray) -> bool:
    """The outermost pixels, or most of them, or a frame a few pixels wide."""
    inside = mask[tuple(slice(1, -1) for _ in mask.shape)]
    thin = not inside.any() and mask.sum() >= 0.9 * (mask.size - inside.size) > 0
    return bool(thin or (not mask.all() and _is_frame(mask)))


def _is_frame(mask: np.ndarray) -> bool:
    """Everything but one box in the middle, at most a tenth of each axis wide."""
    free = ~mask
    for axis in range(mask.ndim):
        line = np.flatnonzero(free.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        widest = max(1, mask.shape[axis] // 10)
        if not (1 <= line[0] <= widest and 1 <= mask.shape[axis] - 1 - line[-1] <= widest):
            return False
        free = free.take(range(line[0], line[-1] + 1), axis)
    return bool(free.all())


def _is_inverted(mask: np.ndarray, others: np.ndarray) -> bool:
    frame = np.ones(mask.shape, bool)
    frame[tuple(slice(1, -1) for _ in mask.shape)] = False
    if mask[frame].mean() < 0.9 or others[frame].mean() > 0.5 or odd_shape(mask) is not None:
        return False
    return _dice(~mask, others) > max(0.5, 2 * _dice(mask, others))


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * int((a & b).sum()) / max(1, int(a.sum()) + int(b.sum()))


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


def _outlines(masks: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Innermost pixels of each mask, cut to where anything is; the image's own edge is no outline."""
    from scipy.ndimage import binary_erosion

    if not masks:
        return {}
    anything = np.logical_or.reduce(list(masks.values()))
    box = []
    for axis in range(anything.ndim):
        line = np.flatnonzero(anything.any(axis=tuple(a for a in range(anything.ndim) if a != axis)))
        box.append(slice(max(0, int(line[0]) - 1), int(line[-1]) + 2))
    cut = {rater: mask[tuple(box)] for rater, mask in masks.items()}
    return {rater: mask & ~binary_erosion(mask, border_value=1) for rater, mask in cut.items()}


def _wider(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(mask, np.ones((3,) * mask.ndim, bool)))


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
