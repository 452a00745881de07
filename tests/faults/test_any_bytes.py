"""Whatever bytes a file holds, it is read or refused in a sentence: the targets of fuzz/, and every layout."""

from __future__ import annotations

import contextlib
import random
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "fuzz"))

from mutate import mutated
from targets import TARGETS

from faults.inputs import COMMANDS, GOOD
from mrprism.cli.import_ import _pair
from mrprism.core.errors import InputError
from mrprism.layouts import DATASETS
from mrprism.layouts.importing import converted

LAYOUTS = [name for name, command in COMMANDS.items() if command.startswith("import")]
few = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Decoders warn about what they are given here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_sound(name: str) -> None:
    seeds = TARGETS[name].seeds()
    assert seeds
    assert any(TARGETS[name](seed) for seed in seeds)


@pytest.mark.parametrize("name", TARGETS)
@few
@given(seed=st.integers(0, 2**32 - 1))
def test_any_bytes_are_read_or_refused(name: str, seed: int) -> None:
    target = TARGETS[name]
    target(mutated(target.seeds(), random.Random(seed)))


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("trees")
    for name in LAYOUTS:
        GOOD[name](folder / name)
    return {name: folder / name for name in LAYOUTS}


def reader_of(command: str) -> tuple[str, dict[str, Any]]:
    """Which reader an import command asks for, and its options."""
    _, kind, _, _, *rest = shlex.split(command)
    pairs = zip(rest[::2], rest[1::2], strict=True)
    given = dict(_pair(value) if key == "-o" else (key.lstrip("-"), value) for key, value in pairs)
    return kind, converted(kind, given)


@pytest.mark.parametrize("name", LAYOUTS)
@few
@given(seed=st.integers(0, 2**32 - 1))
def test_any_file_of_any_layout_may_be_broken(name: str, trees: dict[str, Path], seed: int) -> None:
    kind, options = reader_of(COMMANDS[name])
    draw = random.Random(seed)
    file = draw.choice(sorted(path for path in trees[name].rglob("*") if path.is_file()))
    whole = file.read_bytes()
    file.write_bytes(mutated([whole], draw))
    try:
        with contextlib.suppress(InputError):
            for sample in DATASETS[kind](trees[name], **options).samples:
                assert sample.masks.shape[2:] == sample.image.shape[1:]
    finally:
        file.write_bytes(whole)


UNTRIED = {"dataset"}  # the manifest is a target of its own


def test_every_reader_is_tried() -> None:
    tried = {reader_of(COMMANDS[name])[0] for name in LAYOUTS}
    assert set(DATASETS) - tried == UNTRIED
