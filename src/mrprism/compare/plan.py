"""compare.json: the data, the split and the budget that every run of a comparison shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mrprism import __version__
from mrprism.compare.candidates import OUTSIDE, Candidate, Choice
from mrprism.core.errors import InputError
from mrprism.core.sample import Task
from mrprism.datasets import Dataset
from mrprism.datasets.dataset import need_images
from mrprism.datasets.split import Split, split_dataset
from mrprism.images.slicing import Plane
from mrprism.learn import plan as how
from mrprism.learn.methods import check_needs, method_class
from mrprism.learn.methods.build import build_method, check_dims
from mrprism.learn.plan_told import plan_told
from mrprism.learn.run import Run, read_model
from mrprism.learn.settings import Augment, RunConfig
from mrprism.output.files import write_file

FILE = "compare.json"
FORMAT: Literal["mrprism-comparison/1"] = "mrprism-comparison/1"
TUNING = (
    "No method was tuned: for each seed, each runs once with its own default options and the same budget. "
    "The validation cases decide which epoch's weights are kept, by the same score for all."
)


PLANNED = ("epochs", "batch_size", "augment")


class Budget(BaseModel):
    """What every method is given alike; names and meanings are those of `mrprism train`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=150, ge=1)
    size: int = Field(default=256, ge=8)
    batch_size: int = Field(default=8, ge=1)
    backbone: str = "resnet34"
    learning_rate: float = Field(default=1e-4, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    augment: Augment = "full"
    slices: Plane | None = None
    neighbours: int = Field(default=0, ge=0)
    drawn_only: bool = False
    plan: how.Plan | None = None  # in place of size; epochs, batch size and augmentation are its own
    split_seed: int = Field(default=0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _as_planned(cls, values: Any) -> Any:
        plan = values.get("plan") if isinstance(values, dict) else None
        if plan is None:
            return values
        plan = how.Plan.model_validate(plan)
        said = {name: getattr(plan, name) for name in PLANNED}
        for name, value in said.items():
            if values.get(name, value) != value:
                raise ValueError(f"{name} is {values[name]}, and {value} in the plan; expected the same")
        return {**values, **said}


def native(budget: Budget, dataset: Dataset, before: Budget | None, device: str | None) -> Budget:
    """The budget with a plan for volumes, unless it says itself how large cases are.

    Args:
        before: Of the same comparison, begun earlier: its plan stays.

    Raises:
        InputError: There can be no plan.
    """
    told = budget.model_fields_set
    if told & {"size", "slices", "plan"}:
        return budget
    planned = plan_told(
        None if before is None else before.plan,
        dataset,
        size=None,
        slices=None,
        said={name: getattr(budget, name) if name in told else None for name in PLANNED},
        method="mrprism",
        backbone=budget.backbone,
        split_seed=budget.split_seed,
        device=device,
    )
    if planned is None:
        return budget
    said = {name: getattr(budget, name) for name in told - set(PLANNED)}
    return Budget(**said, plan=planned.plan)


class Wanted(BaseModel):
    """A candidate outside the tables, as compare.json keeps it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    options: dict[str, Any] = Field(default_factory=dict)


class Plan(BaseModel):
    """All that is fixed before anything is trained, and all that was asked for so far."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["mrprism-comparison/1"] = FORMAT
    mrprism: str = __version__
    dataset: str
    dataset_path: str
    task: Task
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    has_reference: bool  # every training case has one
    budget: Budget
    tuning: str = TUNING
    seeds: tuple[int, ...]
    tables: tuple[str, ...] = ()
    others: tuple[Wanted, ...] = ()
    shown: tuple[str, ...] = ()  # test cases that pictures are made of
    impossible: dict[str, str] = Field(default_factory=dict)  # candidate: why it cannot run
    outside: dict[str, str] = Field(
        default_factory=dict
    )  # rows of other tools: name, folder of their answers
    protocol: str | None = None  # see `mrprism.compare.protocols`
    draws: int | None = Field(default=None, ge=1)  # of methods that draw; None: each its own number
    apart: tuple[str, ...] = ()  # why rows are not of the kind that the protocol's published ones are

    @property
    def choice(self) -> Choice:
        """What was asked for, by this call and those before."""
        others = [Candidate(o.method, o.options) for o in self.others]
        return Choice(self.tables, (*others, *(Candidate(OUTSIDE, {"name": name}) for name in self.outside)))

    def candidates(self) -> list[Candidate]:
        return self.choice.candidates(self.has_reference)

    def seeds_of(self, candidate: Candidate) -> tuple[int, ...]:
        if candidate.made_elsewhere:
            return (0,)
        return self.seeds[:1] if candidate.deterministic else self.seeds


def make_plan(
    dataset: Dataset,
    budget: Budget,
    choice: Choice,
    seeds: Sequence[int],
    shown: Sequence[str],
    path: Path | None = None,
    split: Split | None = None,
) -> Plan:
    """Settle what runs and what cannot.

    Args:
        path: Where the runs, which are processes of their own, will find these cases, if not where they are.
        split: None: as a training divides them.

    Raises:
        InputError: A setting is wrong, a method has no such option, or nothing can run.
    """
    need_images(dataset, "comparing")
    path = path or dataset.path
    if path is None:
        raise InputError("a comparison needs a data set on disk, because its runs are processes of their own")
    split = split or split_dataset(dataset, budget.split_seed)
    has_reference = all(dataset.referenced[name] for name in split.train)
    diagnoses = dataset.diagnoses
    has_diagnosis = all(diagnoses[name] is not None for name in split.train)
    impossible = {}
    task = dataset.task if budget.plan is None else replace(dataset.task, dims=budget.plan.dims)
    candidates = choice.candidates(has_reference)
    for candidate in candidates:
        try:
            check_needs(method_class(candidate.method), dataset.task, has_diagnosis, has_reference)
            check_dims(candidate.method, method_class(candidate.method), task)
        except InputError as error:
            impossible[candidate.key] = str(error)
            continue
        if candidate in choice.others or candidate is candidates[0]:
            build_method(candidate.method, task, budget.backbone, candidate.options)
    return Plan(
        dataset=dataset.name,
        dataset_path=str(path.resolve()),
        task=dataset.task,
        train=split.train,
        val=split.val,
        test=split.test,
        has_reference=has_reference,
        budget=budget,
        seeds=tuple(dict.fromkeys(seeds)),
        tables=choice.tables,
        others=tuple(Wanted(method=c.method, options=dict(c.options)) for c in choice.others),
        shown=tuple(shown),
        impossible=impossible,
    )


def join(old: Plan, new: Plan, out: Path) -> Plan:
    """The plan of a folder that holds a comparison already: methods and seeds may be added, nothing else.

    Raises:
        InputError: The new plan is of other data or another budget.
    """
    for name in Budget.model_fields:
        before, now = getattr(old.budget, name), getattr(new.budget, name)
        if before != now:
            if name == "plan":
                before, now = "one plan" if before else "no plan", "another one" if now else "without"
            raise InputError(
                f"{out} compares methods with {name.replace('_', ' ')} {before}, not {now}: "
                "budgets are not mixed, so give the same or name another folder"
            )
    for what, before, now in (("protocol", old.protocol, new.protocol), ("draws", old.draws, new.draws)):
        if before != now:
            raise InputError(
                f"{out} compares methods with {what} {before or 'of none'}, not {now or 'of none'}: give the same or name "
                "another folder"
            )
    if old.dataset != new.dataset or old.task != new.task:
        raise InputError(f"{out} compares methods on data set '{old.dataset}', not on '{new.dataset}'")
    for part in ("train", "val", "test"):
        if getattr(old, part) != getattr(new, part):
            raise InputError(
                f"the {part} cases of data set '{new.dataset}' are not those {out} was begun with"
            )
    others = {other.model_dump_json(): other for other in (*old.others, *new.others)}
    return new.model_copy(
        update={
            "seeds": tuple(sorted({*old.seeds, *new.seeds})),
            "tables": tuple(sorted({*old.tables, *new.tables})),
            "others": tuple(others.values()),
            "shown": old.shown,
            "impossible": {**old.impossible, **new.impossible},
            "outside": {**old.outside, **new.outside},
        }
    )


def read_plan(out: Path) -> Plan:
    """The plan of a comparison's folder.

    Raises:
        InputError: There is none, or this version cannot read it.
    """
    file = out / FILE
    try:
        return read_model(file, Plan)
    except FileNotFoundError:
        raise InputError(f"{out} is not a comparison: it has no {FILE}") from None


def write_plan(plan: Plan, out: Path) -> None:
    write_file(out / FILE, plan.model_dump_json(indent=2).encode() + b"\n")


class Job(BaseModel):
    """One run of the sweep, as it is handed to a process of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    method: str
    options: dict[str, Any]
    seed: int
    budget: Budget
    draws: int | None = None
    divided: bool = False  # the cases are divided as this job says, and not as a training does
    dataset_path: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    shown: tuple[str, ...]
    run: Path
    device: str | None = None
    checkpoint_every: float = 30.0

    @property
    def log(self) -> Path:
        """What the process printed."""
        return self.run.with_name(f"{self.run.name}.log")

    @property
    def failure(self) -> Path:
        """Holds one sentence where the run failed."""
        return self.run.with_name(f"{self.run.name}.failed")

    @property
    def cost(self) -> Path:
        return self.run / "cost.json"

    def done(self) -> bool:
        """Whether everything the comparison needs of it is there."""
        return all((self.run / name).is_file() for name in ("result.json", "table.csv", "cost.json"))

    def check(self, run: Run) -> None:
        """Refuse a run in this place that was trained in another way.

        Raises:
            InputError: A setting differs.
        """
        config: RunConfig = run.config
        expected = {"method": self.method, "options": self.options, "seed": self.seed}
        expected |= dict(self.budget) | {"train": self.train, "val": self.val, "test": self.test}
        for name, value in expected.items():
            if (found := getattr(config, name)) != value:
                split = name in ("train", "val", "test")
                what = f"other {name} cases" if split else f"{name} {found!r}, not {value!r}"
                raise InputError(f"{run.path} was trained with {what}: move it away to train it anew")


class Cost(BaseModel):
    """What a run needed besides training time and parameters, which its result holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    milliseconds: float  # to predict one image of the training size, the median of some
    memory_mib: float  # peak while training; of the GPU where there is one, else of the whole process
    device: str
    threads: int


def jobs_of(
    plan: Plan, out: Path, asked: Sequence[Candidate], seeds: Sequence[int], device: str | None
) -> list[Job]:
    """The runs of these candidates, seed by seed, so that a first table stands early."""
    jobs = []
    for seed in seeds:
        for candidate in asked:
            if candidate.key in plan.impossible or seed not in plan.seeds_of(candidate):
                continue
            jobs.append(
                Job(
                    key=candidate.key,
                    method=candidate.method,
                    options=dict(candidate.options),
                    seed=seed,
                    budget=plan.budget,
                    draws=plan.draws,
                    divided=plan.protocol is not None,
                    dataset_path=plan.dataset_path,
                    train=plan.train,
                    val=plan.val,
                    test=plan.test,
                    shown=plan.shown if seed == plan.seeds[0] else (),
                    run=out / "runs" / candidate.key / f"seed{seed}",
                    device=device,
                )
            )
    return jobs
