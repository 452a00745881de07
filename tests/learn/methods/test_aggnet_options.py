"""AggNet on other pixels, and with another loss, than its paper has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mrprism.core.sample import MultiRaterSample, Task
from mrprism.learn.batches import collate
from mrprism.learn.losses import dice, dice_apart
from mrprism.learn.methods.aggnet import AggNet

TASK = Task(1, ("disc",), ("ann", "ben", "cem"))


def case(*rows: str, absent: int | None = None) -> MultiRaterSample:
    """One row of pixels for each rater, repeated to a square."""
    masks = np.array([[[[mark == "x" for mark in row]] * len(row)] for row in rows])
    rated = np.ones((len(rows), 1), bool)
    if absent is not None:
        rated[absent], masks[absent] = False, False
    return MultiRaterSample("case", np.zeros((1, *masks.shape[2:]), np.float32), masks, rated)


@pytest.mark.parametrize(
    ("options", "absent", "expected"),
    [
        ({}, None, None),
        ({"margin": 0}, None, "xxxx...."),
        ({"disputed": True}, None, "..xx...."),
        ({"disputed": True, "margin": 1}, None, ".xxxx..."),
        ({"disputed": True}, 2, "..x....."),  # who is absent differs from nobody
    ],
)
def test_the_pixels_that_are_counted(options, absent, expected) -> None:
    batch = collate([case("xx......", "xxx.....", "xxxx....", absent=absent)])
    region = AggNet(TASK, backbone="small", **options).region(batch.masks, batch.rated)
    if expected is None:
        assert region is None
    else:
        assert "".join("x" if seen else "." for seen in region[0, 0].tolist()) == expected


def test_dice_is_added_where_it_is_asked_for() -> None:
    samples = [case("x" * 16 + "." * 16, "x" * 8 + "." * 24, "." * 32)]
    torch.manual_seed(0)
    method = AggNet(TASK, backbone="small", loss="ce+dice")
    method.prepare(samples)
    plain = AggNet(TASK, backbone="small")
    plain.load_state_dict(method.state_dict())
    batch = collate(samples)
    method.eval()
    plain.eval()
    (with_dice,), (without,) = method.losses(batch), plain.losses(batch)
    assert set(without) == {"consensus"}
    assert set(with_dice) == {"consensus", "dice"}
    torch.testing.assert_close(with_dice["consensus"], without["consensus"])
    assert 0 < with_dice["dice"] < 1


def test_dice_of_probabilities_is_that_of_their_logits() -> None:
    logits, target = torch.randn(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(dice(logits, target), dice_apart(logits.sigmoid(), target))
