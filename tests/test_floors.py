"""The floors of the house: every file imports from below itself or from its own package, and none in a circle.

Also that torch stays in the learning wing, and that no room grows too large.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mrprism

HOUSE = Path(mrprism.__file__).parent

FLOORS = {  # first part of the module's name inside mrprism: its floor
    "": -1,  # the package itself: the version; its lazy names are looked up when used
    "core": 0,
    "output": 1,
    "images": 2,
    "metrics": 3,
    "datasets": 3,
    "fusion": 4,
    "agreement": 4,
    "layouts": 5,
    "report": 6,
    "viewer": 6,
    "learn": 7,
    "compare": 8,
    "cli": 9,
    "__main__": 10,
}

LEARN = "learn"  # the wing that needs torch
TORCHY = {"torch", "monai", "accelerate", "safetensors", "torchvision", "timm"}
LONGEST = 450  # lines of a file
WHY_LONG = "Long because"
LAZY = {"monai", "matplotlib"}  # seconds to import: only inside functions


def files() -> list[Path]:
    return sorted(HOUSE.rglob("*.py"))


def name_of(file: Path) -> str:
    """`datasets.phantom` for its file; `datasets` for its package's file; "" for the package itself."""
    parts = file.relative_to(HOUSE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def first(module: str) -> str:
    return module.split(".")[0]


def imports(file: Path, for_types: bool = False) -> Iterator[tuple[str, int, bool]]:
    """Every import: absolute name, line, and whether it runs when the file is imported.

    Args:
        for_types: Also those that only a checker of types follows.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    yield from _imports(tree, True, for_types)


def _imports(node: ast.AST, at_once: bool, for_types: bool) -> Iterator[tuple[str, int, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield alias.name, child.lineno, at_once
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports name the whole way"
            assert child.module is not None
            if is_ours(child.module):
                for alias in child.names:
                    yield module_of(child.module, alias.name), child.lineno, at_once
            else:
                yield child.module, child.lineno, at_once
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test) and not for_types:
            for part in child.orelse:
                yield from _imports(part, at_once, for_types)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, at_once and not inside, for_types)


def module_of(module: str, name: str) -> str:
    """Where `from module import name` leads: to a file of that name, or to the module that holds the name."""
    place = HOUSE.joinpath(*inner(module).split("."), name)
    return f"{module}.{name}" if place.is_dir() or place.with_suffix(".py").is_file() else module


def inner(name: str) -> str:
    """A module's name inside mrprism."""
    return name.removeprefix("mrprism").removeprefix(".")


def is_ours(name: str) -> bool:
    return first(name) == "mrprism"


@pytest.mark.parametrize("file", files(), ids=name_of)
def test_imports_come_from_below(file: Path) -> None:
    own = first(name_of(file))
    assert own in FLOORS, f"{file.name} stands on no floor: add it to FLOORS"
    for name, line, _ in imports(file):
        if is_ours(name):
            other = first(inner(name))
            assert other == own or FLOORS[other] < FLOORS[own], (
                f"{name_of(file)} (floor {FLOORS[own]}), line {line}, imports {name} (floor {FLOORS[other]})"
            )


@pytest.mark.parametrize("file", [f for f in files() if first(name_of(f)) != LEARN], ids=name_of)
def test_torch_stays_in_the_learning_wing(file: Path) -> None:
    """What may ask the wing for something stands on a higher floor, which the test above sees to."""
    for name, line, _ in imports(file):
        assert first(name) not in TORCHY, f"{name_of(file)}, line {line}, imports {name}"


def test_nothing_is_imported_in_a_circle() -> None:
    """Not even inside functions, where Python would let it pass."""
    below = {
        name_of(file): {inner(name) for name, _, _ in imports(file) if is_ours(name)} for file in files()
    }
    for name, others in below.items():
        others.discard(name)
    while free := {name for name, others in below.items() if not others & below.keys()}:
        below = {name: others for name, others in below.items() if name not in free}
    assert not below, f"files that import each other, and those above them: {', '.join(sorted(below))}"


@pytest.mark.parametrize("file", files(), ids=name_of)
def test_a_file_is_one_room(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST or WHY_LONG in text, (
        f"{name_of(file)} has more than {LONGEST} lines: give its rooms files of their own, or say after "
        f"'{WHY_LONG}' in its docstring why not"
    )


def test_the_first_look_takes_in_the_house() -> None:
    names = {entry.stem for entry in HOUSE.iterdir() if entry.is_dir() or entry.suffix == ".py"}
    assert len(names - {"__pycache__"}) <= 15, "at most fifteen names at the top"
    assert names - {"__pycache__"} == {*FLOORS, "__init__"} - {""}
    for package in HOUSE.rglob("__init__.py"):
        sentence = (ast.get_docstring(ast.parse(package.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
        assert sentence.endswith("."), f"{name_of(package)} says in one sentence what belongs into it"


@pytest.mark.parametrize("file", files(), ids=name_of)
def test_slow_packages_are_imported_inside_functions(file: Path) -> None:
    for name, line, at_once in imports(file):
        assert not (at_once and first(name) in LAZY), f"{name_of(file)}, line {line}, imports {name} at once"


@pytest.mark.parametrize("file", [f for f in files() if first(name_of(f)) == "cli"], ids=name_of)
def test_a_verb_imports_torch_only_when_it_runs(file: Path) -> None:
    for name, line, at_once in imports(file):
        if at_once:
            assert first(name) not in TORCHY
            if is_ours(name) and first(inner(name)) != "cli":
                assert first(inner(name)) != LEARN, f"{name_of(file)}, line {line}, imports {name}"


def test_this_test_sees_imports_everywhere(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text(
        "import torch\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import monai\n"
        "class A:\n    def f(self):\n        try:\n            from mrprism.learn.run import Run\n"
        "        except ImportError:\n            pass\n"
    )
    assert list(imports(file)) == [
        ("torch", 1, True),
        ("typing", 2, True),
        ("mrprism.learn.run", 8, False),
    ]


def test_no_two_files_of_tests_have_one_name() -> None:
    """In folders that are no packages, the second would be taken for the first, and the whole run would fail."""
    files = [
        path for path in Path(__file__).parent.rglob("*.py") if not (path.parent / "__init__.py").exists()
    ]
    names = [path.name for path in files if path.name != "conftest.py"]
    assert sorted({name for name in names if names.count(name) > 1}) == []
