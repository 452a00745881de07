"""One step of a convolutional LSTM, the way MRNet brings expertise into features."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mrprism.learn.networks.grid import IMAGES, Grid


class ConvLSTMStep(nn.Module):
    """Features as input, a condition as hidden and cell state; no peepholes.

    Source: Shi et al., "Convolutional LSTM Network", NeurIPS 2015, as used by Ji et al., MRNet, CVPR 2021.
    """

    def __init__(self, width: int, grid: Grid = IMAGES, level: int = 5) -> None:
        super().__init__()
        self.gates = grid.conv(2 * width, 4 * width, grid.kernel(level))

    def forward(
        self, features: Float[Tensor, "B c *small"], state: Float[Tensor, "B c *small"]
    ) -> Float[Tensor, "B c *small"]:
        take, forget, give, candidate = self.gates(torch.cat([features, state], 1)).chunk(4, 1)
        cell = forget.sigmoid() * state + take.sigmoid() * candidate.tanh()
        hidden: Tensor = give.sigmoid() * cell.tanh()
        return hidden
