"""A training killed at any moment and resumed equals one never stopped, bit for bit on a CPU."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from events import PATIENCE, until
from safetensors.torch import load_file

TESTS = Path(__file__).parents[1]

PROGRAM = """
import sys
from mrprism.cli import call
from mrprism.learn.methods import METHODS
from toy import TOYS
METHODS.update(TOYS)
sys.exit(call(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from toy import TASK, samples

    from mrprism.datasets import write_dataset

    folder = tmp_path_factory.mktemp("data") / "squares"
    write_dataset(samples(12), folder, name="squares", task=TASK)
    return folder


def arguments(data: Path, out: Path, wait: float) -> list[str]:
    # fmt: off
    return [
        "train", str(data), "--out", str(out), "--method", "toy", "--option", f"wait={wait}", "--epochs", "6",
        "--size", "20", "--batch-size", "2", "--learning-rate", "0.01", "--device", "cpu",
        "--checkpoint-every", "0.05", "--no-evaluate",
    ]
    # fmt: on


def start(command: list[str], more: dict[str, str] | None = None) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS), **(more or {})}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "batch norm"])
def test_two_processes_learn_what_one_does_with_twice_the_batch(
    data: Path, tmp_path: Path, kind: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    more = ["--option", "plain=true"]
    if kind == "batch norm":  # a real network; few small steps, for Adam enlarges what is rounded otherwise
        more = ["--method", "fused-label", "--backbone", "small", "--size", "32", "--epochs", "2"]
        more += ["--learning-rate", "1e-4"]
    weights = []
    for name, batch, environments in (
        ("one", "4", [{}]),
        ("two", "2", [{**together, "RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]),
    ):
        command = arguments(data, tmp_path / name, 0.0)
        if kind == "batch norm":
            command = [part for part in command if part not in ("--option", "wait=0.0")]
        command += [*more, "--augment", "none", "--batch-size", batch, "--select", "last"]
        for process in [start(command, environment) for environment in environments]:
            output = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, output
        weights.append(load_file(tmp_path / name / "weights.safetensors"))
    for tensor_name, one in weights[0].items():
        # deeper, where 32 pixels are one, four cases are all that is normalised by, and rounding is enlarged
        if kind == "plain" or ".encoder." in tensor_name:
            assert torch.allclose(one, weights[1][tensor_name], atol=1e-3), tensor_name


def finish(command: list[str]) -> None:
    process = start(command)
    output = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output


def log(run: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def wait_for_steps(run: Path, steps: int, process: subprocess.Popen[str]) -> None:
    state = run / "checkpoint" / "state.json"
    until(
        lambda: state.is_file() and json.loads(state.read_text())["progress"]["total_steps"] >= steps, process
    )


@pytest.mark.parametrize("kind", ["images", "slices"])
def test_kill_nine_and_resume_is_bit_equal(data: Path, tmp_path: Path, kind: str) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    more = []
    if kind == "slices":
        from volumes import TASK, volumes

        from mrprism.datasets import write_dataset

        data = write_dataset(volumes(5), tmp_path / "blocks", name="blocks", task=TASK)
        more = ["--slices", "axial", "--neighbours", "1", "--drawn-only"]
    finish(arguments(data, straight, 0.04) + more)
    hold = tmp_path / "hold"  # so that no process gets to the end before it is killed, however late that is
    hold.write_text("4")
    process = start(arguments(data, killed, 0.04) + more, {"TOY_HOLD": str(hold)})
    moments = random.Random(0)
    for steps in (2, 11):  # a step takes 0.04 s and a checkpoint comes at every other one
        wait_for_steps(killed, steps, process)
        time.sleep(moments.uniform(0, 0.12))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (killed / "result.json").exists()
        hold.write_text("12")
        process = start(
            ["train", "--resume", str(killed), "--checkpoint-every", "0.05", "--no-evaluate"],
            {"TOY_HOLD": str(hold)},
        )
    hold.unlink()
    output = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert log(killed) == log(straight)
    assert (killed / "weights.safetensors").read_bytes() == (straight / "weights.safetensors").read_bytes()


def test_ctrl_c_saves_says_how_to_go_on_and_exits_130(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    hold = tmp_path / "hold"
    hold.write_text("6")
    process = start(arguments(data, run, 0.1), {"TOY_HOLD": str(hold)})
    wait_for_steps(run, 2, process)
    process.send_signal(signal.SIGINT)
    hold.unlink()
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "go on with: mrprism train --resume" in error
    assert "Traceback" not in error
    saved = json.loads((run / "checkpoint" / "state.json").read_text())["progress"]
    steps = [line["step"] for line in log(run) if "loss" in line]
    assert steps == list(range(1, saved["total_steps"] + 1))  # not one step is lost
