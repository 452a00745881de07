"""Fuse the raters' masks into one, and compare ways of doing so with the known truth."""

import numpy as np

import mrprism

data = mrprism.phantom("crowd", size=64, cases=12)
for name in ("majority", "staple", "shape-average"):
    scores = []
    for case, consensus in zip(data, mrprism.fuse(data, name), strict=True):
        mask, truth = consensus.probability > 0.5, case.reference
        scores.append(2 * (mask & truth).sum((1, 2)) / (mask.sum((1, 2)) + truth.sum((1, 2))))
    print(
        f"{name:<14}", dict(zip(data.task.structures, np.mean(scores, axis=0).round(3).tolist(), strict=True))
    )

# arrays will do as well: masks (raters, structures, height, width), and who did what
one = mrprism.FUSIONS["staple"](data[0].masks, data[0].rated)
print("sensitivity of each rater for the cup:", one.confusion[:, 1, 1, 1].round(2))
