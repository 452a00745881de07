"""Labels made of the raters' masks, and what is trained on them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.phantom import phantom, phantom_task
from mrprism.fusion import FUSIONS
from mrprism.fusion.cases import fuse_cases
from mrprism.learn.batch import Batch
from mrprism.learn.losses import LOSSES, LossName
from mrprism.learn.methods.deep_ensemble import DeepEnsemble
from mrprism.learn.methods.fuse import Fuse
from mrprism.learn.methods.fused_label import TWO_STEPS, FusedLabel
from mrprism.learn.methods.mc_dropout import MCDropout

TASK = Task(1, ("disc", "cup"), ("ann", "bob", "cy"))


def batch() -> Batch:
    torch.manual_seed(1)
    masks = torch.zeros(3, 3, 2, 32, 32)
    masks[:, :, 0, 4:26, 4:26] = 1
    masks[:, :, 1, 10:20, 10:20] = 1
    noise = (torch.rand_like(masks) < 0.08) & (
        torch.nn.functional.max_pool2d(masks[:, 0], 5, 1, 2)[:, None] > 0
    )
    masks = (masks - noise.float()).abs()
    rated = torch.ones(3, 3, 2, dtype=torch.bool)
    rated[1, 2, 1] = False
    masks = masks * rated[..., None, None]
    return Batch(("a", "b", "c"), torch.rand(3, 1, 32, 32), masks, rated, reference=masks[:, 0])


def fused_by_hand(name: str, given: Batch) -> torch.Tensor:
    assert given.masks is not None and given.rated is not None
    cases = zip(given.masks.bool().numpy(), given.rated.numpy(), strict=True)
    return torch.from_numpy(np.stack([FUSIONS[name](m, r).probability for m, r in cases]))


@pytest.mark.parametrize("name", ["staple", "soft-vote", "majority", "simple"])
def test_training_on_a_fusion_equals_training_on_its_result(name: str) -> None:
    """Five steps from the same weights: on the fusion as label, and on its result given as reference."""
    given = batch()
    done = replace(given, reference=fused_by_hand(name, given).float())
    weights = []
    for label in (name, "reference"):
        torch.manual_seed(0)
        method = FusedLabel(TASK, label=label, backbone="tiny")
        optimiser = torch.optim.Adam(method.parameters(), lr=1e-2)
        for _ in range(5):
            for terms in method.losses(done):
                optimiser.zero_grad()
                torch.stack(list(terms.values())).sum().backward()
                optimiser.step()
        weights.append(torch.cat([p.detach().flatten() for p in method.parameters()]))
    torch.testing.assert_close(weights[0], weights[1])


@pytest.mark.parametrize("name", FUSIONS)
def test_every_fusion_is_a_label_and_a_method(name: str) -> None:
    given = batch()
    target, known = FusedLabel(TASK, label=name, backbone="tiny").targets(given)
    assert known.all()
    torch.testing.assert_close(target, fused_by_hand(name, given).float())
    if name not in ("soft-vote", "majority"):
        alone = Fuse(TASK, fusion=name).predict(given.only("masks"))
        torch.testing.assert_close(alone.probability, target)


def test_one_named_rater() -> None:
    given = batch()
    target, known = FusedLabel(TASK, label="rater:cy", backbone="tiny").targets(given)
    assert given.masks is not None
    torch.testing.assert_close(target, given.masks[:, 2])
    assert known.tolist() == [[True, True], [True, False], [True, True]]


@pytest.mark.parametrize(
    ("label", "task", "sentence"),
    [
        ("rater:zoe", TASK, "no rater 'zoe'; known: ann, bob, cy"),
        ("rater:ann", replace(TASK, anonymous=True), "anonymous"),
        ("stapel", TASK, "unknown label 'stapel'; known: soft-vote, .*staple"),
    ],
)
def test_a_label_that_cannot_be_is_said_at_once(label: str, task: Task, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        FusedLabel(task, label=label, backbone="tiny")
    with pytest.raises(InputError, match="no training case has one"):
        FusedLabel(TASK, label="reference", backbone="tiny").prepare([])


def test_a_tie_is_no_majority() -> None:
    given = batch()
    assert given.masks is not None and given.rated is not None
    masks = given.masks[:, :2].clone()
    masks[:, 0], masks[:, 1] = 1, 0
    even = replace(given, masks=masks, rated=given.rated[:, :2])
    target, _ = FusedLabel(Task(1, TASK.structures, ("a", "b")), label="majority", backbone="tiny").targets(
        even
    )
    assert not target.any()


def test_members_of_an_ensemble_differ_and_are_averaged() -> None:
    torch.manual_seed(0)
    method = DeepEnsemble(TASK, members=3, backbone="tiny").eval()
    with torch.no_grad():
        found = method.predict(batch())
    assert found.draws is not None
    assert found.draws.std(1).mean() > 0
    torch.testing.assert_close(found.probability, found.draws.mean(1))
    assert len(list(method.losses(batch()))) == 3


def test_dropout_stays_on_when_predicting_and_answers_the_same_twice() -> None:
    torch.manual_seed(0)
    method = MCDropout(TASK, passes=4, backbone="tiny").eval()
    with torch.no_grad():
        first, second = method.predict(batch()), method.predict(batch())
    assert first.draws is not None
    assert first.draws.std(1).mean() > 0
    torch.testing.assert_close(first.draws, second.draws)
    assert not any(module.training for module in method.modules())


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_least_where_the_answer_is_the_target(loss: LossName) -> None:
    """Soft targets, too: a loss that is least elsewhere would undo the calibration."""
    torch.manual_seed(0)
    target = torch.nn.functional.avg_pool2d((torch.rand(2, 1, 40, 40) < 0.3).float(), 5, 1, 2)
    target = target.clamp(0.02, 0.98)
    there = torch.logit(target)
    least = LOSSES[loss](there, target)
    for moved in (there + 0.3, there - 0.3, 1.3 * there, there + 0.3 * torch.randn_like(there)):
        assert LOSSES[loss](moved, target) > least


def crowd(cases: int = 12, scenario: str = "crowd") -> tuple[Task, list[MultiRaterSample]]:
    return phantom_task(scenario), list(phantom(scenario, size=32, cases=cases))


def as_batch(samples: list[MultiRaterSample]) -> Batch:
    return Batch(
        tuple(sample.name for sample in samples),
        torch.from_numpy(np.stack([sample.image for sample in samples])),
        torch.from_numpy(np.stack([sample.masks for sample in samples])).float(),
        torch.from_numpy(np.stack([sample.rated for sample in samples])),
    )


@pytest.mark.parametrize("label", ["pooled-band", "outline", "pooled-staple", "pooled-dawid-skene", "auto"])
def test_two_steps_are_the_fusion_over_all_cases(label: str) -> None:
    task, samples = crowd()
    method = FusedLabel(task, label=label, backbone="tiny")
    method.prepare(samples)
    target, known = method.targets(as_batch(samples))
    assert known.all()
    name = TWO_STEPS[label]
    options = {"margin": 0} if name in ("staple", "dawid-skene") else {}
    if name in ("outline", "band"):
        expected = [fused.probability for fused in fuse_cases(samples, name, pooled=True, **options)]
        np.testing.assert_allclose(target.numpy(), np.stack(expected), atol=1e-5)
    truth = np.stack([sample.reference for sample in samples])
    votes = FusedLabel(task, label="majority", backbone="tiny").targets(as_batch(samples))[0].numpy()
    if name != "dawid-skene":  # with a prior for each image of 32 pixels it is no match for the vote
        assert ((target.numpy() > 0.5) != truth).mean() < ((votes > 0.5) != truth).mean() + 0.002


def test_two_steps_fuse_the_masks_as_augmented() -> None:
    task, samples = crowd()
    method = FusedLabel(task, label="outline", backbone="tiny")
    method.prepare(samples)
    batch = as_batch(samples[:2])
    assert batch.masks is not None
    flipped = replace(batch, masks=batch.masks.flip(-1))
    torch.testing.assert_close(
        method.targets(flipped)[0], method.targets(batch)[0].flip(-1), atol=1e-4, rtol=0
    )


def test_two_steps_and_raters_of_whom_nothing_can_be_known() -> None:
    task, samples = crowd(4, "two")
    with pytest.warns(UserWarning, match="with two raters the masks do not show"):
        FusedLabel(task, label="pooled-band", backbone="tiny").prepare(samples)
    task, samples = crowd(4, "anonymous")
    with pytest.raises(InputError, match="anonymous: 'staple' fuses each image by itself"):
        FusedLabel(task, label="pooled-staple", backbone="tiny")
    alone = FusedLabel(task, label="outline", backbone="tiny")
    alone.prepare(samples)
    expected = FUSIONS["outline"](samples[0].masks, samples[0].rated).probability
    np.testing.assert_allclose(alone.targets(as_batch(samples))[0][0].numpy(), expected, atol=1e-5)


def test_an_ensemble_learns_from_one_estimate_of_skill() -> None:
    task, samples = crowd(6)
    ensemble = DeepEnsemble(task, label="pooled-band", members=2, backbone="tiny")
    ensemble.prepare(samples)
    assert ensemble.members[0].skill is ensemble.members[1].skill
    assert len(list(ensemble.losses(as_batch(samples[:2])))) == 2
