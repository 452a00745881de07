"""What each method takes masks to say, by which an epoch may be chosen."""

import numpy as np
import torch

from mrprism.datasets.phantom import phantom, phantom_task
from mrprism.learn.batch import Batch
from mrprism.learn.methods.fused_label import FusedLabel
from mrprism.learn.methods.mrprism import MrPrism


def batch(count: int = 3) -> Batch:
    samples = list(phantom("crowd", size=32, cases=count))
    rated = torch.from_numpy(np.stack([sample.rated for sample in samples]))
    rated[0, :, 1] = False  # nobody drew the cup of the first
    masks = torch.from_numpy(np.stack([sample.masks for sample in samples])).float()
    return Batch(
        tuple(sample.name for sample in samples),
        torch.from_numpy(np.stack([sample.image for sample in samples])),
        masks * rated[..., None, None],
        rated,
    )


def test_the_consensus_is_what_the_method_fuses() -> None:
    task, given = phantom_task("crowd"), batch()
    assert given.masks is not None and given.rated is not None
    with torch.inference_mode():
        vote = FusedLabel(task, label="rater:rater1", backbone="small").consensus_of(given)
        staple = FusedLabel(task, label="staple", backbone="small")
        prism = MrPrism(task, backbone="small").eval()
        each = {"vote": vote, "staple": staple.consensus_of(given), "prism": prism.consensus_of(given)}
        for name, found in each.items():
            assert found[0, 1].isnan().all(), name
            assert not found[1:].isnan().any(), name
        torch.testing.assert_close(vote[1:], (2 * given.masks.sum(1) > 7).float()[1:])
        torch.testing.assert_close(each["staple"][1:], staple.targets(given)[0][1:])
        torch.testing.assert_close(each["prism"][1:], prism.fuse_given(given)[1:])
