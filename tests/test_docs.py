"""What the documents say is true: commands run, code runs, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mrprism
from mrprism.cli import call
from mrprism.learn.methods import METHODS, method_class
from mrprism.learn.methods.method import Method

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    file
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/**/*.md", "examples/**/*.md")
    for file in sorted(ROOT.glob(pattern))
]


def commands(document: str) -> list[list[str]]:
    """The `$ mrprism ...` lines of a document."""
    lines = re.findall(r"^\$ (mrprism .*)$", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in lines]


def blocks(document: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.M | re.S)


def quickened(arguments: list[str]) -> list[str]:
    """The same command with less to do."""
    less = {"--epochs": "1", "--cases": "10", "--size": "32"}
    found = [less.get(before, value) for before, value in zip(["", *arguments], arguments, strict=False)]
    more = {"train": ["--epochs", "1", "--device", "cpu"], "agree": ["--resamples", "20"]}
    return [*found, *more.get(arguments[0], [])]


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = call(quickened(arguments))
    assert code == 0, f"mrprism {shlex.join(arguments)}: {capsys.readouterr().err}"


@pytest.mark.slow
def test_the_tutorial_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(commands("docs/tutorial.md")) >= 8
    for arguments in commands("docs/tutorial.md"):
        run(arguments, capsys)
    for path in ("agreement/agreement.html", "staple/skill.csv", "report.html", "outlines/case0001"):
        assert (tmp_path / path).exists(), path
    for code in blocks("docs/tutorial.md"):
        exec(compile(code, "docs/tutorial.md", "exec"), {})
    assert (tmp_path / "case.png").stat().st_size > 0


@pytest.mark.slow
def test_the_readme_works_on_a_folder_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mrprism.phantom("crowd", size=32, cases=10, out="drawn")
    for source, goal in (
        ("images", "retina/images"),
        ("masks/rater1", "retina/ann"),
        ("masks/rater3", "retina/bob"),
    ):
        Path(goal).mkdir(parents=True)
        for file in Path("drawn", source).iterdir():
            if "cup" not in file.name:
                shutil.copy(file, Path(goal, file.name.replace("_disc", "")))
    Path("retina/bob/case0003.png").unlink()
    Path("new-photos").mkdir()
    shutil.copy("retina/images/case0000.png", "new-photos/new.png")
    told = commands("README.md")
    assert len(told) >= 7
    for arguments in told:
        if arguments[0] != "view":  # serves until it is stopped: tests/viewer
            run(arguments, capsys)
    assert Path("report.html").is_file()
    assert list(Path("outlines/new").glob("mask_*"))
    for code in blocks("README.md"):
        shutil.rmtree("run")
        exec(
            compile(
                code.replace("epochs=40", "epochs=1").replace("size=128", "size=32"), "README.md", "exec"
            ),
            {},
        )


def test_the_reader_study_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    from mrprism.images import write_mask

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    drawn = {"ann": (1, 2, 3), "ann.2": (1, 3), "bob": (1, 2, 3), "bob.2": (3,), "cy": (1, 2)}
    for folder, cases in drawn.items():
        for case in cases:
            mask = np.zeros((32, 32), bool)
            mask[8 : 16 + rng.integers(6), 8 : 18 + rng.integers(6)] = True
            write_mask(Path("study", folder, f"{case:04d}.png"), mask)
    told = commands("docs/how-to/reader-study.md")
    assert len(told) == 6
    for arguments in told:
        code = call(quickened(arguments))
        assert code in (0, 1), f"mrprism {shlex.join(arguments)}: {capsys.readouterr().err}"
    assert Path("agreement/again.csv").is_file()
    assert Path("handed-on/ann.2/lesion/0003.png").is_file()
    for code_ in blocks("docs/how-to/reader-study.md"):
        exec(compile(code_, "docs/how-to/reader-study.md", "exec"), {})


@pytest.mark.slow
def test_the_study_in_one_file_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mrprism.phantom("crowd", size=32, cases=8, out="retina-set")
    text = (ROOT / "docs/how-to/study.md").read_text(encoding="utf-8")
    first, candidate, training = re.findall(r"^```toml\n(.*?)^```", text, re.M | re.S)
    Path("study.toml").write_text(first.replace("1000", "20"), encoding="utf-8")
    told = commands("docs/how-to/study.md")
    assert [words[0] for words in told] == ["study", "report", "agree"]
    for arguments in told:
        code = call(arguments)
        assert code in (0, 1), f"mrprism {shlex.join(arguments)}: {capsys.readouterr().err}"
    for line in re.findall(r"^  (\S+)/? ", text.split("retina-study/\n")[1].split("```")[0], re.M):
        assert Path("retina-study", line).exists() or line.startswith("comparison"), line
    from mrprism.cli import agree, train
    from mrprism.cli.config import filled

    for module, table in ((agree, candidate), (train, training)):
        settings = tomllib.loads(table)[module.__name__.rpartition(".")[2]]
        assert filled(module.run, [], settings, Path("study.toml"))


def test_the_method_that_contributing_adds_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, line, test = blocks("CONTRIBUTING.md")
    module = ModuleType("mrprism.learn.methods.agreed_pixels")
    exec(compile(code, "CONTRIBUTING.md", "exec", dont_inherit=True), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    (added,) = eval(f"{{{line}}}").items()
    monkeypatch.setitem(METHODS, *added)
    its_test: dict[str, Any] = {}
    exec(compile(test, "CONTRIBUTING.md", "exec", dont_inherit=True), its_test)
    its_test["test_a_disputed_pixel_teaches_nothing"]()

    data = mrprism.phantom("missing", size=32, cases=5)
    run = mrprism.train(
        data, "agreed-pixels", tmp_path / "run", backbone="small", size=32, epochs=1, device="cpu", quiet=True
    )
    assert mrprism.load_run(run).predict(data[0]).probability.shape == (2, 32, 32)

    from mrprism.learn.batches import collate

    method: Method = module.AgreedPixels(data.task, backbone="small").eval()
    batch = collate([data[0]])
    assert batch.masks is not None
    assert batch.rated is not None
    batch.rated[:] = True

    def loss(raters: slice) -> float:
        """When one pixel is marked by these raters, and nothing else by anybody."""
        batch.masks[:] = 0
        batch.masks[0, raters, 0, 16, 16] = 1
        (terms,) = method.losses(batch)
        return float(terms["bce"].detach())

    assert loss(slice(0, 1)) == loss(slice(2, 5)), "a disputed pixel teaches nothing"
    assert loss(slice(0, 1)) != loss(slice(None))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_explained(name: str) -> None:
    """Its idea, what it needs, what it gives and when to choose it."""
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    section = " ".join(re.split(r"\n##", text.split(f"### `{name}`\n")[1])[0].split())
    for word in ("Needs ", "Gives ", "**Choose it**"):
        assert section.count(word) == 1, f"{name}: {word}"
    for need in method_class(name).needs:
        assert need in section or (need == "two raters" and "two of them" in section), f"{name}: {need}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:|#", target):
            path = document.parent / target.split("#")[0]
            assert path.exists(), f"{document.name} links to {target}"
