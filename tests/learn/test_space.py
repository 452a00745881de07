"""A volume of one slice is the image: every formula of maps says of it what it says of the slice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mrprism.learn import confidence, losses, soft_fusion
from mrprism.learn.batch import Batch, mean_of_raters
from mrprism.learn.methods import exclusive, multiple_hypotheses, pionono, ssn, wdnet
from mrprism.learn.networks.divp import interleave
from mrprism.learn.networks.grid import means, pooled, smooth, widened
from mrprism.learn.space import aside, axes, cropped, picked

DRAW = torch.Generator().manual_seed(5)
MASKS = (torch.rand(2, 3, 2, 5, 6, generator=DRAW) > 0.5).float()  # B R C H W
RATED = torch.tensor(
    [[[True, True], [True, False], [True, True]], [[True, True], [False, False], [True, True]]]
)
LOGITS = torch.randn(2, 2, 5, 6, generator=DRAW)
SEEN = LOGITS.sigmoid()
EACH = torch.randn(2, 3, 2, 5, 6, generator=DRAW)  # of each rater
TRUST = torch.rand(2, 3, 2, 5, 6, generator=DRAW)
KNOWN = RATED.any(1)
VOTES = soft_fusion.mean_vote(MASKS, RATED)
CLASSES = exclusive.Classes(2)
TABLE = torch.randn(3, 1, 4, 4, generator=DRAW)
OF_CLASSES = torch.rand(2, 1, 4, 5, 6, generator=DRAW)
CONFUSION = torch.rand(2, 3, 1, 4, 4, 5, 6, generator=DRAW)
LABELS = CLASSES.labels(MASKS, RATED)[0]
RATED_GROUPS = RATED.all(-1)[..., None]

# a function of maps, and the axis of each map at which the slices stand
FORMULAS: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "dice": (losses.dice, (LOGITS, VOTES)),
    "bce and dice": (losses.bce_and_dice, (LOGITS, VOTES)),
    "rated bce": (lambda e, m: losses.rated_bce(e, m, RATED), (EACH, MASKS)),
    "mean vote": (lambda m: soft_fusion.mean_vote(m, RATED), (MASKS,)),
    "weighted share": (lambda m, w: soft_fusion.weighted_share(m, RATED, w), (MASKS, TRUST)),
    "log-odds": (lambda m, w: soft_fusion.fuse_log_odds(m, RATED, w), (MASKS, TRUST)),
    "log-odds, one weight": (
        lambda m: soft_fusion.fuse_log_odds(m, RATED, aside(TRUST[..., 0, 0], m)),
        (MASKS,),
    ),
    "share": (lambda m, w: soft_fusion.fuse_share(m, RATED, w), (MASKS, TRUST)),
    "ratio": (lambda m, w: soft_fusion.fuse_ratio(m, RATED, w), (MASKS, TRUST)),
    "verbatim": (lambda m, e: soft_fusion.fuse_verbatim(m, RATED, e), (MASKS, EACH)),
    "settle": (lambda logits, m: soft_fusion.settle(logits, m, RATED), (LOGITS, MASKS)),
    "agreement": (confidence.agreement, (SEEN, TRUST)),
    "tally": (confidence.tally, (MASKS, SEEN, VOTES)),
    "read masks": (lambda m, s: confidence.read_masks(m, RATED, s), (MASKS, SEEN)),
    "calibrated": (lambda r: confidence.calibrated(r, TRUST[0, ..., 0, 0], TRUST[1, ..., 0, 0]), (EACH,)),
    "mean of raters": (lambda m: mean_of_raters(Batch(("a", "b"), masks=m, rated=RATED)), (MASKS,)),
    "labels": (lambda m: CLASSES.labels(m, RATED)[0], (MASKS,)),
    "structures": (CLASSES.structures, (OF_CLASSES,)),
    "structures of raters": (lambda p: CLASSES.structures(p[:, None], 2), (OF_CLASSES,)),
    "vote share": (lambda z: exclusive.vote_share(z, RATED_GROUPS, 4), (LABELS,)),
    "evidence": (lambda z: exclusive.evidence(TABLE, z, RATED_GROUPS), (LABELS,)),
    "counts": (lambda p, z: exclusive.confusion_counts(p, z, RATED_GROUPS), (OF_CLASSES, LABELS)),
    "through": (exclusive.through, (OF_CLASSES, CONFUSION)),
    "rated nll": (
        lambda p, z: exclusive.rated_nll(p[:, None].expand(-1, 3, *p.shape[1:]), z, RATED_GROUPS),
        (OF_CLASSES, LABELS),
    ),
    "left out": (lambda e, m: wdnet.left_out(e.sigmoid(), TRUST[..., 0, 0], m, RATED), (EACH, MASKS)),
    "generalised dice": (lambda a, b: pionono.generalised_dice_loss(a, b, KNOWN), (LOGITS, MASKS[:, 0])),
    "joint likelihood": (
        lambda e, y: ssn.joint_log_likelihood(e, y, KNOWN),
        (EACH, MASKS[:, 0]),
    ),
}


def flat(found: Any) -> list[Tensor]:
    """Answers, maps among them without the axis of slices."""
    return [one for part in found for one in flat(part)] if isinstance(found, tuple) else [found]


@pytest.mark.parametrize("name", FORMULAS)
def test_a_volume_of_one_slice_is_the_image(name: str) -> None:
    formula, maps = FORMULAS[name]
    expected = flat(formula(*maps))
    found = flat(formula(*(m.unsqueeze(-3) for m in maps)))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.reshape(other.shape), other)


@pytest.mark.parametrize("name", [name for name in FORMULAS if name != "structures of raters"])
def test_no_axis_of_a_volume_is_special(name: str) -> None:
    """Turned by 90°, so that slices are rows: the answer is turned alike, and numbers stay."""
    formula, maps = FORMULAS[name]
    volumes = [torch.stack([m, m.flip(-1), m.flip(-2)], -3) for m in maps]
    expected = flat(formula(*volumes))
    found = flat(formula(*(v.transpose(-3, -1) for v in volumes)))
    for one, other in zip(found, expected, strict=True):
        turned = other.transpose(-3, -1) if other.shape[-3:] == volumes[0].shape[-3:] else other
        torch.testing.assert_close(one, turned)


def test_interleaving_puts_every_voxel_where_it_was() -> None:
    whole = torch.arange(2 * 5 * 6 * 7).reshape(1, 1, 2, 5, 6, 7).float()
    for step in ((2, 2, 2), (1, 2, 2), (2, 1, 1)):
        padded = torch.nn.functional.pad(whole, (0, 1, 0, 0, 0, 1))
        parts = padded
        for axis, k in enumerate(step):
            parts = parts.unflatten(3 + 2 * axis, (-1, k))
        phases = parts.permute(0, 1, 2, 4, 6, 8, 3, 5, 7)  # steps, then places
        assert torch.equal(interleave(phases, (5, 6, 7)), whole)


def test_sizes_are_changed_along_every_axis() -> None:
    ramp = torch.arange(8.0).reshape(1, 1, 8, 1, 1).expand(1, 1, 8, 6, 4)
    assert smooth(ramp, (16, 6, 2)).shape == (1, 1, 16, 6, 2)
    assert pooled(ramp, (4, 3, 2))[0, 0, :, 0, 0].tolist() == [0.5, 2.5, 4.5, 6.5]
    assert means(ramp, (3, 8, 1))[0, 0, :, 0, 0].tolist() == [
        1,
        4,
        6.5,
    ]  # the last block has two, the 8 are 6
    dot = torch.zeros(1, 5, 5, 5)
    dot[0, 2, 2, 2] = 1
    assert widened(dot, 1).sum() == 27


def test_numbers_stand_beside_maps() -> None:
    assert aside(RATED, MASKS).shape == (2, 3, 2, 1, 1)
    assert aside(RATED, MASKS[..., None]).shape == (2, 3, 2, 1, 1, 1)
    assert axes(MASKS, 3) == (3, 4)
    assert cropped(MASKS, (2, 3)).shape == (2, 3, 2, 2, 3)
    assert torch.equal(picked(MASKS, 3, [1, slice(None, None, 2)]), MASKS[:, :, :, 1, ::2])


def test_one_rater_is_drawn_whole() -> None:
    volumes = MASKS[:, :, :, None].expand(-1, -1, -1, 4, -1, -1)
    mask, known = multiple_hypotheses.one_rater(volumes, RATED)
    assert mask.shape == (2, 2, 4, 5, 6) and known.shape == (2, 2)
