"""A disk that is full, a file that may not be read or written, a process that dies: said, never called success.

Every command that writes is run with the disk failing at one place after another; then once more with a
sound disk, which must give what an undisturbed run gives.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from toy import TOYS

from faults import inputs
from faults.test_bad_inputs import arguments, content
from mrprism.cli import call
from mrprism.learn.methods import METHODS

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

NOISE = ("seconds", "milliseconds")


@pytest.fixture(autouse=True)
def one_thread(toys: None) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set and a toy run, trained and scored."""
    root = tmp_path_factory.mktemp("trained")
    inputs.squares(root / "data")
    METHODS.update(TOYS)
    try:
        assert call([*TRAIN, str(root / "data"), "--out", str(root / "run")]) == 0
    finally:
        for name in TOYS:
            del METHODS[name]
    return root


TRAIN = ["train", "--method", "toy", "--epochs", "2", "--size", "20", "--batch-size", "2", "--device", "cpu"]
TRAIN += ["--quiet", "--checkpoint-every", "0"]

WRITERS = {  # what writes: the command, and where to
    "phantom": "phantom {out} --size 32 --cases 2",
    "import": "import folder {in}/folder {out}",
    "check": "check {in}/data --out {out}.html",
    "fuse": "fuse {in}/data --method majority --out {out}",
    "fuse --masks": "fuse --masks {in}/masks/ann.nii.gz {in}/masks/bob.nii.gz --method majority --out {out}",
    "agree": "agree {in}/data --out {out} --resamples 5 --no-distances --pictures 1",
    "export png": "export {in}/data --to png --out {out}",
    "export coco": "export {in}/data --to coco --out {out}",
    "export nnunet": "export {in}/data --to nnunet --raters majority --out {out}",
    "train": " ".join([*TRAIN, "{in}/data", "--out", "{out}"]),
    "predict": "predict {in}/run {in}/data/images/case0.png --out {out} --device cpu",
    "evaluate": "evaluate {in}/run --dataset {in}/data --device cpu --quiet",
    "report": "report {in}/run --out {out}.html",
}
KINDS = {
    errno.ENOSPC: "No space left on device",
    errno.EACCES: "Permission denied",
    errno.EIO: "Input/output error",
}


@contextmanager
def failing(name: str, at: int, number: int) -> Iterator[list[str]]:
    """The call of this number, of this function of `os`, fails; gives the list of all calls."""
    real = getattr(os, name)
    calls: list[str] = []

    def function(*given: Any, **more: Any) -> Any:
        calls.append(str(given[0]))
        if len(calls) - 1 == at:
            raise OSError(number, os.strerror(number))
        return real(*given, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, name, function)
        yield calls


@contextmanager
def no_file_larger(size: int) -> Iterator[None]:
    """Every write beyond this many bytes fails, in whatever language it is done: as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def results(root: Path) -> dict[str, str]:
    """What a command left, and its input, but for times and the place where it lies."""
    found = {}
    for name, digest in content(root).items():
        if name.endswith(".json"):
            digest = (root / name).read_text().replace(str(root), "")
        if name.endswith(("log.jsonl", "result.json")):
            lines = [
                json.loads(line) for line in (root / name).read_text().splitlines() if name.endswith("l")
            ]
            digest = str([{key: value for key, value in line.items() if key not in NOISE} for line in lines])
        if not name.endswith((".html", ".npz")):  # pages and archives hold times
            found[name] = digest
    return found


@pytest.mark.parametrize("writer", WRITERS)
def test_a_disk_that_fails_at_one_place_after_another(
    writer: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fresh(name: str) -> tuple[Path, list[str]]:
        root = tmp_path / name
        (root / "in").mkdir(parents=True)
        for part in ("data", "run"):
            shutil.copytree(trained / part, root / "in" / part)
        inputs.folder(root / "in/folder")
        inputs.masks(root / "in/masks")
        return root, arguments(WRITERS[writer], root)

    root, command = fresh("straight")
    with failing("replace", -1, errno.ENOSPC) as calls:
        assert call(command) == 0, capsys.readouterr().err
    count, expected = len(calls), results(root)
    assert count > 0
    places = sorted({0, 1, count // 3, count // 2, count - 1} & set(range(count)))
    for place, (number, why) in zip(places, list(KINDS.items()) * 2, strict=False):
        root, command = fresh(f"failing{place}")
        before = content(root / "in")
        capsys.readouterr()
        with failing("replace", place, number):
            code = call(command)
        said = capsys.readouterr().err
        assert code == 2, said
        assert why.lower() in said.lower()
        assert "Traceback" not in said
        assert [
            path for path in root.rglob(".*") if path.name.endswith((".tmp", ".part", ".unfinished"))
        ] == []
        if writer != "evaluate":  # its table is in the run's folder
            assert content(root / "in") == before
        assert call(command) == 0, capsys.readouterr().err
        again = results(root)
        assert again == expected, place
        shutil.rmtree(root)
    if resource is None:
        return
    root, command = fresh("small")
    before = content(root / "in")
    capsys.readouterr()
    with no_file_larger(40):
        assert call(command) == 2
    said = capsys.readouterr().err
    assert "cannot write" in said
    assert "file too large" in said.lower()
    assert "Traceback" not in said
    assert content(root / "in") == before
    assert [path for path in root.rglob(".*") if path.name.endswith((".tmp", ".part", ".unfinished"))] == []


@pytest.mark.skipif(not hasattr(os, "sendfile"), reason="copies otherwise")
def test_a_disk_that_is_full_while_an_image_is_copied(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with failing("sendfile", 3, errno.ENOSPC):
        assert call(["export", str(trained / "data"), "--to", "png", "--out", str(out)]) == 2
    assert f"cannot write '{out}': No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# --- files that cannot be read ------------------------------------------------------------------

READERS = {  # the file that cannot be read, and a command that reads it
    "data/dataset.json": "fuse {in}/data --method majority --out {out}",
    "data/images/case0.png": "export {in}/data --to nifti --out {out}",
    "data/masks/bob/case0_cup.png": "check {in}/data",
    "data/masks/cy/case1_disc.png": " ".join([*TRAIN, "{in}/data", "--out", "{out}"]),
    "data/reference/case2_cup.png": "evaluate {in}/run --dataset {in}/data --device cpu --quiet",
    "run/config.json": "predict {in}/run {in}/data/images/case0.png --out {out} --device cpu",
    "run/table.csv": "report {in}/run --out {out}.html",
    "run/examples/0-case2.npz": "report {in}/run --out {out}.html",
    "coco/ann.json": "import coco {in}/coco {out}",
    "cvat/ann.xml": "import cvat {in}/cvat {out}",
    "riga/DiscRegion/Glaucoma_multirater_MESSIDOR.csv": "import riga {in}/riga {out}",
    "stare/im0001.ah.ppm.gz": "import stare {in}/stare {out}",
    "slicer/ann/c.seg.nrrd": "import slicer {in}/slicer {out}",
    "curvas/UKCHLL001/annotation_2.nii.gz": "import curvas {in}/curvas {out}",
    "lidc/lidc.npz": "import lidc {in}/lidc {out}",
}


@contextmanager
def unreadable(path: Path, number: int) -> Iterator[None]:
    """Opening this file fails."""
    real: Callable[..., Any] = io.open

    def opened(file: Any, *more: Any, **named: Any) -> Any:
        if isinstance(file, str | os.PathLike) and Path(file) == path:
            raise OSError(number, os.strerror(number), str(file))
        return real(file, *more, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)
        yield


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("file", READERS)
def test_a_file_that_cannot_be_read(
    file: str, number: int, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    part = file.split("/")[0]
    for name in ("data", "run"):
        shutil.copytree(trained / name, tmp_path / "in" / name)
    if part not in ("data", "run"):
        inputs.GOOD[part](tmp_path / "in" / part)
    path = next(iter((tmp_path / "in").glob(file)))
    before = content(tmp_path)
    with unreadable(path, number):
        code = call(arguments(READERS[file], tmp_path))
    printed = capsys.readouterr()
    said = printed.out + printed.err
    assert code == 2, said
    assert path.name in said
    assert KINDS[number].lower() in said.lower()
    assert "Traceback" not in said
    left = {name: digest for name, digest in content(tmp_path).items() if name != "out/fuse.json"}
    assert left == before


def test_a_folder_that_may_not_be_written_to(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.geteuid() == 0:
        pytest.skip("the administrator may write everywhere")
    (tmp_path / "locked").mkdir(mode=0o500)
    for command in ("phantom {out} --size 32 --cases 1", "import folder {in} {out}"):
        inputs.folder(tmp_path / "in") if not (tmp_path / "in").exists() else None
        given = [
            part.replace(str(tmp_path / "out"), str(tmp_path / "locked/out"))
            for part in arguments(command, tmp_path)
        ]
        assert call(given) == 2
        assert "permission denied" in capsys.readouterr().err.lower()


@pytest.mark.parametrize("writer", ["phantom", "import", "fuse", "agree", "export png", "train", "predict"])
def test_a_folder_that_may_not_be_made(
    writer: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the test above, for those who may write everywhere."""
    shutil.copytree(trained, tmp_path / "in")
    inputs.folder(tmp_path / "in/folder")
    before = content(tmp_path)
    with failing("mkdir", 0, errno.EACCES):
        assert call(arguments(WRITERS[writer], tmp_path)) == 2
    said = capsys.readouterr().err
    assert "permission denied" in said.lower()
    assert str(tmp_path / "out") in said
    assert content(tmp_path) == before


# --- a loss that is no number, and processes that die -------------------------------------------


def test_batches_without_a_number_are_skipped_and_counted(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*TRAIN, str(trained / "data"), "--option", "fail=case0", "--out"]
    assert call([*command, str(tmp_path / "stopped")]) == 2
    said = capsys.readouterr().err
    assert "the loss is not a number any more (consensus nan)" in said
    assert "case0" in said
    assert not (tmp_path / "stopped/result.json").exists()
    assert call([*command, str(tmp_path / "run"), "--nan", "skip"]) == 0
    assert "1 of 2 batches of epoch 1 were skipped: their loss is not a number" in capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    skipped = [line["skipped"] for line in lines if "skipped" in line]
    assert len(skipped) == 2
    assert all("case0" in names for names in skipped)
    assert sum("loss" in line for line in lines) == 2
    assert json.loads((tmp_path / "run/result.json").read_text())["skipped"] == 2


def test_nothing_left_to_learn_from_stops(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        *TRAIN,
        str(trained / "data"),
        "--option",
        "fail=nan",
        "--nan",
        "skip",
        "--out",
        str(tmp_path / "run"),
    ]
    assert call(command) == 2
    assert "the loss of every batch of epoch 1 is not a number" in capsys.readouterr().err
    assert not (tmp_path / "run/result.json").exists()


def test_a_skipped_batch_leaves_no_trace(tmp_path: Path) -> None:
    """Weights and running means are those of a training that never saw the batch's losses."""
    from toy import dataset

    from mrprism.learn.train import train

    options: dict[str, Any] = {"size": 20, "batch_size": 2, "device": "cpu", "quiet": True, "select": "last"}
    run = train(
        dataset(8), "toy", tmp_path / "a", epochs=1, nan="skip", options={"fail": "case03"}, **options
    )
    from mrprism.learn.weights import load_method

    assert all(bool(tensor.isfinite().all()) for tensor in load_method(run).state_dict().values())
    assert (run.result() or pytest.fail("no result")).skipped in (0, 1)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        torch.OutOfMemoryError("tried to allocate 9 GiB"),
        MemoryError(),
    ],
    ids=str,
)
def test_out_of_memory_while_predicting(
    error: Exception,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def predict(self: Any, batch: Any) -> Any:
        raise error

    monkeypatch.setattr(TOYS["toy"], "predict", predict)
    photo = str(trained / "data/images/case0.png")
    assert (
        call(["predict", str(trained / "run"), photo, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 2
    )
    assert "case0.png' of 20 × 20 pixels on cpu: predict smaller images" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_out_of_memory_anywhere_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mrprism.datasets import phantom

    def fundus(*_: object) -> None:
        raise MemoryError("Unable to allocate 14.6 TiB for an array")

    monkeypatch.setattr(phantom, "fundus", fundus)
    assert call(["phantom", str(tmp_path / "out"), "--size", "32", "--cases", "1"]) == 2
    assert "out of memory: Unable to allocate 14.6 TiB" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
