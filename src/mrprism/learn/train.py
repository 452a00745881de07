"""The one training loop."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shutil
import signal
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from pydantic import ValidationError
from torch import Tensor
from torch.nn.utils import get_total_norm

from mrprism.core.errors import InputError
from mrprism.datasets import Dataset, open_dataset
from mrprism.datasets.dataset import need_images
from mrprism.images.slicing import Plane
from mrprism.learn.batch import Batch
from mrprism.learn.known_cases import marks_of
from mrprism.learn.loading import Augment, Cases, split_cases, steps_per_epoch, training_batches
from mrprism.learn.methods import check_needs
from mrprism.learn.methods.method import Method
from mrprism.learn.processes import refuse_a_lone_process
from mrprism.learn.run import (
    Progress,
    Run,
    RunConfig,
    RunResult,
    Select,
    build_method,
    check_device,
    kept_checkpoint,
    load_checkpoint,
    out_of_memory,
    refuse_another,
    refuse_existing,
    save_checkpoint,
)
from mrprism.learn.slice_cases import training_cases
from mrprism.learn.validation import Target, validate
from mrprism.output.files import remove_leftovers, write_file
from mrprism.output.progress import Display

Tracker = Literal["tensorboard", "mlflow", "wandb"]


def train(
    dataset: Dataset | str | Path,
    method: str = "mrprism",
    out: str | Path = "run",
    *,
    epochs: int = 150,
    batch_size: int = 8,
    size: int = 256,
    learning_rate: float = 1e-4,
    schedule: Literal["constant", "cosine"] = "constant",
    clip: float = 0.0,
    seed: int = 0,
    split_seed: int = 0,
    backbone: str = "resnet34",
    options: Mapping[str, Any] | None = None,
    augment: Augment = "full",
    slices: Plane | None = None,
    neighbours: int = 0,
    drawn_only: bool = False,
    nan: Literal["stop", "skip"] = "stop",
    select: Select | None = None,
    device: str | None = None,
    precision: Literal["auto", "float32", "bf16"] = "auto",
    checkpoint_every: float = 30.0,
    track: Tracker | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Run:
    """Train a method on a data set into a run folder. The defaults are the paper's.

    Adam; the same seed, settings and data give the same weights on a CPU, stopped and resumed or not.

    Args:
        dataset: A data set, or its folder.
        out: The run folder. If these very settings were begun there and stopped, they are gone on with.
        size: Images are stretched to `size` × `size` pixels.
        clip: Largest norm of the gradient; 0: not clipped.
        seed: Of weights, order and augmentation; `split_seed` draws the split, so that runs with
            other seeds are still tested on the same cases.
        slices: Train on the slices of volumes: "axial", "coronal" or "sagittal"; or along the file's "z", "y"
            or "x". The run predicts volumes in the same way. See `mrprism.images.slicing`.
        neighbours: Slices on each side that come along as channels.
        drawn_only: Leave out slices on which nobody drew anything.
        nan: What becomes of a batch whose loss is no number: "stop" the training, or "skip" the batch, which
            is logged and counted. An epoch of which nothing is left stops the training all the same.
        select: Which epoch's weights the run keeps: "last"; "val", the best soft Dice against the mean
            of raters on the validation cases; "val-reference", the best Dice at 0.5 against their
            reference. None: "val-reference" if every validation case has a reference, else "val".
        device: "cpu", "cuda", "cuda:1"; None: a GPU if there is one.
        precision: "auto": bf16 on a GPU that has it, else float32.
        checkpoint_every: Seconds after which a step is followed by a checkpoint; Ctrl-C writes one too.
        track: Also log to this tracker, beside the run's own log.
        resume: If the run is there already, go on with it by `mrprism.train.resume`.

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
    accelerator = _accelerator(device, precision, track, out)
    begun = (out / "config.json").is_file()
    if accelerator.is_main_process and not begun:
        remove_leftovers(out)
        refuse_existing(out)
    accelerator.wait_for_everyone()  # before the main process makes the folder
    dataset = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    need_images(dataset, "training")
    names, groups, splits = dataset.names, dataset.groups, dataset.splits
    split = split_cases(names, [groups[n] for n in names], [splits[n] for n in names], seed=split_seed)
    settings: dict[str, Any] = {
        "method": method,
        "options": dict(options or {}),
        "backbone": backbone,
        "task": dataset.task,
        "dataset": dataset.name,
        "dataset_path": None if dataset.root is None else str(dataset.root.resolve()),
        "window": dataset.manifest.window if dataset.manifest else None,
        "train": split.train,
        "val": split.val,
        "test": split.test,
        "seed": seed,
        "split_seed": split_seed,
        "size": size,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "clip": clip,
        "augment": augment,
        "slices": slices,
        "neighbours": neighbours,
        "drawn_only": drawn_only,
        "nan": nan,
        "precision": "bf16" if accelerator.mixed_precision == "bf16" else "float32",
        "processes": accelerator.num_processes,
    }
    if slices is None and (neighbours or drawn_only):
        raise InputError("neighbours and drawn-only are for slices of volumes: say which by --slices")
    # a wrong setting is said before images are read
    config = _config(settings, dataset_hash="", select="last")
    build_method(method, config.network_task, backbone, options or {})
    cases = training_cases(dataset, split.train, size, config.slicing)
    val = training_cases(dataset, split.val, size, config.slicing)
    images = marks_of(dataset, (*split.train, *split.val, *split.test))
    config = _config(settings, dataset_hash=_hash(cases, val), select=_select(select, val), images=images)
    if begun:
        refuse_another(out, config)
        if (run := Run(out, config)).result() is not None:
            return run
    network = _prepared(config, cases)
    run = Run.create(out, config) if accelerator.is_main_process and not begun else Run(out, config)
    return _Training(run, network, cases, val, accelerator, checkpoint_every, quiet, track).go()


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

    On a CPU the weights and the log become those of a training never stopped. A run that is finished
    is returned as it is.

    Args:
        dataset: Where the data are now; None: where they were.

    Raises:
        InputError: No such run, or its data have changed since.
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
        return run
    if dataset is None:
        if config.dataset_path is None:
            raise InputError(f"{path} was trained on data given from Python: give them again to go on")
        dataset = config.dataset_path
    dataset = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    accelerator = _accelerator(device, config.precision, track, path)
    if accelerator.num_processes != config.processes:
        raise InputError(
            f"{path} was begun with {config.processes} processes, not {accelerator.num_processes}"
        )
    missing = sorted({*config.train, *config.val} - set(dataset.names))
    if missing:
        raise InputError(f"data set '{dataset.name}' has no case '{missing[0]}', which {path} is trained on")
    cases = training_cases(dataset, config.train, config.size, config.slicing)
    val = training_cases(dataset, config.val, config.size, config.slicing)
    if _hash(cases, val) != config.dataset_hash:
        raise InputError(f"the cases of data set '{dataset.name}' have changed since {path} was begun")
    network = _prepared(config, cases)
    return _Training(run, network, cases, val, accelerator, checkpoint_every, quiet, track).go()


class _Training:
    """One training under way: the loop, and what it carries from step to step."""

    def __init__(
        self,
        run: Run,
        method: Method,
        cases: Cases,
        val: Cases,
        accelerator: Accelerator,
        checkpoint_every: float,
        quiet: bool,
        track: Tracker | None,
    ) -> None:
        self.run, self.cases, self.val, self.accelerator = run, cases, val, accelerator
        self.checkpoint_every, self.quiet, self.track = checkpoint_every, quiet, track
        self.config = run.config
        # on a CPU convolutions take a fifth less time with channels last
        self.method = method.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = _optimiser(self.method, self.config.learning_rate)
        self.peaks = [float(g["lr"]) for g in self.optimiser.param_groups] if self.optimiser else []
        self.steps = steps_per_epoch(len(cases), self.config.batch_size, accelerator.num_processes)
        self.epochs = self.config.epochs if self.optimiser else 0  # nothing to learn: nothing to repeat
        # predicting costs about a third of a training step, so this keeps validation under a tenth
        self.validate_every = max(1, math.ceil(len(val) / (0.3 * len(cases))))
        self.progress = Progress()
        self.chosen: dict[str, Tensor] | None = None  # weights to save with the next checkpoint
        self.started = time.monotonic()

    def go(self) -> Run:
        """Train from where the last checkpoint stands, or from the beginning, to the end."""
        if self.accelerator.is_main_process:
            remove_leftovers(self.run.path)
        if (self.run.checkpoint / "state.json").is_file():
            self.progress = load_checkpoint(self.run, self.method, self.optimiser)
        self.started = time.monotonic() - self.progress.seconds
        if self.track:
            self._start_tracking()
        total, done = self.epochs * self.steps, self.progress.total_steps
        display = Display(self.epochs, total, done, self.quiet or not self.accelerator.is_main_process)
        log = self.run.log_file if self.accelerator.is_main_process else Path(os.devnull)
        try:
            with (
                _log(log, self.progress.log_bytes) as self.log,
                _stop_asked() as self.stop,
                display as self.display,
            ):
                self.saved = time.monotonic()
                for epoch in range(self.progress.epoch, self.epochs):
                    self._epoch(epoch)
                if not self.epochs:
                    self._validate(0)
                self._save()
            self._finish()
        except OSError as error:
            raise InputError(f"cannot write to {self.run.path}: {error.strerror or error}") from error
        return self.run

    def _epoch(self, epoch: int) -> None:
        config, progress = self.config, self.progress
        if progress.step == 0:
            torch.manual_seed(_seed(config.seed, "epoch", epoch))
            self.method.begin_epoch(epoch, self.epochs)
        batches = training_batches(
            self.cases,
            batch_size=config.batch_size,
            seed=config.seed,
            epoch=epoch,
            augment=config.augment,
            first=progress.step,
            device=self.accelerator.device,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        sums: dict[str, float] = defaultdict(float)
        first, skipped = progress.step, 0
        for batch in batches:
            place = (epoch, progress.step, self.accelerator.process_index)
            torch.manual_seed(_seed(config.seed, "step", *place))
            rate = self._set_learning_rate()
            with _hints(config):
                terms = self._step(batch)
            progress.step += 1
            progress.total_steps += 1
            where = {"step": progress.total_steps, "epoch": epoch + 1}
            if terms is None:
                skipped += 1
                progress.skipped += 1
                self._write({**where, "skipped": batch.names})
            else:
                for name, value in terms.items():
                    sums[name] += value
                loss = sum(terms.values())
                self._write({**where, "loss": loss, "terms": terms, "lr": rate})
                self.display.step(epoch, loss)
            self._stop_or_save()
        self._say_skipped(epoch, skipped, self.steps - first)
        score = self._validate(epoch) if self._validates(epoch) else None
        progress.epoch, progress.step = epoch + 1, 0
        means = {name: value / max(1, self.steps - first - skipped) for name, value in sums.items()}
        self.display.epoch(epoch, means, score, progress.chosen_epoch == epoch + 1)
        self._stop_or_save()

    def _step(self, batch: Batch) -> dict[str, float] | None:
        """One batch: as many optimiser steps as the method yields losses; the mean of each term.

        None: a loss was no number, and what was left of the batch was skipped.
        """
        assert self.optimiser is not None
        self.method.train()
        skip = self.config.nan == "skip"
        buffers = {name: buffer.clone() for name, buffer in self.method.named_buffers()} if skip else {}
        values: dict[str, list[Tensor]] = defaultdict(list)
        losses = self.method.losses(batch)
        while True:
            with self.accelerator.autocast():
                terms = next(losses, None)
            if terms is None:
                break
            loss = torch.stack([term.float() for term in terms.values()]).sum()
            if not self._finite(loss):
                if not skip:
                    raise InputError(self._why_stopped(terms, batch))
                self._put_back(buffers)
                return None
            self.optimiser.zero_grad(set_to_none=True)
            self.accelerator.backward(loss)
            self._share_gradients()
            if not self._gradients_finite():
                if not skip:
                    raise InputError(self._why_stopped(terms, batch))
                self._put_back(buffers)
                return None
            if self.config.clip:
                torch.nn.utils.clip_grad_norm_(self.method.parameters(), self.config.clip)
            self.optimiser.step()
            for name, term in terms.items():
                values[name].append(term.detach().float())
        if not values:
            return {}
        # stacked, so that the device is waited for once
        means = torch.stack([torch.stack(v).mean() for v in values.values()]).tolist()
        return dict(zip(values, means, strict=True))

    def _finite(self, loss: Tensor) -> bool:
        wrong = ~loss.isfinite()
        if self.accelerator.num_processes > 1 and self.config.nan == "skip":  # skipped by all or by none
            wrong = self.accelerator.reduce(wrong.float(), "sum") > 0
        return not bool(wrong)

    def _gradients_finite(self) -> bool:
        """Whether a step may be taken: a finite loss can have a gradient that is no number."""
        gradients = [p.grad for p in self.method.parameters() if p.grad is not None]
        return not gradients or bool(get_total_norm(gradients, norm_type=math.inf).isfinite())

    def _put_back(self, buffers: Mapping[str, Tensor]) -> None:
        """Buffers as they were before a batch that is skipped, which running means have seen by now."""
        for name, buffer in self.method.named_buffers():
            buffer.copy_(buffers[name])

    def _why_stopped(self, terms: Mapping[str, Tensor], batch: Batch) -> str:
        values = ", ".join(f"{name} {term.item():g}" for name, term in terms.items())
        finite = all(bool(term.isfinite()) for term in terms.values())
        what = "the gradient of the loss" if finite else "the loss"
        return (
            f"{what} is no number any more ({values}) in epoch {self.progress.epoch + 1}, "
            f"step {self.progress.step + 1}, with cases {', '.join(batch.names)}: look at these cases, "
            f"lower the learning rate from {self.config.learning_rate:g}, or leave such batches out with --nan skip; "
            f"of the checkpoints, {kept_checkpoint(self.run)}"
        )

    def _say_skipped(self, epoch: int, skipped: int, steps: int) -> None:
        if skipped and skipped == steps:
            raise InputError(
                f"the loss of every batch of epoch {epoch + 1} is no number: nothing is left to learn from; "
                f"lower the learning rate from {self.config.learning_rate:g}"
            )
        if skipped:
            self.display.warn(
                f"{skipped} of {steps} batches of epoch {epoch + 1} were skipped: their loss is no number "
                "(the log names their cases)"
            )

    def _share_gradients(self) -> None:
        """Mean of the processes' gradients. `losses` is no forward pass, so DDP cannot wrap it."""
        if self.accelerator.num_processes == 1:
            return
        parameters = [p for p in self.method.parameters() if p.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        # who has none is told as well: Adam lets a parameter without gradient rest, one with zeros drift
        some = torch.tensor([float(p.grad is not None) for p in parameters], device=self.accelerator.device)
        together = self.accelerator.reduce(torch.cat([g.flatten() for g in [*gradients, some]]), "mean")
        *parts, some = together.split([p.numel() for p in [*parameters, some]])
        for parameter, part, has in zip(parameters, parts, some.tolist(), strict=True):
            parameter.grad = part.view_as(parameter).clone() if has else None

    def _set_learning_rate(self) -> float:
        """The step's learning rate, relative to where it starts; returns that of the first group."""
        assert self.optimiser is not None
        factor = 1.0
        if self.config.schedule == "cosine":
            factor = 0.5 * (1 + math.cos(math.pi * self.progress.total_steps / (self.epochs * self.steps)))
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        return self.peaks[0] * factor

    def _validates(self, epoch: int) -> bool:
        return (epoch + 1) % self.validate_every == 0 or epoch + 1 == self.epochs

    def _validate(self, epoch: int) -> float | None:
        """Score the epoch, keep its weights if they are to be chosen, and speak up about a collapse."""
        if not self.accelerator.is_main_process:
            self.accelerator.wait_for_everyone()
            return None
        config, progress = self.config, self.progress
        target: Target = "reference" if config.select == "val-reference" else "mean of raters"
        probe = self.val if len(self.val) else self.cases.first(8)  # no score, but a collapse shows
        torch.manual_seed(_seed(config.seed, "validation", epoch))
        with _hints(config):
            found = validate(
                self.method,
                probe,
                target,
                batch_size=config.batch_size,
                device=self.accelerator.device,
                autocast=self.accelerator.autocast(),
            )
        score = found.score if len(self.val) and not math.isnan(found.score) else None
        better = score is not None and (progress.score is None or score > progress.score)
        chosen = config.select == "last" or better or progress.chosen_epoch is None
        if chosen:
            progress.chosen_epoch, progress.score, progress.collapse = epoch + 1, score, found.collapse
            self.chosen = {n: t.detach().to("cpu", copy=True) for n, t in self.method.state_dict().items()}
        self._warn(epoch, found.collapse)
        line: dict[str, Any] = {"step": progress.total_steps, "epoch": epoch + 1}
        if score is not None:
            line["validation"] = {
                "target": target,
                "score": score,
                "structures": found.structures,
                "recurrences": found.recurrences,
                "chosen": chosen,
            }
        self._write({**line, "collapse": found.collapse})
        self.accelerator.wait_for_everyone()
        return score

    def _warn(self, epoch: int, collapse: Sequence[str]) -> None:
        """Speak of a collapse that lasts for a fifth of the training, or stands at its end."""
        lasting = max(3, self.epochs // self.validate_every // 5)
        streaks = self.progress.streaks
        self.progress.streaks = {sentence: streaks.get(sentence, 0) + 1 for sentence in collapse}
        for sentence, streak in self.progress.streaks.items():
            if streak == lasting or epoch + 1 >= self.epochs:
                self.display.warn(f"the network may have collapsed, after epoch {epoch + 1}: {sentence}")

    def _write(self, line: Mapping[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        whole = {**line, "seconds": round(time.monotonic() - self.started, 3)}
        self.log.write(json.dumps(whole).encode() + b"\n")
        if self.track:
            numbers = {**line.get("terms", {}), **line.get("validation", {}), **line}
            values = {name: value for name, value in numbers.items() if isinstance(value, float)}
            self.accelerator.log(values, step=self.progress.total_steps)

    def _stop_or_save(self) -> None:
        asked = self.stop()
        if self.accelerator.num_processes > 1:
            flag = torch.tensor(float(asked), device=self.accelerator.device)
            asked = bool(self.accelerator.reduce(flag, "sum") > 0)
        if asked:
            self._save()
            raise KeyboardInterrupt(
                f"stopped after step {self.progress.total_steps}; "
                f"go on with: mrprism train --resume {self.run.path}"
            )
        if time.monotonic() - self.saved >= self.checkpoint_every:
            self._save()

    def _save(self) -> None:
        self.saved = time.monotonic()
        if not self.accelerator.is_main_process:
            return
        self.log.flush()
        os.fsync(self.log.fileno())
        self.progress.log_bytes = self.log.tell()
        self.progress.seconds = time.monotonic() - self.started
        save_checkpoint(self.run, self.progress, self.method, self.optimiser, self.chosen)
        self.chosen = None
        self.saved = time.monotonic()

    def _finish(self) -> None:
        if self.accelerator.is_main_process:
            self._write_result()
        self.accelerator.wait_for_everyone()
        if self.track:
            self.accelerator.end_training()

    def _write_result(self) -> None:
        progress = self.progress
        result = RunResult(
            epochs=self.epochs,
            steps=progress.total_steps,
            select=self.config.select,
            chosen_epoch=progress.chosen_epoch or 0,
            score=progress.score,
            collapsed=bool(progress.collapse),
            collapse=progress.collapse,
            skipped=progress.skipped,
            parameters=sum(p.numel() for p in self.method.parameters()),
            seconds=round(progress.seconds, 3),
            device=_device_name(self.accelerator.device),
        )
        write_file(self.run.path / "result.json", result.model_dump_json(indent=2).encode() + b"\n")
        shutil.rmtree(self.run.checkpoint, ignore_errors=True)  # nothing is left to go on with

    def _start_tracking(self) -> None:
        plain = {
            name: value if isinstance(value, int | float | str) else json.dumps(value, default=str)
            for name, value in self.config.model_dump(mode="json", exclude={"train", "val", "test"}).items()
        }
        self.accelerator.init_trackers("mrprism", config=plain)


def _config(settings: Mapping[str, Any], **more: Any) -> RunConfig:
    try:
        return RunConfig(**settings, **more)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{name} is {first['input']!r}: {first['msg'].lower()}") from error


def _prepared(config: RunConfig, cases: Cases) -> Method:
    """A method with fresh weights that has seen the training cases."""
    torch.manual_seed(_seed(config.seed, "weights"))
    method = build_method(config.method, config.network_task, config.backbone, config.options)
    check_needs(method, config.task, not cases.lacking("diagnosis"), not cases.lacking("reference"))
    torch.manual_seed(_seed(config.seed, "prepare"))
    method.prepare(cases)
    return method


def _select(select: Select | None, val: Cases) -> Select:
    lacking = val.lacking("reference")
    if select is None:
        return "last" if not len(val) else "val" if lacking else "val-reference"
    if select == "val-reference" and lacking:
        raise InputError(
            f"selecting by the reference needs one for every validation case; '{lacking[0]}' has none"
        )
    return select


def _optimiser(method: Method, learning_rate: float) -> torch.optim.Optimizer | None:
    groups = method.parameter_groups(learning_rate)
    groups = [{**group, "params": list(group["params"])} for group in groups]  # type: ignore[call-overload]
    groups = [group for group in groups if group["params"]]
    return torch.optim.Adam(groups, lr=learning_rate) if groups else None


def _accelerator(device: str | None, precision: str, track: Tracker | None, out: Path) -> Accelerator:
    """Accelerate's view of the machine; its global state is begun anew when it does not fit."""
    if device is not None:
        check_device(device)
    if track is not None:
        _check_tracker(track)
    kind = torch.device(device).type if device else ("cuda" if torch.cuda.is_available() else None)
    helps = kind == "cuda" and torch.cuda.is_bf16_supported()
    mixed = "bf16" if precision == "bf16" or (precision == "auto" and helps) else "no"
    if device and ":" in device:
        torch.cuda.set_device(torch.device(device))
    if kind == "cuda":
        torch.backends.cudnn.benchmark = True  # every batch has the same shape
        torch.set_float32_matmul_precision("high")
    AcceleratorState._reset_state(reset_partial_state=device is not None)
    return Accelerator(cpu=kind == "cpu", mixed_precision=mixed, log_with=track, project_dir=out / "tracking")


def _check_tracker(track: str) -> None:
    packages = {"tensorboard": ("tensorboard", "tensorboardX"), "mlflow": ("mlflow",), "wandb": ("wandb",)}
    if track not in packages:
        raise InputError(f"unknown tracker '{track}'; known: {', '.join(packages)}")
    if not any(importlib.util.find_spec(name) for name in packages[track]):
        raise InputError(f"tracking with {track} needs the package '{track}': pip install {track}")


def _hash(cases: Cases, val: Cases) -> str:
    return f"{cases.fingerprint()}{val.fingerprint()}"


def _seed(seed: int, purpose: str, *place: int) -> int:
    sequence = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), *place])
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


@contextmanager
def _log(file: Path, length: int) -> Iterator[BinaryIO]:
    """The log, cut to what the checkpoint knows of."""
    with open(file, "ab") as log:
        if file.is_file():
            log.truncate(length)
        yield log


@contextmanager
def _stop_asked() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM came; the step under way ends first. A second Ctrl-C stops at once."""
    asked: list[int] = []

    def note(number: int, frame: object) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _hints(config: RunConfig) -> Iterator[None]:
    """Say which setting to change where torch only says what failed."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError, ValueError) as error:
        if "more than 1 value per channel" in str(error):
            raise InputError(
                f"one case of size {config.size} a step is too little to normalise by: "
                "use a larger batch size or size"
            ) from error
        if not out_of_memory(error):
            raise
        raise InputError(
            f"out of memory with batch size {config.batch_size} and size {config.size}: "
            "lower the batch size first, then the size"
        ) from error
