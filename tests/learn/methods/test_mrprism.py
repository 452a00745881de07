"""What makes MrPrism MrPrism: the fusion, the confidence, the recurrence, the calibration."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.learn.batch import Batch
from mrprism.learn.batches import collate
from mrprism.learn.confidence import agreement, read_masks
from mrprism.learn.methods import method_class
from mrprism.learn.methods.mrprism import MrPrism
from mrprism.learn.networks.divp import interleave
from mrprism.learn.resize import resize_sample
from mrprism.learn.soft_fusion import fuse_log_odds, fuse_ratio, fuse_verbatim, log_odds, settle

TASK = Task(channels=3, structures=("disc", "cup"), raters=("a", "b", "c", "d"))


def crowd(batch: int = 2, size: int = 32, seed: int = 0, raters: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, 3, size, size, generator=generator)
    masks = (torch.rand(batch, raters, 2, size, size, generator=generator) > 0.5).float()
    rated = torch.ones(batch, raters, 2, dtype=torch.bool)
    return Batch(names=tuple(map(str, range(batch))), image=image, masks=masks, rated=rated)


def method(**options: object) -> MrPrism:
    torch.manual_seed(0)
    return MrPrism(TASK, backbone="small", **options)


def test_log_odds_fusion_is_bayes() -> None:
    """Enumerate the truth: independent raters right with chance a, a fair coin for the truth."""
    skill = torch.tensor([0.9, 0.6, 0.7])
    for code in range(8):
        drawn = torch.tensor([float(code >> r & 1) for r in range(3)])
        likelihood = [
            math.prod(float(a if z == truth else 1 - a) for a, z in zip(skill, drawn, strict=True))
            for truth in (0, 1)
        ]
        posterior = likelihood[1] / sum(likelihood)
        fused = fuse_log_odds(
            drawn.view(1, 3, 1, 1, 1).expand(1, 3, 1, 2, 2),
            torch.ones(1, 3, 1, dtype=torch.bool),
            log_odds(skill).view(1, 3, 1, 1, 1),
        ).sigmoid()
        assert fused.numpy() == pytest.approx(posterior, abs=1e-6)


def test_log_odds_fusion_beats_the_vote_where_verbatim_and_ratio_do_not() -> None:
    """The table of DESIGN's first line: five raters of known skill."""
    rng = np.random.default_rng(0)
    skill = torch.tensor([0.95, 0.9, 0.6, 0.55, 0.6])
    truth = torch.from_numpy(rng.random((1, 1, 64, 64)) < 0.5).float()
    right = torch.from_numpy(rng.random((1, 5, 1, 64, 64))).float() < skill.view(1, 5, 1, 1, 1)
    masks = torch.where(right, truth[:, None], 1 - truth[:, None])
    rated = torch.ones(1, 5, 1, dtype=torch.bool)
    confidence = skill.view(1, 5, 1, 1, 1)

    def accuracy(logits: torch.Tensor) -> float:
        return float(((logits > 0).float() == truth).float().mean())

    vote = float(((masks.mean(1) > 0.5).float() == truth).float().mean())
    assert accuracy(fuse_log_odds(masks, rated, log_odds(confidence))) > vote + 0.03
    drawn = log_odds(truth[:, None] * confidence + (1 - truth[:, None]) * (1 - confidence))
    assert accuracy(fuse_verbatim(masks, rated, drawn)) < 0.5
    assert accuracy(fuse_ratio(masks, rated, confidence)) >= vote - 0.01


def test_where_all_agree_the_consensus_is_clear() -> None:
    """However little raters are trusted where they differ: else the background of few raters never gets dark."""
    masks = torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]]).view(1, 2, 1, 1, 3)
    rated = torch.ones(1, 2, 1, dtype=torch.bool)
    fused = settle(torch.tensor([-0.4, 0.4, 0.0]).view(1, 1, 1, 3), masks, rated).sigmoid().flatten()
    assert fused.tolist() == pytest.approx([0.001, 0.999, 0.5], abs=1e-4)
    nobody = settle(torch.zeros(1, 1, 1, 3), masks, torch.zeros_like(rated))
    assert (nobody == 0).all()


def test_one_weight_for_the_image_fuses_like_the_same_weight_at_each_pixel() -> None:
    batch = crowd()
    assert batch.masks is not None and batch.rated is not None
    weights = torch.randn(2, 4, 2, 1, 1)
    everywhere = weights.expand(-1, -1, -1, 32, 32)
    one = fuse_log_odds(batch.masks, batch.rated, weights)
    assert torch.allclose(one, fuse_log_odds(batch.masks, batch.rated, everywhere), atol=1e-5)


def test_agreement_is_the_chance_of_the_same_mark() -> None:
    y, s = torch.tensor([[[[0.2]]]]), torch.tensor([[[[[0.7]]]]])
    assert float(agreement(y, s)) == pytest.approx(0.2 * 0.7 + 0.8 * 0.3)


def test_the_four_phases_make_the_whole() -> None:
    whole = torch.arange(35.0).view(1, 1, 1, 5, 7)
    padded = torch.nn.functional.pad(whole, (0, 1, 0, 1))
    phases = torch.stack([torch.stack([padded[..., i::2, j::2] for j in (0, 1)], 3) for i in (0, 1)], 3)
    assert torch.equal(interleave(phases, (5, 7)), whole)


@pytest.mark.parametrize("trust", ["band", "pixel"])
def test_gradients_stay_inside_a_recurrence(trust: str) -> None:
    model = method(trust=trust)
    batch = crowd()
    assert batch.image is not None
    steps = list(model.recur(batch.image, model.equal_confidence(batch.image), 2))
    assert not steps[0].confidence.requires_grad and not steps[0].segmentation.requires_grad
    (gradient,) = torch.autograd.grad(
        steps[1].phases.sum(), model.conp.head.deconvolution.weight, allow_unused=True
    )
    assert gradient is None  # DivP's loss does not reach ConP


@pytest.mark.parametrize("trust", ["band", "pixel", "mask"])
def test_the_recurrences_in_turn_are_their_sum(trust: str) -> None:
    """What ConP learns in three steps of one recurrence each, from the same weights, is what it learns from all."""

    def steered(learned: str) -> MrPrism:
        model = method(trust=trust, learned=learned)
        for part in model.conp.integrate:  # which begin without effect
            torch.nn.init.normal_(part.out.weight)  # type: ignore[union-attr, arg-type]
        return model

    batch, found = crowd(3), []
    for turn in range(3):
        model = steered("one")
        model.begin_step(6 + turn)
        torch.manual_seed(0)
        (terms,) = model.losses(batch)
        found.append(float(terms["conp"].detach()) / 3)
        terms["conp"].backward()
    model = steered("all")
    (terms,) = model.losses(batch)
    assert sum(found) == pytest.approx(float(terms["conp"].detach()), rel=1e-5)
    assert len({round(value, 6) for value in found}) >= 2, "not the first one each time"


def test_one_recurrence_takes_divps_loss_from_half_of_the_cases_at_one_pixel_of_four() -> None:
    model, batch = method(learned="one"), crowd(4)
    seen: list[tuple[int, ...]] = []
    model.divp.register_forward_hook(lambda _, given, drawn: seen.append(tuple(drawn.shape)))
    model.begin_step(1)
    (terms,) = model.losses(batch)
    assert seen == [(4, 4, 2, 2, 2, 16, 16), (2, 4, 2, 16, 16)]
    torch.stack(list(terms.values())).sum().backward()
    assert all(bool((p.grad != 0).any()) for p in (model.divp.out, model.divp.straight, model.divp.bias))


@pytest.mark.parametrize("first", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_divp_draws_one_pixel_of_each_block_as_it_draws_all(first: tuple[int, int]) -> None:
    divp = method().divp
    segmentation = torch.rand(2, 2, 21, 30)
    torch.testing.assert_close(divp(segmentation, first), divp(segmentation)[:, :, :, first[0], first[1]])


@pytest.mark.parametrize("size", [(32, 32), (31, 33)])
def test_confidence_is_read_alike_from_pixels_that_lie_apart(size: tuple[int, int]) -> None:
    model = method()
    segmentation = torch.rand(2, 2, *size)
    phases = model.divp(segmentation).detach()
    whole = model._read(interleave(phases, size).sigmoid(), segmentation)
    torch.testing.assert_close(model._read_phases(phases, segmentation), whole)


def test_encoder_runs_once_for_all_recurrences() -> None:
    model = method().eval()
    calls = []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    model.predict(crowd())
    assert len(calls) == 1


def test_counting_finds_whom_to_trust() -> None:
    """Two good raters and two who toss coins: what is counted, and so the confidence, tells them apart."""
    torch.manual_seed(0)
    model = method()
    size = 32
    truth = torch.zeros(4, 2, size, size)
    truth[..., 8:24, 8:24] = 1
    masks = truth[:, None].repeat(1, 4, 1, 1, 1)
    masks[:, 2:] = (torch.rand(4, 2, 2, size, size) > 0.5).float()
    rated = torch.ones(4, 4, 2, dtype=torch.bool)
    rated[:2, 3] = False
    image = torch.zeros(4, 3, size, size)
    step = next(model.recur(image, model.equal_confidence(image), 1))
    for _ in range(200):
        model._calibrate(step._replace(segmentation=truth), masks, rated)
    assert (model.counted[0, :2] > 0.97).all()
    assert (model.counted[0, 2:] < 0.7).all()
    corrected = model._corrected(step.read.mean(0, keepdim=True), 0)
    assert (corrected[0, :2] > corrected[0, 2:]).all()


def test_an_absent_rater_is_not_counted() -> None:
    model = method()
    batch = crowd()
    assert batch.image is not None and batch.masks is not None
    rated = torch.ones(2, 4, 2, dtype=torch.bool)
    rated[:, 1] = False
    step = next(model.recur(batch.image, model.equal_confidence(batch.image), 1))
    model._calibrate(step, batch.masks, rated)
    assert (model.counted[0, 1] == 0.75).all() and (model.counted[0, 0] != 0.75).all()


def test_divp_stands_in_for_a_rater_who_is_absent() -> None:
    """Once the rater has been counted, and only where somebody else rated."""
    model = method()
    batch = crowd()
    assert batch.image is not None and batch.masks is not None
    step = next(model.recur(batch.image, model.equal_confidence(batch.image), 1))
    everyone = torch.ones(2, 4, 2, dtype=torch.bool)
    absent = everyone.clone()
    absent[:, 1], absent[1, :, 1] = False, False
    without = model._fusion(step, batch.masks, absent)
    assert torch.equal(without, model.fused_logits(batch.masks, absent, step.confidence))
    model.counted[:] = 0.9
    stood_in = batch.masks.clone()
    stood_in[:, 1] = step.raters[:, 1].sigmoid()
    found = model._fusion(step, batch.masks, absent)
    expected = model.fused_logits(stood_in, everyone, step.confidence)
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1, 0], expected[1, 0])
    assert (found[1, 1] == 0).all()


def test_confidence_read_from_masks_knows_no_names() -> None:
    """For anonymous raters: any number, any order, and the better mask is trusted more."""
    truth = torch.zeros(1, 1, 32, 32)
    truth[..., 8:24, 8:24] = 1
    good, large = truth.clone(), torch.zeros_like(truth)
    large[..., 4:28, 4:28] = 1
    masks = torch.stack([good, large, good, truth * 0], 1)
    rated = torch.tensor([[[True], [True], [True], [False]]])
    confidence = read_masks(masks, rated, truth)
    assert confidence[0, 0] > 0.9 > 0.7 > confidence[0, 1]
    order = torch.tensor([3, 1, 0, 2])
    assert torch.allclose(read_masks(masks[:, order], rated[:, order], truth), confidence[:, order])
    assert torch.allclose(read_masks(masks[:, :3], rated[:, :3], truth), confidence[:, :3])


def test_who_draws_as_much_too_large_as_another_too_small_is_trusted_as_much() -> None:
    """Else the consensus shrinks or grows, which makes the one or the other look better still."""
    across = torch.arange(128)
    truth = torch.zeros(1, 2, 128, 128)
    truth[..., 64:] = 1
    masks = torch.stack([(across >= 64 + out).float().expand(1, 2, 128, -1) for out in (-8, -4, 0, 4, 8)], 1)
    rated = torch.ones(1, 5, 2, dtype=torch.bool)
    confidence = read_masks(masks, rated, truth)[0, :, 0, 0, 0]
    torch.testing.assert_close(confidence, confidence.flip(0))
    assert confidence[2] > confidence[1] > confidence[0]
    shrunk = (across >= 66).float().expand(1, 2, 128, -1)  # a consensus somewhat too small ...
    small = read_masks(masks, rated, shrunk)[0, :, 0, 0, 0]
    fused = fuse_log_odds(masks, rated, log_odds(small)[None, :, None, None, None].expand(1, 5, 2, 1, 1)) > 0
    assert torch.equal(fused, truth.bool())  # ... does not stay so


def test_no_vote_is_ever_turned_round() -> None:
    """Confidence below the floor, even below chance, still counts for the mask it belongs to."""
    model = method()
    masks = torch.ones(1, 4, 2, 8, 8)
    fused = model.fused_logits(masks, torch.ones(1, 4, 2, dtype=torch.bool), torch.full((1, 4, 2, 1, 1), 0.1))
    assert (fused > 0).all()


@pytest.mark.parametrize(
    "options",
    [
        {"fusion": "verbatim", "trust": "pixel"},
        {"fusion": "ratio", "trust": "pixel"},
        {"target": "self"},
        {"integration": "concat"},
        {"integration": "convlstm"},
        {"multi_head": 0.0, "shuffle": 0.3, "divp_reconstruction": 0.3, "trust": "pixel"},
        {"reconstruction": "ssim", "divp_reconstruction": 0.3},
        {"recurrences": 1},
        {"trust": "mask"},
        {"initial": "random"},
    ],
    ids=str,
)
def test_the_papers_cells_run(options: dict[str, object]) -> None:
    model = method(**options)
    (terms,) = model.losses(crowd())
    loss = sum(terms.values())
    assert torch.isfinite(loss)
    loss.backward()
    prediction = model.eval().predict(crowd(1))
    assert len(prediction.steps) == model.recurrences + 1


def test_shuffle_loss_is_smallest_where_divp_draws_what_the_raters_drew() -> None:
    model = method(shuffle=1.0)
    batch = crowd()
    assert batch.image is not None and batch.masks is not None and batch.rated is not None
    step = next(model.recur(batch.image, model.equal_confidence(batch.image), 1))

    def loss(masks: torch.Tensor) -> float:
        torch.manual_seed(1)
        phases = torch.stack(
            [torch.stack([8 * masks[..., i::2, j::2] - 4 for j in (0, 1)], 3) for i in (0, 1)], 3
        )
        assert batch.masks is not None and batch.rated is not None
        return float(model._divp_losses(step._replace(phases=phases), batch.masks, batch.rated)["shuffle"])

    assert loss(batch.masks) < loss(1 - batch.masks)


def test_bad_options_are_said() -> None:
    with pytest.raises(InputError, match="recurrences must be at least 1"):
        MrPrism(TASK, backbone="small", recurrences=0)
    with pytest.raises(InputError, match=r"floor must be in \[0, 1\)"):
        MrPrism(TASK, backbone="small", floor=1.0)
    with pytest.raises(InputError, match="unknown backbone 'vgg'"):
        MrPrism(TASK, backbone="vgg")


@pytest.mark.parametrize("name", ["mrprism", "max-mig-forecaster", "diagnosis-first-fusion"])
def test_given_masks_are_fused_at_their_own_size(name: str) -> None:
    """What all raters drew comes back to the pixel, however small the network's images are."""
    task = Task(1, ("disc",), ("a", "b", "c"))
    sample = MultiRaterSample(
        "one", np.random.default_rng(0).random((1, 150, 130), np.float32), np.zeros((3, 1, 150, 130), bool),
        np.ones((3, 1), bool),
    )  # fmt: skip
    row, column = np.mgrid[:150, :130]
    sample.masks[:] = (row - 70.3) ** 2 + (column - 61.7) ** 2 < 40.2**2
    sample.masks[:, :, 100, 5:9] = True  # a whisker no small image holds
    method = method_class(name)(task, backbone="small").eval()
    if name == "max-mig-forecaster":
        method.prepare([resize_sample(sample, 32)])
    batch = collate([resize_sample(sample, 32)])
    given = replace(batch, given=torch.from_numpy(sample.masks)[None].float())
    with torch.inference_mode():
        fused = method.fuse_given(given) if name == "mrprism" else method.predict(given).probability  # type: ignore[operator]
    assert fused.shape == (1, 1, 150, 130)
    if name != "max-mig-forecaster":  # which multiplies by what an untrained network says of the image
        assert torch.equal(fused[0, 0] > 0.5, torch.from_numpy(sample.masks[0, 0]))


def test_the_weight_that_acts_is_one_number_and_the_fusion_is_made_with_it() -> None:
    model = method()
    batch = crowd()
    assert batch.image is not None and batch.masks is not None and batch.rated is not None
    with torch.inference_mode():
        found = model.eval().predict(batch.only("image"))
        expected = model.fused_logits(batch.masks, batch.rated, found.weights[..., None, None]).sigmoid()
        torch.testing.assert_close(model.fuse_given(batch), expected)
    assert found.weights.shape == batch.masks.shape[:3]
    pixel = MrPrism(model.task, backbone="small", trust="pixel").eval()
    with torch.inference_mode():
        assert pixel.predict(batch.only("image")).weights is None  # there the map is what acts


def test_under_a_trust_conp_answers_as_in_the_last_round_that_had_it() -> None:
    model, batch = method().eval(), crowd(1).only("image")
    assert batch.image is not None
    with torch.no_grad():
        equal = model.equal_confidence(batch.image)
        *_, before, last = model.recur(batch.image, equal, model.predict_recurrences)
        again = model.under(batch, before.confidence[0, :, :, 0, 0])
        other = model.under(batch, before.confidence[0, :, :, 0, 0].flip(0) * 0.6)
    assert torch.allclose(again, last.segmentation, atol=1e-6)
    assert not torch.allclose(other, last.segmentation, atol=1e-6), "who is trusted changes the answer"
