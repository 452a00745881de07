"""Batch norm over the batches of all processes, so that several of them learn what one does with the larger batch."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn

from mrprism.learn.space import aside, axes


def synchronise(network: nn.Module) -> None:
    """Let every batch norm of a network take its mean and variance over all processes while it trains.

    Every process must pass the same norms in the same order, as it does where what is computed does not depend on
    what the cases hold. Torch's own `SyncBatchNorm` is for GPUs only.
    """
    for module in network.modules():
        if type(module) in SYNCHRONISED:
            module.__class__ = SYNCHRONISED[type(module)]


class _Synchronised(nn.modules.batchnorm._BatchNorm):
    """A batch norm with the same weights and buffers under the same names."""

    def forward(self, x: Float[Tensor, "B c *space"]) -> Float[Tensor, "B c *space"]:
        if not self.training or not distributed.is_initialized() or distributed.get_world_size() == 1:
            return super().forward(x)
        exact = x.float()
        count = together(exact.new_tensor(exact.numel() / exact.shape[1]))
        others = (0, *axes(exact, 2))
        mean = together(exact.sum(others)) / count
        centred = exact - aside(mean[None], exact)
        variance = together(centred.square().sum(others)) / count
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        scaled = centred * aside((variance + self.eps).rsqrt()[None], exact)
        if self.affine:
            scaled = scaled * aside(self.weight[None], exact) + aside(self.bias[None], exact)
        return scaled.to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, unbiased: Tensor) -> None:
        """Move the running statistics on, as `nn.BatchNorm2d` does."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(unbiased, share)


class SynchronisedNorm(_Synchronised, nn.BatchNorm2d):
    """Of images."""


class SynchronisedVolumeNorm(_Synchronised, nn.BatchNorm3d):
    """Of volumes."""


SYNCHRONISED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: SynchronisedNorm,
    nn.BatchNorm3d: SynchronisedVolumeNorm,
}


class _Sum(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(context: object, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def together(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes."""
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total
