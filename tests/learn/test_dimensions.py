"""Networks of images and of volumes: what is asked for, refused, and kept with a run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from mrprism.core.errors import InputError
from mrprism.core.sample import Task
from mrprism.learn import tie
from mrprism.learn.batch import Batch
from mrprism.learn.devices import on_device
from mrprism.learn.methods.build import build_method
from mrprism.learn.networks.encoder import Encoder
from mrprism.learn.networks.grid import Grid
from mrprism.learn.networks.unet import UNet
from mrprism.learn.settings import RunConfig

TASK = Task(1, ("disc", "cup"), ("ann", "bob", "cy"))


def config(**more: object) -> RunConfig:
    names = {"train": ("a",), "val": ("b",), "test": ("c",)}
    return RunConfig(method="fused-label", task=TASK, dataset="some", dataset_hash="0", **names, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sides", "steps", "reach"),
    [
        # cubes: as images
        (None, [(2, 2, 2)] * 5, [(3, 3, 3)] * 6),
        ((1.0, 1.0, 1.0), [(2, 2, 2)] * 5, [(3, 3, 3)] * 6),
        # 3 mm slices of 1 mm pixels: after one halving 3, 2, 2, of which the longest is below twice the shortest
        ((3.0, 1.0, 1.0), [(1, 2, 2)] + [(2, 2, 2)] * 4, [(1, 3, 3)] + [(3, 3, 3)] * 5),
        # 5 mm of 0.7: 5, 1.4 is thick; 5, 2.8 no more
        ((5.0, 0.7, 0.7), [(1, 2, 2)] * 2 + [(2, 2, 2)] * 3, [(1, 3, 3)] * 2 + [(3, 3, 3)] * 4),
        # exactly twice as long counts as thick; whichever axis it is
        ((1.0, 2.0, 1.0), [(2, 1, 2)] + [(2, 2, 2)] * 4, [(3, 1, 3)] + [(3, 3, 3)] * 5),
        ((1.0, 1.99, 1.0), [(2, 2, 2)] * 5, [(3, 3, 3)] * 6),
    ],
)
def test_thick_slices_are_halved_later(
    sides: tuple[float, ...] | None, steps: list[tuple[int, ...]], reach: list[tuple[int, ...]]
) -> None:
    grid = Grid(3, sides)
    assert list(grid.strides) == steps
    assert [grid.kernel(level) for level in range(6)] == reach


def test_distances_along_thick_axes_are_fewer_pixels() -> None:
    grid = Grid(3, (4.0, 1.0, 1.0))
    assert grid.near(8, 0) == (2, 8, 8)
    assert grid.near(8, 1) == (4, 8, 8)  # 4, 2, 2 mm
    assert grid.near(1, 0) == (1, 1, 1)
    assert Grid().near(4, 1) == (4, 4)


def test_features_of_thick_slices_shrink_as_the_grid_says() -> None:
    encoder = Encoder(1, "small", grid=Grid(3, (3.0, 1.0, 1.0)))
    features = encoder(torch.rand(2, 1, 9, 33, 20))
    assert [tuple(f.shape[2:]) for f in features] == [
        (9, 17, 10),
        (5, 9, 5),
        (3, 5, 3),
        (2, 3, 2),
        (1, 2, 1),
    ]


def test_a_kernel_of_one_voxel_keeps_slices_apart() -> None:
    """Where nothing is halved or reached over along an axis, what stands on one slice says nothing of others."""
    encoder = Encoder(1, "small", grid=Grid(3, (100.0, 1.0, 1.0))).eval()
    volume = torch.rand(1, 1, 4, 32, 32)
    other = volume.clone()
    other[:, :, 2] = torch.rand(1, 1, 32, 32)
    changed = (encoder(volume)[-1] != encoder(other)[-1]).flatten(3).any(-1).any(1)[0]
    assert changed.tolist() == [False, False, True, False]


@pytest.mark.parametrize("sides", [None, (3.0, 1.0, 1.0), (8.0, 1.0, 2.0)])
@pytest.mark.parametrize("space", [(8, 16, 16), (5, 17, 30), (1, 33, 9)])
def test_a_volume_of_any_shape_gets_a_logit_for_each_voxel(
    sides: tuple[float, ...] | None, space: tuple[int, ...]
) -> None:
    network = UNet(2, 3, "small", grid=Grid(3, sides)).eval()
    assert network(torch.rand(1, 2, *space)).shape == (1, 3, *space)


def test_weights_of_images_are_not_for_volumes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="weights are of images"):
        Encoder(3, "small", tmp_path / "weights.safetensors", Grid(3))


def test_every_layer_of_a_volume_s_network_is_of_three_dimensions() -> None:
    flat = (nn.Conv2d, nn.BatchNorm2d, nn.ConvTranspose2d, nn.Dropout2d, nn.MaxPool2d)
    network = build_method("mc-dropout", Task(1, ("disc",), ("ann",), dims=3), "small", {})
    assert not [name for name, part in network.named_modules() if isinstance(part, flat)]


def test_a_method_of_images_refuses_volumes_in_a_sentence() -> None:
    task = Task(1, ("disc", "cup"), ("ann", "bob"), dims=3)
    with pytest.raises(
        InputError, match=r"'beal' learns from images, not .* --slices .* one of .*fused-label"
    ):
        build_method("beal", task, "small", {})


def test_a_run_says_in_how_many_dimensions_and_its_task_does_not() -> None:
    written = json.loads(config(dims=3).model_dump_json())
    assert written["dims"] == 3
    assert set(written["task"]) == {"channels", "structures", "raters", "anonymous"}
    again = RunConfig.model_validate_json(config(dims=3).model_dump_json())
    assert again.network_task.dims == 3
    assert again.task == TASK


def test_a_run_of_before_opens_as_one_of_images() -> None:
    written = json.loads(config().model_dump_json())
    del written["dims"]
    before = RunConfig.model_validate(written)
    assert before == config()
    assert before.network_task == TASK
    trained = tie.settings_of(config())
    del trained["dims"]
    tie.refuse_other_settings(before, trained, "weights", old=False)
    with pytest.raises(InputError, match="dims"):
        tie.refuse_other_settings(config(dims=3), trained, "weights", old=False)


def test_dimensions_hidden_in_a_task_are_refused() -> None:
    written = json.loads(config().model_dump_json())
    written["task"]["dims"] = 3
    with pytest.raises(ValueError, match="dims stands beside it"):
        RunConfig.model_validate(written)


def test_pages_name_the_methods_that_learn_from_images_only() -> None:
    from mrprism.cli.train import run
    from mrprism.learn.methods import METHODS, method_class

    flat = {name for name in METHODS if 3 not in method_class(name).dims}
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    told = re.search(r"slices only: ([^.]*)\.", page)
    assert told is not None and set(re.findall(r"`([\w-]+)`", told[1])) == flat
    told = re.search(r"as they are but ([^(]*), which take", str(run.__doc__))
    assert told is not None and set(re.split(r",\s+|\s+and\s+", told[1])) == flat


def test_on_a_device_convolutions_have_their_channels_last_and_answer_alike() -> None:
    """Whatever else a method holds: of the four axes of the aggregator none is a channel."""
    torch.manual_seed(0)
    task = Task(1, ("disc", "cup"), ("ann", "bob"), dims=3)
    network = build_method("max-mig", task, "small", {}).eval()
    batch = Batch(("a",), torch.rand(1, 1, 8, 16, 16))
    before = network.predict(batch).probability
    moved = on_device(network, "cpu")
    torch.testing.assert_close(moved.predict(batch).probability, before, rtol=1e-4, atol=1e-5)
    weight = moved.get_submodule("unet.decoder.ups.0.refine").weight
    assert isinstance(weight, torch.Tensor)
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
