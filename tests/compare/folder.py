"""A comparison's folder as a sweep would leave it, made by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mrprism.compare.plan import Budget, Plan, Wanted, write_plan
from mrprism.core.sample import Task
from mrprism.metrics.scores import FINAL, MEAN, RATER, REFERENCE, Row, write_table

TASK = Task(channels=3, structures=("disc",), raters=("ann", "bob"))
CASES = tuple(f"case{i:02d}" for i in range(12))

Scores = Mapping[str, Sequence[float]]  # recurrence: Dice of each case


def make_plan(
    out: Path, *, methods: Sequence[str], seeds: Sequence[int] = (0, 1), **settings: object
) -> Plan:
    plan = Plan(
        dataset="hand-made",
        dataset_path="/nowhere",
        task=TASK,
        train=("t0", "t1"),
        val=("v0",),
        test=CASES,
        has_reference=False,
        budget=Budget(epochs=3, size=32, batch_size=2, backbone="small"),
        seeds=tuple(seeds),
        others=tuple(Wanted(method=method) for method in methods),
    ).model_copy(update=settings)
    write_plan(plan, out)
    return plan


def make_run(
    out: Path,
    key: str,
    seed: int,
    scores: Scores,
    *,
    reads: str = "image",
    more: Sequence[Row] = (),
    seconds: float = 60.0,
    dataset_hash: str = "same",
    collapsed: bool = False,
) -> Path:
    """One run: Dice as given against all targets, 0.01 less as soft Dice, 1 - Dice as ECE and Brier."""
    run = out / "runs" / key / f"seed{seed}"
    run.mkdir(parents=True)
    rows = [*more]
    for recurrence, values in scores.items():
        for i, (case, value) in enumerate(zip(CASES, values, strict=True)):
            targets = [REFERENCE, MEAN]
            if recurrence == FINAL:
                targets += [f"{RATER}{rater}" for rater in TASK.raters]
            for target in targets:
                numbers = {"dice": value, "soft_dice": value - 0.01}
                if target == MEAN:
                    numbers |= {"ece": 1 - value, "brier": 1 - value}
                rows += [
                    Row(case, f"patient{i}", "disc", recurrence, target, metric, number, reads)
                    for metric, number in numbers.items()
                ]
    write_table(rows, run / "table.csv")
    method, _, option = key.partition("-label=")
    config = {
        "method": method,
        "options": {"label": option} if option else {},
        "seed": seed,
        "dataset": "hand-made",
        "dataset_hash": dataset_hash,
        "task": {"structures": TASK.structures, "raters": TASK.raters},
    }
    result = {
        "parameters": 1_500_000,
        "seconds": seconds,
        "collapsed": collapsed,
        "collapse": ["it is constant"],
    }
    cost = {"milliseconds": 12.5, "memory_mib": 900.0, "device": "cpu", "threads": 1}
    for name, content in (("config", config), ("result", result), ("cost", cost)):
        (run / f"{name}.json").write_text(json.dumps(content))
    return run
