"""Axis legend and array aliases for the half of mrprism that needs no torch.

B batch · R rater · C structure · S draw · T recurrence · channel image channel ·
``*space`` the pixel axes: (H, W) for an image, (D, H, W) for a volume.

Shapes are checked when the tests run (``--jaxtyping-packages``) and nowhere else.
"""

import numpy as np
from jaxtyping import Bool, Float, Float32, Integer

Image = Float32[np.ndarray, "channel *space"]  # intensities in [0, 1]
Masks = Bool[np.ndarray, "R C *space"]  # what each rater drew; False where not rated
Rated = Bool[np.ndarray, "R C"]  # False: this rater did not do this structure
Reference = Bool[np.ndarray, "C *space"]
Probability = Float[np.ndarray, "C *space"]
Votes = Integer[np.ndarray, "C *space"]
