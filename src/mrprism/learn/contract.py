"""What every method promises, as checks that a method of any package can be put to.

    from mrprism.learn.contract import CHECKS, Subject

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_method(check):
        check(Subject(MyMethod))

A method whose `dims` name 3 is checked on volumes as well: `Subject(MyMethod, dims=3)`.

Each raises AssertionError with a sentence where a promise is broken. They train on a few small images on the
CPU; a method is checked in about a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mrprism.core.sample import MultiRaterSample, Task
from mrprism.learn.batch import Batch
from mrprism.learn.batches import collate
from mrprism.learn.methods.method import Method
from mrprism.learn.space import aside, axes

EPOCHS = 2
MAPS = ("probability", "raters", "confidence", "confusion", "draws", "at_least")


@dataclass(frozen=True)
class Subject:
    """A method to be checked."""

    make: Callable[..., Method]  # (task, *, backbone) -> a method with fresh weights; its class will do
    backbone: str = "small"
    fitting_steps: int = 50  # optimiser steps in which it learns two images by heart
    dims: int = 2  # 3: on volumes of thick slices

    def method(self, task: Task, backbone: str | None = None) -> Method:
        """One with fresh weights, the same ones each time."""
        torch.manual_seed(0)
        return self.make(task, backbone=backbone or self.backbone)


Space = tuple[int, ...]
# sizes by dimensions
SMALL: dict[int, Space] = {2: (32, 32), 3: (8, 16, 16)}
WIDE: dict[int, Space] = {
    2: (48, 48),
    3: (8, 16, 40),
}  # more than one feature at stride 32: attention has a choice
ODD: dict[int, tuple[tuple[Space, int, int], ...]] = {  # with raters and structures
    2: (((50, 70), 2, 1), ((33, 32), 4, 3)),
    3: (((5, 18, 23), 2, 1), ((9, 16, 17), 4, 3)),
}


@cache
def samples(*space: int, raters: int = 3, structures: int = 2, count: int = 4) -> list[MultiRaterSample]:
    """Bright nested squares on a dark ground, outlined with a pixel's difference; one rater leaves out a case.

    In a volume they stand on all slices but the first and the last.
    """
    made = []
    *depth, height, width = space
    inner = [slice(1, n - 1) for n in depth]
    step = min(4, height // 8)
    for number in range(count):
        draw = np.random.default_rng(number)
        top, left = draw.integers(3, max(4, height // 4), 2)
        truth = np.zeros((structures, *space), bool)
        for c in range(structures):
            rows = slice(top + step * c, top + height // 2 - step // 2 * c)
            columns = slice(left + step * c, left + width // 2 - step // 2 * c)
            box: tuple[slice, ...] = (*inner, rows, columns)
            truth[c][box] = True
        image = 0.2 + 0.6 * truth.mean(0, keepdims=True) + draw.normal(0, 0.02, (1, *space))
        masks = np.stack([np.roll(truth, r - raters // 2, axis=-1) for r in range(raters)])
        rated = np.ones((raters, structures), bool)
        if number == 1:
            rated[-1], masks[-1] = False, False
        made.append(
            MultiRaterSample(
                name=f"case{number}",
                image=np.clip(image, 0, 1).astype(np.float32),
                masks=masks,
                rated=rated,
                reference=truth,
                diagnosis=number % 2,
            )
        )
    return made


def task(raters: int = 3, structures: int = 2, dims: int = 2) -> Task:
    """What the samples are of."""
    names = ("disc", "cup", "spot")[:structures], ("ann", "bob", "cy", "dan")[:raters]
    return Task(1, *names, dims=dims, spacing_mm=(3.0, 1.0, 1.0) if dims == 3 else None)


def whole(*space: int, raters: int = 3, structures: int = 2) -> Batch:
    """All samples of a size as one batch."""
    some = samples(*space, raters=raters, structures=structures)
    return collate(some, index=range(len(some)))


def steps(method: Method, batch: Batch, epochs: int, count: int, rate: float = 1e-3) -> Iterator[Tensor]:
    """The training loop, shortened: yields each step's sum of losses, after its backward pass."""
    groups = [group | {"params": list(group["params"])} for group in method.parameter_groups(rate)]  # type: ignore[call-overload]
    groups = [group for group in groups if group["params"]]
    optimiser = torch.optim.Adam(groups) if groups else None
    for epoch in range(epochs if optimiser else 0):
        method.begin_epoch(epoch, epochs)
        for _ in range(count):
            method.train()
            for terms in method.losses(batch):
                assert optimiser is not None
                loss = torch.stack(list(terms.values())).sum()
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                yield loss.detach()
                optimiser.step()


@cache
def trained(subject: Subject) -> Method:
    """The method after two short epochs on the four small cases."""
    space = SMALL[subject.dims]
    method = subject.method(task(dims=subject.dims))
    method.prepare(samples(*space))
    for _ in steps(method, whole(*space), EPOCHS, 1):
        pass
    return method.eval()


def predicted(method: Method, batch: Batch) -> dict[str, Any]:
    """All that a method says of a batch, of which it sees what it may."""
    method.eval()
    with torch.inference_mode():
        prediction = method.predict(batch.only(method.reads))
    return {name: getattr(prediction, name) for name in MAPS} | {"steps": prediction.steps}


def gradients_reach_every_parameter(subject: Subject) -> None:
    """None rests, and none gets a gradient that is no number."""
    space = WIDE[subject.dims]
    method = subject.method(task(dims=subject.dims))
    method.prepare(samples(*space))
    reached = {name: False for name, parameter in method.named_parameters() if parameter.requires_grad}
    for loss in steps(method, whole(*space), EPOCHS, 2):
        _hold(bool(loss.isfinite()), f"the loss is {loss}")
        for name, parameter in method.named_parameters():
            if parameter.grad is not None:
                _hold(bool(parameter.grad.isfinite().all()), f"the gradient of {name} is no number")
                reached[name] |= bool((parameter.grad != 0).any())
    asleep = [name for name, was in reached.items() if not was]
    _hold(not asleep, f"no gradient reaches {', '.join(asleep)}")


def shapes_and_ranges_hold(subject: Subject) -> None:
    """Whatever the size of images, the number of raters and of structures."""
    for shape in ODD[subject.dims]:
        _shapes_and_ranges(subject, *shape)


def _shapes_and_ranges(subject: Subject, space: Space, raters: int, structures: int) -> None:
    method = subject.method(task(raters, structures, subject.dims))
    method.prepare(samples(*space, raters=raters, structures=structures))
    batch = whole(*space, raters=raters, structures=structures)
    for loss in steps(method, batch, 1, 1):
        _hold(bool(loss.isfinite()), f"the loss is {loss}")
    found = predicted(method, batch)
    expected: dict[str, tuple[int, ...]] = {
        "probability": (4, structures, *space),
        "raters": (4, raters, structures, *space),
        "confidence": (4, raters, structures, *space),
        "confusion": (4, raters, structures, 2, 2),
    }
    for name, size in expected.items():
        if name == "probability" or found[name] is not None:
            _hold(
                tuple(found[name].shape) == size,
                f"{name} has the shape {tuple(found[name].shape)}, not {size}",
            )
    if found["draws"] is not None:
        _hold(tuple(found["draws"].shape[2:]) == (structures, *space), "draws are not (B, S, C, *space)")
    for name, value in found.items():
        for part in value if name == "steps" else () if value is None else (value,):
            _hold(not bool(part.isnan().any()), f"{name} has values that are no number")
            low, high = float(part.min()), float(part.max())
            _hold(low >= 0 and high <= 1, f"{name} goes from {low:g} to {high:g}, not from 0 to 1")
    if found["confusion"] is not None:
        torch.testing.assert_close(found["confusion"].sum(-1), torch.ones(4, raters, structures, 2))


def it_overfits_two_images(subject: Subject) -> None:
    """What cannot be learned by heart cannot be learned."""
    two = samples(*SMALL[subject.dims])[2:]
    batch = collate(two, index=range(2))
    method = subject.method(task(dims=subject.dims), "small")
    method.prepare(two)
    for _ in steps(method, batch, EPOCHS, subject.fitting_steps // EPOCHS, rate=3e-3):
        pass
    # the running statistics of batch normalisation lag behind so few steps
    for module in method.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.5
    with torch.no_grad():
        method.train()
        for _ in range(8):
            list(method.losses(batch))
    probability, reference = predicted(method, batch)["probability"], batch.reference
    assert reference is not None
    drawn = (probability > 0.5).float()
    space = axes(drawn, 2)
    dice = 2 * (drawn * reference).sum(space) / (drawn + reference).sum(space)
    _hold(float(dice.min()) > 0.8, f"Dice on two images learned by heart is {dice.tolist()}")


def saving_and_loading_changes_nothing(subject: Subject) -> None:
    """All that it knows is in its state, and predicting twice gives the same."""
    first = trained(subject)
    batch = whole(*SMALL[subject.dims])
    other = subject.method(task(dims=subject.dims))
    other.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    before, after = predicted(first, batch), predicted(other, batch)
    again = predicted(first, batch)
    for name, value in before.items():
        _same(after[name], value, f"{name} of a method with the same weights")
        _same(again[name], value, f"{name} when predicted again")


def what_it_may_not_read_changes_nothing(subject: Subject) -> None:
    """Masks never influence an image reader, nor the image a mask reader, nor reference and diagnosis anyone."""
    method, batch = trained(subject), whole(*SMALL[subject.dims])
    assert batch.masks is not None and batch.image is not None and batch.reference is not None
    other = replace(batch, reference=1 - batch.reference, diagnosis=None, index=None)
    if method.reads == "image":
        other = replace(other, masks=1 - batch.masks, rated=torch.ones(4, 3, 2, dtype=torch.bool))
    if method.reads == "masks":
        other = replace(other, image=1 - batch.image)
    before, after = predicted(method, batch), predicted(method, other)
    for name, value in before.items():
        _same(after[name], value, f"{name} when what it may not read is another")


def an_absent_rater_is_never_read(subject: Subject) -> None:
    """Absent is not empty: what stands where `rated` is False changes no loss and no answer."""
    method, batch = _fresh(subject)
    assert batch.masks is not None and batch.rated is not None
    scribbled = replace(batch, masks=torch.where(aside(batch.rated, batch.masks), batch.masks, 1.0))
    state = {name: value.clone() for name, value in method.state_dict().items()}
    values = []
    for given in (batch, scribbled):
        method.load_state_dict(state)
        method.train()
        for epoch in range(EPOCHS):
            torch.manual_seed(epoch)
            method.begin_epoch(epoch, EPOCHS)
            values.append([{n: v.detach() for n, v in terms.items()} for terms in method.losses(given)])
    _hold(values[:EPOCHS] == values[EPOCHS:], "the masks of an absent rater change the losses")
    if method.reads != "image":
        before, after = predicted(method, batch), predicted(method, scribbled)
        _same(after["probability"], before["probability"], "the probability when an absent rater scribbles")


def a_batch_nobody_rated_teaches_nothing_wrong(subject: Subject) -> None:
    """Losses stay finite and move no weight."""
    method, batch = _fresh(subject)
    assert batch.masks is not None and batch.rated is not None
    nobody = replace(batch, masks=0 * batch.masks, rated=batch.rated & False)
    method.begin_epoch(0, EPOCHS)
    for terms in method.losses(nobody):
        for name, value in terms.items():
            _hold(bool(value.isfinite()), f"{name} is {value} where nobody rated")
        loss = sum(terms.values(), torch.zeros(()))
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in method.named_parameters():
        moved = parameter.grad is not None and bool(parameter.grad.abs().max() >= 1e-6)
        _hold(not moved, f"{name} learns from a batch that nobody rated")


def _fresh(subject: Subject) -> tuple[Method, Batch]:
    """A method that has learned nothing yet, and the small cases."""
    space = SMALL[subject.dims]
    method = subject.method(task(dims=subject.dims))
    method.prepare(samples(*space))
    return method, whole(*space)


CHECKS: tuple[Callable[[Subject], None], ...] = (
    gradients_reach_every_parameter,
    shapes_and_ranges_hold,
    it_overfits_two_images,
    saving_and_loading_changes_nothing,
    what_it_may_not_read_changes_nothing,
    an_absent_rater_is_never_read,
    a_batch_nobody_rated_teaches_nothing_wrong,
)


def _same(found: Any, expected: Any, what: str) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0, msg=lambda said: f"{what} differs: {said}")


def _hold(promise: bool, broken: str) -> None:
    if not promise:
        raise AssertionError(broken)
