"""What holds for every method in METHODS: the one contract a new method has to pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.learn.batch import Batch
from mrprism.learn.batches import collate
from mrprism.learn.methods import METHODS, check_needs, method_class
from mrprism.learn.methods.method import Method

# every method as it comes, and the options that change what it computes
CASES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in METHODS} | {
    "fused-label: staple": ("fused-label", {"label": "staple"}),
    "fused-label: one rater": ("fused-label", {"label": "rater:ann"}),
    "fused-label: reference": ("fused-label", {"label": "reference"}),
    "wdnet: global": ("wdnet", {"weights": "global", "second_stage": 0.5}),
    "wdnet: image": ("wdnet", {"weights": "image", "second_stage": 0.5}),
    "crowd-layer: VW": ("crowd-layer", {"kind": "VW"}),
    "crowd-layer: VW+B": ("crowd-layer", {"kind": "VW+B"}),
    "crowd-layer: separate": ("crowd-layer", {"grouping": "separate"}),
    "confusion-matrix: pixel": ("confusion-matrix", {"kind": "pixel"}),
    "aggnet: margin": ("aggnet", {"margin": 3, "grouping": "separate"}),
    "mrnet: code": ("mrnet", {"consistency": "code"}),
    "posal: adversarial": ("posal", {"adversarial": True}),
    "beal: adversarial": ("beal", {"adversarial": True}),
}
FEWER = {
    "deep-ensemble": {"members": 2},
    "mc-dropout": {"passes": 3},
    "diagnosis-first": {"steps": 2},
    "diagnosis-first-fusion": {"steps": 2},
}
SLOW_TO_FIT = {"posal": 90}  # steps; the others need 50
EPOCHS = 2


def make(case: str, task: Task, backbone: str = "tiny") -> Method:
    name, options = CASES[case]
    torch.manual_seed(0)
    options = FEWER.get(name, {}) | options
    return method_class(name)(task, backbone=backbone, **options)  # type: ignore[call-arg]


@cache
def samples(
    height: int, width: int, raters: int = 3, structures: int = 2, count: int = 4
) -> list[MultiRaterSample]:
    """Bright nested squares on a dark ground, outlined with a pixel's difference; one rater leaves out a case."""
    made = []
    for number in range(count):
        draw = np.random.default_rng(number)
        top, left = draw.integers(3, height // 4, 2)
        truth = np.zeros((structures, height, width), bool)
        for c in range(structures):
            truth[c, top + 4 * c : top + height // 2 - 2 * c, left + 4 * c : left + width // 2 - 2 * c] = True
        image = 0.2 + 0.6 * truth.mean(0, keepdims=True) + draw.normal(0, 0.02, (1, height, width))
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


def task(raters: int = 3, structures: int = 2) -> Task:
    return Task(1, ("disc", "cup", "spot")[:structures], ("ann", "bob", "cy", "dan")[:raters])


def whole(*shape: int) -> Batch:
    some = samples(*shape)
    return collate(some, index=range(len(some)))


def train(method: Method, batch: Batch, epochs: int, steps: int, rate: float = 1e-3) -> Iterator[Tensor]:
    """The training loop, shortened: yields each step's sum of losses, after its backward pass."""
    groups = [group | {"params": list(group["params"])} for group in method.parameter_groups(rate)]  # type: ignore[call-overload]
    groups = [group for group in groups if group["params"]]
    optimiser = torch.optim.Adam(groups) if groups else None
    for epoch in range(epochs if optimiser else 0):
        method.begin_epoch(epoch, epochs)
        for _ in range(steps):
            method.train()
            for terms in method.losses(batch):
                assert optimiser is not None
                loss = torch.stack(list(terms.values())).sum()
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                yield loss.detach()
                optimiser.step()


@cache
def trained(case: str) -> Method:
    """A method after two short epochs on the four small cases."""
    method = make(case, task())
    method.prepare(samples(32, 32))
    for _ in train(method, whole(32, 32), EPOCHS, 1):
        pass
    return method.eval()


def predicted(method: Method, batch: Batch) -> dict[str, Any]:
    method.eval()
    with torch.inference_mode():
        prediction = method.predict(batch.only(method.reads))
    names = ("probability", "raters", "confidence", "confusion", "draws")
    return {name: getattr(prediction, name) for name in names} | {"steps": prediction.steps}


@pytest.mark.parametrize("case", CASES)
def test_gradients_reach_every_parameter(case: str) -> None:
    method = make(case, task())
    method.prepare(samples(48, 48))  # two by two features at stride 32, so that attention has a choice
    reached: dict[str, bool] = {name: False for name, _ in method.named_parameters()}
    for loss in train(method, whole(48, 48), EPOCHS, 2):
        assert loss.isfinite()
        for name, parameter in method.named_parameters():
            if parameter.grad is not None:
                assert parameter.grad.isfinite().all(), name
                reached[name] |= bool((parameter.grad != 0).any())
    assert [name for name, was in reached.items() if not was] == []


@pytest.mark.parametrize("shape", [(50, 70, 2, 1), (33, 32, 4, 3)], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_shapes_and_ranges_hold(case: str, shape: tuple[int, int, int, int]) -> None:
    height, width, raters, structures = shape
    method = make(case, task(raters, structures))
    method.prepare(samples(*shape))
    batch = whole(*shape)
    for loss in train(method, batch, 1, 1):
        assert loss.isfinite()
    found = predicted(method, batch)
    pixels = (height, width)
    assert found["probability"].shape == (4, structures, *pixels)
    for name in ("raters", "confidence"):
        assert found[name] is None or found[name].shape == (4, raters, structures, *pixels), name
    assert found["confusion"] is None or found["confusion"].shape == (4, raters, structures, 2, 2)
    assert found["draws"] is None or found["draws"].shape[2:] == (structures, *pixels)
    for name, value in found.items():
        for part in value if name == "steps" else (value,):
            if part is not None:
                assert not part.isnan().any(), name
                assert part.min() >= 0, name
                assert part.max() <= 1, name
    if found["confusion"] is not None:
        torch.testing.assert_close(found["confusion"].sum(-1), torch.ones(4, raters, structures, 2))


@pytest.mark.parametrize("case", METHODS)
def test_overfits_two_images(case: str) -> None:
    two = samples(32, 32)[2:]
    batch = collate(two, index=range(2))
    method = make(case, task(), backbone="small")
    method.prepare(two)
    for _ in train(method, batch, EPOCHS, SLOW_TO_FIT.get(case, 50) // EPOCHS, rate=3e-3):
        pass
    # the running statistics of batch normalisation lag behind so few steps
    for module in method.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.5
    with torch.no_grad():
        method.train()
        for _ in range(8):
            list(method.losses(batch))
    probability = predicted(method, batch)["probability"]
    reference = batch.reference
    assert reference is not None
    drawn = (probability > 0.5).float()
    dice = 2 * (drawn * reference).sum((-2, -1)) / (drawn + reference).sum((-2, -1))
    assert dice.min() > 0.8, dice


@pytest.mark.parametrize("case", CASES)
def test_saving_and_loading_changes_nothing(case: str) -> None:
    first = trained(case)
    batch = whole(32, 32)
    other = make(case, task())
    other.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    before, after = predicted(first, batch), predicted(other, batch)
    again = predicted(first, batch)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0)
        torch.testing.assert_close(again[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("case", CASES)
def test_what_a_method_may_not_read_changes_nothing(case: str) -> None:
    """Masks never influence an image reader, nor the image a mask reader, nor reference and diagnosis anyone."""
    method, batch = trained(case), whole(32, 32)
    assert batch.masks is not None and batch.image is not None and batch.reference is not None
    other = replace(batch, reference=1 - batch.reference, diagnosis=None, index=None)
    if method.reads == "image":
        other = replace(other, masks=1 - batch.masks, rated=torch.ones(4, 3, 2, dtype=torch.bool))
    if method.reads == "masks":
        other = replace(other, image=1 - batch.image)
    before, after = predicted(method, batch), predicted(method, other)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("case", CASES)
def test_an_absent_rater_is_never_read(case: str) -> None:
    method, batch = make(case, task()), whole(32, 32)
    method.prepare(samples(32, 32))
    assert batch.masks is not None and batch.rated is not None
    scribbled = replace(batch, masks=torch.where(batch.rated[..., None, None], batch.masks, 1.0))
    assert not torch.equal(scribbled.masks, batch.masks)  # type: ignore[arg-type]
    state = {name: value.clone() for name, value in method.state_dict().items()}
    values = []
    for given in (batch, scribbled):
        method.load_state_dict(state)
        method.train()
        for epoch in range(EPOCHS):
            torch.manual_seed(epoch)
            method.begin_epoch(epoch, EPOCHS)
            values.append([{n: v.detach() for n, v in terms.items()} for terms in method.losses(given)])
    assert values[:EPOCHS] == values[EPOCHS:]
    if method.reads != "image":
        before, after = predicted(method, batch), predicted(method, scribbled)
        torch.testing.assert_close(after["probability"], before["probability"], rtol=0, atol=0)


@pytest.mark.parametrize("case", METHODS)
def test_a_batch_nobody_rated_teaches_nothing_wrong(case: str) -> None:
    method, batch = make(case, task()), whole(32, 32)
    method.prepare(samples(32, 32))
    assert batch.masks is not None and batch.rated is not None
    nobody = replace(batch, masks=0 * batch.masks, rated=batch.rated & False)
    method.begin_epoch(0, EPOCHS)
    for terms in method.losses(nobody):
        for name, value in terms.items():
            assert value.isfinite(), name
        loss = sum(terms.values(), torch.zeros(()))
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in method.named_parameters():
        assert parameter.grad is None or parameter.grad.abs().max() < 1e-6, name


def test_needs_are_said_before_anything_is_trained() -> None:
    anonymous = Task(1, ("disc",), ("slot1", "slot2"), anonymous=True)
    alone = Task(1, ("disc",), ("ann",))
    with pytest.raises(InputError, match="'crowd-layer' learns each rater as a person"):
        check_needs(method_class("crowd-layer"), anonymous, False, False)
    with pytest.raises(InputError, match=r"'multiple-hypotheses' .* only one rater"):
        check_needs(method_class("multiple-hypotheses"), alone, False, False)
    with pytest.raises(InputError, match="'diagnosis-first' needs a diagnosis"):
        check_needs(method_class("diagnosis-first"), anonymous, False, True)
    check_needs(method_class("diagnosis-first"), anonymous, True, False)
    check_needs(method_class("label-sampling"), anonymous, False, False)
    check_needs(method_class("fused-label"), alone, False, False)


def test_an_unknown_method_is_answered_with_those_known() -> None:
    with pytest.raises(InputError, match="unknown method 'mrprsm'; known: mrprism, fused-label"):
        method_class("mrprsm")
