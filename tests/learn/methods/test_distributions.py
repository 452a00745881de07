"""Traps of the generative methods: balance of the KL, transport of raters, diffusion's expectation, who rests when."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linprog
from torch import Tensor

from mrprism.core.errors import InputError
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch
from mrprism.learn.contract import predicted, task, whole
from mrprism.learn.methods import method_class
from mrprism.learn.methods.build import build_method
from mrprism.learn.methods.ccdm import binary_kl, expected_way_back, kept_schedule, way_back
from mrprism.learn.methods.d_persona import looked_up, span
from mrprism.learn.methods.hierarchical import KAPPA, hardest
from mrprism.learn.methods.mose import costs, coupling
from mrprism.learn.methods.phiseg import kl_of_levels
from mrprism.learn.methods.ssn_flow import soft_dice
from mrprism.learn.networks.ladder import Gaussian
from mrprism.learn.networks.latent import kl_of_gaussians


def made(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return method_class(name)(task(), backbone="tiny", **options)  # type: ignore[call-arg]


# --- PHiSeg and the hierarchical form


def gaussians(*sizes: int) -> list[Gaussian]:
    return [Gaussian(torch.randn(2, 1, n, n), 0.3 * torch.randn(2, 1, n, n)) for n in sizes]


def test_the_kl_of_a_coarse_level_weighs_four_times_that_of_the_next() -> None:
    torch.manual_seed(0)
    q, p = gaussians(1, 2, 4), gaussians(1, 2, 4)
    each = [kl_of_gaussians(*(part.flatten(1) for part in (*a, *b))) for a, b in zip(q, p, strict=True)]
    torch.testing.assert_close(kl_of_levels(q, p), 16 * each[0] + 4 * each[1] + each[2])


@pytest.mark.parametrize(
    ("name", "options"), [("phiseg", {"width": 8}), ("prob-unet", {"hierarchical": True})]
)
def test_the_prior_is_asked_on_the_posterior_s_values(name: str, options: dict[str, Any]) -> None:
    """On values of its own it would be compared with a posterior of another case, and no KL would be one."""
    method = made(name, **options)
    ladders = method if name == "phiseg" else method.hierarchy
    given: list[Tensor] = []
    climb = ladders.prior.climb

    def listened(seen: Any, choose: Any) -> Any:
        return climb(seen, lambda i, p: given.append(choose(i, p)) or given[-1])  # type: ignore[func-returns-value]

    chosen: list[Tensor] = []
    above = ladders.posterior.climb

    def kept(seen: Any, choose: Any) -> Any:
        found = above(seen, choose)
        chosen.extend(found[2])
        return found

    ladders.prior.climb, ladders.posterior.climb = listened, kept
    next(iter(method.losses(whole(32, 32))))
    assert len(given) == len(chosen) > 2
    assert all(a is b for a, b in zip(given, chosen, strict=True))


def test_each_level_of_phiseg_adds_to_the_coarser_ones_and_is_held_against_the_mask() -> None:
    method = made("phiseg", width=8)
    levels = method.likelihood([torch.randn(2, 2, n, n) for n in (1, 2, 4, 8, 16)], (32, 32))
    assert [tuple(one.shape) for one in levels] == [(2, 2, 32, 32)] * 5
    with torch.no_grad():
        for head in method.likelihood.corrections[1:]:
            for parameter in head.parameters():
                parameter.zero_()
    same = method.likelihood([torch.randn(2, 2, n, n) for n in (1, 2, 4, 8, 16)], (32, 32))
    torch.testing.assert_close(same[-1], same[0])  # nothing added: the coarsest answer stays


def test_reconstruction_and_kl_of_phiseg_are_sums_over_the_same_number_of_pixels() -> None:
    """A mean over pixels beside a KL in nats would let the posterior collapse."""
    method, batch = made("phiseg", width=8, beta=1.0), whole(32, 32)
    torch.manual_seed(1)
    terms = next(iter(method.losses(batch)))
    # five levels at about log 2 a pixel, however many pixels; the KL of these weights over all of them is small
    assert 5 * 0.3 < terms["reconstruction"].item() < 5 * 2
    big = next(iter(method.losses(whole(64, 64))))
    assert big["kl"].item() == pytest.approx(
        terms["kl"].item(), rel=1.0
    )  # per pixel, maps grow with the image


def test_the_hardest_pixels_are_drawn_in_proportion_to_their_loss() -> None:
    torch.manual_seed(0)
    losses = torch.tensor([1.0, 1.0, 8.0, 0.0]).reshape(1, 1, 2, 2).expand(4000, 1, 2, 2)
    known = torch.ones(4000, 1, 2, 2, dtype=torch.bool)
    found = hardest(losses, known, 0.25).flatten(1).float().mean(0)
    torch.testing.assert_close(found, torch.tensor([0.1, 0.1, 0.8, 0.0]), rtol=0, atol=0.03)
    unrated = known & (losses < 5)
    assert not hardest(losses, unrated, 0.25).flatten(1)[:, 2].any()


def test_the_multiplier_grows_where_the_bound_is_broken_and_falls_where_it_is_kept() -> None:
    hierarchy = made("prob-unet", hierarchical=True).hierarchy
    values = []
    for cross in (10 * KAPPA,) * 5 + (0.0,) * 900:
        hierarchy._move(cross)
        values.append(float(hierarchy.multiplier))
    assert values[4] == pytest.approx(np.exp(0.05), rel=1e-4)
    assert values[-1] < values[-400] and min(values) > 0


# --- MoSE


def transport(cost: np.ndarray, bound: float) -> float:
    """The cheapest way to move raters' masses to draws, by linear programming."""
    draws, raters = cost.shape
    rows = np.kron(np.eye(draws), np.ones(raters))
    columns = np.kron(np.ones(draws), np.eye(raters))
    found = linprog(
        cost.ravel(), rows, np.full(draws, bound), columns, np.full(raters, 1 / raters), method="highs"
    )
    return float(found.fun)


@pytest.mark.parametrize("seed", range(5))
def test_the_coupling_moves_all_mass_within_the_bound(seed: int) -> None:
    cost = torch.rand(1, 6, 4, generator=torch.Generator().manual_seed(seed))
    there = torch.ones(1, 4, dtype=torch.bool)
    best = {bound: transport(cost[0].numpy(), bound) for bound in (0.5, 1.0)}
    for bound in (0.5, 1.0):
        taken = coupling(cost, there, bound)[0]
        torch.testing.assert_close(taken.sum(0), torch.full((4,), 0.25))
        assert float(taken.sum(1).max()) <= bound + 1e-6
        paid = float((taken * cost[0]).sum())
        assert paid >= best[bound] - 1e-6
        if bound == 1.0:
            assert paid == pytest.approx(
                best[bound], abs=1e-6
            )  # each rater to the nearest draw: the exact transport


def test_an_absent_rater_has_no_mass_and_is_never_read() -> None:
    masks = torch.zeros(1, 3, 2, 4, 4)
    rated = torch.tensor([[[True, True], [True, False], [False, False]]])
    draws = torch.rand(1, 5, 2, 4, 4)
    cost, there = costs(draws, masks, rated)
    scribbled = torch.where(rated[..., None, None], masks, 1.0)
    torch.testing.assert_close(costs(draws, scribbled, rated)[0], cost)
    assert there.tolist() == [[True, True, False]]
    taken = coupling(cost, there, 1.0)
    assert taken[0, :, 2].sum() == 0 and taken.sum() == pytest.approx(1)


def test_the_cost_is_one_minus_soft_iou_with_ones_added() -> None:
    draw = torch.tensor([0.5, 1.0, 0.0, 0.0]).reshape(1, 1, 1, 2, 2)
    mask = torch.tensor([1.0, 1.0, 1.0, 0.0]).reshape(1, 1, 1, 2, 2)
    cost, _ = costs(draw, mask, torch.ones(1, 1, 1, dtype=torch.bool))
    assert float(cost) == pytest.approx(1 - (1.5 + 1) / (1.5 + 3 - 1.5 + 1))


def test_compact_draws_carry_the_chance_of_their_expert() -> None:
    method = made("mose", sampling="compact", draws=8)
    with torch.no_grad():
        method.gate[-1].bias.copy_(torch.tensor([3.0, 0.0, 0.0, -3.0]))
        found = method.eval().predict(whole(32, 32).only("image"))
    assert found.draws.shape[1] == 8 and found.draw_weights.shape == (4, 8, 2)
    torch.testing.assert_close(found.draw_weights.sum(1), torch.ones(4, 2))
    assert float(found.draw_weights[:, 0].min()) > 5 * float(found.draw_weights[:, 3].max())
    weighted = (found.draw_weights[..., None, None] * found.draws).sum(1)
    torch.testing.assert_close(found.probability, weighted, rtol=0, atol=1e-6)
    assert (found.probability - found.draws.mean(1)).abs().max() > 1e-5


# --- CCDM


def test_the_way_back_is_that_of_the_chain_counted_out() -> None:
    """All ways through three steps of a pixel with two values."""
    beta = [0.3, 0.5, 0.4]

    def step(a: int, b: int, share: float) -> float:
        return (1 - share) * (a == b) + share / 2

    chance = {
        path: 0.5 * np.prod([step(a, b, s) for (a, b), s in zip(itertools.pairwise(path), beta, strict=True)])
        for path in itertools.product((0, 1), repeat=4)
    }
    kept = np.cumprod([1, *(1 - np.array(beta))])
    for x0, xt, s in itertools.product((0, 1), (0, 1), (1, 2)):
        of = {path: p for path, p in chance.items() if path[0] == x0 and path[3] == xt}
        expected = sum(p for path, p in of.items() if path[s] == 1) / sum(of.values())
        one = torch.ones(1, 1, 1, 1)
        found = way_back(xt * one, x0 * one, torch.tensor([kept[3]]), torch.tensor([kept[s]]))
        assert float(found) == pytest.approx(expected, abs=1e-6)


def test_the_expectation_is_over_masks_and_not_the_formula_of_a_probability() -> None:
    noisy, p = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 0.3)
    now, before = torch.tensor([0.2]), torch.tensor([0.6])
    expected = expected_way_back(noisy, p, now, before)
    by_hand = 0.3 * way_back(noisy, noisy, now, before) + 0.7 * way_back(noisy, 0 * noisy, now, before)
    torch.testing.assert_close(expected, by_hand)
    assert abs(float(expected - way_back(noisy, p, now, before))) > 0.01  # what the wrong way would give


def test_the_schedule_goes_from_all_to_nothing() -> None:
    kept = kept_schedule(250)
    assert len(kept) == 251 and kept[0] == 1 and 0 <= kept[-1] < 1e-3
    assert (kept.diff() < 0).all()
    assert float(kept[125]) == pytest.approx(np.cos((0.5 + 0.008) / 1.008 * np.pi / 2) ** 2, abs=1e-3)


def test_the_loss_is_least_at_the_truth() -> None:
    noisy, clean = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[1.0, 1.0]]]])
    now, before = torch.tensor([0.3]), torch.tensor([0.4])
    exact = way_back(noisy, clean, now, before)
    at = {p: float(binary_kl(exact, expected_way_back(noisy, torch.full_like(noisy, p), now, before)).sum())
          for p in (0.2, 0.6, 1.0)}  # fmt: skip
    assert at[1.0] < 1e-9 < at[0.6] < at[0.2]


def test_diffused_draws_are_masks_and_volumes_are_refused() -> None:
    found = predicted(made("ccdm", draws=2, steps=2), whole(32, 32))
    assert set(found["draws"].unique().tolist()) <= {0.0, 1.0}
    with pytest.raises(InputError, match="ccdm"):
        build_method("ccdm", replace(task(), dims=3), "tiny", {})
    with pytest.raises(InputError, match="leave encoder_weights out"):
        build_method("ccdm", task(), "small", {"encoder_weights": "weights.safetensors"})


def test_the_average_of_weights_predicts_and_follows() -> None:
    method = made("ccdm", draws=2, steps=2)
    before = method.average.head.deconvolution.weight.clone()
    with torch.no_grad():
        method.unet.head.deconvolution.weight.add_(1)
    next(iter(method.losses(whole(32, 32))))
    moved = (method.average.head.deconvolution.weight - before).mean()
    assert float(moved) == pytest.approx(0.9, abs=0.01)  # at first the share of the old is 1/10
    assert not any(p.requires_grad for p in method.average.parameters())


# --- SSN with a flow


def test_the_dice_of_the_flow_has_a_gradient() -> None:
    """In the released script it is taken after a threshold and has none."""
    outline = torch.full((1, 1, 4, 4), 0.4, requires_grad=True)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    (1 - soft_dice(outline, mask)).sum().backward()
    assert outline.grad is not None and (outline.grad != 0).all()
    assert float(soft_dice(mask, mask)) == 1


def test_a_true_direction_carries_a_draw_to_the_mask() -> None:
    method = made("ssn-flow", steps=4)
    start, end = torch.rand(1, 2, 8, 8), (torch.rand(1, 2, 8, 8) > 0.5).float()
    method.direction = lambda image, state, time: end - start
    torch.testing.assert_close(method._carried(torch.zeros(1, 1, 8, 8), start), end)


def test_the_ssn_rests_while_the_flow_learns() -> None:
    method, batch = made("ssn-flow", samples=4), whole(32, 32)
    method.begin_epoch(0, 4)
    (first,) = list(method.losses(batch))
    assert first.keys() == {"likelihood"}
    method.begin_epoch(2, 4)
    state = {name: value.clone() for name, value in method.ssn.state_dict().items()}
    (second,) = list(method.losses(batch))
    sum(second.values()).backward()
    assert second.keys() == {"flow", "dice"}
    assert all(p.grad is None for p in method.ssn.parameters())
    assert any(p.grad is not None and p.grad.any() for p in method.flow.parameters())
    for name, value in method.ssn.state_dict().items():
        if name != "warm":
            torch.testing.assert_close(value, state[name], msg=name)  # running means rest as well


# --- D-Persona


def test_union_and_intersection_are_of_those_present() -> None:
    masks = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]).reshape(1, 3, 1, 1, 2)
    rated = torch.tensor([True, True, False]).reshape(1, 3, 1)
    union, intersection = span(masks, rated)
    assert union.flatten().tolist() == [1, 1] and intersection.flatten().tolist() == [1, 0]


def test_the_posterior_sees_all_masks_and_the_prior_none() -> None:
    method, batch = made("d-persona", width=8), whole(32, 32)
    assert batch.image is not None and batch.masks is not None and batch.rated is not None
    mean, _ = method.posterior_of(batch.image, batch.masks, batch.rated)
    for r in range(3):
        other = batch.masks.clone()
        other[0, r] = 1 - other[0, r]
        assert (method.posterior_of(batch.image, other, batch.rated)[0][0] - mean[0]).abs().max() > 0
    scribbled = torch.where(batch.rated[..., None, None], batch.masks, 1.0)
    torch.testing.assert_close(method.posterior_of(batch.image, scribbled, batch.rated)[0], mean)


def test_the_reconstruction_is_drawn_from_the_posterior() -> None:
    """Drawn from the prior, masks given to the posterior could not change it."""
    method, batch = made("d-persona", width=8, kl=0.0, bound=0.0, l2=0.0), whole(32, 32)
    torch.manual_seed(0)
    terms = next(iter(method.losses(batch)))
    terms["dice"].backward()
    assert any(p.grad is not None and p.grad.any() for p in method.posterior.parameters())
    assert not any(p.grad is not None and p.grad.any() for p in method.prior.parameters())


def test_in_the_second_stage_all_but_the_queries_rest() -> None:
    method, batch = made("d-persona", width=8, bank=4), whole(32, 32)
    method.begin_epoch(1, 2)
    state = {name: value.clone() for name, value in method.state_dict().items()}
    (terms,) = list(method.losses(batch))
    terms["persons"].backward()
    moved = {
        name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert moved == {"queries"}
    for name, value in method.state_dict().items():
        torch.testing.assert_close(value, state[name], msg=name)


def test_a_query_looks_up_what_it_resembles() -> None:
    bank = torch.tensor([[[5.0, 0.0], [0.0, 5.0]]])
    torch.testing.assert_close(looked_up(torch.tensor([[5.0, 0.0]]), bank), bank[:, 0], rtol=0, atol=1e-4)
    torch.testing.assert_close(looked_up(torch.zeros(1, 2), bank), bank.mean(1))


def test_anonymous_raters_are_no_persons() -> None:
    anonymous = Task(1, ("disc",), ("1", "2", "3"), anonymous=True)
    torch.manual_seed(0)
    method = method_class("d-persona")(anonymous, backbone="tiny", width=8, draws=2, bank=3)  # type: ignore[call-arg]
    method.begin_epoch(1, 2)
    with torch.inference_mode():
        found = method.eval().predict(Batch(("a",), torch.rand(1, 1, 32, 32)))
    assert found.raters is None and found.draws.shape[1] == 2


# --- all


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("phiseg", {"width": 8}),
        ("prob-unet", {"hierarchical": True}),
        ("mose", {}),
        ("ccdm", {"steps": 2}),
        ("d-persona", {"width": 8, "bank": 4}),
    ],
)
def test_a_case_has_the_same_draws_whatever_the_batch_and_their_number(
    name: str, options: dict[str, Any]
) -> None:
    method, batch = made(name, draws=2, **options).eval(), whole(32, 32).only("image")
    assert batch.image is not None
    together = predicted(method, batch)["draws"]
    method.draws = 3
    torch.manual_seed(99)  # nothing is drawn from the common generator
    alone = predicted(method, Batch(("photos/case2.png",), batch.image[2:3]))["draws"]
    if name == "ccdm":  # cut at each step: what is a hair from the cut may fall to either side
        assert (alone[0, :2] - together[2]).abs().mean() < 0.02
        return
    torch.testing.assert_close(alone[0, :2], together[2], rtol=0, atol=1e-5)
    assert (alone[0, 0] - alone[0, 2]).abs().max() > 0


def test_cross_entropy_of_no_noise_is_the_first_step() -> None:
    """At t = 1 the way back is the mask itself, so that the loss is the cross-entropy there."""
    kept = kept_schedule(10)
    noisy, clean = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]])
    torch.testing.assert_close(way_back(noisy, clean, kept[1:2], kept[:1]), clean)
    p = torch.tensor([[[[0.7, 0.2]]]])
    torch.testing.assert_close(
        binary_kl(clean, p), F.binary_cross_entropy(p, clean, reduction="none"), rtol=1e-3, atol=1e-3
    )
