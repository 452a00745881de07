"""Recipes say what pyproject.toml says."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

import mrprism

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def test_one_version_everywhere(project: dict[str, Any]) -> None:
    recipe = (ROOT / "packaging/meta.yaml").read_text(encoding="utf-8")
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert project["version"] == mrprism.__version__
    assert f'version: "{mrprism.__version__}"' in recipe
    assert f"\nversion: {mrprism.__version__}\n" in citation
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", changes, re.M)[0] in (mrprism.__version__, "Unreleased")


def test_the_conda_recipe_needs_what_the_package_needs(project: dict[str, Any]) -> None:
    recipe = (ROOT / "packaging/meta.yaml").read_text(encoding="utf-8")
    run = re.search(r"\n  run:\n((?:    - .*\n)+)", recipe)
    assert run is not None
    told = {
        line.removeprefix("    - ").replace("matplotlib-base", "matplotlib") for line in run[1].splitlines()
    }
    needed = {re.sub(r"(>=)", r" \1", each) for each in project["dependencies"]}
    assert told == needed | {f"python {project['requires-python']}"}


def test_the_container_takes_what_the_build_needs(project: dict[str, Any]) -> None:
    recipe = (ROOT / "packaging/Dockerfile").read_text(encoding="utf-8")
    copied = set(re.findall(r"[\w.]+\.(?:py|toml|md)|LICENSE|src", recipe.split("COPY", 1)[1]))
    assert {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "src"} <= copied
    (extras,) = re.findall(r"ARG EXTRAS=(.*)", recipe)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    kept = set((ROOT / "packaging/Dockerfile.dockerignore").read_text(encoding="utf-8").split())
    assert {
        f"!{name}" for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "src")
    } <= kept


@pytest.mark.slow
def test_the_container_is_built(tmp_path: Path) -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "version"], capture_output=True).returncode
    ):
        pytest.skip("no docker runs here")
    tag = "mrprism-test:latest"
    pulled = subprocess.run(["docker", "pull", "-q", "python:3.11-slim"], capture_output=True)
    if pulled.returncode:
        pytest.skip("the base of the container cannot be had: no network")
    build = [
        "docker",
        "build",
        "-q",
        "-f",
        "packaging/Dockerfile",
        "--build-arg",
        "EXTRAS=view",
        "-t",
        tag,
        ".",
    ]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    said = subprocess.run(["docker", "run", "--rm", tag, "--version"], capture_output=True, text=True)
    assert said.stdout == f"mrprism {mrprism.__version__}\n"
