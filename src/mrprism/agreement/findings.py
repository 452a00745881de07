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
from mrprism.agreement.subset import HALF
from mrprism.metrics.claims import LEVEL as CHANCE
from mrprism.metrics.claims import all_pairs, suffice, too_few

MOST = 5  # remarks on equal masks
VERDICT_TEXT = {
    "within": "is within the readers’ spread",
    "outside": "is outside the readers’ spread",
    "undecided": "may be within or outside the readers’ spread, because the interval holds the margin,",
}


def finding(agreement: Agreement) -> str:
    """How much the raters agree, on what least, and who stands apart, as far as the patients bear it out."""
    raters = len(agreement.task.raters)
    who = f"{raters} anonymous readers a case" if agreement.task.anonymous else f"The {raters} raters"
    parts = sorted((part for part in agreement.structures if not math.isnan(_dice(part))), key=_dice)
    least, best = _ends(agreement, parts)
    if least or best:
        said = [f"least on the {least.structure} (mean Dice {_score(least)})"] if least else []
        said += (
            [f"best on the {best.structure} ({_score(best) if not least else words(_dice(best))})"]
            if best
            else []
        )
        sentence = f"{who} agree {' and '.join(said)}"
    else:
        scores = [f"{_score(part, ' (', ')')} on the {part.structure}" for part in parts[:MOST]]
        scores += [f"more on {len(parts) - MOST} others"] if len(parts) > MOST else []
        sentence = f"{who} reach a mean pairwise Dice of {_listed(scores, '')}"
    apart = _apart(agreement)
    share = float(parts[0].overall["dissent_share"].value)
    if apart:
        sentence += f"; {apart}"
    elif not math.isnan(share):
        where = f" of the {parts[0].structure}" if len(parts) > 1 else ""
        sentence += f"; {percent(share)} of what anyone drew{where} is in dispute"
    return sentence + "."


def caution(agreement: Agreement) -> str:
    """What so few patients cannot show; empty where there are enough."""
    if suffice(agreement.groups):
        return ""
    return f"{too_few(agreement.groups).capitalize()}: so no difference between raters is claimed here."


def answer(candidates: Sequence[Spread]) -> str:
    """Which of the candidates are within the readers' spread, on which structures."""
    sentences = []
    for name in dict.fromkeys(spread.candidate for spread in candidates):
        own = [spread for spread in candidates if spread.candidate == name]
        few = [spread for spread in own if not suffice(int(spread.difference.patients))]
        seen = {"trained": own[0].trained_on, "chosen": own[0].chosen_on}
        for how, count in seen.items():
            if count:
                sentences.append(
                    f"{_cases(count)} on which {name} was {how} {'is' if count == 1 else 'are'} left out."
                )
        if own[0].unknown:
            some = ", ".join(own[0].unknown[:3]) + (", ..." if len(own[0].unknown) > 3 else "")
            sentences.append(
                f"{name} holds {len(own[0].unknown)} more that belong to no case the readers did ({some})."
            )
        for verdict, text in VERDICT_TEXT.items():
            where = [s.structure for s in own if s.verdict == verdict and s not in few]
            if where:
                sentences.append(f"{name} {text} on the {_listed(where)}.")
        for patients in sorted({int(spread.difference.patients) for spread in few}):
            where = [s.structure for s in few if int(s.difference.patients) == patients]
            sentences.append(
                f"Whether {name} is within the readers’ spread on the {_listed(where)} cannot be said from "
                f"{too_few(patients)}."
            )
    return " ".join(sentences)


def rests(agreement: Agreement) -> list[str]:
    """Statistics that rest on a small part of the cases, and what carries more."""
    kind = "ICC1" if agreement.task.anonymous else "ICC2"
    said = []
    for part in agreement.structures:
        value, total = part.overall[kind], len(agreement.cases)
        if int(value.cases) >= HALF * total:
            continue
        sentence = (
            f"The ICC of the {part.structure} uses only the {_cases(int(value.cases))} of {total} that every "
            f"rater did ({words(float(value.value))})"
        )
        if part.subset is not None:
            fewer = part.subset.overall[kind]
            left = [name for r, name in enumerate(agreement.task.raters) if r not in part.subset.raters]
            without = _listed(left, "") if len(left) <= MOST else f"{len(left)} raters who did few"
            sentence += f"; without {without} it is {words(float(fewer.value))} on {_cases(int(fewer.cases))}"
        if part.pairs:
            sentence += "; the differences of every two raters (pairs.csv) use all cases the two share"
        said.append(sentence + ".")
    return said


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


def _ends(
    agreement: Agreement, parts: Sequence[StructureAgreement]
) -> tuple[StructureAgreement | None, StructureAgreement | None]:
    """The structure on which raters agree less than on every other, and that on which they agree more."""
    if len(parts) < 2:
        return None, None
    groups = [p or f"case {c}" for p, c in zip(agreement.patients, agreement.cases, strict=True)]
    p = all_pairs(np.stack([part.cases["dice"] for part in parts], axis=1), groups, seed=agreement.seed)
    apart = [bool((np.delete(p[i], i) < CHANCE).all()) for i in (0, len(parts) - 1)]
    return parts[0] if apart[0] else None, parts[-1] if apart[1] else None


def _dice(part: StructureAgreement) -> float:
    return float(part.overall["dice"].value)


def _score(part: StructureAgreement, before: str = ", ", after: str = "") -> str:
    dice = part.overall["dice"]
    value, low, high = (words(float(number)) for number in (dice.value, dice.low, dice.high))
    return value if math.isnan(float(dice.low)) else f"{value}{before}95 % interval {low} to {high}{after}"


def _apart(agreement: Agreement) -> str:
    """The rater whose bias is largest among those that differ from none by more than chance."""
    found = []
    for part in agreement.structures:
        if part.bias_p is None:
            continue
        bias = part.raters["bias"]
        sure = (part.bias_p * len(agreement.structures) < CHANCE) & ((bias.low > 0) | (bias.high < 0))
        for r in np.flatnonzero(sure & np.array([suffice(int(n)) for n in bias.patients])):
            found.append(
                (abs(float(bias.value[r])), float(bias.value[r]), agreement.task.raters[r], part.structure)
            )
    if not found or max(found)[0] < 0.01:
        return ""
    _, value, rater, structure = max(found)
    area = f" of the {structure}" if len(agreement.structures) > 1 else ""
    if value > 1:
        return f"{rater} draws {1 + value:.1f} times as much{area} as the others’ vote"
    more = "more" if value > 0 else "less"
    return f"{rater} draws {percent(abs(value))} {more}{area} than the others’ vote"


def _cases(count: int) -> str:
    return f"{count} case{'' if count == 1 else 's'}"


def _listed(names: Sequence[str], article: str = "the ") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {article}{names[-1]}"
