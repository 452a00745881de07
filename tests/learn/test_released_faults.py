"""Faults found in released code of the methods here, and the test that would catch each of them.

`FAULTS` is the list: whose code, what it does, and the test, which stands in this file or where the thing
itself is tested. The departures at the top of each method's file say what is done here instead.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from torch import Tensor
from toy import TASK, TOYS, dataset

from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import Dataset
from mrprism.layouts import DATASETS
from mrprism.learn.batch import Batch
from mrprism.learn.losses import ssim
from mrprism.learn.methods import METHODS, mrprism
from mrprism.learn.methods.aggnet import AggNet
from mrprism.learn.methods.diagnosis_first import DiagnosisFirst, fuse_under
from mrprism.learn.methods.max_mig import MaxMIG, mutual_information_loss
from mrprism.learn.methods.mrprism import MrPrism
from mrprism.learn.methods.multiple_hypotheses import MultipleHypotheses
from mrprism.learn.resize import resize_sample
from mrprism.learn.train import train
from mrprism.metrics import METRICS

TESTS = Path(__file__).parents[1]
CONTRACT, CONFUSIONS, MRNET = (
    f"learn/methods/test_{name}.py::test_" for name in ("contract", "known_raters", "mrnet")
)
SEGMENTERS, STAPLE, ENERGY = "learn/methods/test_segmenters.py::", "fusion/test_staple.py::", "metrics/test_"

FAULTS = (
    # learning from several raters
    ("CrowdLayer", "divides the loss by images, so sparse labels shrink it",
     f"{CONFUSIONS}crowd_layer_weighs_sparse_labels_like_dense_ones"),
    ("CrowdLayer", "starts at the identity on probabilities and at the network's own learning rate",
     f"{CONFUSIONS}crowd_layer_at_the_identity_passes_the_probabilities_on"),
    ("AggNet in Max-MIG's code", "takes the M-step from the network, not from this epoch's posterior",
     f"{CONFUSIONS}aggnet_m_step_is_the_closed_form"),
    ("AggNet", "counts the far background, which makes every rater specific",
     "test_background_need_not_make_raters_specific"),
    ("Learn_Noisy_Labels", "gives A·p to a cross-entropy that applies a second softmax",
     f"{CONFUSIONS}confusion_matrix_takes_the_likelihood_of_what_it_passes_on"),
    ("Learn_Noisy_Labels", "starts global matrices at 0.66 and less, not near the identity",
     f"{CONFUSIONS}confusion_matrix_starts_near_the_identity_and_never_has_one_class"),
    ("D-Persona", "runs confusion matrices with one class, where a 1 x 1 matrix says nothing",
     f"{CONFUSIONS}confusion_matrix_starts_near_the_identity_and_never_has_one_class"),
    ("D-Persona", "multiplies logits, not probabilities, with the confusion matrix",
     f"{CONFUSIONS}confusion_matrix_takes_the_likelihood_of_what_it_passes_on"),
    ("confusion matrices", "without a warm-up pixel-wise matrices swallow the segmentation",
     f"{CONFUSIONS}confusion_matrix_first_holds_its_matrices_and_then_lowers_their_trace"),
    ("Max-MIG", "fixes the prior by hand", "test_the_prior_is_the_class_frequency_of_the_training_masks"),
    ("Max-MIG", "skips batches in which a rater is missing", "test_a_missing_rater_does_not_cost_the_batch"),
    ("Max-MIG", "takes the logarithm of an unbounded S_ii", "test_views_that_contradict_each_other_give_numbers"),
    ("MRNet", "computes the consistency loss on a detached prediction",
     f"{MRNET}the_consistency_term_reaches_the_coarse_network_as_in_the_paper"),
    ("MRNet", "refines the uniform case from the random condition's map, and reconstructs from logits",
     f"{MRNET}every_condition_meets_its_own_coarse_map_as_probabilities"),
    ("MRNet", "has six raters, two structures and 256 pixels in the code", f"{CONTRACT}shapes_and_ranges_hold"),
    ("MRNet", "resizes label maps with Pillow's smooth default and asks for exact values after",
     "test_resizing_keeps_the_size_of_disc_and_cup"),
    ("MRNet", "ignores the arbitrated mask of RIGA", "layouts/test_fundus.py::test_riga_disc_region"),
    ("DiagnosisFirst", "makes one or three maps of trust, not one a rater",
     "test_trust_is_one_map_a_rater_and_only_weighs_their_masks"),
    ("DiagnosisFirst in MrPrism's code", "changes the image and fuses nothing",
     "test_trust_is_one_map_a_rater_and_only_weighs_their_masks"),
    ("DiagnosisFirst", "is told the diagnosis of the case it is scored on",
     f"{CONTRACT}what_a_method_may_not_read_changes_nothing"),
    ("MrPrism", "minimises the SSIM of logits, which makes things unlike", "test_ssim_is_least_where_alike"),
    ("MrPrism", "shuffles the labels of one side, not the confidences of both",
     "test_shuffling_asks_nothing_of_a_divp_that_is_right"),
    ("MrPrism", "builds a learning-rate schedule and never steps it",
     "learn/test_train.py::test_cosine_and_clipping"),
    ("MrPrism", "drops the last, smaller batch when scoring",
     "learn/test_loading.py::test_plain_batches_are_whole_and_unchanged"),
    # segmentation
    ("AGNet", "mixes two normalisations of the attention and takes an absolute value",
     f"{SEGMENTERS}test_the_guided_filter_is_weighted_least_squares"),
    ("AGNet", "needs more pixels than a window at every scale",
     f"{SEGMENTERS}test_the_guided_filter_takes_images_smaller_than_its_window"),
    ("pOSAL, BEAL", "learn from the images they are tested on", "test_training_never_reads_a_test_case"),
    ("BEAL", "returns three maps where its trainer unpacks two", f"{CONTRACT}gradients_reach_every_parameter"),
    ("BEAL", "halves the entropy", f"{SEGMENTERS}test_entropy_is_the_whole_binary_entropy"),
    ("BEAL", "cuts its probabilities at 0.75 when scored", "test_all_methods_are_cut_at_one_half"),
    ("multiple hypotheses", "chosen per pixel turn into pixel-wise minima and maxima",
     "test_the_best_hypothesis_is_chosen_for_the_whole_image"),
    ("multiple hypotheses", "die without a share for those that do not win",
     f"{SEGMENTERS}test_the_best_hypothesis_is_pulled_hardest"),
    # fusion
    ("MRNet's vote", "calls a tie a majority", "fusion/test_methods.py::test_majority_needs_more_than_half"),
    ("ITK's label voting", "answers a tie with a label nobody gave",
     f"{STAPLE}test_a_true_tie_goes_to_the_lowest_label_and_is_counted"),
    ("SimpleITK's STAPLE", "gives no number for empty masks",
     "fusion/test_fusion_contract.py::test_all_empty_gives_empty"),
    ("SimpleITK's STAPLE", "grows the consensus with the background around it",
     f"{STAPLE}test_padding_does_not_change_the_consensus_but_does_with_the_whole_field"),
    ("SimpleITK's multi-label STAPLE", "counts ties towards real labels",
     f"{STAPLE}test_a_case_worked_by_hand_in_which_simpleitks_multilabel_goes_wrong"),
    ("crowd-kit's SegmentationEM", "has one coin a rater, which is not STAPLE",
     f"{STAPLE}test_whole_field_equals_simpleitk"),
    # scores
    ("soft votes", "kept as float32 cross thresholds such as 3 of 10 at 0.3",
     f"{ENERGY}overlap.py::test_votes_are_cut_as_rationals"),
    ("smoothed Dice", "is not 1 or 0 where a mask is empty", f"{ENERGY}overlap.py::test_empty_masks"),
    ("D-Persona", "calls two empty masks as far apart as can be",
     f"{ENERGY}diversity.py::test_energy_distance_by_hand"),
    ("TAB", "leaves out pairs of a mask with itself, so its energy distance can be negative",
     f"{ENERGY}diversity.py::test_energy_distance_by_loops"),
    ("D-Persona", "sorts LIDC's raters by area, in test cases too", "test_lidcs_raters_are_not_sorted_by_area"),
    ("MRNet, MrPrism, D-Persona", "choose the weights on the test cases",
     "learn/test_loading.py::test_fixed_parts_are_kept_and_validation_is_drawn_from_training"),
)  # fmt: skip


@pytest.mark.parametrize("test", sorted({test for _, _, test in FAULTS}))
def test_every_fault_has_its_test(test: str) -> None:
    file, _, name = test.rpartition("::")
    tree = ast.parse((TESTS / file if file else Path(__file__)).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


# ---- reading and splitting ----------------------------------------------------------------------


def circle(share: float, centre: np.ndarray) -> np.ndarray:
    row, column = (np.mgrid[:800, :800] + 0.5) / 800 - centre[:, None, None]
    return np.asarray(row**2 + column**2 < share**2)


def test_resizing_keeps_the_size_of_disc_and_cup() -> None:
    """From 800 to 256 pixels; what MRNet's code does stands beside it, to see that it would be caught."""
    ours, released = [], []
    for centre in np.random.default_rng(0).uniform(0.45, 0.55, (4, 2)):
        masks = np.stack([circle(0.3, centre), circle(0.15, centre)])
        blank = np.zeros((1, 800, 800), np.float32)
        sample = resize_sample(MultiRaterSample("a", blank, masks[None], np.ones((1, 2), bool)), 256)
        labels = (128 * masks[0] + 127 * masks[1]).astype(np.uint8)
        smooth = np.asarray(Pillow.fromarray(labels).resize((256, 256)))
        for drawn, errors in ((sample.masks[0], ours), (np.stack([smooth != 0, smooth == 255]), released)):
            errors.append(drawn.mean((1, 2)) / masks.mean((1, 2)) - 1)
    assert np.abs(ours).max() < 0.005
    disc, cup = np.mean(released, axis=0)
    assert disc > 0.015 and cup < -0.03


def test_training_never_reads_a_test_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for adaptation to a "target domain", nor to choose weights, nor to stop."""
    monkeypatch.setitem(METHODS, "toy", TOYS["toy"])
    read: set[str] = set()
    of_dataset = Dataset.__getitem__

    def spy(self: Dataset, name: str) -> MultiRaterSample:
        read.add(name)
        return of_dataset(self, name)

    monkeypatch.setattr(Dataset, "__getitem__", spy)
    run = train(dataset(), "toy", tmp_path / "run", epochs=1, size=24, batch_size=2, device="cpu", quiet=True)
    assert {*run.config.train, *run.config.val} <= read
    assert run.config.test and not read & set(run.config.test)


def test_lidcs_raters_are_not_sorted_by_area(tmp_path: Path) -> None:
    masks = np.zeros((1, 4, 8, 8), bool)
    for slot, area in enumerate((3, 1, 4, 2)):
        masks[0, slot, 0, :area] = True
    facts = {"patient": np.array(["p"]), "nodule": np.array([1]), "slice": np.array([2])}
    packed = np.packbits(masks, axis=-1)
    np.savez(tmp_path / "lidc.npz", images=np.zeros((1, 8, 8), np.uint8), masks_packed=packed, **facts)
    (sample,) = DATASETS["lidc"](tmp_path).samples
    assert sample.masks.sum((1, 2, 3)).tolist() == [3, 1, 4, 2]


# ---- learning from several raters ---------------------------------------------------------------


def shifted(size: int = 32, count: int = 2) -> tuple[list[MultiRaterSample], Batch]:
    """Squares, outlined with some pixels' difference by three raters."""
    truth = np.zeros((2, size, size), bool)
    middle = size // 2
    truth[0, middle - 8 : middle + 8, middle - 8 : middle + 8] = True
    truth[1, middle - 4 : middle + 4, middle - 4 : middle + 4] = True
    masks = np.stack([np.roll(truth, move, -1) for move in (-2, 0, 1)])
    image = (0.2 + 0.3 * truth.sum(0, keepdims=True)).astype(np.float32)
    samples = [MultiRaterSample(str(n), image, masks, np.ones((3, 2), bool)) for n in range(count)]
    fields = (torch.from_numpy(np.stack([array] * count)) for array in (image, masks, samples[0].rated))
    image_, masks_, rated = fields
    return samples, Batch(tuple(s.name for s in samples), image_, masks_.float(), rated)


def test_background_need_not_make_raters_specific() -> None:
    """P(marked | background) of the far background is 0; a margin keeps what it was without that."""
    rates = {}
    for margin in (4, None):
        for size in (32, 96):
            method = AggNet(TASK, backbone="small", margin=margin)
            method.prepare(shifted(size)[0])
            rates[margin, size] = float(method.confusion[:, 0, 0, 1:].sum(-1).mean())
    assert rates[4, 96] == pytest.approx(rates[4, 32], rel=1e-4)
    assert rates[None, 96] < rates[None, 32] / 5


def test_the_prior_is_the_class_frequency_of_the_training_masks() -> None:
    """A label aggregator that has learned nothing answers with it."""
    samples, batch = shifted()
    method = MaxMIG(TASK, backbone="small")
    method.prepare(samples)
    torch.nn.init.zeros_(method.aggregator)
    assert batch.masks is not None and batch.rated is not None
    with torch.no_grad():
        aggregated, _ = method.aggregate(batch.masks, batch.rated)
    cup, disc = samples[0].masks[:, 1].mean(), samples[0].masks[:, 0].mean()
    seen = method.classes.structures(aggregated).mean((0, 2, 3))
    torch.testing.assert_close(seen, torch.tensor([disc, cup], dtype=seen.dtype))


def test_a_missing_rater_does_not_cost_the_batch() -> None:
    samples, batch = shifted()
    method = MaxMIG(TASK, backbone="small")
    method.prepare(samples)
    assert batch.rated is not None
    rated = batch.rated.clone()
    rated[:, 0] = False
    (terms,) = method.losses(replace(batch, rated=rated))
    terms["information"].backward()
    assert method.aggregator.grad is not None
    reached = method.aggregator.grad.abs().sum((1, 2, 3)) > 0
    assert reached.tolist() == [False, True, True]


def test_views_that_contradict_each_other_give_numbers() -> None:
    sure = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    loss = mutual_information_loss(sure, 1 - sure.detach(), torch.tensor([0.5, 0.5]))
    loss.backward()
    assert loss.isfinite()
    assert sure.grad is not None and sure.grad.isfinite().all()


def test_trust_is_one_map_a_rater_and_only_weighs_their_masks() -> None:
    torch.manual_seed(0)
    raters = 5  # neither one nor three
    method = DiagnosisFirst(Task(1, ("disc",), tuple("abcde"[:raters])), backbone="small", steps=3)
    image, masks = torch.rand(2, 1, 32, 32), (torch.rand(2, raters, 1, 32, 32) > 0.5).float()
    seen: list[Tensor] = []
    method.classifier.register_forward_hook(lambda _m, given, _o: seen.append(given[0]))
    rated = torch.ones(2, raters, 1, dtype=torch.bool)
    trust = method.search(image, masks, rated, torch.tensor([1, 0]))
    assert trust.shape == (2, raters, 32, 32)
    assert (trust[:, 1:] - trust[:, :1]).abs().max() > 0
    fused, _ = fuse_under(masks, rated, trust)
    assert (fused <= masks.amax(1) + 1e-6).all() and (fused >= masks.amin(1) - 1e-6).all()
    assert len(seen) == 3 and all(torch.equal(given, image) for given in seen)


def test_ssim_is_least_where_alike() -> None:
    """As a loss of probabilities: 0 where they are the target, more where they are not."""
    torch.manual_seed(0)
    target = torch.zeros(1, 1, 32, 32)
    target[..., 8:24, 8:24] = 1
    sure = 40 * target - 20
    assert ssim(sure, target).item() == pytest.approx(0, abs=1e-4)
    assert ssim(sure, target) < ssim(0.1 * sure, target) < ssim(-sure, target)
    logits = torch.zeros_like(target, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.3)
    for _ in range(30):
        optimiser.zero_grad()
        ssim(logits, target).backward()
        optimiser.step()
    assert torch.equal(logits > 0, target > 0.5)


@pytest.mark.parametrize("trust", ["band", "pixel"])
def test_shuffling_asks_nothing_of_a_divp_that_is_right(trust: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides are fused under the same shuffled confidences; else masks equal to the raters' would cost."""
    torch.manual_seed(0)
    _, batch = shifted()
    method = MrPrism(TASK, backbone="small", shuffle=1.0, trust=trust)  # type: ignore[arg-type]
    image, masks, rated = batch.image, batch.masks, batch.rated
    assert image is not None and masks is not None and rated is not None
    method.counted.copy_(torch.tensor([0.9, 0.75, 0.6])[None, :, None].expand(3, 3, 2))
    step = next(method.recur(image, method.equal_confidence(image), 1))
    columns = [torch.stack([masks[..., i::2, j::2] for j in (0, 1)], 3) for i in (0, 1)]
    right = step._replace(phases=8 * torch.stack(columns, 3) - 4)
    apart: list[float] = []

    def compare(logits: Tensor, goal: Tensor) -> Tensor:
        apart.append(float((logits.sigmoid() - goal).abs().max()))
        return logits.sum()

    monkeypatch.setattr(mrprism, "bce", compare)
    method._divp_losses(right, masks, rated)
    assert len(apart) == method.shuffles
    assert max(apart) < 1e-5


# ---- segmentation -------------------------------------------------------------------------------


def test_the_best_hypothesis_is_chosen_for_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hypotheses, each right in another half: per pixel there would be nothing left to learn."""
    _, batch = shifted(count=1)
    method = MultipleHypotheses(TASK, hypotheses=2, dropped=0.0, epsilon=0.0, backbone="small")
    assert batch.masks is not None and batch.rated is not None
    alike = batch.masks[:, :1].expand(-1, 3, -1, -1, -1)
    right = 20 * alike[:, 0] - 10
    left = torch.arange(32) < 16
    halves = torch.stack([torch.where(left, right, -right), torch.where(left, -right, right)], 1)
    monkeypatch.setattr(method, "heads", lambda image: halves)
    (terms,) = method.losses(replace(batch, masks=alike))
    assert terms["hypotheses"].item() == pytest.approx(5, abs=0.1)  # 10 on half of the pixels, 0 on the other


def test_all_methods_are_cut_at_one_half() -> None:
    probability, votes = np.array([0.6, 0.4], np.float32), np.array([1, 0])
    assert METRICS["dice"].function(probability, votes, 1, None) == 1
