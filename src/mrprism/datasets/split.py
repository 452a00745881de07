"""Which cases are learned from, chosen on, and tested on: divided by patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.seeds import generator_of
from mrprism.datasets.dataset import Dataset

SPLITS = ("train", "val", "test")
VAL, TEST = 0.15, 0.2  # shares, unless told


@dataclass(frozen=True)
class Split:
    """Which cases are learned from, chosen on, and tested on, by name."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def __getitem__(self, part: str) -> tuple[str, ...]:
        if part not in SPLITS:
            raise InputError(f"there is no split '{part}'; known: {', '.join(SPLITS)}")
        names: tuple[str, ...] = getattr(self, part)
        return names


def split_cases(
    names: Sequence[str],
    groups: Sequence[str | None],
    splits: Sequence[str | None],
    *,
    seed: int = 0,
    val: float = VAL,
    test: float = TEST,
) -> Split:
    """Divide cases so that no patient stands on two sides.

    What the data set fixes is kept. A part it does not fix, validation or test, is drawn from what
    would otherwise be trained on, patient by patient, until it holds its share of those cases.

    Args:
        names, groups, splits: One entry a case; a group of None is a patient of its own.
        seed: Decides the draw, together with the groups' names and not their order.
        val, test: Shares of the training cases, where they have to be drawn.

    Raises:
        InputError: A patient is fixed on two sides, or there are too few patients to divide.
    """
    patient = {name: name if group is None else group for name, group in zip(names, groups, strict=True)}
    side: dict[str, str] = {}
    for name, fixed in zip(names, splits, strict=True):
        if fixed is not None and side.setdefault(patient[name], fixed) != fixed:
            raise InputError(
                f"group '{patient[name]}' has cases in '{side[patient[name]]}' and in '{fixed}' "
                f"(case '{name}'): a patient must stay on one side of the split"
            )
    cases = {person: [n for n in names if patient[n] == person] for person in sorted(set(patient.values()))}
    parts: dict[str, set[str]] = {part: {p for p in cases if side.get(p, "train") == part} for part in SPLITS}
    share = {"test": test, "val": val}
    missing = [part for part in share if not parts[part]]
    if len(parts["train"]) <= len(missing):
        raise InputError(
            f"{len(parts['train'])} patients cannot be divided into {' and '.join(['train', *missing])}: "
            f"at least {len(missing) + 1} are needed (a case without group is a patient of its own)"
        )
    total = sum(len(cases[p]) for p in parts["train"])
    for part in missing:
        order = generator_of(seed, f"split {part}").permutation(
            np.array(sorted(parts["train"]), dtype=object)
        )
        wanted, taken = share[part] * total, 0
        spare = len(parts["train"]) - (2 if part == "test" and "val" in missing else 1)
        for person in order[:spare]:
            if taken and taken + len(cases[person]) / 2 > wanted:
                break
            parts["train"].remove(person)
            parts[part].add(person)
            taken += len(cases[person])
    return Split(*(tuple(n for n in names if patient[n] in parts[part]) for part in SPLITS))


def split_dataset(dataset: Dataset, seed: int, *, val: float = VAL, test: float = TEST) -> Split:
    """The split of a data set that everything trained on it with this `split_seed` shares."""
    names, groups, splits = dataset.names, dataset.groups, dataset.splits
    known = [splits[name] for name in names]
    return split_cases(names, [groups[name] for name in names], known, seed=seed, val=val, test=test)
