"""What the page says first, in one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mrprism.agreement.case import pairs
from mrprism.agreement.charts import percent, words
from mrprism.agreement.result import Agreement
from mrprism.agreement.spread import Spread
from mrprism.agreement.structure import StructureAgreement

MOST = 5  # remarks on equal masks
VERDICT_TEXT = {
    "within": "is within the readers’ spread",
    "outside": "is outside the readers’ spread",
    "undecided": "can be called neither within nor outside the readers’ spread, with so few cases,",
}


def finding(agreement: Agreement) -> str:
    """How much the raters agree, on what least, and who stands apart."""
    raters = len(agreement.task.raters)
    who = f"{raters} anonymous readers a case" if agreement.task.anonymous else f"The {raters} raters"
    parts = sorted((part for part in agreement.structures if not math.isnan(_dice(part))), key=_dice)
    worst, best = parts[0], parts[-1]
    if worst is best:
        sentence = f"{who} reach a mean pairwise Dice of {_score(worst)} on the {worst.structure}"
    else:
        sentence = f"{who} agree least on the {worst.structure} (mean Dice {_score(worst)}) and best on the "
        sentence += f"{best.structure} ({words(_dice(best))})"
    apart = _apart(agreement)
    share = float(worst.overall["dissent_share"].value)
    if apart:
        sentence += f"; {apart}"
    elif not math.isnan(share):
        sentence += f"; {percent(share)} of what anyone drew is in dispute"
    return sentence + "."


def answer(candidates: Sequence[Spread]) -> str:
    """Which of the candidates are within the readers' spread, on which structures."""
    sentences = []
    for name in dict.fromkeys(spread.candidate for spread in candidates):
        own = [spread for spread in candidates if spread.candidate == name]
        for verdict, text in VERDICT_TEXT.items():
            where = [spread.structure for spread in own if spread.verdict == verdict]
            if where:
                sentences.append(f"{name} {text} on the {_listed(where)}.")
    return " ".join(sentences)


def identical(agreement: Agreement) -> list[str]:
    """Pairs of raters whose masks are equal in every case, which two people hardly ever draw."""
    first, second = pairs(len(agreement.task.raters))
    same = np.ones(len(first), bool)
    for part in agreement.structures:
        known = ~np.isnan(part.pair_dice)
        same &= (np.where(known, part.pair_dice, 1.0) == 1).all(axis=0) & (known.sum(axis=0) > 1)
    names = agreement.task.raters
    return [
        f"{names[first[p]]} and {names[second[p]]} have the same mask in every case. If one is a copy of the "
        "other, leave it out: it makes the agreement look better than it is."
        for p in np.flatnonzero(same)
    ][:MOST]


def _dice(part: StructureAgreement) -> float:
    return float(part.overall["dice"].value)


def _score(part: StructureAgreement) -> str:
    dice = part.overall["dice"]
    value, low, high = (words(float(number)) for number in (dice.value, dice.low, dice.high))
    return value if math.isnan(float(dice.low)) else f"{value}, 95 % interval {low} to {high}"


def _apart(agreement: Agreement) -> str:
    """The rater whose bias is largest among those whose interval leaves out 0."""
    found = []
    for part in agreement.structures:
        bias = part.raters.get("bias")
        if bias is None:
            continue
        sure = (bias.low > 0) | (bias.high < 0)
        for r in np.flatnonzero(sure):
            found.append(
                (abs(float(bias.value[r])), float(bias.value[r]), agreement.task.raters[r], part.structure)
            )
    if not found or max(found)[0] < 0.01:
        return ""
    _, value, rater, structure = max(found)
    more = "more" if value > 0 else "less"
    area = f" of the {structure}" if len(agreement.structures) > 1 else ""
    return f"{rater} draws {percent(abs(value))} {more}{area} than the others’ vote"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and the {names[-1]}"
