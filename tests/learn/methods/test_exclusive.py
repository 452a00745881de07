"""Classes from structures and back."""

import numpy as np
import pytest
import torch

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.learn.methods.exclusive import (
    Classes,
    confusion_counts,
    evidence,
    rows_to_one,
    through,
    vote_share,
)


def sample(masks: np.ndarray, rated: np.ndarray | None = None) -> MultiRaterSample:
    raters, structures, *space = masks.shape
    image = np.zeros((1, *space), np.float32)
    return MultiRaterSample(
        "a", image, masks, np.ones((raters, structures), bool) if rated is None else rated
    )


def nested() -> np.ndarray:
    masks = np.zeros((2, 2, 8, 8), bool)
    masks[:, 0, 1:7, 1:7] = True
    masks[:, 1, 3:5, 3:5] = True
    return masks


def test_nested_structures_are_background_rim_and_cup() -> None:
    classes = Classes(2)
    classes.prepare([sample(nested())])
    assert classes.occurs.tolist() == [[True, True, False, True]]
    torch.testing.assert_close(classes.share, torch.tensor([[28 / 64, 32 / 64, 0, 4 / 64]]))
    p = classes.log_probability(torch.zeros(1, 4, 1, 1)).exp()
    torch.testing.assert_close(p[0, 0, :, 0, 0], torch.tensor([1 / 3, 1 / 3, 0, 1 / 3]))
    torch.testing.assert_close(classes.structures(p)[0, :, 0, 0], torch.tensor([2 / 3, 1 / 3]))


@pytest.mark.parametrize("grouping", ["joint", "separate"])
def test_masks_come_back_from_their_classes(grouping: str) -> None:
    masks = torch.from_numpy(nested()).float()[None]
    classes = Classes(2, grouping)  # type: ignore[arg-type]
    classes.prepare([sample(nested())])
    labels, known = classes.labels(masks, torch.ones(1, 2, 2, dtype=torch.bool))
    assert known.all()
    one_hot = vote_share(labels[:, :1], known[:, :1], classes.size)
    torch.testing.assert_close(classes.structures(one_hot), masks[:, 0])


def test_a_combination_too_rare_is_read_as_its_nearest() -> None:
    masks = np.zeros((1, 2, 64, 64), bool)
    masks[0, 0, 4:60, 4:60] = True
    masks[0, 1, 20:40, 20:40] = True
    masks[0, 1, 0, 0] = True  # one stray pixel of the cup outside the disc
    classes = Classes(2)
    classes.prepare([sample(masks)])
    labels, _ = classes.labels(torch.from_numpy(masks).float()[None], torch.ones(1, 1, 2, dtype=torch.bool))
    assert not classes.occurs[0, 2]
    assert labels[0, 0, 0, 0, 0] in (0, 3)  # either neighbour differs in one structure
    assert classes.share.sum() == pytest.approx(1)


def test_a_structure_however_small_keeps_its_class() -> None:
    masks = np.zeros((1, 2, 64, 64), bool)
    masks[0, 0, 2:62, 2:62] = True
    masks[0, 1, 30, 30] = True
    classes = Classes(2)
    classes.prepare([sample(masks)])
    assert classes.occurs[0, 3]


def test_more_than_three_structures_are_read_each_by_itself() -> None:
    assert (Classes(3).groups, Classes(3).size) == (1, 8)
    assert (Classes(4).groups, Classes(4).size) == (4, 2)


def test_a_rater_who_did_some_of_a_group_is_not_read_for_it() -> None:
    rated = np.array([[True, True], [True, False]])
    masks = nested()
    classes = Classes(2)
    _, known = classes.labels(torch.from_numpy(masks).float()[None], torch.from_numpy(rated)[None])
    assert known[0, :, 0].tolist() == [True, False]
    apart = Classes(2, "separate")
    _, known = apart.labels(torch.from_numpy(masks).float()[None], torch.from_numpy(rated)[None])
    assert known[0].tolist() == rated.tolist()
    with pytest.raises(InputError, match="separate"):
        classes.prepare([sample(masks, np.array([[True, False], [False, True]]))])


def test_structure_confusion_by_hand() -> None:
    classes = Classes(2)
    classes.prepare([sample(nested())])
    confusion = torch.eye(4).repeat(1, 1, 1, 1)
    confusion[0, 0, 1] = torch.tensor([0.5, 0.5, 0, 0])  # half of the rim is left out
    seen = classes.structure_confusion(confusion)
    # disc: 32 rim and 4 cup pixels of 36, of which 16 are lost; the cup is all found
    torch.testing.assert_close(seen[0, 0, 1], torch.tensor([16 / 36, 20 / 36]))
    torch.testing.assert_close(seen[0, 1], torch.eye(2))


def test_counts_evidence_and_passage_against_plain_loops() -> None:
    torch.manual_seed(0)
    labels, rated = torch.randint(0, 3, (2, 4, 1, 5, 6)), torch.rand(2, 4, 1) > 0.3
    consensus = torch.rand(2, 1, 3, 5, 6).softmax(2)
    table = torch.rand(4, 1, 3, 3)
    counts, said = torch.zeros(4, 1, 3, 3), torch.zeros(2, 1, 3, 5, 6)
    for b in range(2):
        for r in range(4):
            if not rated[b, r, 0]:
                continue
            for i in range(5):
                for j in range(6):
                    drawn = int(labels[b, r, 0, i, j])
                    counts[r, 0, :, drawn] += consensus[b, 0, :, i, j]
                    said[b, 0, :, i, j] += table[r, 0, :, drawn]
    torch.testing.assert_close(confusion_counts(consensus, labels, rated), counts)
    torch.testing.assert_close(evidence(table, labels, rated), said)
    passed = through(consensus, table[None, ..., None, None])
    torch.testing.assert_close(passed, torch.einsum("bgkhw,rgkl->brglhw", consensus, table))
    rates = rows_to_one(counts, torch.ones(1, 3, dtype=torch.bool), 0.0)
    torch.testing.assert_close(rates, counts / counts.sum(-1, keepdim=True))
