"""`--jobs` and `--on`: whoever does the cases, what comes of them is the same to the byte."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tasks import Deadly
from trees import blob, picture, png

from mrprism.agreement import agree
from mrprism.cli import call
from mrprism.core.errors import InputError, WorkersLost
from mrprism.core.workers import Workers
from mrprism.datasets import write_dataset
from mrprism.datasets.phantom import phantom, phantom_task
from mrprism.fusion.folder import fuse_folder

CASES, SIZE = 4, 32
TWO = Workers(2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four cases of three raters, who did not all do all of them."""
    folder = tmp_path_factory.mktemp("jobs") / "data"
    samples = phantom("missing", cases=CASES, size=SIZE, seed=3)
    return Path(write_dataset(samples, folder, name="phantom", task=phantom_task("missing")))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def same(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> None:
    assert sorted(one) == sorted(other)
    assert one
    for name in one:
        assert one[name] == other[name], name


COMMANDS = {
    "check": "check {data} --out {out}/check.html",
    "agree": "agree {data} --out {out} --resamples 20 --outline",
    "pooled": "fuse {data} --out {out} --method staple --pooled",
    "auto": "fuse {data} --out {out} --method auto",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_two_processes_write_what_one_does(
    name: str, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """All files, and all that is said."""
    found, said = [], []
    for jobs in (1, 2):
        out = tmp_path / str(jobs) / "out"
        assert call([*COMMANDS[name].format(data=data, out=out).split(), "--jobs", str(jobs)]) in (0, 1)
        found.append(tree(out))
        said.append([text.replace(str(out), "OUT") for text in capfd.readouterr()])
    same(*found)
    assert said[0] == said[1]


def test_what_was_begun_alone_is_gone_on_with_by_two(data: Path, tmp_path: Path) -> None:
    command = ["fuse", str(data), "--out", str(tmp_path / "out"), "--method", "majority"]
    assert call(command) == 0
    whole = tree(tmp_path / "out")
    for case in sorted((tmp_path / "out/cases").iterdir())[1:3]:
        for file in case.iterdir():
            file.unlink()
        case.rmdir()
    assert call([*command, "--jobs", "2"]) == 0
    same(whole, tree(tmp_path / "out"))


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images and raters, and one in which cases come out of one file."""
    root = tmp_path_factory.mktemp("trees")
    for number in range(4):
        png(root / f"folder/images/case {number}.png", picture(number))
        for rater, name in enumerate(("ann", "ben", "cy")[: 2 + number % 2]):
            png(root / f"folder/{name}/case {number}.png", blob(10 * number + rater) * np.uint8(255))
    png(root / "folder/images/CASE_3.png", picture(9))
    png(root / "folder/ann/CASE_3.png", blob(9) * np.uint8(255))
    (root / "folder/notes.txt").write_text("nothing to read")
    return root


@pytest.mark.parametrize("options", ["", "-o without=cy -o pseudonyms=yes"])
def test_two_processes_import_what_one_does(options: str, trees: Path, tmp_path: Path) -> None:
    found = []
    for jobs in ("1", "2"):
        out = tmp_path / jobs / "out"
        assert (
            call(["import", "folder", str(trees / "folder"), str(out), *options.split(), "--jobs", jobs]) == 0
        )
        found.append(tree(out.parent))
    same(*found)


def test_cases_that_come_one_by_one_are_written_by_two(data: Path, tmp_path: Path) -> None:
    """The phantom is no list of files: one process makes the cases, two write them."""
    found = []
    for workers in (Workers(), TWO):
        out = tmp_path / str(workers.jobs)
        samples = phantom("missing", cases=CASES, size=SIZE, seed=3)
        write_dataset(samples, out, name="phantom", task=phantom_task("missing"), workers=workers)
        found.append(tree(out))
    same(*found)
    same(found[0], tree(data))


def test_masks_that_do_not_fit_are_told_together(
    trees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    for name, content in tree(trees / "folder").items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    for number in (0, 2):
        png(source / f"ben/case {number}.png", blob(1, (7, 7)) * np.uint8(255))
    said = []
    for jobs in ("1", "2"):
        out = tmp_path / "out"
        assert call(["import", "folder", str(source), str(out), "--jobs", jobs]) == 2
        said.append(capsys.readouterr().err)
        assert not out.exists()
        assert not [path for path in tmp_path.iterdir() if "unfinished" in path.name]
    assert said[0] == said[1]
    assert "2 masks do not fit" in said[0]


def deadly(folder: Path, times: int) -> Deadly:
    folder.mkdir(parents=True)
    return Deadly(
        phantom_task("missing"), list(phantom("missing", cases=CASES, size=SIZE, seed=3)), folder, times
    )


def fused(cases: Deadly, out: Path, workers: Workers) -> None:
    names = [case.name for case in cases.cases]
    kept = {"names": names, "file_names": list, "groups": names}
    fuse_folder(cases, cases.task, out, "majority", workers=workers, **kept)  # type: ignore[arg-type]


def test_a_killed_worker_changes_nothing(tmp_path: Path) -> None:
    cases = deadly(tmp_path / "deaths", 1)
    fused(cases, tmp_path / "one", Workers())
    fused(cases, tmp_path / "two", TWO)
    assert len(list((tmp_path / "deaths").iterdir())) == 1
    same(tree(tmp_path / "one"), tree(tmp_path / "two"))
    found = []
    for workers in (Workers(), TWO):
        for mark in (tmp_path / "deaths").iterdir():
            mark.unlink()
        found.append(agree(cases, resamples=0, workers=workers))
    assert len(list((tmp_path / "deaths").iterdir())) == 1
    assert found[0].structures[0].overall["dice"].value == found[1].structures[0].overall["dice"].value


def test_a_case_that_no_worker_survives_is_named_and_the_rest_can_be_gone_on_with(tmp_path: Path) -> None:
    cases = deadly(tmp_path / "deaths", 3)
    name = cases.cases[1].name
    with pytest.raises(WorkersLost, match=f"died one after the other of case '{name}'"):
        fused(cases, tmp_path / "out", TWO)
    left = [path.name for path in (tmp_path / "out/cases").iterdir()]
    assert cases.cases[0].name in left
    assert name not in left
    assert not [each for each in left if each.endswith(".unfinished")]
    fused(cases, tmp_path / "out", TWO)  # whatever killed them is gone
    fused(cases, tmp_path / "one", Workers())
    same(tree(tmp_path / "one"), tree(tmp_path / "out"))


def test_an_unreadable_mask_is_the_same_sentence(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "data"
    for name, content in tree(data).items():
        (broken / name).parent.mkdir(parents=True, exist_ok=True)
        (broken / name).write_bytes(content)
    mask = sorted((broken / "masks").rglob("*.png"))[2]
    mask.write_bytes(mask.read_bytes()[:40])
    for verb in ("check", "agree", "fuse"):
        said = set()
        for jobs in ("1", "2"):
            out = tmp_path / verb / jobs / "out"
            assert call([verb, str(broken), "--out", str(out), "--jobs", jobs]) == 2
            captured = capsys.readouterr()
            said.add(captured.out if verb == "check" else captured.err.splitlines()[-1])
            assert not list(out.rglob("*.unfinished"))
        assert len(said) == 1
        assert str(mask) in said.pop()


def test_mask_files_are_one_case(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = [str(path) for path in sorted((data / "masks").rglob("*.png"))[:2]]
    assert call(["fuse", "--masks", *masks, "--out", str(tmp_path / "out"), "--jobs", "2"]) == 2
    assert "--jobs and --on need a data set" in capsys.readouterr().err


def test_cases_that_stay_in_this_process(tmp_path: Path) -> None:
    class Here(Deadly):
        pass

    cases = Here(phantom_task("missing"), list(phantom("missing", cases=3, size=SIZE)), tmp_path, 0)
    with pytest.raises(InputError, match="cannot be handed to other processes"):
        agree(cases, workers=TWO)


def test_two_processes_predict_and_score_what_one_does(data: Path, tmp_path: Path) -> None:
    """Each loads the run once; masks, probabilities, tables and pictures are the same to the byte."""
    run = tmp_path / "run"
    small = "--size 32 --epochs 1 --backbone small --method fused-label --device cpu --no-evaluate --quiet"
    assert call(["train", str(data), "--out", str(run), *small.split()]) == 0
    images = [str(path) for path in sorted((data / "images").iterdir())]
    found = []
    for jobs in ("1", "2"):
        many = ["--device", "cpu", "--jobs", jobs]
        assert call(["predict", str(run), *images, "--out", str(tmp_path / jobs), *many]) == 0
        assert call(["evaluate", str(run), "--quiet", *many]) == 0
        found.append(
            tree(tmp_path / jobs) | {name: file for name, file in tree(run).items() if name != ".lock"}
        )
    same(*found)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_on_a_ray_cluster(data: Path, tmp_path: Path) -> None:
    """In a process of its own, for Ray leaves warnings behind."""
    alone, cluster = tmp_path / "alone/out", tmp_path / "cluster/out"
    assert call(COMMANDS["pooled"].format(data=data, out=alone).split()) == 0
    command = [sys.executable, "-m", "mrprism", *COMMANDS["pooled"].format(data=data, out=cluster).split()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (tmp_path / "said").open("w+") as said:  # a pipe would stay open as long as anything of Ray's lives
        done = subprocess.run(
            [*command, "--on", "ray"], stdout=said, stderr=said, check=False, env=environment
        )
    assert done.returncode == 0, (tmp_path / "said").read_text()
    same(tree(alone), tree(cluster))
