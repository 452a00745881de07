"""MONAI's residual networks as encoders with features at strides 2, 4, 8, 16 and 32."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mrprism.core.errors import InputError, unknown
from mrprism.learn.networks.grid import IMAGES, Grid

# backbone: (blocks in each of four stages, their widths)
BACKBONES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "small": ((1, 1, 1, 1), (32, 64, 128, 160)),  # about 0.75 M parameters: phantoms, tests, laptops
    "resnet18": ((2, 2, 2, 2), (64, 128, 256, 512)),
    "resnet34": ((3, 4, 6, 3), (64, 128, 256, 512)),
}


class Encoder(nn.Module):
    """A residual network cut before its classifier.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
    """

    def __init__(
        self,
        channels: int,
        backbone: str = "resnet34",
        weights: Path | None = None,
        grid: Grid = IMAGES,
    ) -> None:
        """
        Args:
            weights: ImageNet weights under torchvision's names, as safetensors; used for three channels only, and for images.
            grid: What it looks at.
        """
        super().__init__()
        if backbone not in BACKBONES:
            raise unknown("backbone", backbone, BACKBONES)
        from monai.networks.nets.resnet import ResNet  # imported late: it takes seconds

        blocks, widths = BACKBONES[backbone]
        self.resnet = ResNet(
            "basic",
            list(blocks),
            list(widths),
            spatial_dims=grid.dims,
            n_input_channels=channels,
            conv1_t_size=grid.kernel(0, 7),  # type: ignore[arg-type]
            conv1_t_stride=grid.strides[0],  # type: ignore[arg-type]
            bias_downsample=False,
            feed_forward=False,
        )
        self.widths = (widths[0], *widths)
        _fit_to(self.resnet, grid)
        if weights is not None:
            if grid.dims != 2:
                raise InputError(f"encoder weights are of images, and volumes begin without: {weights}")
            _load_imagenet(self.resnet, weights, backbone)

    def forward(self, image: Float[Tensor, "B channel *space"]) -> list[Tensor]:
        """Feature maps from stride 2 to stride 32; sizes are rounded up, so any will do."""
        net = self.resnet
        features = [net.act(net.bn1(net.conv1(image)))]
        x = net.maxpool(features[0])
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            features.append(x)
        return features


def _fit_to(resnet: nn.Module, grid: Grid) -> None:
    """Let the layers after the first step and reach along each axis as the grid says."""
    if all(len(set(step)) == 1 for step in grid.strides):
        return
    pool = resnet.maxpool
    pool.kernel_size, pool.stride = grid.kernel(1), grid.strides[1]  # type: ignore[union-attr, assignment]
    pool.padding = tuple(k // 2 for k in grid.kernel(1))  # type: ignore[union-attr, assignment]
    for stage, name in enumerate(("layer1", "layer2", "layer3", "layer4")):
        for at, layer in list(resnet.get_submodule(name).named_modules()):
            if isinstance(layer, nn.Conv3d):
                halves = layer.stride[0] == 2
                level = stage + 2 - (halves and 1)  # which it reads
                kernel = grid.kernel(level) if layer.kernel_size[0] > 1 else (1, 1, 1)
                stride = grid.strides[level] if halves else 1
                fitted = grid.conv(layer.in_channels, layer.out_channels, kernel, stride, bias=False)
                nn.init.kaiming_normal_(fitted.weight, mode="fan_out", nonlinearity="relu")
                resnet.set_submodule(f"{name}.{at}", fitted)


def _load_imagenet(resnet: nn.Module, path: Path, backbone: str) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(f"no such file of encoder weights: {path}")
    try:
        given = load_file(path)
    except SafetensorError as error:
        raise InputError(
            f"{path}: not a safetensors file ({error}); pickled .pth weights are not read"
        ) from None
    wanted = resnet.state_dict()
    missing = [
        name
        for name, value in wanted.items()
        if not name.endswith("num_batches_tracked")
        and (name not in given or given[name].shape != value.shape)
    ]
    if missing:
        raise InputError(
            f"{path}: not weights of a 3-channel {backbone}: {missing[0]} is absent or of another shape"
        )
    with torch.no_grad():
        resnet.load_state_dict({name: given.get(name, value) for name, value in wanted.items()})
