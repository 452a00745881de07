"""Named protocols: what has to be alike before a number may stand beside published ones.

Sources: the table of settings and numbers in Zbinden et al., "Stochastic segmentation with conditional categorical
diffusion models", ICCV 2023, arXiv:2303.08888 (its Table 1), and Li et al., AAAI 2026, arXiv:2511.06857 (its Table 1);
the cases: Baumgartner et al., "PHiSeg", MICCAI 2019, and Wu et al., "Diversified and personalized multi-rater medical
image segmentation", CVPR 2024, arXiv:2403.13417, on the set of Medical Matting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mrprism.compare.plan import Budget, Plan
from mrprism.core.brief import counted
from mrprism.core.errors import InputError, unknown
from mrprism.datasets import Dataset
from mrprism.datasets.split import Split, split_dataset
from mrprism.metrics.scores import ANSWERS

LOOKED_AT = 200  # test cases whose masks are looked at
NEAR = 0.02  # how far a split's shares may be from those asked for

Published = Mapping[str, tuple[float | None, float | None]]  # method: GED², HM-IoU or the named second


@dataclass(frozen=True)
class Protocol:
    """One way in which a data set is divided, and methods are scored."""

    name: str
    about: str  # which cases, in words
    cases: int
    masks: int  # of each case
    empty: bool | None  # True: masks of raters who saw nothing are kept; False: no mask is empty
    val: float
    test: float
    size: int
    draws: tuple[int, ...]  # numbers that papers print; the first unless told
    seeds: int
    metrics: tuple[str, ...]  # columns of the table of several answers
    second: str  # what stands beside GED² in the published rows
    published: Mapping[int, Published] = field(default_factory=dict)  # number of draws: rows
    more: str = ""  # what cannot be seen from the data

    def split(self, dataset: Dataset, seed: int) -> Split:
        """The cases divided by patient in the protocol's shares; parts that the data set fixes are kept."""
        # `val` is a share of all cases there, and what is asked for is a share of those that are divided
        return split_dataset(dataset, seed, val=self.val, test=self.test)

    def budget(self, given: Budget) -> Budget:
        """A budget at the protocol's size.

        Raises:
            InputError: Another size is asked for.
        """
        if given.size not in (self.size, Budget().size):
            raise InputError(
                f"protocol '{self.name}' fixes a size of {self.size} pixels, not {given.size}; leave --size out, or name "
                "no protocol"
            )
        return given.model_copy(update={"size": self.size})

    def number_of_draws(self, given: int | None) -> int:
        """How many outlines are drawn.

        Raises:
            InputError: No paper prints so many.
        """
        if given is not None and given not in self.draws:
            raise InputError(
                f"protocol '{self.name}' is scored with {_either(self.draws)} draws, not {given}; name one of these, or "
                "no protocol"
            )
        return self.draws[0] if given is None else given

    def apart(self, dataset: Dataset, plan: Plan) -> list[str]:
        """Why rows on these data are not of the published kind; empty where they may be."""
        said = []
        if len(dataset) != self.cases:
            said.append(f"there are {counted(len(dataset), 'case')} here and {self.cases} there")
        if len(dataset.task.raters) != self.masks:
            said.append(f"{counted(len(dataset.task.raters), 'rater')} here and {self.masks} there")
        if len(dataset.task.structures) != 1:
            said.append(f"{len(dataset.task.structures)} structures here and one there")
        said += self._masks(dataset, plan.test)
        shares = [len(part) / len(dataset) for part in (plan.val, plan.test)]
        if any(abs(found - asked) > NEAR for found, asked in zip(shares, (self.val, self.test), strict=True)):
            here = ":".join(f"{100 * share:.0f}" for share in (1 - sum(shares), *shares))
            there = ":".join(
                f"{100 * share:.0f}" for share in (1 - self.val - self.test, self.val, self.test)
            )
            said.append(f"the data set is divided {here} here and {there} there")
        if len(plan.seeds) < self.seeds:
            said.append(f"{counted(len(plan.seeds), 'seed')} here and {self.seeds} there")
        return said

    def _masks(self, dataset: Dataset, names: Sequence[str]) -> list[str]:
        """What the masks of the first test cases say."""
        empty = fewer = 0
        for name in names[:LOOKED_AT]:
            sample = dataset[name]
            drawn = sample.rated.any(axis=1)
            fewer += not drawn.all()
            marked = np.array([mask.any() for mask in sample.masks])
            empty += bool((drawn & ~marked).any())
        said = []
        if fewer:
            said.append(
                f"not every rater drew every case here ({fewer} of {min(len(names), LOOKED_AT)} lack one)"
            )
        if self.empty is True and not empty:
            said.append(
                "no rater saw nothing in any case here, and there many did, which is half the difficulty"
            )
        if self.empty is False and empty:
            said.append(
                f"{empty} of {min(len(names), LOOKED_AT)} cases here have an empty mask, and none there, where two empty "
                "masks would have counted as far apart"
            )
        return said


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "lidc-v1",
            "15,096 nodule slices of LIDC-IDRI with four slots, the empty masks of those who saw nothing included",
            cases=15_096,
            masks=4,
            empty=True,
            val=0.2,
            test=0.2,
            size=128,
            draws=(16, 32, 50, 100),
            seeds=3,
            metrics=(ANSWERS, "ged_v", "hm_iou", "coverage", "ged"),
            second="HM-IoU",
            published={
                16: {
                    "Prob. U-Net": (0.310, 0.552),
                    "Hier. Prob. U-Net": (0.270, 0.530),
                    "PHiSeg": (0.262, 0.586),
                    "SSN": (0.259, 0.558),
                    "PixelSeg": (0.243, 0.614),
                    "MoSE": (0.218, 0.624),
                    "CCDM": (0.212, 0.623),
                },
                32: {"CCDM": (0.194, 0.631)},
                100: {
                    "Prob. U-Net": (0.252, None),
                    "PHiSeg": (0.224, None),
                    "SSN": (0.225, None),
                    "MoSE": (0.189, None),
                    "CCDM": (0.183, None),
                },
            },
        ),
        Protocol(
            "lidc-matting",
            "1,609 nodule slices of 214 patients of LIDC-IDRI with four masks each, none of them empty (Medical Matting)",
            cases=1_609,
            masks=4,
            empty=False,
            val=0.15,
            test=0.25,
            size=128,
            draws=(50, 10, 16),
            seeds=1,
            metrics=(ANSWERS, "ged_v", "dice_max", "dice_match", "ged"),
            second="soft Dice",
            published={50: {"Prob. U-Net": (0.2168, 0.8880), "D-Persona": (0.1358, 0.9045)}},
            more=(
                "Published numbers are means over four folds by patient, one of which this is (--split-seed names "
                "another), and were read in a later paper's tables."
            ),
        ),
    )
}


def protocol_of(name: str | None) -> Protocol | None:
    """A protocol by name.

    Raises:
        InputError: There is none of that name.
    """
    if name is None:
        return None
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def said_of(plan: Plan) -> list[str]:
    """Sentences about the protocol of a comparison, and whether its rows may stand beside published ones."""
    protocol = protocol_of(plan.protocol)
    if protocol is None:
        return []
    said = [f"Protocol {protocol.name}: {protocol.about}; {plan.draws} draws at {protocol.size} pixels."]
    rows = protocol.published.get(plan.draws or 0, {})
    if rows:
        numbers = [
            f"{method} {_three(ged)}" + ("" if second is None else f" / {_three(second)}")
            for method, (ged, second) in rows.items()
        ]
        also = f" / {protocol.second}" if any(second is not None for _, second in rows.values()) else ""
        said.append(f"Published, GED² as printed{also}: {', '.join(numbers)}.")
    else:
        said.append(f"No published numbers with {plan.draws} draws are known here.")
    if plan.apart:
        said.append(f"Rows of this page may not stand beside them: {'; '.join(plan.apart)}.")
    else:
        said.append("Rows of this page may stand beside them, as far as can be seen from the data.")
    budget = plan.budget
    trained = f"{counted(budget.epochs, 'epoch')} with {budget.backbone}"
    said.append(f"All methods had one budget here, {trained}; each of the published had its own.")
    return [*said, protocol.more] if protocol.more else said


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}".rstrip("0").ljust(5, "0")


def _either(numbers: Sequence[int]) -> str:
    *others, last = [str(number) for number in numbers]
    return f"{', '.join(others)} or {last}" if others else last
