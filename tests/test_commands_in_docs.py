"""Each command that a page of docs/ prints is run, and each option that a page names is one of its command."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from trees import nifti

import mrprism
from mrprism.cli import VERBS, call
from mrprism.cli.options import offered
from mrprism.datasets import open_dataset
from mrprism.datasets.decision import Start
from mrprism.datasets.decisions import Decisions

ROOT = Path(__file__).parents[1]
PAGES = {str(page.relative_to(ROOT)): page for page in sorted((ROOT / "docs").rglob("*.md"))}
RUN_BY = {  # pages whose commands another test runs from first to last
    "docs/tutorial.md": "tests/test_docs.py",
    "docs/how-to/reader-study.md": "tests/test_docs.py",
    "docs/how-to/study.md": "tests/test_docs.py",
    "docs/how-to/plugins.md": "tests/plugin/test_plugin.py",
    "docs/how-to/your-own-folder.md": "tests/layouts/test_how_to.py",
    **{name: "tests/layouts/test_how_to.py" for name in PAGES if "how-to/import-" in name},
}
ONLY_READ = {  # how a command begins whose options are looked up, but which is not run here
    "view ": "serves until it is stopped: tests/viewer",
    "compare ": "minutes of training: tests/compare",
    "export runs/prism --to onnx": "a minute: tests/learn/test_to_onnx.py",
    "predict hf:": "asks a network: tests/learn/test_to_hf.py",
    "import KIND": "says how commands look",
    "check OUT": "says how commands look",
}
ANY = {"--help", "--config", "--json", "--version", "--install-completion", "--show-completion"}
LESS = {"--epochs": "1", "--cases": "10", "--size": "32"}
MORE = {
    "train": ["--size", "32", "--backbone", "small", "--epochs", "1", "--device", "cpu"],
    "agree": ["--resamples", "20"],
    "evaluate": ["--device", "cpu"],
    "predict": ["--device", "cpu"],
}


def commands(text: str) -> list[list[str]]:
    """The commands in the blocks of a page as a shell splits them, settings of the environment before them."""
    blocks = re.findall(r"^```(?:console|sh)\n(.*?)^```", text, re.M | re.S)
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
    found = [re.match(r"(?:\$ )?((?:[A-Z_]+=\S+ )*mrprism .*)", line) for line in lines]
    return [shlex.split(match[1], comments=True) for match in found if match]


def after_program(words: list[str]) -> list[str]:
    return words[words.index("mrprism") + 1 :]


PRINTED = {name: commands(page.read_text(encoding="utf-8")) for name, page in PAGES.items()}


def options_of(verb: str) -> set[str]:
    run = importlib.import_module(f"mrprism.cli.{VERBS[verb][0]}").run
    return {word for each in offered(run) for word in (each.spoken, each.off) if word} | ANY


@pytest.mark.parametrize("name", PAGES)
def test_every_option_a_page_names_is_one(name: str) -> None:
    text = PAGES[name].read_text(encoding="utf-8")
    inline = re.findall(r"`mrprism ([a-z]+ [^`]*)`", re.sub(r"```.*?```", "", text, flags=re.S))
    called = [after_program(words) for words in PRINTED[name]]
    called += [each.replace("\n", " ").split() for each in inline]
    for words in called:
        if words[0] in VERBS:
            named = {re.split("=", word)[0] for word in words if word.startswith("--")}
            assert named <= options_of(words[0]), f"{name}: mrprism {' '.join(words)}"
    alone = set(re.findall(r"`(--[a-z][a-z-]*)", text))
    assert alone <= set().union(*map(options_of, VERBS)), name


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages speak of: data sets, a run, volumes, files to fuse and to outline."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tests/layouts"))  # where its own tests find it
        from layouts import LAYOUTS
    root = tmp_path_factory.mktemp("scene")
    data = mrprism.phantom("crowd", size=32, cases=10, out=root / "fundus")
    shutil.copytree(root / "fundus", root / "DATASET")
    mrprism.phantom("crowd", size=32, cases=10, seed=1, out=root / "elsewhere")
    layer = Decisions(root / "fundus", open_dataset(root / "fundus").manifest)  # type: ignore[arg-type]
    for sample in data:
        for s, structure in enumerate(data.task.structures):
            drawn = sample.masks[0, s]
            layer.save(sample.name, structure, "ann", mask=drawn, start=Start(kind="union"), status="final")
    mrprism.train(
        data,
        "fused-label",
        root / "runs/prism",
        backbone="small",
        size=32,
        epochs=1,
        device="cpu",
        quiet=True,
    )
    draw, place = np.random.default_rng(0), np.diag([0.8, 0.8, 2.5, 1.0])
    for case in range(8):
        organ = np.zeros((24, 24, 4), bool)
        organ[6:16, 6 : 14 + case % 3, 1:3] = True
        hounsfield = (200 * organ - 50 + draw.normal(0, 20, organ.shape)).astype(np.int16)
        nifti(root / f"ct/images/p{case}.nii.gz", hounsfield, place)
        nifti(root / f"ct/ann/p{case}.nii.gz", organ.astype(np.uint8), place)
        nifti(root / f"ct/bob/p{case}.nii.gz", np.roll(organ, 1, 0).astype(np.uint8), place)
    for file in (*(f"{rater}.nii.gz" for rater in ("ann", "ben", "cem")), "new/scan.nii.gz"):
        shutil.copy(
            next((root / "ct/images" if "scan" in file else root / "ct/ann").iterdir()), _made(root / file)
        )
    for file in ("photos/a.png", "scans/b.png"):
        shutil.copy(root / "fundus/images/case0000.png", _made(root / file))
    shutil.copytree(root / "fundus", root / "large-volumes")
    for layout in ("Dataset007_Liver", "cells"):
        LAYOUTS[layout](root / layout)
    cells = json.loads((root / "cells/ann.json").read_text())
    cells["annotations"][0] |= {"segmentation": [], "area": 9}  # an outline that is not there
    (root / "cells/ann.json").write_text(json.dumps(cells))
    return root


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PAGES if PRINTED[name] and name not in RUN_BY])
def test_the_commands_of_a_page_run(
    name: str,
    scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = tmp_path / "here"
    shutil.copytree(scene, here)
    monkeypatch.chdir(here)
    for words in PRINTED[name]:
        told = " ".join(after_program(words))
        if told.startswith(tuple(ONLY_READ)):
            continue
        for setting in words[: words.index("mrprism")]:
            monkeypatch.setenv(*setting.split("=", 1))
        if told.startswith("train fundus --out runs/prism"):
            shutil.rmtree("runs/prism")  # that of the scene
        code = call(quickened(after_program(words)))
        if words[-1] == "--strict":
            assert code == 2, "the page says that it refuses"
        else:
            assert code in (0, 1), f"mrprism {told}: {capsys.readouterr().err}"


def quickened(words: list[str]) -> list[str]:
    """The same command with less to do."""
    found = [LESS.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    found = [
        match for word in found for match in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
    ]
    more = [] if "--resume" in words else MORE.get(words[0], [])
    pairs = [
        pair
        for pair in zip(more[::2], more[1::2], strict=True)
        if "--plan" not in words or pair[0] != "--size"
    ]
    return found + [word for option, value in pairs if option not in found for word in (option, value)]
