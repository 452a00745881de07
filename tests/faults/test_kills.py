"""Killed with SIGKILL at random moments and given again, a command ends as if nothing had happened.

No moment is written down here: a command first runs undisturbed, which says how long it takes on this machine; then
it is killed at moments drawn from that time until the wanted number of kills has hit. Results are
compared byte by byte.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from report.fabricate import fabricate_run
from safetensors.torch import load_file

from faults import inputs

TESTS = Path(__file__).parents[1]
KILLS = {"train": 14, "fuse": 12, "predict": 10, "import": 12, "export": 6, "compare": 6}
OVER = {
    "agree": 12,
    "evaluate": 10,
    "fuse --masks": 8,
    "report": 4,
    "predict": 4,
    "compare": 3,
}  # over an older result of the same command

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


class Forks:
    """The fork server, asked for one command at a time."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log.txt"
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_server.py"))],
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, arguments: list[str], kill_after: float | None = None, with_children: bool = False
    ) -> tuple[int, float]:
        """Exit code (-9: killed) and seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {
            "arguments": arguments,
            "log": str(self.log),
            "kill_after": kill_after,
            "with_children": with_children,
        }
        print(json.dumps(order), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        return answer["code"], answer["seconds"]

    def finish(self, arguments: list[str], ends: int = 0) -> float:
        code, seconds = self.run(arguments)
        assert code == ends, self.log.read_text()
        return seconds

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    server = Forks(tmp_path_factory.mktemp("forks"))
    yield server
    server.close()


@dataclass
class Case:
    """A command, and what of its folder must be as if it had never been killed."""

    arguments: Callable[[Path], list[str]]  # for an output folder
    result: Callable[[Path], dict[str, bytes]]  # what is compared at the end
    progress: Callable[[Path], int] = lambda out: 0  # never goes back, however often it is killed
    whole: Callable[[Path, Path], None] = lambda out, straight: None  # what must hold after every kill
    with_children: bool = False
    ends: int = 0  # the exit code of a command that was not killed
    once: bool = (
        False  # refuses a folder that is there already, also one it had just finished when it was killed
    )


def everything(out: Path, *, but: tuple[str, ...] = ()) -> dict[str, bytes]:
    files = {str(path.relative_to(out)): path for path in sorted(out.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if Path(name).name not in but}


def clean(out: Path) -> None:
    """Nothing half-written lies about once a command has ended well."""
    hidden = [path for path in out.parent.rglob(".*") if not path.name.endswith(".lock")]
    assert hidden == []


def torment(forks: Forks, case: Case, kills: int, folder: Path, seed: int) -> None:
    """Kill so often, going on with the same command each time, and compare."""
    straight, out = folder / "straight" / "out", folder / "killed" / "out"
    straight.parent.mkdir()
    out.parent.mkdir()
    whole_time = forks.finish(case.arguments(straight), case.ends)
    expected = case.result(straight)
    assert expected
    moments = random.Random(seed)
    hits = 0
    for _ in range(20 * kills):
        # squared: early moments more often, for after a kill less is left to do
        moment = whole_time * moments.random() ** 2
        with_children = case.with_children and moments.random() < 0.5
        before = case.progress(out)
        code, _ = forks.run(case.arguments(out), moment, with_children)
        assert code in (case.ends, -9), forks.log.read_text()
        case.whole(out, straight)
        assert case.progress(out) >= before, "work that was done is lost"
        hits += code != case.ends
        if code == case.ends or (case.once and out.exists()):
            assert case.result(out) == expected
            if code == case.ends:
                clean(out)
            shutil.rmtree(out)
        if hits == kills:
            break
    assert hits == kills
    forks.finish(case.arguments(out), case.ends)
    assert case.result(out) == expected
    clean(out)


# --- what is killed -----------------------------------------------------------------------------


def steps(run: Path) -> int:
    """Steps that a checkpoint knows of; all of them once the result is there."""
    if (run / "result.json").is_file():
        return 10**9
    state = run / "checkpoint" / "state.json"
    return json.loads(state.read_text())["progress"]["total_steps"] if state.is_file() else 0


def trained(run: Path) -> dict[str, bytes]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    plain = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
    kept = {name: (run / name).read_bytes() for name in ("weights.safetensors", "config.json", "table.csv")}
    examples = {path.name: path.read_bytes()[:0] for path in (run / "examples").iterdir()}
    return {**kept, **examples, "log": json.dumps(plain).encode()}


def readable_run(run: Path, straight: Path) -> None:
    for name in ("config.json", "result.json", "checkpoint/state.json"):
        if (run / name).is_file():
            json.loads((run / name).read_text())
    for file in (run / "weights.safetensors", *run.glob("checkpoint/[!.]*.safetensors")):
        if file.is_file():
            load_file(file)


def finished_folders(inside: str) -> tuple[Callable[[Path], int], Callable[[Path, Path], None]]:
    """How many folders are done, and a check that each of them is as it will be at the end."""

    def count(out: Path) -> int:
        return len([p for p in (out / inside).glob("*") if p.is_dir() and not p.name.startswith(".")])

    def whole(out: Path, straight: Path) -> None:
        for folder in (out / inside).glob("*"):
            if folder.is_dir() and not folder.name.startswith("."):
                assert everything(folder) == everything(straight / folder.relative_to(out))

    return count, whole


def absent_or_whole(out: Path, straight: Path) -> None:
    assert not out.exists() or everything(out) == everything(straight)


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("squares") / "data"
    inputs.squares(root)
    return root


def test_train(forks: Forks, squares: Path, tmp_path: Path) -> None:
    def arguments(out: Path) -> list[str]:
        # fmt: off
        return [
            "train", str(squares), "--out", str(out), "--method", "toy", "--option", "wait=0.01", "--epochs", "8",
            "--size", "20", "--batch-size", "2", "--learning-rate", "0.01", "--device", "cpu",
            "--checkpoint-every", "0.02", "--quiet",
        ]
        # fmt: on

    torment(forks, Case(arguments, trained, steps, readable_run), KILLS["train"], tmp_path, 1)


def test_fuse(forks: Forks, squares: Path, tmp_path: Path) -> None:
    count, whole = finished_folders("cases")
    case = Case(lambda out: ["fuse", str(squares), "--out", str(out)], everything, count, whole)
    torment(forks, case, KILLS["fuse"], tmp_path, 2)


def test_predict(forks: Forks, squares: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["train", str(squares), "--out", str(run), "--method", "toy", "--epochs", "1", "--size", "20"]
    forks.finish([*arguments, "--device", "cpu", "--quiet", "--no-evaluate"])
    count, whole = finished_folders("")
    images = str(squares / "images")
    case = Case(
        lambda out: ["predict", str(run), images, "--out", str(out), "--device", "cpu"],
        everything,
        count,
        whole,
    )
    torment(forks, case, KILLS["predict"], tmp_path, 3)


def test_import(forks: Forks, tmp_path: Path) -> None:
    for number in range(12):
        inputs.png(tmp_path / f"src/images/{number}.png", inputs.picture(number))
        for rater in ("ann", "bob", "cy"):
            inputs.png(tmp_path / f"src/{rater}/{number}.png", inputs.blob(number))
    source = str(tmp_path / "src")
    case = Case(
        lambda out: ["import", "folder", source, str(out)], everything, whole=absent_or_whole, once=True
    )
    torment(forks, case, KILLS["import"], tmp_path, 4)


def test_export(forks: Forks, squares: Path, tmp_path: Path) -> None:
    case = Case(
        lambda out: ["export", str(squares), "--to", "png", "--out", str(out)],
        everything,
        whole=absent_or_whole,
        once=True,
    )
    torment(forks, case, KILLS["export"], tmp_path, 5)


def test_compare(forks: Forks, squares: Path, tmp_path: Path) -> None:
    """Its runs are processes of their own; half of the time they are killed with it."""

    def arguments(out: Path) -> list[str]:
        # fmt: off
        return [
            "compare", str(squares), "--out", str(out), "--methods", "toy", "--epochs", "2", "--size", "20",
            "--batch-size", "2", "--backbone", "small", "--device", "cpu", "--jobs", "1", "--quiet",
        ]
        # fmt: on

    def runs(out: Path) -> list[Path]:
        return sorted(path.parent for path in out.glob("runs/*/seed0/config.json"))

    def result(out: Path) -> dict[str, bytes]:
        found = {path.name: path.read_bytes() for path in out.glob("*.csv")}
        for run in runs(out):
            found |= {f"{run.parent.name}/{name}": content for name, content in trained(run).items()}
        return found

    def done(out: Path) -> int:
        return len(list(out.glob("runs/*/seed0/cost.json")))

    def whole(out: Path, straight: Path) -> None:
        for run in runs(out):
            readable_run(run, straight)

    # 1: after two epochs every network has collapsed, which is said and is no success
    case = Case(arguments, result, done, whole, with_children=True, ends=1)
    torment(forks, case, KILLS["compare"], tmp_path, 6)


def over_an_older_one(
    forks: Forks,
    older: list[str],
    newer: list[str],
    out: Path,
    key: str,
    result: Callable[[Path], dict[str, bytes]],
    kills: int,
    ends: int = 0,
) -> None:
    """Killed while it replaces an older result: what is there is the old one, the new one, or is taken for none.

    Args:
        key: The file by which readers know a result; without it there may be a part of one, and never a mixture.
        ends: The exit code of a command that was not killed.
    """
    forks.finish(older, ends)
    old = result(out)
    kept = out.with_name("kept")
    shutil.copytree(out, kept)
    seconds = forks.finish(newer, ends)
    new = result(out)
    assert old != new
    moments = random.Random(kills)
    hits = 0
    for _ in range(20 * kills):
        shutil.rmtree(out)
        shutil.copytree(kept, out)
        moment = seconds * (1 - moments.random() ** 3)  # late moments more often: that is when it writes
        code, _ = forks.run(newer, moment)
        assert code in (ends, -9), forks.log.read_text()
        found = result(out)
        if key in found:
            untold = {name: content for name, content in new.items() if name != "settings.toml"}
            assert found in (old, new, untold)  # what a command was told is written when it has done it
        else:
            assert any(found.items() <= whole.items() for whole in (old, new)), "a mixture"
        hits += code != ends
        if hits == kills:
            break
    assert hits == kills
    forks.finish(newer, ends)
    assert result(out) == new
    assert [path for path in out.rglob(".*") if path.name.endswith((".unfinished", ".tmp"))] == []


def turned(data: Path, to: Path) -> Path:
    """The same data set, its raters' masks exchanged: cases, raters and structures have the same names."""
    shutil.copytree(data, to)
    for mask in (to / "masks/ann").glob("*.png"):
        other = to / "masks/cy" / mask.name
        content = mask.read_bytes()
        mask.write_bytes(other.read_bytes())
        other.write_bytes(content)
    return to


def test_agree_over_an_older_agreement(forks: Forks, squares: Path, tmp_path: Path) -> None:
    def command(data: Path) -> list[str]:
        some = ["--resamples", "20", "--no-distances", "--pictures", "1"]
        return ["agree", str(data), "--out", str(tmp_path / "out"), *some]

    def result(out: Path) -> dict[str, bytes]:
        found = everything(out, but=("agreement.html",))
        # a hidden file may stay behind where the kill met the writing of settings.toml; nobody reads it
        return {name: content for name, content in found.items() if not name.startswith(".")}

    other = turned(squares, tmp_path / "other")
    out = tmp_path / "out"
    over_an_older_one(forks, command(squares), command(other), out, "agreement.json", result, OVER["agree"])


def test_evaluate_over_an_older_table(forks: Forks, squares: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", turned(squares, tmp_path / "other")
    arguments = ["train", str(squares), "--out", str(run), "--method", "toy", "--epochs", "1", "--size", "20"]
    forks.finish([*arguments, "--device", "cpu", "--quiet", "--no-evaluate"])

    def command(data: Path) -> list[str]:
        return ["evaluate", str(run), "--dataset", str(data), "--device", "cpu", "--quiet"]

    def result(run: Path) -> dict[str, bytes]:
        found = {"table.csv": (run / "table.csv").read_bytes()} if (run / "table.csv").is_file() else {}
        for file in (run / "examples").glob("*.npz"):
            with np.load(file) as arrays:
                found[file.name] = arrays["masks"].tobytes()
        return found

    over_an_older_one(forks, command(squares), command(other), run, "table.csv", result, OVER["evaluate"])


def test_fuse_masks_over_an_older_fusion(forks: Forks, squares: Path, tmp_path: Path) -> None:
    def command(case: int) -> list[str]:
        masks = [str(squares / f"masks/{rater}/case{case}_disc.png") for rater in ("ann", "bob", "cy")]
        return ["fuse", "--masks", *masks, "--method", "staple", "--out", str(tmp_path / "out")]

    def result(out: Path) -> dict[str, bytes]:
        return {name: content for name, content in everything(out).items() if "unfinished" not in name}

    over_an_older_one(
        forks, command(0), command(1), tmp_path / "out", "skill.json", result, OVER["fuse --masks"]
    )


def test_report_over_an_older_page(forks: Forks, tmp_path: Path) -> None:
    """The page is the old one or the new one; there is no moment without."""
    runs = [fabricate_run(tmp_path / name, cases=2, size=size) for name, size in (("a", 40), ("b", 44))]
    out = tmp_path / "out"

    def command(run: Path) -> list[str]:
        return ["report", str(run), "--out", str(out / "page.html")]

    def result(out: Path) -> dict[str, bytes]:
        return {"page.html": (out / "page.html").read_bytes()}

    older, newer = (command(run) for run in runs)
    over_an_older_one(forks, older, newer, out, "page.html", result, OVER["report"])


def test_predict_over_an_older_answer(forks: Forks, squares: Path, tmp_path: Path) -> None:
    """Another image of the same name: its answer takes the place of the older one as a whole."""
    run, out = tmp_path / "run", tmp_path / "out"
    arguments = ["train", str(squares), "--out", str(run), "--method", "toy", "--epochs", "1", "--size", "20"]
    forks.finish([*arguments, "--device", "cpu", "--quiet", "--no-evaluate"])
    for number in (0, 1):
        inputs.png(tmp_path / f"photos{number}/a.png", inputs.picture(number, (20, 20)))

    def command(number: int) -> list[str]:
        return ["predict", str(run), str(tmp_path / f"photos{number}"), "--out", str(out), "--device", "cpu"]

    def result(out: Path) -> dict[str, bytes]:
        found = everything(out, but=("cases.csv",))  # which says the path of the image
        return {name: content for name, content in found.items() if "unfinished" not in name}

    over_an_older_one(forks, command(0), command(1), out, "a/prediction.json", result, OVER["predict"])


def test_compare_over_older_tables(forks: Forks, squares: Path, tmp_path: Path) -> None:
    """A method more: the tables and the page of both take the places of the older ones all together."""
    out = tmp_path / "out"

    def command(methods: str) -> list[str]:
        # fmt: off
        return [
            "compare", str(squares), "--out", str(out), "--methods", methods, "--epochs", "1", "--size", "20",
            "--batch-size", "2", "--backbone", "small", "--device", "cpu", "--jobs", "1", "--quiet",
        ]
        # fmt: on

    def result(out: Path) -> dict[str, bytes]:
        found = {
            path.name: path.read_bytes()
            for ending in ("csv", "md", "tex")
            for path in out.glob(f"*.{ending}")
        }
        return found | {path.name: b"" for path in out.glob("compare.html")}  # which holds times

    # 1: after an epoch every network has collapsed
    newer = command("toy,toy:wait=0.001")
    over_an_older_one(forks, command("toy"), newer, out, "compare.html", result, OVER["compare"], ends=1)


def test_they_are_at_least_ninety() -> None:
    assert sum(KILLS.values()) + sum(OVER.values()) >= 90


def test_a_run_of_a_comparison_that_dies_is_no_success(forks: Forks, squares: Path, tmp_path: Path) -> None:
    """As when the system ends a process for want of memory; the other runs are done, and the page says why."""
    # fmt: off
    arguments = [
        "compare", str(squares), "--out", str(tmp_path / "out"), "--methods", "toy:fail=killed", "--epochs", "1",
        "--size", "20", "--batch-size", "2", "--backbone", "small", "--device", "cpu", "--jobs", "1", "--quiet",
    ]
    # fmt: on
    assert forks.run(arguments)[0] == 1, forks.log.read_text()
    page = (tmp_path / "out/compare.html").read_text()
    assert "the process was ended by signal 9, perhaps for want of memory" in page
    assert len(list((tmp_path / "out").glob("runs/*/seed0/cost.json"))) == 5  # three U-Nets and two fusions
