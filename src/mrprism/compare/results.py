"""What a comparison's folder holds: the runs that are there, and why others are not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mrprism.compare.candidates import (
    FUSIONS,
    PLAIN,
    SPREAD,
    TABLES,
    Candidate,
    Given,
    Slot,
    TableOfContents,
    fuses,
)
from mrprism.compare.plan import Cost, Plan, read_plan
from mrprism.core.errors import InputError
from mrprism.learn.run import read_model
from mrprism.metrics.examples import Example, read_example
from mrprism.metrics.scores import ANSWERS, DIVERSITY, FINAL, MEAN, RATERS, REFERENCE, Row
from mrprism.report.reading import Entry, RunFolder, read_run


@dataclass(frozen=True, eq=False)
class Result:
    """One candidate: its runs, one a seed, and what went wrong."""

    candidate: Candidate
    runs: dict[int, RunFolder]  # by seed
    failed: dict[int, str]  # seed: why
    impossible: str = ""  # why it cannot run on these data

    @property
    def why(self) -> str:
        """Why there are fewer numbers than asked for, or none that mean anything; else empty."""
        if self.collapsed:
            return "collapsed and out of the ranking, " + self.collapse
        if self.impossible or not self.failed:
            return self.impossible
        seed, reason = next(iter(self.failed.items()))
        return reason if not self.runs else f"seed {seed} failed: {reason}"

    @cached_property
    def collapsed(self) -> dict[int, str]:
        """Seeds whose answers mean nothing, and why: constant in training, or empty on all test cases."""
        found = {}
        for seed, run in self.runs.items():
            said = [str(why) for why in run.result.get("collapse", ())] if run.result.get("collapsed") else []
            if run.result.get("collapsed") and not said:
                said = ["its answer is constant"]
            said += [
                f"{structure}: it meets no pixel of what was drawn, in any test case"
                for structure in _missed(run.rows)
                if not any(why.startswith(f"{structure}:") for why in said)
            ]
            if said:
                found[seed] = "; ".join(said)
        return found

    @property
    def collapse(self) -> str:
        """What is wrong with which seeds; empty where nothing is."""
        alike: dict[str, list[int]] = {}
        for seed, why in self.collapsed.items():
            alike.setdefault(why, []).append(seed)
        return "; ".join(
            f"with seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}: {why}"
            for why, seeds in alike.items()
        )

    @cached_property
    def _entries(self) -> dict[str, tuple[Entry, tuple[Entry, ...]]]:
        folders = tuple(self.runs.values())
        kinds = {_given(row.reads): row.reads for run in folders for row in run.rows}
        return {
            given: (
                Entry(self.candidate.label, reads, folders),
                tuple(Entry(self.candidate.label, reads, (run,)) for run in folders),
            )
            for given, reads in kinds.items()
        }

    def entry(self, given: Given) -> Entry | None:
        """All seeds together; None where the runs have no such scores."""
        found = self._entries.get(given)
        return found[0] if found else None

    def each_seed(self, given: Given) -> tuple[Entry, ...]:
        found = self._entries.get(given)
        return found[1] if found else ()

    def reads(self, given: Given) -> str:
        """What was looked at for these scores: "image", "masks" or "both"."""
        entry = self.entry(given)
        return entry.reads if entry else given

    @property
    def several_answers(self) -> bool:
        """Whether it gives more than one answer from an image: draws, or what each rater would draw."""
        rows = [
            row
            for run in self.runs.values()
            for row in run.rows
            if row.target == RATERS and row.reads == "image"
        ]
        counts = [row.value for row in rows if row.metric == ANSWERS]
        return max(counts) > 1 if counts else bool(rows)  # tables before 0.2 had rows of several answers only

    def costs(self) -> list[Cost]:
        """What the runs needed, as far as they measured it."""
        files = [run.path / "cost.json" for run in self.runs.values()]
        return [read_model(file, Cost) for file in files if file.is_file()]

    def shown(self, given: Given) -> dict[str, Example]:
        """The cases that pictures are made of, by name."""
        for run in self.runs.values():
            examples = [read_example(file) for file in sorted((run.path / "shown" / given).glob("*.npz"))]
            if examples:
                return {example.name: example for example in examples}
        return {}


def _missed(rows: Sequence[Row]) -> list[str]:
    """Structures of which a network's answer is empty, or beside the point, in every case."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        if (row.recurrence, row.metric, row.reads) == (FINAL, "dice", "image") and row.target in (
            REFERENCE,
            MEAN,
        ):
            scores.setdefault(row.structure, []).append(row.value)
    # an empty answer has Dice 1 where nothing was to be found, and 0 elsewhere
    return [s for s, values in scores.items() if 0 in values and all(value in (0, 1) for value in values)]


def _given(reads: str) -> Given:
    return "image" if reads == "image" else "masks"


@dataclass(frozen=True, eq=False)
class Comparison:
    """All of a folder."""

    out: Path
    plan: Plan
    results: dict[str, Result]  # by the candidate's key

    @property
    def structures(self) -> tuple[str, ...]:
        return self.plan.task.structures

    @cached_property
    def groups(self) -> dict[str, str]:
        """The patient of each test case."""
        return {
            row.case: row.group
            for result in self.results.values()
            for run in result.runs.values()
            for row in run.rows
        }

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """What the test cases can be held against, the reference first."""
        found = {
            row.target for result in self.results.values() for run in result.runs.values() for row in run.rows
        }
        return tuple(target for target in (REFERENCE, MEAN) if target in found)

    def contents(self) -> list[TableOfContents]:
        """The tables to make: those of the paper, and one or two for what stands in none of them."""
        chosen = [table for name, table in TABLES.items() if name in self.plan.tables]
        asked = [c for c in self.plan.choice.others if not c.made_elsewhere]
        others = [self.results[c.key] for c in asked if c.key in self.results]
        there = [c for c in asked if c.key not in self.results]  # under another name, and trained once
        image = [_own_slot(r.candidate, "image") for r in others if r.entry("image") or not r.runs]
        masks = [
            _own_slot(r.candidate, "masks")
            for r in others
            if r.entry("masks") or (not r.runs and fuses(r.candidate))
        ]
        if image or not chosen:
            chosen.append(TableOfContents("methods", "Other methods" if chosen else "Methods", tuple(image)))
        if (masks or any(map(fuses, there))) and "table3" not in self.plan.tables:
            remark = TABLES["table3"].remark
            masks = [*self.vote_slots(), *masks]
            chosen.append(TableOfContents("fusions", "Given the raters' masks", tuple(masks), remark))
        several = [Slot(r.candidate, r.candidate.label) for r in self.results.values() if r.several_answers]
        if several:
            several += [
                Slot(r.candidate, r.candidate.label, FINAL, "masks", control=True)
                for r in self.results.values()
                if r.candidate.method == "control"
            ]
            remark = (
                "Some methods give several answers: do these vary as the raters' masks do? The number of answers "
                "differs: one for each rater that a method imitates, or its draws. GED² and CRPS are corrected for the "
                "number of draws. The other scores change with it, so methods are compared only with those that give "
                "as many answers."
            )
            if any(slot.control for slot in several):
                remark += (
                    " The last lines are made of the raters' masks of the very cases and compete with nobody: the raters "
                    "themselves are the best that can be; a method that is to spread as they do has to beat one consensus "
                    "repeated; pixel noise shows which measures see no shapes."
                )
            remark += "".join(f" {sentence}" for sentence in self.diversity())
            chosen.append(TableOfContents(SPREAD, "Several answers", tuple(several), remark))
        return chosen

    def diversity(self) -> list[str]:
        """How far the raters are from each other, a sentence for each structure: without it no GED can be read."""
        values: dict[str, dict[str, float]] = {}
        for result in self.results.values():
            for row in (row for run in result.runs.values() for row in run.rows if row.metric == DIVERSITY):
                values.setdefault(row.structure, {})[row.case] = row.value
        return [
            f"Raters among themselves, {structure}: mean 1 − IoU {_mean(list(of.values())):.3f} over {len(of)} cases."
            for structure, of in values.items()
        ]

    def vote_slots(self) -> list[Slot]:
        """The two fusions that stand in every table of what is given the raters' masks."""
        own = {candidate.key for candidate in self.plan.choice.others}
        votes = [c for c in FUSIONS if c.key in self.results and c.key not in own]
        return [Slot(candidate, candidate.label, FINAL, "masks") for candidate in votes]

    def outside_slots(self) -> list[Slot]:
        """Rows of other tools, which stand in every table of methods that look at the image."""
        rows = [result.candidate for result in self.results.values() if result.candidate.made_elsewhere]
        return [Slot(candidate, candidate.label) for candidate in rows]

    def plain_slots(self) -> list[Slot]:
        """The two U-Nets that stand in every table of methods that look at the image."""
        return [Slot(candidate, candidate.label) for candidate in PLAIN]


def _own_slot(candidate: Candidate, given: Given) -> Slot:
    each = given == "image" and candidate.method == "mrprism"
    divp = given == "masks" and candidate.method == "mrprism"
    label = f"DivP ({candidate.label})" if divp else candidate.label
    return Slot(candidate, label, "each" if each else FINAL, given)


def read_comparison(out: Path) -> Comparison:
    """Read a comparison's folder: everything that was ever asked for and is there.

    Raises:
        InputError: It is not a comparison, a run is damaged, or runs were trained on different data.
    """
    plan = read_plan(out)
    results = {}
    hashes: dict[str, Path] = {}
    for candidate in plan.candidates():
        runs, failed = {}, {}
        for seed in plan.seeds_of(candidate):
            folder = out / "runs" / candidate.key / f"seed{seed}"
            failure = folder.with_name(f"{folder.name}.failed")
            if failure.is_file():
                failed[seed] = failure.read_text(encoding="utf-8").strip()
            elif candidate.made_elsewhere:
                if (folder / "table.csv").is_file():
                    runs[seed] = read_run(folder)
            elif (folder / "cost.json").is_file():
                runs[seed] = read_run(folder)
                hashes[str(runs[seed].config.get("dataset_hash", ""))] = folder
        results[candidate.key] = Result(candidate, runs, failed, plan.impossible.get(candidate.key, ""))
    if len(hashes) > 1:
        first, second, *_ = hashes.values()
        raise InputError(
            f"{first} and {second} were trained on different cases: the data set changed in between"
        )
    return Comparison(out, plan, results)


def mean_seconds(result: Result) -> float:
    """Mean training time over seeds; NaN where unknown."""
    seconds = [run.result.get("seconds", math.nan) for run in result.runs.values()]
    return _mean([float(s) for s in seconds])


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
