"""The built wheel works away from the checkout: everything it needs is in it."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; other packages are those that are here already."""
    root = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(root), str(CHECKOUT)]
    subprocess.run(build, check=True)
    (wheel,) = root.glob("mrprism-*.whl")
    venv.create(root / "env", with_pip=False, symlinks=True)
    python = root / "env" / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "-q", "--no-deps", str(wheel)], check=True)
    (site,) = (root / "env" / "lib").glob("python*/site-packages")
    # A path named in a .pth file is searched, but its own .pth files, such as that of an editable
    # install of the checkout, are not read.
    here = sysconfig.get_paths()
    (site / "others.pth").write_text(f"{here['purelib']}\n{here['platlib']}\n")
    return root / "env" / "bin"


def test_what_an_index_shows_leads_somewhere(environment: Path) -> None:
    """The description in the wheel has no link and no picture that needs the repository beside it."""
    (metadata,) = environment.parent.rglob("mrprism-*.dist-info/METADATA")
    text = metadata.read_text(encoding="utf-8")
    assert "Description-Content-Type: text/markdown" in text
    assert "# mrprism" in text
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert len(targets) > 5
    assert all(target.startswith("https://") for target in targets), targets


def test_with_an_address_links_and_pictures_are_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CHECKOUT))
    described = importlib.import_module("hatch_build").described
    text = "[a](docs/a.md#b) ![p](docs/p.png)\n\n*Its legend.*\n\n[c](https://c.org) [d](#d)"
    home = "https://example.org/mrprism"
    assert described(text, home) == (
        f"[a]({home}/blob/main/docs/a.md#b) ![p]({home}/raw/main/docs/p.png)\n\n*Its legend.*\n\n"
        "[c](https://c.org) [d](#d)"
    )
    assert described(text, None) == "a \n[c](https://c.org) [d](#d)"


def test_the_wheel_from_the_sdist_is_the_same(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever builds from the source distribution gets the same files."""
    backend = importlib.import_module("hatchling.build")
    monkeypatch.chdir(CHECKOUT)
    with tarfile.open(tmp_path / backend.build_sdist(str(tmp_path))) as packed:
        packed.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("mrprism-*/")
    for needed in ("README.md", "LICENSE", "SECURITY.md", "docs/tutorial.md", "tests/test_docs.py"):
        assert (source / needed).is_file(), needed
    monkeypatch.chdir(source)
    wheel = tmp_path / backend.build_wheel(str(tmp_path))
    (first,) = environment.parent.parent.glob("mrprism-*.whl")
    with zipfile.ZipFile(wheel) as ours, zipfile.ZipFile(first) as theirs:
        names = [name for name in ours.namelist() if not name.endswith("RECORD")]
        assert names
        assert {name: ours.read(name) for name in names} == {name: theirs.read(name) for name in names}


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("away")


def called(environment: Path, away: Path, *arguments: str) -> str:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    done = subprocess.run(
        [str(environment / arguments[0]), *arguments[1:]], cwd=away, env=plain, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_the_wheel_that_runs(environment: Path, away: Path) -> None:
    where = called(environment, away, "python", "-c", "import mrprism; print(mrprism.__file__)")
    assert Path(where.strip()).is_relative_to(environment.parent)
    assert called(environment, away, "mrprism", "--version").startswith("mrprism ")


def test_draw_check_agree_fuse_train_report(environment: Path, away: Path) -> None:
    def mrprism(*arguments: str) -> str:
        return called(environment, away, "mrprism", *arguments)

    mrprism("phantom", "data", "--size", "32", "--cases", "10")
    mrprism("check", "data")
    mrprism("agree", "data", "--out", "agreement")
    mrprism("fuse", "data", "--method", "majority", "--out", "fused")
    small = ["--backbone", "small", "--size", "32", "--epochs", "1", "--device", "cpu", "--quiet"]
    mrprism("train", "data", "--out", "run", *small)
    mrprism("predict", "run", "data/images/case0001.png", "--out", "outlines", "--device", "cpu")
    mrprism("report", "run", "--out", "report.html")
    page = (away / "report.html").read_text(encoding="utf-8")
    assert "<style>" in page
    assert "MrPrism" in page
    assert list((away / "agreement").glob("*.html"))
    assert json.loads((away / "outlines/case0001/prediction.json").read_text())["structures"] == [
        "disc",
        "cup",
    ]
