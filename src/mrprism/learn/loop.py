"""The one training loop: step after step, from where the last checkpoint stands to the end."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.utils import get_total_norm

from mrprism.core.errors import InputError
from mrprism.core.seeds import seed_of
from mrprism.learn.accelerator import Tracker
from mrprism.learn.advice import training_advice
from mrprism.learn.batch import Batch
from mrprism.learn.batches import training_batches
from mrprism.learn.calibration import calibrate
from mrprism.learn.cases import Cases
from mrprism.learn.checkpoint import Progress, check_place, kept_checkpoint, load_checkpoint, save_checkpoint
from mrprism.learn.devices import device_name, on_device
from mrprism.learn.machine import machine_of, what_is_lost
from mrprism.learn.methods.method import Method
from mrprism.learn.run import Run, RunResult
from mrprism.learn.settings import steps_per_epoch
from mrprism.learn.stopping import stop_asked
from mrprism.learn.synchronised import synchronise
from mrprism.learn.validation import Target, validate
from mrprism.learn.weights import load_method
from mrprism.output.commands import command
from mrprism.output.files import remove_leftovers, write_file
from mrprism.output.progress import Display

TARGETS: dict[str, Target] = {"val-reference": "reference", "val-consensus": "own consensus"}  # by `select`


class Training:
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
        self.method = on_device(method, accelerator.device)
        if accelerator.num_processes > 1:
            synchronise(self.method)
        self.optimiser = optimiser_for(self.method, self.config.learning_rate)
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
            check_place(self.run, self.progress, self.epochs, self.steps)
        self.started = time.monotonic() - self.progress.seconds
        if self.track:
            self._start_tracking()
        total, done = self.epochs * self.steps, self.progress.total_steps
        display = Display(self.epochs, total, done, self.quiet or not self.accelerator.is_main_process)
        log = self.run.log_file if self.accelerator.is_main_process else Path(os.devnull)
        try:
            with (
                _log(log, self.progress.log_bytes) as self.log,
                stop_asked() as self.stop,
                display as self.display,
            ):
                self._say_what_is_lost()
                self.saved = time.monotonic()
                for epoch in range(self.progress.epoch, self.epochs):
                    self._epoch(epoch)
                if not self.epochs:
                    self._validate(0)
                self._save()
                self._calibrate()
            self._finish()
        except OSError as error:
            raise InputError(f"cannot write to {self.run.path}: {error.strerror or error}") from error
        return self.run

    def _say_what_is_lost(self) -> None:
        """Where the machine is another one than at the start, a resumed training says so, and its log keeps it."""
        lost = what_is_lost(self.config, self.accelerator.device) if self.progress.total_steps else None
        if lost is not None:
            self.display.warn(lost)
            self._write(
                {"step": self.progress.total_steps, "resumed_with": machine_of(self.accelerator.device)}
            )

    def _epoch(self, epoch: int) -> None:
        config, progress = self.config, self.progress
        if progress.step == 0:
            torch.manual_seed(seed_of(config.seed, "epoch", epoch))
            self.method.begin_epoch(epoch, self.epochs)
        batches = training_batches(
            self.cases,
            batch_size=config.batch_size,
            seed=config.seed,
            epoch=epoch,
            augment=config.augment,
            plan=config.plan,
            first=progress.step,
            device=self.accelerator.device,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        sums: dict[str, float] = defaultdict(float)
        first, skipped = progress.step, 0
        for batch in batches:
            place = (epoch, progress.step, self.accelerator.process_index)
            torch.manual_seed(seed_of(config.seed, "step", *place))
            rate = self._set_learning_rate()
            self.method.begin_step(progress.total_steps)
            with training_advice(config):
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
            f"{what} is not a number any more ({values}) in epoch {self.progress.epoch + 1}, "
            f"step {self.progress.step + 1}, with cases {', '.join(batch.names)}: look at these cases, "
            f"lower the learning rate from {self.config.learning_rate:g}, or leave such batches out with --nan skip; "
            f"of the checkpoints, {kept_checkpoint(self.run)}"
        )

    def _say_skipped(self, epoch: int, skipped: int, steps: int) -> None:
        if skipped and skipped == steps:
            raise InputError(
                f"the loss of every batch of epoch {epoch + 1} is not a number: nothing is left to learn from; "
                f"lower the learning rate from {self.config.learning_rate:g}"
            )
        if skipped:
            self.display.warn(
                f"{skipped} of {steps} batches of epoch {epoch + 1} were skipped: their loss is not a number "
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
        target = TARGETS.get(config.select, "mean of raters")
        probe = self.val if len(self.val) else self.cases.first(8)  # no score, but a collapse shows
        torch.manual_seed(seed_of(config.seed, "validation", epoch))
        with training_advice(config):
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
                f"go on with: {command('train', '--resume', self.run.path)}"
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

    def _calibrate(self) -> None:
        """Read from the validation cases what the chosen weights' probabilities mean."""
        if self.accelerator.is_main_process and self.epochs and len(self.val):
            calibrate(self.run, load_method(self.run, self.accelerator.device), self.val.every_slice())

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
            parameters=sum(p.numel() for p in self.method.parameters() if p.requires_grad),
            seconds=round(progress.seconds, 3),
            device=device_name(self.accelerator.device),
        )
        write_file(self.run.path / "result.json", result.model_dump_json(indent=2).encode() + b"\n")
        shutil.rmtree(self.run.checkpoint, ignore_errors=True)  # nothing is left to go on with

    def _start_tracking(self) -> None:
        plain = {
            name: value if isinstance(value, int | float | str) else json.dumps(value, default=str)
            for name, value in self.config.model_dump(mode="json", exclude={"train", "val", "test"}).items()
        }
        self.accelerator.init_trackers("mrprism", config=plain)


def optimiser_for(method: Method, learning_rate: float) -> torch.optim.Optimizer | None:
    groups = method.parameter_groups(learning_rate)
    groups = [{**group, "params": list(group["params"])} for group in groups]  # type: ignore[call-overload]
    groups = [group for group in groups if group["params"]]
    return torch.optim.Adam(groups, lr=learning_rate) if groups else None


@contextmanager
def _log(file: Path, length: int) -> Iterator[BinaryIO]:
    """The log, cut to what the checkpoint knows of."""
    with open(file, "ab") as log:
        if file.is_file():
            log.truncate(length)
        yield log
