"""Answers of any tool in a folder: masks, probabilities or several draws of each case, found and read.

For a case and a structure there may be, in any format that is read here:

- a mask: `CASE/mask_STRUCTURE.png` (as `mrprism predict` writes it), `CASE/STRUCTURE.png`, `CASE_STRUCTURE.png`; with
  one structure `CASE.png`. 0 is background, one other value the structure; floats are read as probabilities;
- a probability: `CASE/probability_STRUCTURE.png` or `CASE_probability_STRUCTURE.png`, floats from 0 to 1, or whole
  numbers of 8 or 16 bit, of which 255 or 65535 is 1. 8 bits of 0 and 1 alone are refused, for they may be a mask;
- draws, each a mask or a probability: `CASE/draws/draw0_STRUCTURE.png`, `CASE/drawN_STRUCTURE.png`,
  `CASE_drawN_STRUCTURE.png`, or folders `draw0`, `draw1`, ... of masks named as above. Their chances, where they are not
  alike, stand in `CASE/prediction.json` as `mrprism predict` writes them.

- or what nnU-Net leaves: see `mrprism.compare.nnunet_answers`.

A probability goes before a mask; where there are draws alone, the probability is their mean. `CASE` is the name of the
case, or the file name that `mrprism export` gives it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from mrprism.agreement.candidate import SEEN, NamedFiles, case_folder, spoken_folders, told_of
from mrprism.compare.nnunet_answers import Labels, alike, labels_of, read
from mrprism.core.brief import counted
from mrprism.core.errors import InputError
from mrprism.core.names import safe_names
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.images import Geometry, LabelFile, ValueFile, read_values
from mrprism.images.content import FromFile
from mrprism.images.grids import apart_from, in_order_of

NAMED = 3  # cases and structures that a sentence names
Kind = Literal["mask", "probability", "draw"]
_DRAW = re.compile(r"draw[-_]?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """The files of one case."""

    probability: tuple[Path, ...]  # one a structure; empty where there are draws alone
    kinds: tuple[Kind, ...]
    draws: tuple[tuple[Path, ...], ...] = ()  # draw by draw, one a structure
    weights: Any = None  # (S, C) the chance of each draw; None: alike
    labels: Labels | None = None  # of nnU-Net; then `probability` is its one label map


def find_answers(
    folder: str | Path, name: str, cases: Sequence[str], names: Sequence[str], task: Task
) -> dict[str, Answer]:
    """The files of each case.

    Args:
        name: What the tool is called, for sentences.
        cases: Those that are needed.
        names: Of all cases of the data set, in its order, from which file names of an export follow.

    Raises:
        InputError: There is no such folder, a case or structure is missing or was drawn a different number of times,
            or `prediction.json` says that a case was learned from.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"--with {name}: there is no folder '{folder}'; expected one with masks of the test cases"
        )
    written = safe_names(names)  # as an export calls them
    within = spoken_folders(folder, (*names, *written.values()))
    beside = NamedFiles(folder)
    drawn_beside = _draw_words(beside, folder)
    rounds = _rounds(folder)
    labels = labels_of(folder, task.structures)
    found: dict[str, Answer] = {}
    missing: list[str] = []
    for case in cases:
        called = tuple(dict.fromkeys((case, written[case])))
        place = case_folder(folder, called, within)
        map_ = None if labels is None else _first([(beside, name) for name in called])
        if map_ is not None:
            found[case] = Answer((map_,), ("mask",), labels=labels)
            continue
        answer = _of_case(name, case, called, place, beside, drawn_beside, rounds, task.structures)
        if isinstance(answer, str):
            missing.append(answer)
        else:
            found[case] = answer
    if missing:
        raise InputError(_what_is_missing(folder, name, cases, missing, written, task.structures))
    alike(name, {case: answer.probability[0] for case, answer in found.items() if answer.labels is not None})
    counts = {case: len(answer.draws) for case, answer in found.items()}
    if len(set(counts.values())) > 1:
        low, high = min(counts, key=lambda c: counts[c]), max(counts, key=lambda c: counts[c])
        raise InputError(
            f"--with {name}: case '{low}' has {counted(counts[low], 'draw')} and case '{high}' {counts[high]}; expected "
            "as many of every case, for scores depend on their number"
        )
    return found


def read_answer(answer: Answer, sample: MultiRaterSample, structures: Sequence[str]) -> Prediction:
    """What a tool says of one case, on the grid of the case.

    Raises:
        InputError: A file is broken, of another size, lies elsewhere, or holds values that are neither a mask nor a
            probability.
    """

    if answer.labels is not None:
        return _of_nnunet(answer, answer.labels, sample, structures)

    def on_grid(file: Path, kind: Kind) -> Float[np.ndarray, "*space"]:
        return _on_grid(file, kind, sample)

    draws = None
    if answer.draws:
        draws = np.stack([np.stack([on_grid(file, "draw") for file in files]) for files in answer.draws])
    if answer.probability:
        pairs = zip(answer.probability, answer.kinds, strict=True)
        probability = np.stack([on_grid(file, kind) for file, kind in pairs])
    else:
        assert draws is not None
        weights = answer.weights
        probability = draws.mean(axis=0) if weights is None else np.einsum("sc,sc...->c...", weights, draws)
        probability = np.clip(probability, 0, 1).astype(np.float32)
    return Prediction(probability=probability, draws=draws, draw_weights=answer.weights)


def _of_nnunet(
    answer: Answer, labels: Labels, sample: MultiRaterSample, structures: Sequence[str]
) -> Prediction:
    grid, share, levels = read(answer.probability[0], labels, structures)

    def placed(maps: Float[np.ndarray, "n *space"]) -> Float[np.ndarray, "n *space"]:
        return np.stack([_placed(_like(grid, each), sample) for each in maps])

    at_least = None if levels is None else np.stack([placed(level) for level in levels])
    return Prediction(probability=placed(share), at_least=at_least)


def _of_case(
    name: str,
    case: str,
    called: Sequence[str],
    place: Path | None,
    beside: NamedFiles,
    drawn_beside: Mapping[str, int],
    rounds: Mapping[int, NamedFiles],
    structures: Sequence[str],
) -> Answer | str:
    """The files of a case, or what of it is missing."""
    inside = NamedFiles(place) if place is not None else None
    about = {} if place is None else told_of(place)
    if about.get("split") in SEEN:
        raise InputError(
            f"--with {name}: '{place}' says that its model was trained or chosen on case '{case}', which is a test case "
            "here; expected answers of a model that has not seen it"
        )
    masks = [
        _first(_mask_names(structure, called, inside, beside, len(structures))) for structure in structures
    ]
    soft = [_first(_soft_names(structure, called, inside, beside)) for structure in structures]
    draws = _draws(name, case, called, place, inside, beside, drawn_beside, rounds, structures)
    files = [p if p is not None else m for p, m in zip(soft, masks, strict=True)]
    if all(file is None for file in files) and draws:
        return Answer((), (), draws, _weights(about, structures, len(draws), place))
    absent = [structure for structure, file in zip(structures, files, strict=True) if file is None]
    if absent:
        return f"{case} ({', '.join(absent)})" if len(absent) < len(structures) else case
    return Answer(
        tuple(file for file in files if file is not None),
        tuple("mask" if p is None else "probability" for p in soft),
        draws,
        _weights(about, structures, len(draws), place) if draws else None,
    )


_Names = list[tuple[NamedFiles, str]]


def _mask_names(
    structure: str, called: Sequence[str], inside: NamedFiles | None, beside: NamedFiles, structures: int
) -> _Names:
    names: _Names = [] if inside is None else [(inside, f"mask_{structure}"), (inside, structure)]
    names += [(beside, f"{case}_{structure}") for case in called]
    if structures == 1:
        names += [(beside, case) for case in called]
    return names


def _soft_names(
    structure: str, called: Sequence[str], inside: NamedFiles | None, beside: NamedFiles
) -> _Names:
    names: _Names = [] if inside is None else [(inside, f"probability_{structure}")]
    return names + [(beside, f"{case}_probability_{structure}") for case in called]


def _first(names: _Names) -> Path | None:
    return next((file for files, name in names if (file := files.of(name)) is not None), None)


def _draws(
    name: str,
    case: str,
    called: Sequence[str],
    place: Path | None,
    inside: NamedFiles | None,
    beside: NamedFiles,
    drawn_beside: Mapping[str, int],
    rounds: Mapping[int, NamedFiles],
    structures: Sequence[str],
) -> tuple[tuple[Path, ...], ...]:
    """The files of each draw, in the order of their numbers; empty where there are none."""
    own = NamedFiles(place / "draws") if place is not None else None
    numbered: list[tuple[NamedFiles | None, Callable[[str, str], str]]] = [
        (own, lambda draw, structure: f"{draw}_{structure}"),
        (inside, lambda draw, structure: f"{draw}_{structure}"),
        *((beside, lambda draw, structure, c=c: f"{c}_{draw}_{structure}") for c in called),  # type: ignore[misc]
    ]
    if len(structures) == 1:
        numbered += [(beside, lambda draw, structure, c=c: f"{c}_{draw}") for c in called]  # type: ignore[misc]
        numbered += [(own, lambda draw, structure: draw), (inside, lambda draw, structure: draw)]
    found: dict[int, dict[str, Path]] = {}
    for files, called_so in numbered:
        if files is None or found:
            continue
        words = drawn_beside if files is beside else _draw_words(files, place)
        for word, number in words.items():
            for structure in structures:
                if (file := files.of(called_so(word, structure))) is not None:
                    found.setdefault(number, {})[structure] = file
    for number, files in rounds.items() if not found else ():
        for structure in structures:
            if (file := _first(_mask_names(structure, called, None, files, len(structures)))) is not None:
                found.setdefault(number, {})[structure] = file
    for number, drawn in found.items():
        if absent := [structure for structure in structures if structure not in drawn]:
            raise InputError(
                f"--with {name}: draw {number} of case '{case}' lacks {', '.join(absent)}; expected every structure in "
                "every draw"
            )
    return tuple(tuple(found[number][s] for s in structures) for number in sorted(found))


def _draw_words(files: NamedFiles, place: Path | None) -> dict[str, int]:
    """What draws are called in the names of files, and the number of each.

    Raises:
        InputError: Two are of one number.
    """
    return _numbered((m for text in files for m in _DRAW.finditer(text)), place)


def _rounds(folder: Path) -> dict[int, NamedFiles]:
    """Folders `draw0`, `draw1`, ... that each hold one draw of every case."""
    names = sorted(part.name for part in folder.iterdir() if part.is_dir())
    words = _numbered((match for name in names if (match := _DRAW.fullmatch(name))), folder)
    return {number: NamedFiles(folder / word) for word, number in words.items()}


def _numbered(found: Iterable[re.Match[str]], place: Path | None) -> dict[str, int]:
    words = {match.group(0): int(match.group(1)) for match in found}
    of_number: dict[int, str] = {}
    for word, number in words.items():
        if (other := of_number.setdefault(number, word)) != word:
            raise InputError(
                f"'{place}' has '{other}' and '{word}', which are both draw {number}; expected one of them"
            )
    return words


def _what_is_missing(
    folder: Path,
    name: str,
    cases: Sequence[str],
    missing: Sequence[str],
    written: Mapping[str, str],
    structures: Sequence[str],
) -> str:
    some = ", ".join(missing[:NAMED]) + (f" and {len(missing) - NAMED} more" if len(missing) > NAMED else "")
    if len(missing) == len(cases):
        first = f"{written[cases[0]]}_{structures[0]}.png"
        return (
            f"--with {name}: '{folder}' has no answer for any of the {counted(len(cases), 'test case')}; expected for "
            f"example '{first}' or '{written[cases[0]]}/probability_{structures[0]}.png'"
        )
    return (
        f"--with {name}: '{folder}' lacks {len(missing)} of the {counted(len(cases), 'test case')}: {some}; expected an "
        "answer for every test case, for all rows are about the same cases (an empty mask where nothing was found)"
    )


def _weights(about: Mapping[str, Any], structures: Sequence[str], draws: int, place: Path | None) -> Any:
    """(S, C) the chance of each draw; None where they are alike.

    Raises:
        InputError: They are there and are no chances of these draws.
    """
    given = about.get("draw_weights")
    if given is None:
        return None
    try:
        weights = np.asarray([given[structure] for structure in structures], np.float64).T
        whole = weights.shape == (draws, len(structures)) and bool(np.isfinite(weights).all())
        if not whole or (weights < 0).any() or np.abs(weights.sum(axis=0) - 1).max() > 1e-3:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"'{place}/prediction.json': draw_weights are no chances of {counted(draws, 'draw')} for each structure; "
            "expected as many numbers, which sum to 1"
        ) from None
    return weights / weights.sum(axis=0)


def _on_grid(file: Path, kind: Kind, sample: MultiRaterSample) -> Float[np.ndarray, "*space"]:
    return as_probability(_placed(read_values(file), sample), kind, file)


def _like(grid: LabelFile, values: np.ndarray) -> ValueFile:
    """Values that lie where a label map does."""
    return ValueFile(values, grid.spacing_mm, grid.geometry, grid.format, grid.path)


def _placed(values: FromFile, sample: MultiRaterSample) -> np.ndarray:
    """What a file holds, voxel upon voxel with a case.

    Raises:
        InputError: It is of another size, or lies elsewhere.
    """
    lies: Geometry | None = getattr(sample, "geometry", None)
    file = values.path
    values = in_order_of(values, lies)
    if values.array.shape != sample.space:
        raise InputError(
            f"'{file}' has the shape {values.array.shape}; case '{sample.name}' has {sample.space}: expected an answer "
            "at the case's own size"
        )
    if apart := apart_from(lies, values):
        raise InputError(f"'{file}' lies elsewhere than case '{sample.name}': {apart} (the case first)")
    return values.array


def as_probability(values: np.ndarray, kind: Kind, file: Path) -> Float[np.ndarray, "*space"]:
    """Values of a file as numbers from 0 to 1.

    Raises:
        InputError: They are neither a mask nor a probability.
    """
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())
        if low >= 0 and high <= 1:
            return np.asarray(values, np.float32)
        if not np.array_equal(values, np.rint(values)):
            raise InputError(
                f"'{file}' has values from {low:g} to {high:g}; expected a mask, or probabilities from 0 to 1"
            )
    others = np.unique(values[values != 0])
    top = {"u1": 255, "u2": 65535}.get(values.dtype.str[1:])
    if kind == "probability" and top == 65535:
        return np.asarray(
            values / np.float32(top), np.float32
        )  # 1 is next to nothing, also where it is the largest
    if kind == "probability" and top == 255 and others.tolist() == [1]:
        raise InputError(
            f"'{file}' is called a probability and holds 0 and 1 only, in 8 bits, and 1 may be sure or 1/255; expected "
            "floats from 0 to 1, whole numbers up to 255, or a mask by its name (mask_STRUCTURE)"
        )
    if kind == "mask" or len(others) == 0 or (len(others) == 1 and others[0] in (1, top)):
        if len(others) > 1:
            shown = ", ".join(f"{v:g}" for v in others[:5]) + (", ..." if len(others) > 5 else "")
            raise InputError(
                f"'{file}' has the values 0, {shown}; expected a mask of 0 and one other value, or a probability by its "
                "name (probability_STRUCTURE) or as floats from 0 to 1"
            )
        return np.asarray(values != 0, np.float32)
    if top is None:
        raise InputError(
            f"'{file}' holds {values.dtype} values up to {others[-1]:g}; expected floats from 0 to 1, or 8 or 16 bit "
            "without sign, whose largest value is 1"
        )
    return np.asarray(values / np.float32(top), np.float32)
