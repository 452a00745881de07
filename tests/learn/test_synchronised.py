"""Batch norm over two processes is batch norm over both batches: against torch's own on the doubled batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mrprism.learn.synchronised import SynchronisedNorm, SynchronisedVolumeNorm, synchronise

PROGRAM = """
import sys
import torch
from torch import distributed, nn
from mrprism.learn.synchronised import synchronise

rank, store, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
given = torch.load(f"{folder}/given.pt")
network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
network.load_state_dict(given["weights"])
synchronise(network)
for batch in given["batches"]:
    loss = (network(batch[2 * rank : 2 * rank + 2]) ** 3).mean()
    network.zero_grad()
    loss.backward()
gradients = [p.grad.clone() for p in network.parameters()]
for gradient in gradients:
    distributed.all_reduce(gradient)
    gradient /= 2
found = {"buffers": dict(network.named_buffers()), "gradients": gradients}
torch.save(found, f"{folder}/found{rank}.pt")
"""


@pytest.mark.slow
def test_two_processes_are_one_with_the_doubled_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)
    )
    batches = [torch.randn(4, 2, 7, 6) * (1 + torch.arange(4)[:, None, None, None]) for _ in range(2)]
    torch.save({"weights": network.state_dict(), "batches": batches}, tmp_path / "given.pt")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM]
    started = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store"), str(tmp_path)], env=environment)
        for rank in (0, 1)
    ]
    for process in started:
        assert process.wait(timeout=300) == 0
    for batch in batches:
        network.zero_grad()
        (network(batch) ** 3).mean().backward()
    for rank in (0, 1):
        found = torch.load(tmp_path / f"found{rank}.pt")
        for name, buffer in network.named_buffers():
            assert torch.allclose(found["buffers"][name], buffer, atol=1e-6), name
        for parameter, gradient in zip(network.parameters(), found["gradients"], strict=True):
            assert parameter.grad is not None
            assert torch.allclose(gradient, parameter.grad, rtol=1e-4, atol=1e-6)


NORMS = [(nn.BatchNorm2d, SynchronisedNorm, (5, 4)), (nn.BatchNorm3d, SynchronisedVolumeNorm, (3, 5, 4))]
AS_OF = pytest.mark.parametrize(("norm", "together", "space"), NORMS, ids=["images", "volumes"])
Norm = type[nn.BatchNorm2d] | type[nn.BatchNorm3d]


@AS_OF
def test_alone_and_when_predicting_nothing_changes(
    norm: Norm, together: type[nn.Module], space: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    one, other = norm(3), norm(3)
    synchronise(nn.Sequential(other))
    assert type(other) is together
    assert one.state_dict().keys() == other.state_dict().keys()
    x = torch.randn(2, 3, *space)
    assert torch.equal(one(x), other(x))
    assert torch.equal(one.eval()(x), other.eval()(x))


@AS_OF
def test_the_statistics_are_those_of_torch(
    norm: Norm, together: type[nn.Module], space: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in one of two processes that have the same batch: sums are twice as large, and so are counts."""
    torch.manual_seed(0)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: tensor.mul_(2))
    for momentum in (0.1, None):
        one, other = (norm(3, momentum=momentum) for _ in range(2))
        synchronise(nn.Sequential(other))
        for _ in range(3):
            x = torch.randn(2, 3, *space) * 3 + 1
            assert torch.allclose(one(torch.cat([x, x])), torch.cat([other(x)] * 2), atol=1e-5)
        for name, buffer in one.named_buffers():
            assert torch.allclose(buffer, dict(other.named_buffers())[name], atol=1e-5), name
    half = torch.randn(2, 3, *space, dtype=torch.bfloat16)
    assert other(half).dtype == torch.bfloat16
