"""Small packages laid where Python finds them, without a network and without pip."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path

PACKAGE = Path(__file__).parent / "package"


def install(site: Path) -> Path:
    """The package of this folder as pip would install it: its modules, and what its pyproject.toml says."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shutil.copytree(PACKAGE / "src", site, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    note(site, project["name"], project["entry-points"], project["version"])
    return site


def offer(site: Path, package: str, group: str, name: str, value: str, code: str = "") -> Path:
    """A package with one entry point; its code, if any, becomes the module that the entry point names."""
    site.mkdir(parents=True, exist_ok=True)
    if code:
        (site / f"{value.partition(':')[0]}.py").write_text(code, encoding="utf-8")
    note(site, package, {group: {name: value}})
    return site


def note(
    site: Path, package: str, entry_points: Mapping[str, Mapping[str, str]], version: str = "1.0"
) -> None:
    """The notes that an installer leaves about a package."""
    folder = site / f"{package.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    lines = [
        line
        for group, entries in entry_points.items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()), "")
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines))
