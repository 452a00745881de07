"""From a data set and settings to a run: cases at training size, a method with fresh weights, the loop."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch

from mrprism.core import given
from mrprism.core.errors import InputError
from mrprism.core.seeds import seed_of
from mrprism.datasets import Dataset, open_dataset
from mrprism.images.slicing import Plane
from mrprism.learn.accelerator import Tracker, accelerator_for
from mrprism.learn.checkpoint import check_checkpoint
from mrprism.learn.loop import Training
from mrprism.learn.machine import machine_of, threads_of
from mrprism.learn.methods import check_needs
from mrprism.learn.methods.build import build_method
from mrprism.learn.methods.method import Method
from mrprism.learn.plan import Plan, Reasoned
from mrprism.learn.plan_told import plan_told
from mrprism.learn.prepare import Prepared, prepare, prepare_again
from mrprism.learn.processes import refuse_a_lone_process
from mrprism.learn.run import Run, refuse_another, refuse_existing
from mrprism.learn.settings import Augment, Select
from mrprism.learn.weights import refuse_untied
from mrprism.output.files import remove_leftovers, write_file
from mrprism.output.lock import alone_in

SIZE = 256
PAPER: dict[str, Any] = {"epochs": 150, "batch_size": 8, "augment": "full"}


@alone_in("out")
def train(
    dataset: Dataset | str | Path,
    method: str = "mrprism",
    out: str | Path = "run",
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    size: int | None = None,
    learning_rate: float = 1e-4,
    schedule: Literal["constant", "cosine"] = "constant",
    clip: float = 0.0,
    seed: int = 0,
    split_seed: int = 0,
    backbone: str = "resnet34",
    options: Mapping[str, Any] | None = None,
    augment: Augment | None = None,
    slices: Plane | None = None,
    neighbours: int = 0,
    drawn_only: bool = False,
    plan: Plan | Reasoned | str | Path | None = None,
    nan: Literal["stop", "skip"] = "stop",
    select: Select | None = None,
    device: str | None = None,
    precision: Literal["auto", "float32", "bf16"] = "auto",
    checkpoint_every: float = 30.0,
    track: Tracker | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Run:
    """Train a method on a data set into a run folder. The defaults are the paper's; volumes are planned for.

    Adam; the same seed, settings and data give the same weights on a CPU, stopped and resumed or not.

    Args:
        dataset: A data set, or its folder.
        out: The run folder. If these very settings were begun there and stopped, they are gone on with.
        epochs: Passes over the training cases. None: as the plan says, or 150 without one; alike `batch_size` (8)
            and `augment` ("full").
        size: Images are stretched to `size` × `size` pixels; not with a plan. None: 256.
        clip: Largest norm of the gradient; 0: not clipped.
        seed: Of weights, order and augmentation; `split_seed` draws the split, so that runs with
            other seeds are still tested on the same cases.
        slices: Train on the slices of volumes: "axial", "coronal" or "sagittal"; or along the file's "z", "y"
            or "x". The run predicts volumes in the same way. See `mrprism.images.slicing`.
        neighbours: Slices on each side that come along as channels.
        drawn_only: Leave out slices on which nobody drew anything.
        plan: How cases are brought before the network, in place of `size`: a plan, its file, or "auto", which makes one
            as `mrprism.plan` does. It says batch size, augmentation and epochs, too, unless they are given here. None:
            "auto" for volumes whose `slices` nobody asked for, no plan for images.
        nan: What becomes of a batch whose loss is no number: "stop" the training, or "skip" the batch, which
            is logged and counted. An epoch of which nothing is left stops the training all the same.
        select: Which epoch's weights the run keeps: "last"; "val", the best soft Dice against the mean
            of raters on the validation cases; "val-reference", the best Dice at 0.5 against their
            reference; "val-consensus", the best Dice at 0.5 against the method's own consensus of their masks,
            which needs no reference. None: "last" under a cosine schedule, which ends at rest; otherwise
            "val-reference" if every validation case has a reference, else "val-consensus".
        device: "cpu", "cuda", "cuda:1"; None: a GPU if there is one.
        precision: "auto": bf16 on a GPU that has it, else float32.
        checkpoint_every: Seconds after which a step is followed by a checkpoint; Ctrl-C writes one too.
        track: Also log to this tracker, beside the run's own log.
        resume: If the run is there already, go on with it by `mrprism.resume`.

    Raises:
        InputError: Anything about the input or the settings, or the loss is no longer a number (see `nan`).
        KeyboardInterrupt: After Ctrl-C or SIGTERM, once a checkpoint is saved.
    """
    out = Path(out)
    if resume and (out / "config.json").is_file():
        return _resume(
            out, dataset, device=device, checkpoint_every=checkpoint_every, track=track, quiet=quiet
        )
    refuse_a_lone_process()
    accelerator = accelerator_for(device, precision, track, out)
    begun = (out / "config.json").is_file()
    if accelerator.is_main_process and not begun:
        remove_leftovers(out)
        refuse_existing(out)
    accelerator.wait_for_everyone()  # before the main process makes the folder
    dataset = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    said: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "augment": augment}
    planned = plan_told(
        plan, dataset, size=size, slices=slices, said=said,
        method=method, backbone=backbone, split_seed=split_seed, device=device,
    )  # fmt: skip
    paper = {name: PAPER[name] if value is None else value for name, value in said.items()}
    length = paper if planned is None else {name: getattr(planned.plan, name) for name in said}
    settings: dict[str, Any] = {
        "method": method,
        "options": dict(given.one_of(options or {}, Mapping, "options as a dictionary, name to value")),
        "backbone": backbone,
        "seed": seed,
        "split_seed": split_seed,
        "size": SIZE if size is None else size,
        **length,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "clip": clip,
        "slices": slices,
        "neighbours": neighbours,
        "drawn_only": drawn_only,
        "dims": 2 if planned is None else planned.plan.dims,
        "plan": None if planned is None else planned.plan,
        "nan": nan,
        "precision": "bf16" if accelerator.mixed_precision == "bf16" else "float32",
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "machine": machine_of(accelerator.device),
    }
    prepared = prepare(dataset, settings, select)
    if begun:
        refuse_another(out, prepared.config)
        return _resume(
            out, dataset, device=device, checkpoint_every=checkpoint_every, track=track, quiet=quiet
        )
    network = _network_of(prepared)
    run = Run.create(out, prepared.config) if accelerator.is_main_process else Run(out, prepared.config)
    if planned is not None and accelerator.is_main_process:
        write_file(run.path / "plan.toml", planned.to_toml())
    return Training(
        run, network, prepared.cases, prepared.val, accelerator, checkpoint_every, quiet, track
    ).go()


@alone_in("run")
def resume(
    run: str | Path,
    dataset: Dataset | str | Path | None = None,
    *,
    device: str | None = None,
    checkpoint_every: float = 30.0,
    track: Tracker | None = None,
    quiet: bool = False,
) -> Run:
    """Go on with a training that was stopped, from its last checkpoint and with its own settings.

    On a CPU the weights and the log become those of a training never stopped, if machine and libraries are those
    it was begun with; else that is said. Threads are as many as then. A run that is finished is returned as
    it is.

    Args:
        dataset: Where the data are now; None: where they were.

    Raises:
        InputError: No such run, its data have changed since, or its config is not that of its checkpoint.
    """
    return _resume(
        Path(run), dataset, device=device, checkpoint_every=checkpoint_every, track=track, quiet=quiet
    )


def _resume(
    path: Path,
    dataset: Dataset | str | Path | None,
    *,
    device: str | None,
    checkpoint_every: float,
    track: Tracker | None,
    quiet: bool,
) -> Run:
    refuse_a_lone_process()
    run = Run.open(path)
    config = run.config
    if run.result() is not None:
        refuse_untied(run)
        return run
    if (run.checkpoint / "state.json").is_file():
        check_checkpoint(run)
    if dataset is None:
        if config.dataset_path is None:
            raise InputError(f"{path} was trained on data given from Python: give them again to go on")
        dataset = config.dataset_path
    if not isinstance(dataset, Dataset):
        dataset = open_dataset(dataset, reference=config.reference)
    accelerator = accelerator_for(device, config.precision, track, path)
    if accelerator.num_processes != config.processes:
        raise InputError(
            f"{path} was begun with {config.processes} processes, not {accelerator.num_processes}"
        )
    prepared = prepare_again(run, dataset)
    with threads_of(config) if accelerator.device.type == "cpu" else nullcontext():
        network = _network_of(prepared)
        return Training(
            run, network, prepared.cases, prepared.val, accelerator, checkpoint_every, quiet, track
        ).go()


def _network_of(prepared: Prepared) -> Method:
    """A method with fresh weights that has seen the training cases."""
    config, cases = prepared.config, prepared.cases
    torch.manual_seed(seed_of(config.seed, "weights"))
    method = build_method(config.method, config.network_task, config.backbone, config.options)
    check_needs(method, config.task, not cases.lacking("diagnosis"), not cases.lacking("reference"))
    torch.manual_seed(seed_of(config.seed, "prepare"))
    method.prepare(cases)
    return method
