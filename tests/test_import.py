"""The package's front door: quick, free of torch, and every name where it says."""

from __future__ import annotations

import importlib
import resource
import subprocess
import sys
from types import ModuleType

import pytest

import mrprism


def cpu_seconds(code: str) -> float:
    """Processor time of a fresh Python that runs the code: a busy machine does not change it."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    subprocess.run([sys.executable, "-c", code], check=True)
    return spent() - before


def test_import_takes_less_than_half_a_second() -> None:
    cpu_seconds("import mrprism")  # once, to write byte code
    empty = min(cpu_seconds("pass") for _ in range(3))
    assert min(cpu_seconds("import mrprism") for _ in range(3)) - empty < 0.5


def test_help_is_quick_too() -> None:
    cpu_seconds("from mrprism.cli import call; call(['--help'])")
    assert min(cpu_seconds("from mrprism.cli import call; call(['--help'])") for _ in range(3)) < 0.5


@pytest.mark.parametrize(
    "code",
    [
        "import mrprism",
        "import mrprism; mrprism.open_dataset; mrprism.phantom; mrprism.fuse; mrprism.agree; mrprism.report",
        "import mrprism; d = mrprism.phantom(cases=1, size=32); mrprism.fuse_case(d[0], 'staple')",
        "import mrprism; mrprism.plot_case; mrprism.check_dataset; mrprism.METHODS; mrprism.FUSIONS",
        "import mrprism; mrprism.compare; mrprism.Run; list(mrprism.METHODS); list(mrprism.DATASETS)",
    ],
)
def test_what_needs_no_torch_does_not_import_it(code: str) -> None:
    heavy = ("torch", "monai", "accelerate")
    check = f"{code}; import sys; found = [m for m in {heavy} if m in sys.modules]; assert not found, found"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_every_public_name_is_there_and_documented() -> None:
    assert len(mrprism.API) > 20
    for name in mrprism.API:
        found = getattr(mrprism, name)
        assert not isinstance(found, ModuleType), f"mrprism.{name} is a file, not what it holds"
        if callable(found):
            assert (found.__doc__ or "").strip(), f"mrprism.{name} says nothing of itself"
    assert set(mrprism.API) <= set(dir(mrprism))


def test_a_function_keeps_its_name_when_its_file_is_imported() -> None:
    module = importlib.import_module("mrprism.learn.train")
    assert isinstance(module, ModuleType)
    assert mrprism.train is module.train
    assert mrprism.report is importlib.import_module("mrprism.report").build_report


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'mrprism' has no attribute 'trian'"):
        _ = mrprism.trian  # type: ignore[attr-defined]


def test_type_checkers_see_the_same_names() -> None:
    """The block for type checkers and the table of names say the same."""
    import ast
    from pathlib import Path

    tree = ast.parse(Path(mrprism.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            seen[alias.asname] = (node.module, alias.name)
    expected = {}
    for name, place in mrprism.API.items():
        module, _, attribute = place.partition(":")
        expected[name] = (f"mrprism.{module}", attribute or name)
    assert seen == expected
