"""Two commands on one output: the second is refused in a sentence, the first ends as if alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from output.test_lock import holder
from toy import TOYS

from faults import inputs
from faults.test_bad_inputs import arguments, content
from faults.test_failing_machine import TRAIN, WRITERS
from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.learn.methods import METHODS
from mrprism.learn.run import Run
from mrprism.output.lock import alone

MORE = {  # beside all that write
    "import in place": "import folder {in}/folder {in}/folder/dataset.json",
    "compare": "compare {in}/data --out {out} --methods toy --epochs 1 --size 20 --device cpu --quiet",
    "train --resume": "train --resume {in}/run --quiet",
    "evaluate --split val": "evaluate {in}/run --dataset {in}/data --split val --device cpu --quiet",
    "fuse staple": "fuse {in}/data --method staple --out {out}",
    "export onnx": "export {in}/run --to onnx --out {out}",
    "export tiff": "export {in}/data --to tiff --out {out}",
    "export nifti": "export {in}/data --to nifti --out {out}",
    "export bids": "export {in}/data --to bids --out {out}",
    "import dataset": "import dataset {in}/data {out}",
    "export hf": "export {in}/run --to hf --out {out}",
    "demo": "demo --quick --out {out}",
    "study": "study {in}/study.toml",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained") / "in"
    inputs.squares(root / "data")
    inputs.folder(root / "folder")
    inputs.masks(root / "masks")
    (root / "study.toml").write_text('[study]\ndataset = "data"\nout = "study"\n')
    METHODS.update(TOYS)
    try:
        assert call([*TRAIN, str(root / "data"), "--out", str(root / "run")]) == 0
    finally:
        for name in TOYS:
            del METHODS[name]
    return root


@pytest.fixture(autouse=True)
def one_thread(toys: None) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def output_of(command: str) -> str:
    """The place a command writes to, as it stands in the command."""
    parts = command.split()
    if "evaluate" in parts or "--resume" in parts:
        return "{in}/run"
    if "study" in parts:
        return "{in}/study"
    if "{in}/folder/dataset.json" in command:
        return "{in}/folder/dataset.json"
    return next(part for part in parts if part.startswith("{out}"))


@pytest.mark.parametrize("command", [*WRITERS.values(), *MORE.values()], ids=[*WRITERS, *MORE])
def test_the_second_comer_is_refused(
    command: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").symlink_to(trained)
    out = arguments(output_of(command), tmp_path)[0]
    before = content(trained)
    capsys.readouterr()
    with holder(out):
        code = call(arguments(command, tmp_path))
        said = capsys.readouterr().err
        if command.startswith(("train --resume", "compare")) and "holds" in said:
            pytest.fail(said)
        assert code == 2, said
        assert "is being written by another command (process " in said
        assert said.splitlines()[-1].startswith("mrprism: ")
        assert not Path(out).exists() or "{in}" in output_of(command)
    assert content(trained) == before
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_run_is_locked_until_it_is_scored(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    def another(run: Run, *_: object, **__: object) -> None:
        with ThreadPoolExecutor(1) as other, pytest.raises(InputError, match="is being written"):
            other.submit(lambda: alone(run.path).__enter__()).result()
        refused.append(run.path)

    monkeypatch.setattr("mrprism.cli.evaluate.show_scores", another)
    assert call([*TRAIN, str(trained / "data"), "--out", str(tmp_path / "run")]) == 0
    assert refused == [tmp_path / "run"]
