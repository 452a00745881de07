"""A launcher that was asked for several processes and started one is told of."""

from __future__ import annotations

import pytest

from mrprism.core.errors import InputError
from mrprism.learn.processes import refuse_a_lone_process

# what accelerate launch --cpu --num_processes 2 gives the one process it starts (Accelerate 1.15)
LONE = {
    "ACCELERATE_USE_CPU": "True",
    "ACCELERATE_MIXED_PRECISION": "no",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


def test_one_process_where_several_were_asked_for_is_refused() -> None:
    with pytest.raises(InputError, match="use torchrun --nproc_per_node N -m mrprism train"):
        refuse_a_lone_process(LONE)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {name: value for name, value in LONE.items() if not name.startswith("MASTER")},  # --num_processes 1
        {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"},  # a cluster's own, no launcher
        {**LONE, "WORLD_SIZE": "2", "RANK": "0"},  # torchrun
        {**LONE, "PMI_SIZE": "2"},  # mpirun
        {**LONE, "OMPI_COMM_WORLD_SIZE": "2"},
    ],
)
def test_what_is_as_it_was_asked_for_is_not(environment: dict[str, str]) -> None:
    refuse_a_lone_process(environment)


def test_training_refuses_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mrprism.cli import call

    for name in ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in LONE.items():
        monkeypatch.setenv(name, value)
    for command in (["train", "nowhere", "--out", "nowhere-run"], ["train", "--resume", "nowhere"]):
        assert call(command) == 2
        assert "started only this one" in capsys.readouterr().err
