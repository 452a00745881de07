"""Splits keep patients together, resizing follows its rule, and randomness is a function."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from toy import samples

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.datasets.split import split_cases
from mrprism.images.planes import PlaneFile
from mrprism.learn.augment import Change, apply_changes, draw_change
from mrprism.learn.batches import collate, plain_batches, training_batches
from mrprism.learn.cases import Cases
from mrprism.learn.known_cases import image_mark
from mrprism.learn.resize import resize, resize_masks, resize_sample
from mrprism.learn.settings import steps_per_epoch


def cases(count: int = 10, size: int = 20) -> Cases:
    made = {sample.name: sample for sample in samples(count)}
    return Cases(made, list(made), size)


# --- splits


@settings(max_examples=50, deadline=None)
@given(
    groups=st.lists(st.integers(0, 12), min_size=3, max_size=40).filter(lambda g: len(set(g)) >= 3),
    seed=st.integers(0, 1000),
)
def test_no_patient_stands_on_two_sides(groups: list[int], seed: int) -> None:
    names = [f"case{i}" for i in range(len(groups))]
    patients = [str(g) for g in groups]
    split = split_cases(names, patients, [None] * len(names), seed=seed)
    assert sorted(split.train + split.val + split.test) == sorted(names)
    assert split.train
    assert split.val
    assert split.test
    sides = [{patients[names.index(n)] for n in part} for part in (split.train, split.val, split.test)]
    assert len(sides[0] | sides[1] | sides[2]) == sum(map(len, sides))


def test_shares_are_met_and_the_seed_decides() -> None:
    names = [f"case{i:03d}" for i in range(200)]
    split = split_cases(names, [None] * 200, [None] * 200)
    assert (len(split.train), len(split.val), len(split.test)) == (130, 30, 40)
    assert split == split_cases(names, [None] * 200, [None] * 200)
    assert split != split_cases(names, [None] * 200, [None] * 200, seed=1)
    backwards = split_cases(names[::-1], [None] * 200, [None] * 200)
    assert set(backwards.test) == set(split.test)


def test_fixed_parts_are_kept_and_validation_is_drawn_from_training() -> None:
    names = [f"case{i}" for i in range(20)]
    fixed = ["train"] * 15 + ["test"] * 5
    split = split_cases(names, [None] * 20, fixed)
    assert split.test == tuple(names[15:])
    assert len(split.val) == 2
    assert set(split.val) < set(names[:15])
    whole = split_cases(names, [None] * 20, ["train"] * 10 + ["val"] * 5 + ["test"] * 5)
    assert (whole.train, whole.val) == (tuple(names[:10]), tuple(names[10:15]))


def test_a_patient_fixed_on_two_sides_is_refused() -> None:
    with pytest.raises(InputError, match="group 'p1' has cases in 'train' and in 'test'"):
        split_cases(["a", "b"], ["p1", "p1"], ["train", "test"])


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_patients_are_refused(count: int) -> None:
    names = [f"case{i}" for i in range(count)]
    with pytest.raises(InputError, match="at least 3 are needed"):
        split_cases(names, [None] * count, [None] * count)


# --- resizing


def test_halving_takes_the_antialiased_mean() -> None:
    ramp = torch.arange(64.0).reshape(1, 8, 8) / 64
    halved = resize(ramp, 4, 4)
    # triangle filter of support 2 over four pixels: weights 1/8, 3/8, 3/8, 1/8 away from the border
    weights = torch.tensor([1, 3, 3, 1]) / 8
    by_hand = (weights[:, None] * weights * ramp[0, 1:5, 1:5]).sum()
    assert halved[0, 1, 1] == pytest.approx(by_hand.item(), abs=1e-6)


def test_masks_mark_more_than_half() -> None:
    mask = torch.zeros((1, 8, 8), dtype=torch.bool)
    mask[0, :, :4] = True
    assert resize_masks(mask, 4, 4)[0].sum(1).tolist() == [2, 2, 2, 2]
    checker = torch.zeros((1, 8, 8), dtype=torch.bool)
    checker[0, ::2] = True  # exactly half of every new pixel: not more
    assert not resize_masks(checker, 4, 4)[0, 1:3].any()


@settings(max_examples=20, deadline=None)
@given(size=st.integers(5, 60), seed=st.integers(0, 99))
def test_nested_structures_stay_nested_and_masks_stay_on_the_image(size: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    blurred = ndimage.gaussian_filter(draw.standard_normal((37, 51)), 4)
    outer, inner = blurred > 0, blurred > 0.05
    resized = resize_masks(torch.from_numpy(np.stack([outer, inner])), size, size)
    assert not (resized[1] & ~resized[0]).any()
    as_image = resize(torch.from_numpy(outer[None].astype(np.float32)), size, size)
    assert torch.equal(resized[0], as_image[0] > 0.5 + 1e-5)


def test_a_volume_is_refused() -> None:
    volume = MultiRaterSample(
        "vol", np.zeros((1, 4, 8, 8), np.float32), np.zeros((1, 1, 4, 8, 8), bool), np.ones((1, 1), bool)
    )
    with pytest.raises(InputError, match="case 'vol' is a volume"):
        resize_sample(volume, 8)


def test_cases_in_memory_are_the_samples() -> None:
    for kept, sample in zip(cases(4), samples(4), strict=True):
        assert kept.name == sample.name
        assert np.array_equal(kept.masks, sample.masks)
        assert sample.reference is not None
        assert np.array_equal(kept.reference, sample.reference)
        assert np.abs(kept.image - sample.image).max() < 3e-4


def test_fingerprint_follows_the_data() -> None:
    made = {sample.name: sample for sample in samples(4)}
    first = Cases(made, list(made), 20).fingerprint()
    assert first == Cases(made, list(made), 20).fingerprint()
    masks = made["case02"].masks.copy()
    masks[0, 0, 0, 0] ^= True
    made["case02"] = dataclasses.replace(made["case02"], masks=masks)
    assert first != Cases(made, list(made), 20).fingerprint()


# --- batches


def test_collate_says_what_is_absent() -> None:
    first, second = samples(2)
    rated = np.array([[True, False], [True, True], [True, True]])
    second = dataclasses.replace(second, reference=None, rated=rated, diagnosis=1)
    batch = collate([first, second], index=[4, 7])
    assert batch.reference is not None
    assert batch.masks is not None
    assert batch.diagnosis is not None
    assert batch.index is not None
    assert batch.names == ("case00", "case01")
    assert not batch.reference[0].isnan().any()
    assert batch.reference[1].isnan().all()
    assert batch.diagnosis.tolist() == [-1, 1]
    assert batch.index.tolist() == [4, 7]
    assert batch.masks[1, 0, 1].sum() == 0  # drawn pixels of one who did not rate are never passed on
    assert batch.masks[1, 1, 1].sum() == 25


def test_order_and_changes_are_functions_of_seed_epoch_and_place() -> None:
    kept = cases(11)

    def epoch(number: int, first: int = 0, seed: int = 0) -> list[tuple[tuple[str, ...], torch.Tensor]]:
        batches = training_batches(kept, batch_size=3, seed=seed, epoch=number, first=first)
        return [(b.names, b.image) for b in batches if b.image is not None]

    whole, later = epoch(2), epoch(2, first=1)
    assert len(whole) == steps_per_epoch(11, 3) == 3
    for (names, image), (same_names, same_image) in zip(whole[1:], later, strict=True):
        assert names == same_names
        assert torch.equal(image, same_image)
    assert [n for n, _ in whole] != [n for n, _ in epoch(3)]
    assert [n for n, _ in whole] != [n for n, _ in epoch(2, seed=1)]


def test_processes_share_a_step_without_overlap() -> None:
    kept = cases(12)
    parts = [
        [
            n
            for b in training_batches(kept, batch_size=2, seed=0, epoch=0, process=p, processes=3)
            for n in b.names
        ]
        for p in range(3)
    ]
    assert sorted(name for part in parts for name in part) == sorted(kept.names)


def test_fewer_cases_than_a_batch_make_one_step() -> None:
    (batch,) = training_batches(cases(3), batch_size=8, seed=0, epoch=0)
    assert sorted(batch.names) == ["case00", "case01", "case02"]


def test_plain_batches_are_whole_and_unchanged() -> None:
    batches = list(plain_batches(cases(5), 2))
    assert [len(b.names) for b in batches] == [2, 2, 1]
    assert [n for b in batches for n in b.names] == [f"case{i:02d}" for i in range(5)]


# --- augmentation


def test_a_change_is_a_function_of_its_arguments() -> None:
    assert draw_change("full", 1, 2, 3) == draw_change("full", 1, 2, 3)
    assert len({draw_change("full", 1, 2, i).brightness for i in range(20)}) == 20
    for index in range(50):
        light = draw_change("light", 0, 0, index)
        determinant = light.look[0][0] * light.look[1][1] - light.look[0][1] * light.look[1][0]
        assert determinant > 0  # never mirrored


def test_a_plain_flip_is_exact_and_moves_all_alike() -> None:
    batch = collate(samples(2))
    flip = Change(look=((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), contrast=1.0, brightness=0.0)
    flipped = apply_changes(batch, [flip, flip])
    for before, after in (
        (batch.image, flipped.image),
        (batch.masks, flipped.masks),
        (batch.reference, flipped.reference),
    ):
        assert before is not None
        assert after is not None
        assert torch.allclose(before.flip(-1), after, atol=1e-5)


def test_image_and_masks_turn_together() -> None:
    sample = samples(1, height=48, width=48)[0]
    assert sample.reference is not None
    truth = np.roll(sample.reference, (16, 16), axis=(1, 2))  # away from the border
    masks = np.stack([truth] * 3)
    image = truth[:1].astype(np.float32)
    shown = dataclasses.replace(sample, image=image, reference=truth, masks=masks)
    batch = collate([shown])
    for index in range(10):
        change = dataclasses.replace(draw_change("full", 0, 0, index), contrast=1.0, brightness=0.0)
        changed = apply_changes(batch, [change])
        assert changed.image is not None
        assert changed.masks is not None
        assert changed.reference is not None
        assert (changed.image[0, 0] - changed.reference[0, 0]).abs().max() <= 0.5 + 1e-6
        assert torch.equal(changed.masks[0, 1], changed.reference[0])
        assert set(changed.masks.unique().tolist()) == {0.0, 1.0}
        assert changed.reference[0, 0].sum() == pytest.approx(100 / _scale(change), rel=0.1)


def _scale(change: Change) -> float:
    (a, b, _), (c, d, _) = change.look
    return abs(a * d - b * c)


def test_an_absent_reference_stays_absent_under_change() -> None:
    first, second = samples(2)
    batch = collate([first, dataclasses.replace(second, reference=None)])
    changed = apply_changes(batch, [draw_change("full", 0, 0, i) for i in range(2)])
    assert changed.reference is not None
    assert not changed.reference[0].isnan().any()
    assert changed.reference[1].isnan().all()
    assert math.isclose(float(changed.image.max()), 1.0, abs_tol=0.5) if changed.image is not None else False


# --- many cases


def test_cases_beyond_the_memory_that_is_kept_lie_on_the_disk_and_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mrprism.learn import cases as module

    source = {sample.name: sample for sample in samples(9)}
    in_memory = Cases(source, list(source), 16)
    assert not any(isinstance(kept._file, PlaneFile) for kept in in_memory._spools.values())
    for most in (0, 300):  # from the first case on, and from one in the middle
        monkeypatch.setattr(module, "MEMORY", most)
        on_disk = Cases(source, list(source), 16)
        assert all(isinstance(kept._file, PlaneFile) and not kept._held for kept in on_disk._spools.values())
        assert on_disk.fingerprint() == in_memory.fingerprint()
        assert on_disk.marks == in_memory.marks == {s.name: image_mark(s.image) for s in source.values()}
        for one, other in zip(in_memory, on_disk, strict=True):
            assert one.name == other.name
            assert np.array_equal(one.image, other.image)
            assert np.array_equal(one.masks, other.masks)
            assert np.array_equal(one.reference, other.reference)
        assert [case.name for case in on_disk.first(2)] == list(source)[:2]


def test_the_fingerprint_is_that_of_0_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs begun by it are gone on with: names, shapes, then pixels, case by case."""
    source = {sample.name: sample for sample in (*samples(3), *samples(5, reference=False)[3:])}
    digest = hashlib.sha256()
    for sample in source.values():
        small = resize_sample(sample, 16)
        image, masks = small.image.astype(np.float16), np.packbits(small.masks, axis=-1)
        digest.update(repr((sample.name, image.shape, masks.shape)).encode())
        for array in (image, masks, sample.rated):
            digest.update(array.tobytes())
        digest.update(b"-" if small.reference is None else np.packbits(small.reference, axis=-1).tobytes())
    assert Cases(source, list(source), 16).fingerprint() == digest.hexdigest()


def test_no_more_cases_are_read_ahead_than_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, and however slow the first is: what was read waits nowhere in memory."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    asked: list[str] = []
    first = samples(1)[0]

    class Slow(dict[str, MultiRaterSample]):
        def __getitem__(self, name: str) -> MultiRaterSample:
            asked.append(name)
            if name == "case00":
                most.wait(timeout=60)
            return dataclasses.replace(first, name=name)

    most = threading.Event()
    names = [f"case{number:02d}" for number in range(40)]
    reader = threading.Thread(target=lambda: made.append(Cases(Slow(), names, 8)))
    made: list[Cases] = []
    reader.start()
    while len(asked) < 5:  # the slow one, and those that may be under way beside it
        assert reader.is_alive()
        threading.Event().wait(0.001)
    assert len(asked) <= 6
    most.set()
    reader.join()
    assert [case.name for case in made[0]] == names
