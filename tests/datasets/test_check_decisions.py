"""`check` looks at `decisions/`: what was damaged, what is about something else, what nobody will read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from test_decisions import VOTE, layer, samples, settle, square
from volumes import TASK

from mrprism.datasets import write_dataset
from mrprism.datasets.check import check_dataset
from mrprism.datasets.decision import Decision
from mrprism.datasets.flags import Flag, flags_of, set_flag


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    write_dataset(samples(), tmp_path / "eyes", name="eyes", task=TASK)
    settle(layer(tmp_path / "eyes"), "eye/1")
    return tmp_path / "eyes"


def said(folder: Path) -> list[tuple[str, str | None, str]]:
    """Everything `check` says of decisions."""
    found = [fault for fault in check_dataset(folder).faults if "decisions" in fault.file]
    return [(fault.severity, fault.case, fault.sentence) for fault in found]


def place(folder: Path) -> Path:
    return layer(folder).place("eye/1")


def edit(folder: Path, **values: object) -> None:
    file = next(place(folder).glob("*.json"))
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def other_pixels(folder: Path) -> None:
    PIL.Image.fromarray(np.full((12, 16), 255, np.uint8)).save(next(place(folder).glob("*.png")))


def other_size(folder: Path) -> None:
    PIL.Image.fromarray(np.zeros((5, 16), np.uint8)).save(next(place(folder).glob("*.png")))


DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "cut off": (lambda f: next(place(f).glob("*.json")).write_text('{"format'), "error", "cannot be understood"),
    "not JSON of ours": (lambda f: edit(f, colour="red"), "error", "colour: Extra inputs"),
    "of another case": (lambda f: edit(f, case="eye:1"), "error", "of case 'eye:1'; expected a structure"),
    "of a structure that is gone": (lambda f: edit(f, structure="lens"), "error", "is about 'lens'"),
    "mask repainted": (other_pixels, "error", "is not the mask that 'dr ann' saved"),
    "mask of another grid": (other_size, "error", "5 × 16"),
    "mask gone": (lambda f: next(place(f).glob("*.png")).unlink(), "error", "does not exist"),
    "mask no picture": (lambda f: next(place(f).glob("*.png")).write_bytes(b"GIF"), "error", ".png"),
    "case gone": (lambda f: place(f).rename(place(f).parent / "eye9-01234567"), "warning", "not in the data set"),
    "JSON gone": (lambda f: next(place(f).glob("*.json")).unlink(), "warning", "belongs to no decision"),
    "something else": (lambda f: (place(f).parent / "notes.txt").write_text("x"), "warning", "is no decision"),
    "some other JSON": (lambda f: (place(f) / "notes.json").write_text("{}"), "warning", "is no decision"),
    "a file for a folder": (
        lambda f: (shutil.rmtree(place(f).parent), place(f).parent.write_text("x")),
        "error",
        "not a directory",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_named_with_its_file(eyes: Path, what: str) -> None:
    assert said(eyes) == []
    damage, severity, sentence = DAMAGE[what]
    damage(eyes)
    found = said(eyes)
    assert len(found) == 1, found
    assert found[0][0] == severity
    assert sentence in found[0][2]
    assert check_dataset(eyes).exit_code == {"error": 2, "warning": 1}[severity]


def test_one_damaged_save_hides_nothing_of_the_others(eyes: Path) -> None:
    for file in place(eyes).glob("*.json"):
        file.write_text("{}")
    assert [severity for severity, _, _ in said(eyes)] == ["error", "error"]


def test_conflicts_and_saves_that_others_went_on_from(eyes: Path) -> None:
    decisions = layer(eyes)
    first = decisions.save("œil 2", "disc", "ann", mask=square(3), start=VOTE)
    decisions.save("œil 2", "disc", "bob", mask=square(4), start=VOTE)
    [(severity, case, sentence)] = said(eyes)
    assert (severity, case) == ("warning", "œil 2")
    assert "in conflict between 'ann' and 'bob'" in sentence
    later = decisions.save("œil 2", "disc", "ann", base=[first.id], status="agreed")
    assert later.parents == [first.id]
    (decisions.place("œil 2") / f"{first.id}.json").unlink()
    assert f"lacks decision '{first.id}', from which 1 other goes on" in "".join(s for _, _, s in said(eyes))


def test_a_link_out_of_the_data_set_is_not_followed(eyes: Path, tmp_path: Path) -> None:
    shutil.move(place(eyes), tmp_path / "elsewhere")
    place(eyes).symlink_to(tmp_path / "elsewhere")
    [(severity, _, sentence)] = said(eyes)
    assert severity == "error" and "through a link" in sentence


def test_while_somebody_paints_nothing_is_wrong(eyes: Path) -> None:
    """Strokes take one another's place; a folder in use also has locks and files being written."""
    decisions = layer(eyes)
    made: Decision = decisions.save("eye:1", "disc", "ann", mask=square(1), start=VOTE)
    for size in range(2, 6):
        made = decisions.save("eye:1", "disc", "ann", mask=square(size), base=[made.id], sitting="w")
    (decisions.place("eye:1") / ".x.tmp").write_text("half")
    assert said(eyes) == []


def test_flags_under_another_name_are_not_taken_for_somebody_s(eyes: Path) -> None:
    decisions = layer(eyes)
    set_flag(decisions, "eye/1", "dr ann", Flag(flag=True))
    (file,) = (decisions.folder / "flags").iterdir()
    copy = shutil.copy(file, file.with_name("zz-copy.json"))
    set_flag(decisions, "eye/1", "dr ann", Flag())
    set_flag(decisions, "eye/1", "bob", Flag(note="look again"))
    kept, [fault] = flags_of(decisions)
    assert "zz-copy.json' are those of 'dr ann', whose file is called" in fault
    assert kept == {"eye/1": {"bob": Flag(note="look again")}}, "what others noted is not hidden by it"
    set_flag(decisions, "eye/1", "bob", Flag())
    assert any("zz-copy.json" in sentence for _, _, sentence in said(eyes))
    Path(copy).unlink()
    assert flags_of(decisions) == ({}, [])
