"""MRNet: what it is conditioned on, and the faults of the released code that are not copied."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mrprism.core.sample import Task
from mrprism.learn.batch import Batch
from mrprism.learn.methods.mrnet import MRNet, SoftAttention, convolved, draw_expertise, weighted_vote

TASK = Task(1, ("disc",), ("wide", "narrow"))


def two_tempers(count: int = 4, size: int = 32) -> Batch:
    """One rater outlines a wide square, the other a narrow one."""
    masks = torch.zeros(count, 2, 1, size, size)
    image = torch.full((count, 1, size, size), 0.2)
    for number in range(count):
        top, left = np.random.default_rng(number).integers(2, 8, 2)
        masks[number, 0, 0, top : top + 20, left : left + 20] = 1
        masks[number, 1, 0, top + 5 : top + 15, left + 5 : left + 15] = 1
        image[number, 0] += 0.3 * masks[number].sum((0, 1))
    rated = torch.ones(count, 2, 1, dtype=torch.bool)
    return Batch(tuple(str(n) for n in range(count)), image, masks, rated)


@pytest.mark.slow
def test_given_one_raters_expertise_it_moves_towards_that_rater() -> None:
    torch.manual_seed(0)
    batch = two_tempers(2)
    method = MRNet(TASK, backbone="narrow")
    optimiser = torch.optim.Adam(method.parameters(), lr=3e-3)
    closer = torch.zeros(2)
    for step in range(240):
        for terms in method.losses(batch):
            optimiser.zero_grad(set_to_none=True)
            torch.stack(list(terms.values())).sum().backward()
            optimiser.step()
        if step % 20 == 19:
            closer = how_much_closer(method, batch)
            if closer.min() > 0.01:
                break
    assert closer.min() > 0.01, closer


def how_much_closer(method: MRNet, batch: Batch) -> Tensor:
    """How much nearer each rater's mask is when that rater is trusted than when the other is."""
    assert batch.image is not None and batch.masks is not None
    error = torch.zeros(2, 2)  # trusted rater, compared rater
    with torch.no_grad():  # in training mode: few steps leave running statistics behind
        for trusted in range(2):
            expertise = torch.eye(2)[trusted].expand(len(batch.image), -1)
            probability = method.predict_under(batch.image, expertise).probability
            for rater in range(2):
                error[trusted, rater] = (probability - batch.masks[:, rater]).abs().mean()
    return error.flip(0).diagonal() - error.diagonal()


@pytest.mark.parametrize(("consistency", "reaches"), [("paper", True), ("code", False)])
def test_the_consistency_term_reaches_the_coarse_network_as_in_the_paper(
    consistency: str, reaches: bool
) -> None:
    """The released code computes it on a detached prediction, where it moves nothing."""
    torch.manual_seed(0)
    method = MRNet(TASK, consistency=consistency, backbone="tiny")  # type: ignore[arg-type]
    term = next(iter(method.losses(two_tempers())))["consistency"]
    assert term > 0
    assert term.requires_grad == reaches
    if reaches:
        term.backward()
        assert any(p.grad is not None and p.grad.any() for p in method.eim.parameters())
        assert all(p.grad is None for p in method.mrm.parameters())  # held fixed


def test_every_condition_meets_its_own_coarse_map_as_probabilities() -> None:
    """Released: MPM gets the random condition's map in the uniform case, and MRM gets logits."""
    torch.manual_seed(0)
    method = MRNet(TASK, backbone="tiny")
    coarse: list[Tensor] = []
    to_mrm: list[Tensor] = []
    to_mpm: list[Tensor] = []
    method.eim.head.register_forward_hook(lambda _m, _i, out: coarse.append(out.detach().sigmoid()))
    method.mrm.register_forward_hook(lambda _m, given, _o: to_mrm.append(given[0][:, 1:]))
    method.mpm.register_forward_hook(lambda _m, given, _o: to_mpm.append(given[1]))
    list(method.losses(two_tempers()))
    assert len(coarse) == len(to_mrm) == len(to_mpm) == 3
    for own, mrm, mpm in zip(coarse, to_mrm, to_mpm, strict=True):
        torch.testing.assert_close(mrm, own)
        torch.testing.assert_close(mpm, own)
    assert (coarse[0] - coarse[1]).abs().max() > 0


def test_the_three_parts_share_no_gradient() -> None:
    torch.manual_seed(0)
    method = MRNet(TASK, consistency="code", backbone="tiny")
    for name, own in (("coarse", "eim"), ("raters", "mrm"), ("refined", "mpm")):
        method.zero_grad(set_to_none=True)
        next(iter(method.losses(two_tempers())))[name].backward()
        assert {n.split(".")[0] for n, p in method.named_parameters() if p.grad is not None} == {own}


def test_expertise_sums_to_one_over_the_raters_present() -> None:
    torch.manual_seed(0)
    present = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])
    for condition in ("uniform", "random", "one-hot"):
        expertise = draw_expertise(condition, present)
        torch.testing.assert_close(expertise.sum(1), torch.tensor([1.0, 1.0, 0.0]))
        assert not expertise[~present].any()


def test_a_weighted_vote_by_hand() -> None:
    masks = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1, 1).expand(1, 2, 2, 1, 1)
    rated = torch.tensor([[[True, True], [True, False]]])
    vote, known = weighted_vote(masks, rated, torch.tensor([[0.25, 0.75]]))
    assert vote.flatten().tolist() == [0.25, 1.0]
    assert known.all()
    _, known = weighted_vote(masks, rated, torch.tensor([[0.0, 1.0]]))
    assert known.tolist() == [[True, False]]


def test_soft_attention_only_widens() -> None:
    attention = torch.zeros(1, 1, 40, 40)
    attention[..., 18:22, 18:22] = 0.8
    seen = SoftAttention()(torch.ones(1, 2, 40, 40), attention) - 1
    assert (seen >= attention - 1e-6).all()
    assert seen[0, 0, 20, 24] > 0.1


def test_the_blur_is_pytorchs_convolution() -> None:
    maps, kernel = torch.rand(2, 1, 20, 33), torch.rand(1, 1, 31, 31)
    expected = torch.nn.functional.conv2d(maps, kernel, padding=15)
    torch.testing.assert_close(convolved(maps, kernel), expected, rtol=1e-4, atol=1e-3)


def test_absent_raters_get_no_trust() -> None:
    torch.manual_seed(0)
    batch = two_tempers()
    assert batch.rated is not None
    rated = batch.rated.clone()
    rated[0, 1] = False
    terms = next(iter(MRNet(TASK, backbone="tiny").losses(replace(batch, rated=rated))))
    assert all(value.isfinite() for value in terms.values())
