"""Methods, layouts and fusions of another package are found, used and held to the contracts."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from install import PACKAGE, install, offer
from PIL import Image as Pillow

import mrprism
from mrprism.cli import call
from mrprism.core.errors import InputError, UnknownName
from mrprism.core.sample import Task
from mrprism.fusion import FUSIONS
from mrprism.fusion import contract as fusions
from mrprism.layouts import DATASETS
from mrprism.layouts.contract import check_reader
from mrprism.learn import contract as methods
from mrprism.learn.methods import METHODS, method_class
from mrprism.learn.methods.build import build_method

REGISTRIES = {"methods": METHODS, "layouts": DATASETS, "fusions": FUSIONS}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("site"))


@pytest.fixture
def plugin(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(site)
    return site


def drawings(folder: Path) -> Path:
    """Bright discs with masks by two or three raters beside them, as the plugin's layout has them."""
    folder.mkdir(parents=True)
    row, column = np.mgrid[:32, :32]
    for number in range(6):
        draw = np.random.default_rng(number)
        centre = draw.uniform(12, 20, 2)
        far = np.hypot(row - centre[0], column - centre[1])
        image = np.where(far < 8, 200, 60)[..., None] + draw.normal(0, 10, (32, 32, 3))
        Pillow.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"eye{number}.png")
        for rater, radius in (("ann", 7), ("bob", 8), ("cy", 9))[: 2 if number == 3 else 3]:
            Pillow.fromarray((far < radius).astype(np.uint8) * 255).save(folder / f"eye{number}.{rater}.png")
    return folder


# --- found ---------------------------------------------------------------------------------------


def test_names_are_known_before_anything_is_imported(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("crowd_tools")]:
        monkeypatch.delitem(sys.modules, name)
    before = {key: list(registry) for key, registry in REGISTRIES.items()}
    monkeypatch.syspath_prepend(site)
    found = {key: [n for n in registry if n not in before[key]] for key, registry in REGISTRIES.items()}
    assert found == {"methods": ["mean-vote"], "layouts": ["name-by-name"], "fusions": ["any-two"]}
    assert "mean-vote" in METHODS
    assert len(METHODS) == len(before["methods"]) + 1
    assert METHODS.package("mean-vote") == "crowd-tools"
    assert METHODS.package("mrprism") is None
    assert not [name for name in sys.modules if name.startswith("crowd_tools")]
    assert method_class("mean-vote").__module__ == "crowd_tools.method"


def test_what_is_not_there_is_answered_with_those_that_are(plugin: Path) -> None:
    with pytest.raises(
        UnknownName, match=r"unknown method 'mean-vot'; known: .*mean-vote; did you mean 'mean-vote'"
    ):
        method_class("mean-vot")


def test_options_are_read_as_its_constructor_says(plugin: Path) -> None:
    task = Task(1, ("disc",), ("ann", "bob"))
    assert build_method("mean-vote", task, "small", {"loss": "squares"}).loss == "squares"
    with pytest.raises(InputError, match="option 'loss' of method 'mean-vote' is 'cubes'"):
        build_method("mean-vote", task, "small", {"loss": "cubes"})


def test_the_page_about_plugins_shows_this_package() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "plugins.md").read_text(encoding="utf-8")
    package = {
        file.name: file.read_text(encoding="utf-8")
        for file in PACKAGE.rglob("*")
        if file.suffix in (".py", ".toml")
    }
    shown = re.findall(r"^```(?:toml|python)\n(.*?)^```", page, re.M | re.S)
    assert len(shown) == 6
    assert all(any(block in text for text in package.values()) for block in shown[:4])
    compile(shown[4] + shown[5], "plugins.md", "exec")


# --- the contracts -------------------------------------------------------------------------------


@pytest.mark.parametrize("check", methods.CHECKS, ids=lambda check: check.__name__)
def test_the_method_keeps_its_promises(plugin: Path, check: Callable[[methods.Subject], None]) -> None:
    check(methods.Subject(method_class("mean-vote")))


@pytest.mark.parametrize("check", fusions.CHECKS, ids=lambda check: check.__name__)
def test_the_fusion_keeps_its_promises(plugin: Path, check: Callable[[fusions.Fusion], None]) -> None:
    check(FUSIONS["any-two"])


def test_the_reader_keeps_its_promises(plugin: Path, tmp_path: Path) -> None:
    check_reader(DATASETS["name-by-name"], drawings(tmp_path / "eyes"), tmp_path / "work", structure="disc")


# --- used from the command line ------------------------------------------------------------------


@pytest.fixture
def data(plugin: Path, tmp_path: Path) -> Path:
    source = drawings(tmp_path / "eyes")
    assert call(["import", "name-by-name", str(source), str(tmp_path / "data"), "-o", "structure=disc"]) == 0
    return tmp_path / "data"


def test_import(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = mrprism.open_dataset(data)
    assert found.task == Task(3, ("disc",), ("ann", "bob", "cy"))
    assert [bool(sample.rated[2, 0]) for sample in found] == [True, True, True, False, True, True]
    assert call(["import", "list"]) == 0
    listed = capsys.readouterr().out
    assert "name-by-name    Images with each rater's mask beside them" in listed
    assert "(package 'crowd-tools')" in listed
    assert "options: structure\n" in listed


def test_import_without_a_ledger_says_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "from crowd_tools import layout\nfrom mrprism.layouts.ledger import Ledger\n"
    code += "def read(path, *, structure='x'):\n    return layout.read(path, Ledger.of(path), structure=structure)\n"
    monkeypatch.syspath_prepend(
        offer(tmp_path / "site", "plain", "mrprism.layouts", "plain", "plain_reader:read", code)
    )
    out = tmp_path / "plain"
    assert (
        call(["import", "plain", str(tmp_path / "eyes"), str(out), "--strict", "-o", "structure=disc"]) == 0
    )
    assert (
        "layout 'plain' of package 'plain' does not say which files it leaves out" in capsys.readouterr().err
    )
    assert mrprism.open_dataset(out).task.structures == ("disc",)


def test_fuse(data: Path, tmp_path: Path) -> None:
    assert call(["fuse", str(data), "--method", "any-two", "--out", str(tmp_path / "fused")]) == 0
    skill = json.loads((tmp_path / "fused" / "skill.json").read_text())
    assert {row["rater"] for row in skill if row["cases"]} == {"ann", "bob", "cy"}
    sample = mrprism.open_dataset(data)[0]
    found = mrprism.fuse_case(sample, "any-two", least=3).probability
    np.testing.assert_array_equal(found > 0.5, sample.masks.all(0))
    with pytest.raises(InputError, match="unknown option of any-two 'most'; known: least"):
        mrprism.fuse_case(sample, "any-two", most=3)


@pytest.mark.slow
def test_train_evaluate_predict_and_what_is_said_without_the_package(
    data: Path,
    site: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Trained by the program itself, in a process that knows nothing of this test."""
    run = tmp_path / "run"
    command = ["train", str(data), "--out", str(run), "--method", "mean-vote", "--option", "loss=squares"]
    command += [
        "--backbone",
        "small",
        "--size",
        "32",
        "--epochs",
        "1",
        "--batch-size",
        "2",
        "--device",
        "cpu",
    ]
    path = os.pathsep.join([str(site), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "mrprism", *command],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (run / "table.csv").is_file()
    image = next((data / "images").iterdir())
    assert call(["predict", str(run), str(image), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert list((tmp_path / "out").rglob("mask_disc.png"))
    assert call(["report", str(run), "--out", str(tmp_path / "report.html")]) == 0
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(site)])
    capsys.readouterr()
    assert call(["predict", str(run), str(image), "--out", str(tmp_path / "two"), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert f"{run}: unknown method 'mean-vote'; known: mrprism, " in said
    assert "where another package offers it, install that package" in said


@pytest.mark.slow
def test_compare(data: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), *sys.path]))  # its runs are processes
    out = tmp_path / "comparison"
    budget = shlex.split("--epochs 1 --size 32 --batch-size 2 --backbone small --device cpu")
    code = call(["compare", str(data), "--out", str(out), "--methods", "mean-vote:loss=squares", *budget])
    assert code in (0, 1)  # 1: after so little, some have collapsed
    assert (out / "runs" / "mean-vote-loss=squares" / "seed0" / "table.csv").is_file()
    assert "Mean vote" in (out / "compare.html").read_text(encoding="utf-8")


# --- its faults ----------------------------------------------------------------------------------

METHOD = "from mrprism.learn.methods.method import Method\nclass Mine(Method):\n"
WHOLE = METHOD + "    def losses(self, batch): return iter(())\n    def predict(self, batch): return None\n"
MAKE = "    def __init__(self, task, *, backbone='small', **options):\n        super().__init__(task)\n"
READ = "from mrprism.core.sample import Task\nfrom mrprism.layouts import Source\n"
FUSE = "import numpy as np\nfrom mrprism.core.prediction import Prediction\n"
FUSE += "def f(masks, rated, **options): return "
FAULTS = [  # group, value, code, what is said after "KIND 'mine' of package 'their-tools' "
    ("methods", "theirs:Mine", "import no_such_package", "cannot be used: importing 'theirs:Mine' fails with ModuleNotFoundError"),
    ("methods", "theirs:Mine", "class Mine(:", "cannot be used: importing 'theirs:Mine' fails with SyntaxError"),
    ("methods", "theirs:Mine", "import sys; sys.exit(3)", "cannot be used: importing 'theirs:Mine' fails with SystemExit: 3"),
    ("methods", "theirs:Other", "Mine = 1", "cannot be used: importing 'theirs:Other' fails with AttributeError"),
    ("methods", "theirs:Mine", "Mine = 1", "cannot be used: 'theirs:Mine' is a int; expected a class derived from"),
    ("methods", "theirs:Mine", "class Mine: pass", "cannot be used: 'theirs:Mine' is the class Mine; expected"),
    ("methods", "theirs:Mine", METHOD + MAKE, "cannot be used: 'theirs:Mine' lacks the function losses and predict"),
    ("methods", "theirs:Mine", WHOLE, "cannot be used: 'theirs:Mine' takes no backbone"),
    ("methods", "theirs:Mine", WHOLE + MAKE + "    reads = 'all'\n", "cannot be used: 'theirs:Mine' reads 'all'; expected image"),
    ("methods", "theirs:Mine", WHOLE + MAKE + "    needs = {'a nurse'}\n", "cannot be used: 'theirs:Mine' needs 'a nurse'; expected"),
    ("methods", "theirs:Mine", WHOLE + MAKE + "        {}['width']\n", "with backbone 'small' and options {}: 'width'"),
    ("fusions", "theirs:f", "class f: pass", "cannot be used: 'theirs:f' is <class"),
    ("fusions", "theirs:f", "f = 'x'", "cannot be used: 'theirs:f' is 'x'; expected a function"),
    ("fusions", "theirs:f", FUSE + "masks.mean(0)", "returned a ndarray; expected a Prediction"),
    ("fusions", "theirs:f", FUSE + "Prediction(np.zeros(3))", "returned a probability of shape (3,)"),
    ("fusions", "theirs:f", FUSE + "Prediction(masks.sum(0) * 1.0)", "of shape (1, 8, 8) from 1 to 3; expected"),
    ("fusions", "theirs:f", FUSE + "masks['x']", "failed with IndexError"),
    ("layouts", "theirs:read", "def read(): pass", "cannot be used: 'theirs:read' takes nothing"),
    ("layouts", "theirs:read", "def read(path): return [1]", "returned a list; expected a mrprism.layouts.Source"),
    ("layouts", "theirs:read", "def read(path): return path['x']", "failed with TypeError"),
    ("layouts", "theirs:read", READ + "def read(path): return Source('a', Task(1, ('c',), ('r',)), iter([3]))", "gave a int; expected a MultiRaterSample"),
    ("layouts", "theirs:read", READ + "def read(path): return Source('a', Task(1, ('c',), ('r',)), map(int, 'x'))", "failed with ValueError"),
]  # fmt: skip


def used(group: str, name: str, tmp_path: Path) -> None:
    """A thing of a plugin as a command would use it."""
    if group == "methods":
        build_method(name, Task(1, ("disc",), ("ann", "bob")), "small", {})
    elif group == "fusions":
        masks = np.ones((3, 1, 8, 8), bool)
        FUSIONS[name](masks, np.ones((3, 1), bool), margin=10)
    else:
        tmp_path.joinpath("tree").mkdir()
        list(DATASETS[name](tmp_path / "tree").samples)


@pytest.mark.parametrize(("group", "value", "code", "says"), FAULTS)
def test_a_fault_is_a_sentence_that_names_the_package(
    group: str, value: str, code: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    monkeypatch.syspath_prepend(
        offer(tmp_path / "site", "their-tools", f"mrprism.{group}", "mine", value, code)
    )
    with pytest.raises(InputError) as caught:
        used(group, "mine", tmp_path)
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    said = str(caught.value)
    assert f"{group[:-1]} 'mine' of package 'their-tools' " in said
    assert says in said
    assert "\n" not in said


def test_a_name_that_is_taken_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("one-lab", "another-lab"):
        monkeypatch.syspath_prepend(offer(tmp_path / package, package, "mrprism.fusions", "ours", "x:f"))
    monkeypatch.syspath_prepend(offer(tmp_path / "c", "third-lab", "mrprism.fusions", "staple", "x:f"))
    masks = np.ones((2, 1, 4, 4), bool)
    with pytest.raises(
        InputError, match=r"'ours' is offered by the packages '(one|another)-lab' and '.*-lab': rename"
    ):
        FUSIONS["ours"](masks, masks[:, :, 0, 0])
    with pytest.raises(
        InputError, match="'staple' of package 'third-lab' has the name of one of ours: rename"
    ):
        FUSIONS["staple"](masks, masks[:, :, 0, 0])
    assert FUSIONS["majority"](masks, masks[:, :, 0, 0]).probability.all()


def test_a_name_that_no_command_could_say_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(offer(tmp_path, "loud-lab", "mrprism.methods", "My Method", "x:M"))
    with pytest.raises(
        InputError, match="method 'My Method' of package 'loud-lab': a name has small letters"
    ):
        method_class("My Method")


def test_a_broken_layout_does_not_hide_the_others(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(offer(tmp_path, "broken-lab", "mrprism.layouts", "broken", "not_there:read"))
    assert call(["import", "list"]) == 0
    listed = capsys.readouterr().out
    assert (
        "layout 'broken' of package 'broken-lab' cannot be used: importing 'not_there:read' fails" in listed
    )
    assert "name-by-name    Images with" in listed
    assert call(["import", "broken", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "package 'broken-lab'" in capsys.readouterr().err
