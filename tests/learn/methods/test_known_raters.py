"""Methods that learn confusions, on raters whose confusions are known and an image that shows the truth."""

from dataclasses import replace

import pytest
import torch

from mrprism.core.sample import MultiRaterSample, Task
from mrprism.learn.batch import Batch
from mrprism.learn.methods.aggnet import AggNet
from mrprism.learn.methods.confusion_matrix import ConfusionMatrix
from mrprism.learn.methods.crowd_layer import CrowdLayer
from mrprism.learn.methods.exclusive import Classes, confusion_counts, rows_to_one, vote_share
from mrprism.learn.methods.max_mig import MaxMIG, MaxMIGForecaster, mutual_information_loss
from mrprism.learn.methods.method import Method

TASK = Task(1, ("disc", "cup"), ("ann", "bob", "cy", "dan"))
# P(drawn | true) over background, rim, cup
TRUE = torch.tensor(
    [
        [[0.95, 0.05, 0.00], [0.05, 0.90, 0.05], [0.00, 0.10, 0.90]],
        [[0.90, 0.05, 0.05], [0.30, 0.60, 0.10], [0.05, 0.25, 0.70]],
        [[0.80, 0.15, 0.05], [0.05, 0.80, 0.15], [0.10, 0.10, 0.80]],
        [[0.85, 0.10, 0.05], [0.10, 0.55, 0.35], [0.10, 0.05, 0.85]],
    ]
)
OPEN = [0, 1, 3]  # the classes {neither, rim, cup} among the combinations


def crowd(count: int = 6, size: int = 32) -> tuple[list[MultiRaterSample], Batch]:
    """Images that are brighter from class to class, and raters who err by `TRUE` at each pixel."""
    torch.manual_seed(0)
    samples, truths = [], torch.zeros(count, size, size, dtype=torch.long)
    for number in range(count):
        top, left = torch.randint(2, 8, (2,)).tolist()
        truths[number, top : top + 20, left : left + 20] = 1
        truths[number, top + 4 : top + 16, left + 4 : left + 16] = 2
    drawn = torch.stack(
        [torch.multinomial(TRUE[r][truths.flatten()], 1).view_as(truths) for r in range(len(TRUE))], 1
    )
    masks = torch.stack([drawn >= 1, drawn == 2], 2)
    image = (0.1 + 0.4 * truths[:, None]).float()
    rated = torch.ones(count, len(TRUE), 2, dtype=torch.bool)
    for number in range(count):
        fields = (image[number].numpy(), masks[number].numpy(), rated[number].numpy())
        samples.append(MultiRaterSample(f"case{number}", *fields))
    batch = Batch(tuple(s.name for s in samples), image, masks.float(), rated, index=torch.arange(count))
    return samples, batch


class Painter(torch.nn.Module):
    """A network that sees nothing but each pixel: enough here, and learned in a second."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        hidden = torch.nn.Conv2d(1, 64, 1)
        self.layers = torch.nn.Sequential(hidden, torch.nn.Tanh(), torch.nn.Conv2d(64, outputs, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(image)
        return logits


class PainterNet(Painter):
    """The same in the two halves that a confusion matrix asks a U-Net for."""

    def features(self, image: torch.Tensor) -> torch.Tensor:
        return image

    def head(self, features: torch.Tensor, size: torch.Size) -> torch.Tensor:
        logits: torch.Tensor = self.layers(features)
        return logits


def learn(method: Method, batch: Batch, epochs: int, steps: int, rate: float) -> None:
    groups = [g | {"params": list(g["params"])} for g in method.parameter_groups(rate)]  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(groups)
    for epoch in range(epochs):
        method.begin_epoch(epoch, epochs)
        for _ in range(steps):
            for terms in method.losses(batch):
                optimiser.zero_grad(set_to_none=True)
                torch.stack(list(terms.values())).sum().backward()
                optimiser.step()
    method.begin_epoch(epochs, epochs)


def with_painter(method: Method) -> Method:
    method.unet = PainterNet(4)  # type: ignore[assignment]
    return method


def apart(found: torch.Tensor) -> float:
    """Largest difference from the true confusions."""
    return float((found[:, 0][:, OPEN][:, :, OPEN] - TRUE).abs().max())


@pytest.mark.slow
def test_crowd_layer_recovers_the_raters() -> None:
    """With its default options."""
    samples, batch = crowd()
    torch.manual_seed(0)
    method = with_painter(CrowdLayer(TASK, backbone="tiny"))
    method.prepare(samples)
    learn(method, batch, 10, 50, 1e-3)
    assert isinstance(method, CrowdLayer)
    assert batch.image is not None
    with torch.no_grad():
        confusion = method.confusion(method.classes.log_probability(method.unet(batch.image)).exp())
    assert apart(confusion.mean(0)) < 0.05


@pytest.mark.slow
def test_confusion_matrix_recovers_the_raters() -> None:
    """With its default options; what the likelihood alone leaves open, up to 0.1, the trace settles slowly."""
    samples, batch = crowd()
    torch.manual_seed(0)
    method = with_painter(ConfusionMatrix(TASK, backbone="tiny"))
    method.prepare(samples)
    learn(method, batch, 10, 120, 1e-2)
    assert isinstance(method, ConfusionMatrix)
    assert batch.image is not None
    assert apart(method(batch.image)[1][0, ..., 0, 0].detach()) < 0.05


def test_aggnet_recovers_the_raters() -> None:
    samples, batch = crowd()
    method = with_painter(AggNet(TASK, backbone="tiny"))
    method.prepare(samples)
    learn(method, batch, 5, 30, 1e-2)
    assert isinstance(method, AggNet)
    assert apart(method.confusion) < 0.05


def test_aggnet_m_step_is_the_closed_form() -> None:
    """π[k, l] = Σ μ_k [z = l] / Σ μ_k with μ the posterior, recomputed here with plain sums."""
    samples, batch = crowd(2)
    method = with_painter(AggNet(TASK, backbone="tiny", warmup_epochs=0))
    method.prepare(samples)
    assert isinstance(method, AggNet)
    assert batch.image is not None and batch.masks is not None and batch.rated is not None
    labels, known = method.classes.labels(batch.masks, batch.rated)
    with torch.no_grad():
        p = method.classes.log_probability(method.unet(batch.image)).exp()[:, 0]
    votes = torch.ones_like(p)
    for r in range(4):
        table = method.confusion[r, 0] + 1e-4
        votes = votes * table[:, labels[:, r, 0]].movedim(0, 1)
    posterior = (p + 1e-3) * votes
    posterior[:, 2] = 0  # the combination that does not occur
    posterior = posterior / posterior.sum(1, keepdim=True)
    method.begin_epoch(0, 2)
    assert not method.warming
    list(method.losses(batch))
    method.begin_epoch(1, 2)
    for r in range(4):
        for k in OPEN:
            total = posterior[:, k].sum() + 3 * 1e-2
            for drawn in OPEN:
                share = (posterior[:, k] * (labels[:, r, 0] == drawn)).sum() + 1e-2
                assert method.confusion[r, 0, k, drawn].item() == pytest.approx(
                    (share / total).item(), abs=1e-5
                )
    assert not method.counts.any()
    assert known.all()


def test_first_confusions_come_from_the_vote_shares() -> None:
    samples, batch = crowd(2)
    method = AggNet(TASK, backbone="tiny")
    method.prepare(samples)
    assert batch.masks is not None and batch.rated is not None
    labels, known = method.classes.labels(batch.masks, batch.rated)
    counts = confusion_counts(vote_share(labels, known, 4), labels, known)
    torch.testing.assert_close(method.confusion, rows_to_one(counts, method.classes.occurs, 1e-2))


def test_max_mig_fast_loss_is_the_pairwise_loss() -> None:
    torch.manual_seed(0)
    h, a = torch.rand(40, 3).double().softmax(1), torch.rand(40, 3).double().softmax(1)
    prior = torch.tensor([0.6, 0.3, 0.1]).double()
    pairs = torch.einsum("ik,jk,k->ij", h, a, 1 / prior)
    other = pairs.sum() - pairs.diagonal().sum()
    pairwise = -((1 + pairs.diagonal().log()).mean() - other / (40 * 39))
    torch.testing.assert_close(mutual_information_loss(h, a, prior), pairwise)


def test_max_mig_learns_the_truth_and_its_forecaster_uses_both_views() -> None:
    samples, batch = crowd()
    method = with_painter(MaxMIGForecaster(TASK, backbone="tiny"))
    method.prepare(samples)
    learn(method, batch, 1, 150, 1e-2)
    assert isinstance(method, MaxMIGForecaster) and batch.image is not None
    truth = torch.cat([batch.image > 0.3, batch.image > 0.7], 1)
    with torch.no_grad():
        alone = MaxMIG.predict(method, batch.only("image")).probability
        both = method.predict(batch.only("both")).probability
        assert batch.masks is not None
        blind = method.predict(replace(batch, image=torch.zeros_like(batch.image))).probability
    assert ((alone > 0.5) == truth).float().mean() > 0.98
    assert ((both > 0.5) == truth).float().mean() > 0.98
    assert (blind - both).abs().max() > 0.1


def test_crowd_layer_at_the_identity_passes_the_probabilities_on() -> None:
    """And so even a certain network can say no more than e / (e + K − 1): why the layer learns faster."""
    method = CrowdLayer(Task(1, ("disc",), ("ann", "bob")), backbone="tiny")
    certain = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1, 1)
    raters = method.raters(certain).exp()
    assert raters[0, 0, 0, 1, 0, 0].item() == pytest.approx(0.7311, abs=1e-4)
    rates = [group["lr"] for group in method.parameter_groups(1e-4)]
    assert rates[1] == pytest.approx(100 * 1e-4)
    assert rates[0] == 1e-4


def test_crowd_layer_weighs_sparse_labels_like_dense_ones() -> None:
    """The released code divides by images, so that a rater who did one of four images would count a quarter."""
    _, batch = crowd(4)
    method = CrowdLayer(TASK, backbone="tiny").eval()
    assert batch.image is not None and batch.masks is not None and batch.rated is not None
    one = batch.rated.clone()
    one[:] = False
    one[0] = True
    alone = Batch(batch.names[:1], batch.image[:1], batch.masks[:1], batch.rated[:1])
    sparse = next(iter(method.losses(replace(batch, rated=one))))["raters"]
    torch.testing.assert_close(sparse, next(iter(method.losses(alone)))["raters"])


def test_confusion_matrix_takes_the_likelihood_of_what_it_passes_on() -> None:
    """With perfect raters it is the plain cross-entropy; a second softmax, as released, would not be."""
    samples, batch = crowd(2)
    method = ConfusionMatrix(TASK, backbone="tiny", warmup=0.0, trace=0.0).eval()
    method.prepare(samples)
    method.matrices.start_at(torch.eye(4)[None] * 1e6)
    assert batch.image is not None and batch.masks is not None and batch.rated is not None
    labels, _ = method.classes.labels(batch.masks, batch.rated)
    with torch.no_grad():
        loss = next(iter(method.losses(batch)))["raters"]
        log_p = method.classes.log_probability(method(batch.image)[0].log().flatten(1, 2))[:, 0]
    plain = torch.stack([torch.nn.functional.nll_loss(log_p, labels[:, r, 0]) for r in range(4)]).mean()
    torch.testing.assert_close(loss, plain, atol=1e-4, rtol=1e-4)


def test_confusion_matrix_starts_near_the_identity_and_never_has_one_class() -> None:
    samples, batch = crowd(2)
    for kind in ("global", "pixel"):
        method = ConfusionMatrix(TASK, kind=kind, backbone="tiny")  # type: ignore[arg-type]
        method.prepare(samples)
        assert batch.image is not None
        confusion = method(batch.image)[1].detach()
        torch.testing.assert_close(confusion.sum(4), torch.ones_like(confusion.sum(4)))
        diagonal = confusion.diagonal(dim1=3, dim2=4)[..., OPEN]
        assert diagonal.mean() == pytest.approx(0.9, abs=0.03)
    assert Classes(1).size == 2


@pytest.mark.parametrize("kind", ["global", "pixel"])
def test_confusion_matrix_first_holds_its_matrices_and_then_lowers_their_trace(kind: str) -> None:
    samples, batch = crowd(2)
    method = ConfusionMatrix(TASK, kind=kind, backbone="tiny")  # type: ignore[arg-type]
    method.prepare(samples)
    for epoch, warm in ((0, True), (1, False)):
        method.begin_epoch(epoch, 10)
        method.zero_grad(set_to_none=True)
        (terms,) = method.losses(batch)
        assert ("trace" in terms) != warm
        torch.stack(list(terms.values())).sum().backward()
        assert all((p.grad is None) == warm for p in method.matrices.parameters())
        assert any(p.grad is not None and p.grad.any() for p in method.unet.parameters())
    assert terms["trace"] > 0  # minimised: the least reliable raters that explain the masks


@pytest.mark.parametrize(("epochs", "held"), [(1, 0), (2, 1), (10, 1), (150, 15)])
def test_confusion_matrix_warms_up_for_a_tenth_of_the_epochs(epochs: int, held: int) -> None:
    method = ConfusionMatrix(TASK, backbone="tiny")
    warm = []
    for epoch in range(epochs):
        method.begin_epoch(epoch, epochs)
        warm.append(bool(method.warming))
    assert sum(warm) == held == len([w for w in warm[:held] if w])
