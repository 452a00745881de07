"""A case's own masks, fused by what was said of the case as a whole, slice by slice on its own grid."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mrprism.core.prediction import Prediction
from mrprism.core.sample import MultiRaterSample
from mrprism.learn.confidence import tally, trust_of_masks
from mrprism.learn.methods.method import Method
from mrprism.learn.methods.mrprism import MrPrism
from mrprism.learn.soft_fusion import mean_vote
from mrprism.learn.stacks import joined


def fused_by_plan(method: Method, sample: MultiRaterSample, said: Prediction) -> Prediction | None:
    """The consensus of a sample's masks; None if the method fuses none.

    MrPrism's confidence in each rater is that of the case, as its windows say it together; in each given mask, if raters
    are anonymous, its agreement with the segmentation over the whole case; in each pixel, the map of confidence.

    Args:
        said: What `Predictor.predict` said of the sample.
    """
    if not isinstance(method, MrPrism):
        return None
    rated = torch.from_numpy(sample.rated)[None].to(method.device)
    with torch.inference_mode():
        confidence: Tensor | None = None
        if method.trust == "mask":
            confidence = _of_masks(sample, said, rated)
        elif said.weights is not None:
            confidence = _batch(np.asarray(said.weights), rated)[..., None, None]
        assert said.raters is not None and said.confidence is not None
        drawn, of_pixels = said.raters, said.confidence

        def planes() -> Iterator[Prediction]:
            for place in _places(sample):
                masks, raters = _batch(sample.masks[place], rated), _batch(drawn[place], rated)
                segmentation = _batch(said.probability[place[1:]], rated)
                trusted = _batch(of_pixels[place], rated) if confidence is None else confidence
                fused = method.fuse_said(masks, rated, trusted, raters, segmentation)
                yield Prediction(probability=fused[0].cpu().numpy())

        return joined(planes(), len(sample.space))


def _of_masks(sample: MultiRaterSample, said: Prediction, rated: Tensor) -> Tensor:
    """How far each given mask is to be trusted: `read_masks` of the whole case."""
    hits, chances = None, None
    for place in _places(sample):
        masks, segmentation = _batch(sample.masks[place], rated), _batch(said.probability[place[1:]], rated)
        here = tally(masks, (segmentation > 0.5).float(), mean_vote(masks, rated))
        hits, chances = here if hits is None or chances is None else (hits + here[0], chances + here[1])
    assert hits is not None and chances is not None
    return trust_of_masks(hits, chances, rated)[..., None, None]


def _places(sample: MultiRaterSample) -> Iterator[tuple[slice | int, ...]]:
    """Where each slice lies in arrays (R, C, *space)."""
    both = (slice(None), slice(None))
    if len(sample.space) == 2:
        yield both
    else:
        yield from ((*both, at) for at in range(sample.space[0]))


def _batch(array: np.ndarray, like: Tensor) -> Tensor:
    """An array as a batch of one."""
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))[None].to(like.device)
