"""A backbone small enough for tests of every method, on one thread: images here are too small to share out."""

import pytest
import torch

from mrprism.learn.networks.encoder import BACKBONES

BACKBONES["tiny"] = ((1, 1, 1, 1), (16, 16, 16, 16))
BACKBONES["narrow"] = ((1, 1, 1, 1), (16, 16, 32, 64))  # room for a condition in the deepest features


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
