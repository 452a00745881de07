"""What is special to WDNet, multiple hypotheses, AGNet, pOSAL, BEAL and diagnosis first."""

from itertools import product

import pytest
import torch
from torch.nn import functional

from mrprism.core.errors import InputError
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch
from mrprism.learn.methods.agnet import guided_filter
from mrprism.learn.methods.beal import contour, entropy
from mrprism.learn.methods.diagnosis_first import DiagnosisFirst, fuse_under
from mrprism.learn.methods.multiple_hypotheses import one_rater, pulled
from mrprism.learn.methods.posal import smoothness, squared_dice
from mrprism.learn.methods.wdnet import WDNet, left_out


def test_no_head_is_scored_on_its_own_rater() -> None:
    torch.manual_seed(0)
    heads, masks = torch.rand(2, 3, 1, 4, 4), (torch.rand(2, 3, 1, 4, 4) > 0.5).float()
    rated = torch.ones(2, 3, 1, dtype=torch.bool)
    logits = torch.tensor([0.3, -0.2, 1.0]).view(1, 3, 1).expand(2, -1, -1)
    weight = logits.exp()
    total = torch.tensor(0.0)
    for r in range(3):
        others = [m for m in range(3) if m != r]
        share = weight[:, others] / weight[:, others].sum(1, keepdim=True)
        average = (share[..., None, None] * heads[:, others]).sum(1)
        total += functional.binary_cross_entropy(average, masks[:, r]) / 3
    torch.testing.assert_close(left_out(heads, logits, masks, rated), total)


def test_wdnets_second_stage_freezes_the_heads_and_prefers_the_head_that_others_agree_with() -> None:
    torch.manual_seed(0)
    task = Task(1, ("disc",), ("a", "b", "odd"))
    method = WDNet(task, weights="global", backbone="tiny")

    def cases() -> Batch:
        """Two raters mark the bright square, the third a place that nothing in the image tells."""
        masks = torch.zeros(4, 3, 1, 32, 32)
        for case, (place, elsewhere) in enumerate(torch.randint(0, 20, (4, 2)).tolist()):
            masks[case, :2, :, place : place + 12, place : place + 12] = 1
            masks[case, 2, :, :, elsewhere : elsewhere + 12] = 1
        return Batch(tuple("1234"), masks[:, 0], masks, torch.ones(4, 3, 1, dtype=torch.bool))

    optimiser = torch.optim.Adam(method.parameters(), lr=1e-2)
    frozen = {}
    for epoch in range(4):
        method.begin_epoch(epoch, 4)
        if epoch == 3:
            frozen = {n: v.clone() for n, v in method.unet.state_dict().items()}
        for _ in range(25):
            method.train()
            for terms in method.losses(cases()):
                optimiser.zero_grad(set_to_none=True)
                torch.stack(list(terms.values())).sum().backward()
                optimiser.step()
    for name, value in method.unet.state_dict().items():
        torch.testing.assert_close(value, frozen[name], rtol=0, atol=0)
    assert method.logits[2] < method.logits[:2].min()


def test_the_best_hypothesis_is_pulled_hardest() -> None:
    losses = torch.tensor([[3.0, 1.0, 2.0]], requires_grad=True)
    loss = pulled(losses, torch.ones(1, 3, dtype=torch.bool), 0.05)
    loss.backward()
    assert loss.item() == pytest.approx(0.95 * 1 + 0.025 * (3 + 2))
    torch.testing.assert_close(losses.grad, torch.tensor([[0.025, 0.95, 0.025]]))


def test_a_hypothesis_that_sits_out_neither_wins_nor_is_pulled() -> None:
    losses = torch.tensor([[3.0, 1.0, 2.0]])
    loss = pulled(losses, torch.tensor([[True, False, True]]), 0.05)
    assert loss.item() == pytest.approx(0.95 * 2 + 0.05 * 3)
    assert pulled(losses, torch.zeros(1, 3, dtype=torch.bool), 0.05).isfinite()


def test_only_raters_who_were_there_are_drawn() -> None:
    torch.manual_seed(0)
    masks = torch.arange(3.0).view(1, 3, 1, 1, 1).repeat(200, 1, 1, 1, 1)
    rated = torch.tensor([True, False, True]).view(1, 3, 1).repeat(200, 1, 1)
    drawn, known = one_rater(masks, rated)
    assert set(drawn.flatten().tolist()) == {0.0, 2.0}
    assert known.all()


def test_the_guided_filter_explains_a_line_exactly() -> None:
    """O = 2 I + 3 at small size comes back as 2 I + 3 at full size, under any attention."""
    torch.manual_seed(0)
    full, small = torch.rand(1, 1, 24, 24), torch.rand(1, 1, 12, 12)
    found = guided_filter(full, small, 2 * small + 3, torch.rand(1, 1, 12, 12) + 0.1, ridge=1e-9)
    torch.testing.assert_close(found, 2 * full + 3, atol=2e-3, rtol=0)


def test_the_guided_filter_is_weighted_least_squares() -> None:
    """A and b of every window by a solver, averaged over the windows that a pixel lies in."""
    torch.manual_seed(0)
    size, radius, ridge = 7, 2, 1e-2
    small, output, attention = (torch.rand(1, 1, size, size).double() for _ in range(3))
    lines = torch.zeros(size, size, 2).double()
    for i, j in product(range(size), repeat=2):
        window = (0, 0, slice(max(0, i - radius), i + radius + 1), slice(max(0, j - radius), j + radius + 1))
        weight = attention[window].flatten() ** 2
        weight = weight / weight.sum()
        seen = small[window].flatten()
        design = torch.stack([seen, torch.ones_like(seen)], 1)
        normal = design.T @ (weight[:, None] * design) + torch.diag(torch.tensor([ridge, 0.0]).double())
        lines[i, j] = torch.linalg.solve(normal, design.T @ (weight * output[window].flatten()))
    expected = torch.zeros(size, size).double()
    for i, j in product(range(size), repeat=2):
        near = lines[max(0, i - radius) : i + radius + 1, max(0, j - radius) : j + radius + 1]
        slope, offset = near.flatten(0, 1).mean(0)
        expected[i, j] = slope * small[0, 0, i, j] + offset
    found = guided_filter(small, small, output, attention, ridge=ridge)
    torch.testing.assert_close(found[0, 0], expected, atol=1e-4, rtol=0)


def test_the_guided_filter_takes_images_smaller_than_its_window() -> None:
    found = guided_filter(
        torch.rand(1, 2, 2, 2), torch.rand(1, 2, 1, 1), torch.rand(1, 2, 1, 1), torch.ones(1, 1, 1, 1)
    )
    assert found.isfinite().all()


def test_squared_dice_is_largest_at_a_soft_target() -> None:
    torch.manual_seed(0)
    target = torch.rand(1, 1, 6, 6)
    best = squared_dice(target, target)
    assert best.item() == pytest.approx(1)
    for _ in range(20):
        assert squared_dice((target + 0.1 * torch.randn_like(target)).clamp(0, 1), target) < best
    assert squared_dice(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)).item() == 1


def test_smoothness_counts_flat_regions_only() -> None:
    hard = torch.zeros(1, 1, 6, 6)
    hard[..., 3:] = 1
    known = torch.ones(1, 1, dtype=torch.bool)
    assert smoothness(hard, hard, known) == 0  # steps stand only where the label steps, too
    bump = hard.clone()
    bump[..., 1, 1] = (
        1  # four steps around (1, 1); its neighbours (1, 2) and (2, 1) see one each: (1, 2) borders
    )
    expected = (4 + 1) / 16  # on the label's own step, so of the two only (2, 1) counts
    assert smoothness(bump, hard, known).item() == pytest.approx(expected)
    assert smoothness(bump, hard, ~known) == 0


def test_contours_peak_on_the_outline() -> None:
    mask = torch.zeros(2, 1, 32, 32)
    mask[0, 0, 8:24, 8:24] = 1
    line = contour(mask)
    assert line.max() == 1
    assert line[0, 0, 8, 16] > 0.6
    assert line[0, 0, 16, 16] < 0.01
    assert not line[1].any()


def test_entropy_is_the_whole_binary_entropy() -> None:
    assert entropy(torch.full((1, 1, 1, 1), 0.5)).item() == pytest.approx(0.6931, abs=1e-4)
    assert entropy(torch.ones(1, 1, 1, 1)).item() == pytest.approx(0, abs=1e-4)


def test_the_search_trusts_the_rater_who_serves_the_diagnosis() -> None:
    """A classifier that calls large structures ill: trust goes to the rater who drew large, or small."""
    task = Task(1, ("disc",), ("large", "small"))
    method = DiagnosisFirst(task, backbone="tiny")

    class Area(torch.nn.Module):
        def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return 20 * (mask.mean((1, 2, 3)) - 0.2)

    method.classifier = Area()  # type: ignore[assignment]
    masks = torch.zeros(3, 2, 1, 32, 32)
    masks[:, 0, :, 4:28, 4:28] = 1
    masks[:, 1, :, 12:20, 12:20] = 1
    rated = torch.ones(3, 2, 1, dtype=torch.bool)
    trust = method.search(torch.zeros(3, 1, 32, 32), masks, rated, torch.tensor([1, 0, -1]))
    fused, _ = fuse_under(masks, rated, trust)
    assert fused[0, 0, 6, 16] > 0.8
    assert fused[1, 0, 6, 16] < 0.2
    assert fused[2, 0, 6, 16].item() == pytest.approx(0.5)  # no diagnosis: equal trust


def test_diagnosis_first_needs_both_kinds_of_cases() -> None:
    with pytest.raises(InputError, match="with and cases without"):
        DiagnosisFirst(Task(1, ("disc",), ("a", "b")), backbone="tiny").prepare([])
