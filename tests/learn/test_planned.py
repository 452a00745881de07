"""Cases by a plan: at its spacing, in patches, and predicted by windows, in two dimensions and three."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn
from torch.nn import functional

from mrprism.core.errors import InputError
from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.core.seeds import generator_of
from mrprism.learn import windows as windows_file
from mrprism.learn.augment import apply_changes, draw_change
from mrprism.learn.batch import Batch
from mrprism.learn.batches import collate, training_batches
from mrprism.learn.methods.method import Method
from mrprism.learn.patches import PlannedCases, planned_image, planned_space
from mrprism.learn.plan import Channel, Plan
from mrprism.learn.resize import resize_sample, resize_volume, shares
from mrprism.learn.windows import Case, Windows, at_own_size, starts

TASK = Task(1, ("organ", "lesion"), ("ann", "bob"))


def sample(
    space: tuple[int, ...], *, seed: int = 0, spacing: tuple[float, ...] | None = None
) -> MultiRaterSample:
    random = np.random.default_rng(seed)
    image = random.random((1, *space), dtype=np.float32)
    masks = np.zeros((2, 2, *space), bool)
    near = tuple(slice(n // 4, n // 4 + max(1, n // 3)) for n in space)
    for r in range(2):
        for c in range(2):
            masks[(r, c, *near)] = True
    masks[(1, 0, *(slice(s.start, s.stop + 2) for s in near))] = True  # Bob's organ is larger
    return MultiRaterSample(f"case{seed}", image, masks, np.ones((2, 2), bool), spacing_mm=spacing)


def plan(patch: tuple[int, ...], **more: object) -> Plan:
    return Plan(dims=len(patch), patch=patch, batch_size=2, **more)  # type: ignore[arg-type]


def cases(some: list[MultiRaterSample], by: Plan) -> PlannedCases:
    return PlannedCases({one.name: one for one in some}, [one.name for one in some], by)


class Blur(Method):
    """Says what it sees, smoothed, and each rater's a little darker; trust in them is the window's brightness."""

    def __init__(self, task: Task = TASK) -> None:
        super().__init__(task)
        self.scale = nn.Parameter(torch.ones(()))

    def losses(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        assert batch.image is not None
        yield {"nothing": (batch.image.mean() * self.scale) ** 2}

    def predict(self, batch: Batch) -> Prediction:
        assert batch.image is not None
        blur = functional.avg_pool2d if batch.image.ndim == 4 else functional.avg_pool3d
        maps = blur(batch.image, 5, 1, 2).clamp(0, 1).repeat(1, 2, *(1,) * (batch.image.ndim - 2))
        raters = torch.stack([maps * 0.9, maps * 0.8], 1)
        level = batch.image.flatten(1).mean(1)[:, None, None].expand(-1, 2, 2)
        return Prediction(probability=maps, raters=raters, steps=(maps * 0.5, maps), weights=level)


@pytest.mark.parametrize(
    ("space", "patch"),
    [
        ((1, 50, 70), (16, 24)),
        ((1, 10, 70), (16, 24)),
        ((21, 20, 30), (8, 16, 16)),
        ((5, 40, 9), (8, 16, 16)),
    ],
)
@pytest.mark.parametrize("memory", [1 << 30, 1])
def test_windows_are_joined_as_monai_does(
    monkeypatch: pytest.MonkeyPatch, space: tuple[int, int, int], patch: tuple[int, ...], memory: int
) -> None:
    """Whether a volume is answered at once or in bands of rows."""
    monkeypatch.setattr(windows_file, "MEMORY", memory)
    image = np.random.default_rng(0).random((1, *space), dtype=np.float32)
    method = Blur()
    planes = list(Windows(method, Case("a", image), plan(patch)).planes())
    ours = torch.stack([plane.probability for plane in planes], 1)
    whole = torch.from_numpy(image if len(patch) == 3 else image[:, 0])[None]
    with torch.no_grad():
        theirs = sliding_window_inference(
            whole,
            patch,
            2,
            lambda part: method.predict(Batch((), part)).probability,
            overlap=0.5,
            mode="gaussian",
        )
    assert isinstance(theirs, torch.Tensor)
    torch.testing.assert_close(ours, theirs[0] if len(patch) == 3 else theirs[0][:, None], atol=1e-5, rtol=0)
    assert [len(plane.steps) for plane in planes] == [2] * space[0]
    rater = torch.stack([plane.raters[1] for plane in planes], 1)
    torch.testing.assert_close(rater, ours * 0.8, atol=1e-5, rtol=0)


def test_a_slice_alone_is_that_of_the_whole() -> None:
    image = np.random.default_rng(0).random((1, 21, 20, 30), dtype=np.float32)
    whole = list(Windows(Blur(), Case("a", image), plan((8, 16, 16))).planes())
    for at in (0, 9, 20):
        (alone,) = Windows(Blur(), Case("a", image), plan((8, 16, 16))).planes(range(at, at + 1))
        torch.testing.assert_close(alone.probability, whole[at].probability)


@pytest.mark.parametrize(
    ("size", "patch", "overlap"), [(10, 10, 0.5), (11, 10, 0.5), (100, 16, 0.25), (40, 7, 0.9)]
)
def test_windows_cover_everything(size: int, patch: int, overlap: float) -> None:
    found = starts(size, patch, overlap)
    covered = np.zeros(size, int)
    for start in found:
        covered[start : start + patch] += 1
    assert covered.min() >= 1
    assert found[0] == 0
    assert found[-1] == size - patch


@pytest.mark.parametrize("memory", [1 << 30, 1])
def test_a_case_has_one_confidence(monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    """In log-odds, windows weighing by where the raters' masks differ; a window in two bands counts once."""
    monkeypatch.setattr(windows_file, "MEMORY", memory)
    image = np.full((1, 1, 40, 16), 0.2, np.float32)  # of every rater below one half: nobody differs
    image[:, :, :16] = 0.6  # 0.54 for Ann and 0.48 for Bob
    some = Windows(Blur(), Case("a", image), plan((16, 16), overlap=0.5))
    list(some.planes())
    level = torch.tensor([0.6, 0.4]).double()  # windows from 0 and from 8; the others have none that differ
    method = Blur()
    weight = []
    for start in (0, 8):
        part = torch.from_numpy(image[:, 0, start : start + 16])[None]
        raters = method.predict(Batch((), part)).raters
        weight.append(float(((raters > 0.5).any(1) & ~(raters > 0.5).all(1))[0, 0].sum()))
    share = torch.tensor(weight).double() / sum(weight)
    expected = float((torch.logit(level) * share).sum().sigmoid())
    np.testing.assert_allclose(some.pooled()["weights"], np.full((2, 2), expected), atol=1e-6)


@pytest.mark.parametrize(("before", "after"), [(7, 7), (7, 20), (20, 7), (5, 1), (1, 4)])
def test_slices_are_mixed_as_torch_resizes(before: int, after: int) -> None:
    line = torch.rand(2, before, 3)
    expected = functional.interpolate(
        line[None], (after, 3), mode="bilinear", align_corners=False, antialias=True
    )
    torch.testing.assert_close(shares(before, after) @ line, expected[0])
    assert shares(before, after).sum(1) == pytest.approx(1)


def test_a_volume_is_resized_along_each_axis() -> None:
    """A function that is linear along each axis stays so, away from the borders."""
    z, y, x = torch.meshgrid(*(torch.arange(n) + 0.5 for n in (12, 16, 20)), indexing="ij")
    ours = resize_volume((z / 12 + y / 16 + x / 20)[None], (24, 8, 30))[0]
    z, y, x = torch.meshgrid(*((torch.arange(n) + 0.5) / n for n in (24, 8, 30)), indexing="ij")
    torch.testing.assert_close(ours[2:-2, 1:-1, 2:-2], (z + y + x)[2:-2, 1:-1, 2:-2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("own", [(7, 30, 40), (3, 15, 20), (14, 60, 50)])
def test_predictions_come_back_to_the_grid(own: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).random((1, 7, 30, 40), dtype=np.float32)
    whole = list(Windows(Blur(), Case("a", image), plan((8, 16, 16))).planes())
    expected = resize_volume(torch.stack([plane.probability for plane in whole], 1), own)
    found = list(at_own_size(Windows(Blur(), Case("a", image), plan((8, 16, 16))), own))
    torch.testing.assert_close(torch.stack([f.probability for f in found], 1), expected, atol=1e-5, rtol=0)
    (alone,) = at_own_size(Windows(Blur(), Case("a", image), plan((8, 16, 16))), own, only=2)
    torch.testing.assert_close(alone.probability, found[2].probability)


def test_the_planned_size() -> None:
    volume = sample((10, 20, 30), spacing=(3.0, 1.0, 1.0))
    by = plan((8, 16, 16), spacing_mm=(1.5, 2.0, 2.0))
    assert planned_space(by, volume) == (20, 10, 15)
    flat = plan((16, 16), spacing_mm=(2.0, 2.0))
    assert planned_space(flat, volume) == (10, 10, 15)
    assert planned_space(plan((16, 16), long_side=60), sample((20, 30))) == (1, 40, 60)
    assert planned_space(plan((16, 16)), sample((20, 30))) == (1, 20, 30)
    with pytest.raises(InputError, match="is an image and the plan is for volumes"):
        planned_space(by, sample((20, 30)))
    with pytest.raises(InputError, match="does not say how large its pixels are"):
        planned_space(flat, sample((20, 30)))
    with pytest.raises(InputError, match="pixels as the plan wants it"):
        planned_space(plan((16, 16), spacing_mm=(1e-5, 1e-5)), sample((20, 30), spacing=(1.0, 1.0)))


def test_intensities() -> None:
    one = sample((20, 30))
    case = planned_image(plan((16, 16), normalise="case"), one, (1, 20, 30))
    assert abs(float(case.mean())) < 1e-5
    assert float(case.std()) == pytest.approx(1, abs=1e-4)
    channel = Channel(low=0.2, high=0.8, mean=0.5, deviation=0.3)
    by = plan((16, 16), normalise="foreground", channels=(channel,))
    foreground = planned_image(by, one, (1, 20, 30))
    np.testing.assert_allclose(foreground[0, 0], (one.picture[0].clip(0.2, 0.8) - 0.5) / 0.3, atol=1e-5)
    dark = replace(one, image=np.where(np.arange(30) < 20, 0, one.picture).astype(np.float32))
    inside = planned_image(plan((16, 16), normalise="case"), dark, (1, 20, 30))[0, 0, :, 20:]
    assert abs(float(inside.mean())) < 1e-4
    with pytest.raises(InputError, match="has 1 channels, the plan normalises 2"):
        planned_image(plan((16, 16), normalise="foreground", channels=(channel,) * 2), one, (1, 20, 30))


@pytest.mark.parametrize(("space", "patch"), [((40, 52), (16, 16)), ((20, 40, 52), (8, 16, 16))])
def test_patches_are_parts_of_their_case(space: tuple[int, ...], patch: tuple[int, ...]) -> None:
    """Image and masks of a patch are cut at one place, and what `places` says lies inside."""
    one = sample(space)
    some = cases([one], plan(patch, patches_per_case=40, drawn=0.3, disputed=0.4))
    assert len(some) == 40
    image, masks = some.whole(0)[1:]
    assert masks.shape[2:] == image.shape[1:]
    np.testing.assert_array_equal(masks.reshape(one.masks.shape), one.masks)
    on_organ = disputed = 0
    for index in range(40):
        cut = some.drawn(index, 7, 3)
        assert cut.picture.shape == (1, *patch)
        where = _where(one.picture[0].astype(np.float16).astype(np.float32), cut.picture[0])
        np.testing.assert_array_equal(cut.masks, one.masks[(..., *where)])
        on_organ += bool(cut.masks.any())
        disputed += bool((cut.masks[0] != cut.masks[1]).any())
        again = some.drawn(index, 7, 3)
        np.testing.assert_array_equal(again.picture, cut.picture)
    assert on_organ >= 24
    assert disputed >= 16
    np.testing.assert_array_equal(some[5].picture, some.drawn(5, 0, 0).picture)
    np.testing.assert_array_equal(some[4:6][1].picture, some[5].picture)
    assert any(not np.array_equal(some.drawn(0, 0, e).picture, some[0].picture) for e in range(1, 5))


def _where(image: np.ndarray, part: np.ndarray) -> tuple[slice, ...]:
    """Where a part of an image of random numbers lies."""
    corner = np.argwhere(np.isclose(image, part.flat[0], atol=1e-6))
    for start in corner:
        box = tuple(slice(s, s + n) for s, n in zip(start, part.shape, strict=True))
        if image[box].shape == part.shape and np.allclose(image[box], part, atol=1e-6):
            return box
    raise AssertionError("the patch is no part of the case")


def test_a_small_case_lies_in_the_middle() -> None:
    one = sample((10, 13))
    cut = cases([one], plan((16, 24)))[0]
    expected = np.zeros((1, 16, 24), np.float32)
    expected[:, 3:13, 5:18] = one.picture
    np.testing.assert_allclose(cut.picture, expected, atol=1e-3)
    assert cut.masks[..., 3:13, 5:18].sum() == cut.masks.sum() == one.masks.sum()


def test_slices_of_a_volume_are_cases_of_a_flat_plan() -> None:
    some = cases([sample((6, 20, 30))], plan((32, 32)))
    assert len(some) == 6
    assert some.names[2] == "case0, slice 2"
    assert some[0].picture.shape == (1, 32, 32)


def test_references_and_absent_raters_come_along() -> None:
    one = sample((20, 30))
    reference = np.zeros((2, 20, 30), bool)
    reference[0, 4:9, 3:20] = True
    half = replace(one, reference=reference, rated=np.array([[True, False], [False, True]]))
    nobody = replace(sample((20, 30), seed=1), rated=np.zeros((2, 2), bool))
    some = cases([half, nobody], plan((20, 32)))
    assert len(some) == 1
    assert some.lacking("reference") == []
    assert some.marks.keys() == {"case0", "case1"}
    cut = some[0]
    assert cut.reference is not None
    np.testing.assert_array_equal(cut.reference[..., 1:31], reference)
    np.testing.assert_array_equal(cut.rated, half.rated)
    with pytest.raises(InputError, match="no case is left"):
        cases([nobody], plan((20, 32)))


def test_the_fingerprint_changes_with_data_and_plan() -> None:
    first = cases([sample((20, 30))], plan((16, 16))).fingerprint()
    assert first == cases([sample((20, 30))], plan((16, 16))).fingerprint()
    assert first != cases([sample((20, 30))], plan((16, 24))).fingerprint()
    assert first != cases([sample((20, 30), seed=1)], plan((16, 16))).fingerprint()


def test_batches_are_a_function_of_seed_and_epoch() -> None:
    """Those from step 2 on are the same whether the first ones were made or not."""
    by = plan((16, 24), patches_per_case=4, drawn=0.5)
    some = cases([sample((40, 52)), sample((30, 60), seed=1)], by)

    def batches(first: int, epoch: int = 1) -> list[Batch]:
        return list(training_batches(some, batch_size=2, seed=3, epoch=epoch, plan=by, first=first))

    whole, rest = batches(0), batches(2)
    assert (len(whole), len(rest)) == (4, 2)
    for one, other in zip(whole[2:], rest, strict=True):
        assert one.image is not None and other.image is not None
        assert torch.equal(one.image, other.image)
        assert one.names == other.names
    assert {int(i) for batch in whole for i in batch.index} == {0, 1}  # type: ignore[union-attr]
    assert not torch.equal(batches(0, 2)[0].image, whole[0].image)  # type: ignore[arg-type]


def test_a_turn_stays_a_turn_where_a_patch_is_no_square() -> None:
    """In pixels, or millimetres where pixels are not square, what looks is the old place turned and scaled."""
    for by, sides in ((plan((16, 48)), (16, 48)), (plan((16, 48), spacing_mm=(3.0, 1.0)), (48, 48))):
        change = draw_change("light", 0, 0, 5, by)
        (a, b, _), (c, d, _) = change.look
        turn = np.array([[a, b * sides[1] / sides[0]], [c * sides[0] / sides[1], d]])
        scale = turn @ turn.T
        np.testing.assert_allclose(scale, np.eye(2) * scale[0, 0], atol=1e-9)


def test_volumes_are_changed_as_one() -> None:
    """A flip along every axis takes image and masks alike; a light change does not mix slices."""
    one = resample_free((8, 16, 24))
    by = plan((8, 16, 24), normalise="case")
    for index in range(20):
        change = draw_change("full", 0, 0, index, by)
        flip = np.sign([change.look[2][2], change.look[1][1], change.look[0][0]])
        still = replace(
            change,
            look=tuple(
                tuple(float(np.sign(x)) if r == c else 0.0 for c, x in enumerate(row))
                for r, row in enumerate(change.look)
            ),
            contrast=1.0,
            brightness=0.0,
        )
        done = apply_changes(collate([one]), [still], by)
        turned = one.picture[:, :: int(flip[0]), :: int(flip[1]), :: int(flip[2])]
        assert done.image is not None and done.masks is not None
        np.testing.assert_allclose(done.image[0].numpy(), turned, atol=1e-5)
        marked = one.masks[:, :, :: int(flip[0]), :: int(flip[1]), :: int(flip[2])]
        np.testing.assert_array_equal(done.masks[0].numpy() > 0, marked)
    assert draw_change("light", 0, 0, 1, by).look[2] == (0.0, 0.0, 1.0, 0.0)


def resample_free(space: tuple[int, ...]) -> MultiRaterSample:
    one = sample(space)
    return replace(one, image=one.picture * 4 - 2)


def test_a_volume_without_plan_or_slices_is_told_what_to_do() -> None:
    with pytest.raises(InputError, match="--plan auto"):
        resize_sample(sample((4, 8, 8)), 16)


def test_seeds_have_one_purpose() -> None:
    assert generator_of(0, "patch", 0, 0).random() != generator_of(0, "augment", 0, 0).random()
    assert math.isclose(generator_of(1, "patch", 2, 3).random(), generator_of(1, "patch", 2, 3).random())
