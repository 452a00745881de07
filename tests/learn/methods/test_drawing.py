"""What methods that draw must not get wrong: joint likelihood, balance of the KL, whose draws they are."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from mrprism.core.errors import InputError
from mrprism.core.sample import Task
from mrprism.learn.batch import Batch
from mrprism.learn.contract import predicted, task, whole
from mrprism.learn.draws import chosen, noise
from mrprism.learn.methods import method_class
from mrprism.learn.methods.control import Control
from mrprism.learn.methods.multiple_hypotheses import one_rater
from mrprism.learn.methods.pionono import Pionono, generalised_dice_loss
from mrprism.learn.methods.ssn import Normal as Logits
from mrprism.learn.methods.ssn import deviations, joint_log_likelihood
from mrprism.learn.networks.latent import kl_of_gaussians
from mrprism.metrics import generalised_energy_distance

DRAWING = ("ssn", "prob-unet", "pionono", "mc-dropout")


def made(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return method_class(name)(task(), backbone="tiny", **options)  # type: ignore[call-arg]


def part(batch: Batch, *which: int) -> Batch:
    assert batch.image is not None
    return Batch(tuple(batch.names[i] for i in which), batch.image[list(which)])


@pytest.mark.parametrize("name", ["ssn", "prob-unet", "pionono"])
def test_a_case_has_the_same_draws_whatever_the_batch_and_their_number(name: str) -> None:
    method, batch = made(name, draws=3).eval(), whole(32, 32).only("image")
    together = predicted(method, batch)["draws"]
    alone = predicted(method, part(batch, 2))["draws"]
    torch.testing.assert_close(alone[0], together[2], rtol=0, atol=1e-5)
    elsewhere = replace(part(batch, 2), names=("photos/case2.png",))
    torch.testing.assert_close(predicted(method, elsewhere)["draws"], alone)
    method.draws = 5
    torch.testing.assert_close(predicted(method, part(batch, 2))["draws"][:, :3], alone, rtol=0, atol=1e-5)
    torch.manual_seed(99)  # nothing is drawn from the common generator
    torch.testing.assert_close(predicted(method, part(batch, 2))["draws"][:, :3], alone, rtol=0, atol=1e-5)
    other = replace(part(batch, 2), names=("another",))
    assert (predicted(method, other)["draws"][:, :3] - alone).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["ssn", "prob-unet"])
def test_the_consensus_is_the_mean_of_the_probabilities(name: str) -> None:
    found = predicted(made(name, draws=4), whole(32, 32))
    torch.testing.assert_close(found["probability"], found["draws"].mean(1))


@pytest.mark.parametrize("name", DRAWING)
def test_the_number_of_draws_can_be_asked_for(name: str) -> None:
    method = made(name)
    method.draws = 7
    assert predicted(method, whole(32, 32))["draws"].shape[1] == 7


def test_slices_of_a_volume_share_their_latent_noise_alone() -> None:
    batch = Batch(("scan, slice 3", "scan, slice 4", "scan"), torch.zeros(3, 1, 4, 4))
    latent, pixels = noise(batch, 2, (5,), "latent"), noise(batch, 2, (4, 4), "pixels")
    assert (latent[0] == latent[1]).all() and (latent[0] == latent[2]).all()
    assert (pixels[0] != pixels[1]).any()


def test_numbers_are_drawn_with_their_chances() -> None:
    batch = Batch(("a",), torch.zeros(1, 1, 4, 4))
    counts = np.bincount(chosen(batch, torch.tensor([[0.2, 0.0, 0.8]]), 4000)[0].numpy(), minlength=3)
    assert counts[1] == 0 and counts[0] == pytest.approx(800, abs=4 * math.sqrt(4000 * 0.2 * 0.8))


# --- SSN


def test_the_likelihood_is_of_the_mask_as_a_whole() -> None:
    """Two pixels, two draws: ½ (p₁p₂ + q₁q₂), and not the product of the pixels' means."""
    p, q = torch.tensor([0.9, 0.9]), torch.tensor([0.1, 0.1])
    logits = torch.stack([p, q]).logit()[None, :, None, None]  # (B 1, M 2, C 1, H 1, W 2)
    drawn, known = torch.ones(1, 1, 1, 2), torch.ones(1, 1, dtype=torch.bool)
    found = float(joint_log_likelihood(logits, drawn, known))
    assert found == pytest.approx(math.log((0.81 + 0.01) / 2), abs=1e-5)
    assert found != pytest.approx(2 * math.log(0.5), abs=0.1)  # what a mean for each pixel would say


def test_an_unrated_structure_says_nothing_of_the_likelihood() -> None:
    logits, drawn = torch.randn(1, 4, 2, 3, 3), torch.ones(1, 2, 3, 3)
    known = torch.tensor([[True, False]])
    first = joint_log_likelihood(logits, drawn, known)
    torch.testing.assert_close(first, joint_log_likelihood(logits[:, :, :1], drawn[:, :1], known[:, :1]))


def test_deviations_have_the_covariance_of_low_rank_and_diagonal() -> None:
    torch.manual_seed(0)
    factor, variance = torch.randn(1, 2, 1, 1, 3), torch.rand(1, 1, 1, 3) + 0.1
    normal = Logits(torch.zeros(1, 1, 1, 3), variance, factor)
    count = 40_000
    drawn = deviations(normal, torch.randn(1, count, 2), torch.randn(1, count, 1, 1, 3)).reshape(count, 3)
    flat = factor.reshape(2, 3)
    expected = flat.T @ flat + torch.diag(variance.reshape(3))
    torch.testing.assert_close(torch.cov(drawn.T), expected, rtol=0.05, atol=0.05)


def test_structures_of_ssn_vary_together() -> None:
    """One ε₁ for the whole image: with a factor and no diagonal, the structures' deviations are in step."""
    normal = Logits(torch.zeros(1, 2, 4, 4), torch.full((1, 2, 4, 4), 1e-8), torch.ones(1, 1, 2, 4, 4))
    away = deviations(normal, torch.randn(1, 50, 1), torch.randn(1, 50, 2, 4, 4))
    torch.testing.assert_close(away[:, :, 0], away[:, :, 1], rtol=0, atol=1e-3)


def test_ssn_begins_with_the_mean_alone() -> None:
    method, batch = made("ssn"), whole(32, 32)
    method.begin_epoch(0, 10)
    assert method.warm
    next(method.losses(batch))["likelihood"].backward()
    assert method.factor_head.weight.grad is None
    method.begin_epoch(1, 10)
    next(method.losses(batch))["likelihood"].backward()
    assert method.factor_head.weight.grad.abs().sum() > 0


def test_ssn_bounds_what_its_heads_say() -> None:
    method = made("ssn")
    for layer in (method.variance_head.deconvolution, method.factor_head):
        torch.nn.init.constant_(layer.bias, 1e4)
    normal = method.eval().distribution(whole(32, 32).image)
    assert normal.variance.max() <= math.exp(6) + 1 and normal.factor.abs().max() <= 10


def styles(count: int = 6) -> list[tuple[Tensor, Tensor]]:
    """Images of a bright bar, with masks of one rater who draws it narrow and one who draws it wide."""
    made = []
    for number in range(count):
        image = torch.zeros(1, 32, 32)
        image[:, :, 8 + number : 20 + number] = 1
        masks = torch.zeros(2, 1, 32, 32)
        masks[0, :, :, 11 + number : 17 + number] = 1
        masks[1, :, :, 5 + number : 23 + number] = 1
        made.append((image, masks))
    return made


def two_styles() -> Batch:
    pairs = styles()
    return Batch(
        tuple(f"bar{i}" for i in range(len(pairs))),
        torch.stack([image for image, _ in pairs]),
        torch.stack([masks for _, masks in pairs]),
        torch.ones(len(pairs), 2, 1, dtype=torch.bool),
    )


def fitted(name: str, steps: int, **options: Any) -> tuple[Any, Batch]:
    torch.manual_seed(0)
    method = method_class(name)(Task(1, ("bar",), ("narrow", "wide")), backbone="tiny", **options)  # type: ignore[call-arg]
    batch = two_styles()
    optimiser = torch.optim.Adam(method.parameter_groups(3e-3))
    for epoch in range(2):
        method.begin_epoch(epoch, 2)
        for _ in range(steps // 2):
            method.train()
            for terms in method.losses(batch):
                optimiser.zero_grad()
                torch.stack(list(terms.values())).sum().backward()
                optimiser.step()
    return method, batch


def distance(method: Any, batch: Batch) -> float:
    draws = predicted(method, batch)["draws"][:, :, 0] > 0.5
    assert batch.masks is not None
    pairs = zip(draws.numpy(), batch.masks[:, :, 0].numpy() > 0.5, strict=True)
    return float(np.mean([generalised_energy_distance(d, m, sampled=True) for d, m in pairs]))


def test_drawing_as_raters_do_beats_one_consensus_and_pixels_by_themselves() -> None:
    """Two styles, narrow and wide. One consensus is at least ½ of their distance away, rank 0 no nearer."""
    method, batch = fitted("ssn", 150, draws=32)
    without, _ = fitted("ssn", 150, draws=32, rank=0)
    narrow, wide = (m[:, 0].numpy() > 0.5 for m in batch.masks[0])  # type: ignore[index]
    consensus = generalised_energy_distance(narrow[None], np.stack([narrow, wide]))
    found = distance(method, batch)
    assert found < 0.6 * consensus, (found, consensus)
    assert found < 0.6 * distance(without, batch), (found, distance(without, batch))


# --- Probabilistic U-Net


def test_kl_of_gaussians_as_torch_has_it() -> None:
    torch.manual_seed(0)
    a, b, c, d = torch.randn(4, 3, 5)
    expected = kl_divergence(Normal(a, b.exp()), Normal(c, d.exp())).sum(-1)
    torch.testing.assert_close(kl_of_gaussians(a, b, c, d), expected)


@torch.no_grad()
def test_kl_and_reconstruction_keep_their_balance_at_every_size() -> None:
    """Both are sums: β·KL beside the cross-entropy of all pixels, divided by one and the same number."""
    method = made("prob-unet", beta=10.0, width=8).eval()
    for side in (32, 48):
        batch = whole(side, side)
        torch.manual_seed(1)
        terms = {name: term.detach() for name, term in next(method.losses(batch)).items()}
        assert batch.image is not None and batch.masks is not None and batch.rated is not None
        torch.manual_seed(1)
        drawn, known = one_rater(batch.masks, batch.rated)
        mean, log_deviation = method.posterior_of(batch.image, drawn, known)
        z = mean + log_deviation.exp() * torch.randn_like(mean)
        logits = method.unet(batch.image, z)
        p = logits.sigmoid()
        surprise = -(drawn * p.log() + (1 - drawn) * (1 - p).log()).sum((1, 2, 3)).mean()
        prior = method.prior(batch.image)
        kl = kl_divergence(Normal(mean, log_deviation.exp()), Normal(prior[0], prior[1].exp())).sum(1).mean()
        pixels = 2 * side * side
        assert float(terms["reconstruction"] * pixels) == pytest.approx(float(surprise), rel=1e-3)
        assert float(terms["kl"] * pixels) == pytest.approx(10 * float(kl), rel=1e-3)


def test_the_posterior_keeps_something_to_say_and_knows_its_rater() -> None:
    method, batch = fitted("prob-unet", 200, width=8, beta=1.0, draws=16)
    method.eval()
    assert batch.image is not None and batch.masks is not None
    known = torch.ones(len(batch.image), 1, dtype=torch.bool)
    closer, information = [], []
    with torch.no_grad():
        prior = method.prior(batch.image)
        for rater in range(2):
            drawn = batch.masks[:, rater]
            own = method.posterior_of(batch.image, drawn, known)
            information.append(kl_of_gaussians(*own, *prior))
            gap = [
                (method.drawn(batch, *gaussian) - drawn[:, None]).abs().mean() for gaussian in (own, prior)
            ]
            closer.append(gap[0] < gap[1])
    assert torch.stack(information).mean() > 0.1  # nats
    assert all(closer)


def test_prediction_of_prob_unet_asks_the_prior() -> None:
    method, batch = made("prob-unet", draws=2, width=8).eval(), whole(32, 32)
    before = predicted(method, batch)["draws"]
    torch.nn.init.constant_(method.posterior.out.bias, 3.0)
    torch.testing.assert_close(predicted(method, batch)["draws"], before)
    torch.nn.init.constant_(method.prior.out.bias, 3.0)
    assert (predicted(method, batch)["draws"] != before).any()


# --- Pionono


def test_divergences_as_torch_has_them() -> None:
    method = Pionono(task(), latent=4, backbone="tiny")
    torch.nn.init.normal_(method.lower)
    torch.nn.init.normal_(method.log_diagonals)
    prior = MultivariateNormal(torch.zeros(4), 4 * torch.eye(4))
    for r, found in enumerate(method.divergences()):
        own = MultivariateNormal(method.means[r], scale_tril=method.factors()[r])
        torch.testing.assert_close(found, kl_divergence(own, prior))


def test_distances_between_raters_by_hand() -> None:
    """Of N(m, s²) and N(m', s'²): √((m − m')² + (s − s')²) in each dimension."""
    method = Pionono(Task(1, ("bar",), ("ann", "bob")), latent=2, backbone="tiny")
    with torch.no_grad():
        method.means.copy_(torch.tensor([[0.0, 0.0], [3.0, 0.0]]))
        method.log_diagonals.copy_(torch.tensor([[1.0, 1.0], [5.0, 1.0]]).log())
    torch.testing.assert_close(method.rater_distances(), torch.tensor([[0.0, 5.0], [5.0, 0.0]]))


def test_generalised_dice_by_hand() -> None:
    logits = torch.tensor([30.0, 30.0, -30.0, -30.0]).reshape(1, 1, 2, 2)
    drawn = torch.tensor([1.0, 0.0, 0.0, 0.0]).reshape(1, 1, 2, 2)
    known = torch.ones(1, 1, dtype=torch.bool)
    # structure: w 1, both 1, sizes 3; background: w 1/9, both 2, sizes 5
    expected = 1 - 2 * (1 + 2 / 9) / (3 + 5 / 9)
    assert float(generalised_dice_loss(logits, drawn, known)) == pytest.approx(expected)
    assert generalised_dice_loss(logits, drawn, ~known) == 0
    empty = generalised_dice_loss(torch.full((1, 1, 4, 4), -30.0), torch.zeros(1, 1, 4, 4), known)
    assert float(empty) == pytest.approx(0, abs=1e-5)


def test_pionono_draws_each_rater_as_that_rater() -> None:
    method, batch = fitted("pionono", 200, draws=16)
    found = predicted(method, batch)
    assert batch.masks is not None
    for rater in range(2):
        own, other = batch.masks[:, rater], batch.masks[:, 1 - rater]
        imitated = (found["raters"][:, rater] > 0.5).float()
        assert (imitated - own).abs().sum() < 0.5 * (imitated - other).abs().sum()
    torch.testing.assert_close(found["probability"], found["raters"].mean(1))


def test_raters_of_pionono_start_apart() -> None:
    method = made("pionono")
    assert method.means.std() > 4
    rates = {group["lr"] for group in method.parameter_groups(1e-4)}
    assert rates == {1e-4, 0.02}


# --- controls


def test_raters_as_draws_leave_out_who_did_not_rate() -> None:
    found = predicted(Control(task()), whole(32, 32))
    assert found["draws"].shape[1] == 3


def test_one_consensus_repeated_has_no_spread() -> None:
    found = predicted(Control(task(), of="consensus", draws=5), whole(32, 32))["draws"]
    assert found.shape[1] == 5 and (found == found[:, :1]).all()


def test_noise_marks_pixels_as_often_as_raters_do() -> None:
    batch = whole(32, 32)
    found = predicted(Control(task(), of="noise", draws=400), batch)
    assert ((found["draws"] == 0) | (found["draws"] == 1)).all()
    apart = (found["draws"].mean(1) - found["probability"]).abs()
    assert apart.max() < 5 * 0.5 / math.sqrt(400)


def test_numbers_that_cannot_be_are_refused() -> None:
    for name, options in (
        ("ssn", {"samples": 3}),
        ("ssn", {"draws": 0}),
        ("prob-unet", {"latent": 0}),
        ("pionono", {"latent_rate": 0.0}),
        ("control", {"draws": 0}),
    ):
        with pytest.raises(InputError, match=r"must be|at least"):
            made(name, **options)
