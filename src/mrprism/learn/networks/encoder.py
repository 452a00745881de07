"""MONAI's residual networks as encoders with features at strides 2, 4, 8, 16 and 32."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mrprism.core.errors import InputError, unknown

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

    def __init__(self, channels: int, backbone: str = "resnet34", weights: Path | None = None) -> None:
        """
        Args:
            weights: ImageNet weights under torchvision's names, as safetensors; used for three channels only.
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
            spatial_dims=2,
            n_input_channels=channels,
            conv1_t_stride=2,
            bias_downsample=False,
            feed_forward=False,
        )
        self.widths = (widths[0], *widths)
        if weights is not None:
            _load_imagenet(self.resnet, weights, backbone)

    def forward(self, image: Float[Tensor, "B channel H W"]) -> list[Tensor]:
        """Feature maps from stride 2 to stride 32; sizes are rounded up, so any H and W will do."""
        net = self.resnet
        features = [net.act(net.bn1(net.conv1(image)))]
        x = net.maxpool(features[0])
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            features.append(x)
        return features


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
