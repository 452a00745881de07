"""The network on the number of votes: ordered levels, ragged raters, the expected share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mrprism.core.errors import InputError
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch
from mrprism.learn.methods.build import build_method
from mrprism.learn.methods.fused_label import FusedLabel
from mrprism.learn.vote_heads import level_targets, ordered, ranked_loss
from mrprism.metrics import ranked_probability_score
from mrprism.metrics.scores import score


def test_no_level_is_more_probable_than_the_one_before() -> None:
    torch.manual_seed(0)
    logits = ordered(torch.randn(2, 5 * 2, 4, 3), 5)
    assert logits.shape == (2, 5, 2, 4, 3)
    assert (logits.diff(dim=1) < 0).all()
    volume = ordered(torch.randn(1, 3, 2, 4, 3), 3)
    assert volume.shape == (1, 3, 1, 2, 4, 3) and (volume.diff(dim=1) < 0).all()


def test_targets_by_hand() -> None:
    """Three levels; of the second case the third rater is absent, and what stands there is never read."""
    masks = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]).reshape(2, 3, 1, 1, 1)
    rated = torch.tensor([[True, True, True], [True, True, False]])[..., None]
    target, known = level_targets(masks, rated, 3)
    assert target[0].flatten().tolist() == [1, 1, 0]  # two of three
    assert target[1].flatten().tolist() == [1, 0, 0]  # one of two: more than 1/6, not more than 1/2
    assert known.all()


def test_the_loss_is_the_metric() -> None:
    torch.manual_seed(0)
    logits, votes = torch.randn(1, 4, 6, 5), torch.randint(0, 5, (6, 5))
    target = torch.stack([(votes >= k).float() for k in range(1, 5)])[None]
    metric = ranked_probability_score(logits[0].sigmoid().numpy(), votes.numpy(), 4)
    np.testing.assert_allclose(ranked_loss(logits, target), metric, rtol=1e-5)


def test_the_probability_is_the_expected_share_and_the_levels_are_scored() -> None:
    torch.manual_seed(0)
    task = Task(1, ("disc", "cup"), ("a", "b", "c"))
    method = FusedLabel(task, label="votes", backbone="small").eval()
    with torch.inference_mode():
        found = method.predict(Batch(("x",), torch.rand(1, 1, 32, 32)))
    assert found.at_least is not None and found.at_least.shape == (1, 3, 2, 32, 32)
    torch.testing.assert_close(found.at_least.mean(1), found.probability)
    (case,) = found.cases()
    from mrprism.learn.contract import samples

    rows = score(case, samples(32, 32)[0], task)
    (row,) = [row for row in rows if row.metric == "rps" and row.structure == "cup"]
    votes = samples(32, 32)[0].masks[:, 1].sum(axis=0)
    assert row.value == np.float64(ranked_probability_score(case.at_least[:, 1], votes, 3))


def test_dropout_at_random_draws_no_votes() -> None:
    with pytest.raises(InputError, match="mc-dropout does not draw from"):
        build_method("mc-dropout", Task(1, ("disc",), ("a", "b")), "small", {"label": "votes"})
