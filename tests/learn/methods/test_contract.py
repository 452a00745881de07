"""What holds for every method in METHODS: the one contract a new method has to pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import Task
from mrprism.learn import contract
from mrprism.learn.batch import Batch
from mrprism.learn.contract import Subject
from mrprism.learn.losses import rated_bce
from mrprism.learn.methods import METHODS, check_needs, method_class
from mrprism.learn.methods.method import Method

# every method as it comes, and the options that change what it computes
CASES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in METHODS} | {
    "fused-label: staple": ("fused-label", {"label": "staple"}),
    "fused-label: votes": ("fused-label", {"label": "votes"}),
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
    "prob-unet: hierarchical": ("prob-unet", {"hierarchical": True}),
    "mose: compact": ("mose", {"sampling": "compact"}),
    "phiseg: three levels": ("phiseg", {"levels": 3}),
    "ssn: pixels alone": ("ssn", {"rank": 0}),
    "control: consensus": ("control", {"of": "consensus"}),
    "control: noise": ("control", {"of": "noise"}),
    "beal: adversarial": ("beal", {"adversarial": True}),
}
FEWER = {
    "deep-ensemble": {"members": 2},
    "mc-dropout": {"passes": 3},
    "ssn": {"samples": 8, "warmup": 0.5},  # of two epochs a tenth is none
    "prob-unet": {"draws": 3, "width": 8},
    "pionono": {"draws": 3},
    "phiseg": {"draws": 3, "width": 8},
    "mose": {"draws": 8},
    "ccdm": {"draws": 3, "times": 20, "steps": 5},
    "ssn-flow": {"samples": 8, "draws": 3, "steps": 3},
    "d-persona": {"draws": 3, "bank": 5, "width": 8},
    "diagnosis-first": {"steps": 2},
    "diagnosis-first-fusion": {"steps": 2},
}
VOLUMES = [name for name in METHODS if 3 in method_class(name).dims]
OWN_LAYERS = ("wdnet: image", "confusion-matrix: pixel", "aggnet: margin")  # options that compute in space
LEARNED_BY_HEART = ("mrprism",)  # in volumes; images show it of every method
SLOW_TO_FIT = {"posal": 90, "d-persona": 100, "ccdm": 250}  # steps; the others need 50


@cache
def subject(case: str, dims: int = 2) -> Subject:
    name, options = CASES[case]
    options = FEWER.get(name, {}) | options
    make = partial(method_class(name), **options)
    return Subject(make, backbone="tiny", fitting_steps=SLOW_TO_FIT.get(case, 50), dims=dims)


@pytest.mark.parametrize("case", CASES)
def test_gradients_reach_every_parameter(case: str) -> None:
    contract.gradients_reach_every_parameter(subject(case))


@pytest.mark.parametrize("case", CASES)
def test_shapes_and_ranges_hold(case: str) -> None:
    contract.shapes_and_ranges_hold(subject(case))


@pytest.mark.parametrize("case", METHODS)
def test_overfits_two_images(case: str) -> None:
    contract.it_overfits_two_images(subject(case))


@pytest.mark.parametrize("case", CASES)
def test_saving_and_loading_changes_nothing(case: str) -> None:
    contract.saving_and_loading_changes_nothing(subject(case))


@pytest.mark.parametrize("case", CASES)
def test_what_a_method_may_not_read_changes_nothing(case: str) -> None:
    contract.what_it_may_not_read_changes_nothing(subject(case))


@pytest.mark.parametrize("case", CASES)
def test_an_absent_rater_is_never_read(case: str) -> None:
    contract.an_absent_rater_is_never_read(subject(case))


@pytest.mark.parametrize("case", METHODS)
def test_a_batch_nobody_rated_teaches_nothing_wrong(case: str) -> None:
    contract.a_batch_nobody_rated_teaches_nothing_wrong(subject(case))


CHEAP = [check for check in contract.CHECKS if check is not contract.it_overfits_two_images]


@pytest.mark.parametrize("check", CHEAP, ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", VOLUMES)
def test_the_same_holds_on_volumes(case: str, check: Callable[[Subject], None]) -> None:
    check(subject(case, 3))


@pytest.mark.parametrize("case", OWN_LAYERS)
def test_options_with_layers_of_their_own_learn_from_volumes(case: str) -> None:
    contract.gradients_reach_every_parameter(subject(case, 3))


@pytest.mark.parametrize("case", LEARNED_BY_HEART)
def test_volumes_are_learned_by_heart(case: str) -> None:
    contract.it_overfits_two_images(subject(case, 3))


def test_every_check_is_made() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    for check in contract.CHECKS:
        assert f"contract.{check.__name__}(subject(case))" in source


class Faulty(Method):
    """One convolution, and the one fault it is asked for."""

    def __init__(self, task: Task, *, backbone: str = "small", fault: str = "") -> None:
        super().__init__(task)
        self.fault = fault
        self.head = nn.Conv2d(task.channels, len(task.structures), 3, padding=1)
        if fault == "asleep":
            self.idle = nn.Parameter(torch.zeros(1))

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        assert batch.image is not None and batch.masks is not None and batch.rated is not None
        rated = torch.ones_like(batch.rated) if self.fault == "reads the absent" else batch.rated
        loss = rated_bce(self.head(batch.image)[:, None].expand_as(batch.masks), batch.masks, rated)
        yield {"bce": loss}

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        logits = self.head(batch.image)
        if self.fault == "forgets":
            logits = logits + torch.rand(())
        return Prediction(probability=logits if self.fault == "logits" else logits.sigmoid())


@pytest.mark.parametrize(
    ("fault", "check", "says"),
    [
        ("asleep", contract.gradients_reach_every_parameter, "no gradient reaches idle"),
        ("logits", contract.shapes_and_ranges_hold, "probability goes from"),
        ("forgets", contract.saving_and_loading_changes_nothing, "probability"),
        ("reads the absent", contract.an_absent_rater_is_never_read, "absent rater change the losses"),
        ("reads the absent", contract.a_batch_nobody_rated_teaches_nothing_wrong, "learns from a batch"),
        ("", contract.it_overfits_two_images, "learned by heart"),
    ],
)
def test_the_checks_find_faults(fault: str, check: Callable[[Subject], None], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check(Subject(partial(Faulty, fault=fault), fitting_steps=4))


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
    with pytest.raises(
        InputError, match="unknown method 'mrprsm'; known: mrprism, mrprism-outline, fused-label"
    ):
        method_class("mrprsm")
