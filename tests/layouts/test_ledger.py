"""Every file and mark that an import saw is read, or named with the reason; nothing is empty that was left out."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import LAYOUTS
from PIL import Image
from trees import blob, cases, picture, png

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.datasets import open_dataset
from mrprism.layouts import DATASETS
from mrprism.layouts.importing import import_dataset, options_of
from mrprism.layouts.ledger import LEDGER, Ledger
from mrprism.layouts.readers import COMMON

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults.inputs import COMMANDS, GOOD

IMPORTS = [name for name, command in COMMANDS.items() if command.startswith("import ")]


def retina(root: Path) -> Path:
    """Two raters, three cases."""
    LAYOUTS["retina"](root)
    return root


def kept(out: Path) -> dict[str, Any]:
    content = json.loads((out / LEDGER).read_text(encoding="utf-8"))
    assert content["format"] == "mrprism-import/1"
    return dict(content)


@pytest.mark.parametrize("name", IMPORTS)
def test_of_a_good_input_nothing_is_left(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    GOOD[name](tmp_path / "in")
    command = COMMANDS[name].format(**{"in": tmp_path / "in", "out": tmp_path / "out"})
    assert call([*shlex.split(command), "--strict"]) == 0, capsys.readouterr().err
    assert kept(tmp_path / "out").get("left_out") == []


@pytest.mark.parametrize("name", IMPORTS)
def test_a_stray_file_is_named_wherever_it_lies(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader that forgot to look cannot hide a file; those of operating systems are named apart."""
    GOOD[name](tmp_path / "in")
    places = [tmp_path / "in", *(path for path in (tmp_path / "in").rglob("*") if path.is_dir())]
    places = [place for place in places if place.name not in ("ct", "seg")]  # any DICOM file is looked into
    for number, place in enumerate(places):
        (place / f"stray{number}.xyz").write_text("?")
        (place / ".DS_Store").write_text("?")
    command = shlex.split(COMMANDS[name].format(**{"in": tmp_path / "in", "out": tmp_path / "out"}))
    assert call([*command, "--dry-run"]) == 0, capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert call(command) == 0
    found = kept(tmp_path / "out")
    strays = {item["what"] for item in found["left_out"]}
    wanted = {str((p / f"stray{n}.xyz").relative_to(tmp_path / "in")) for n, p in enumerate(places)}
    assert wanted <= strays | set(found["no_raters_work"])
    assert len(found["ignored"]) == len(places)
    assert ("left out: " in capsys.readouterr().err) == bool(strays)
    shutil.rmtree(tmp_path / "out")
    if strays:
        assert call([*command, "--strict"]) == 2
        assert "with --strict this is refused" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_files_of_the_system_do_not_trip_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = retina(tmp_path / "in")
    for junk in ("ann/@eaDir/01.png", "ann/.DS_Store", "bob/Thumbs.db", "__MACOSX/ann/._01.png", "README.md"):
        (root / junk).parent.mkdir(parents=True, exist_ok=True)
        (root / junk).write_bytes(b"?")
    assert call(["import", "folder", str(root), str(tmp_path / "out"), "--strict"]) == 0
    said = capsys.readouterr().err
    assert "ignored: 4 hidden files or files of an operating system" in said
    found = kept(tmp_path / "out")
    assert found["no_raters_work"] == ["README.md"]
    assert set(found["ignored"]) == {
        "__MACOSX/ann/._01.png", "ann/.DS_Store", "ann/@eaDir/01.png", "bob/Thumbs.db",
    }  # fmt: skip


def test_reasons_are_grouped_and_counted(tmp_path: Path) -> None:
    root = retina(tmp_path)
    for number in range(9):
        (root / f"ann/page{number}.svg").write_text("<svg/>")
    (root / "bob/only.svg").write_text("<svg/>")
    source = DATASETS["folder"](root)
    list(source.samples)
    assert source.ledger is not None
    assert source.ledger.lines() == [
        "left out: 10 files: neither an image nor a file of this layout: "
        "'ann/page0.svg', 'ann/page1.svg', 'ann/page2.svg', ..."
    ]


def test_in_place_has_its_ledger_beside_it(tmp_path: Path) -> None:
    root = retina(tmp_path)
    (root / "ann/old").mkdir()
    png(root / "ann/old/01.png", blob(1, (48, 48)))
    target = str(root / "dataset.json")
    assert call(["import", "folder", str(root), target, "--strict"]) == 2
    assert call(["import", "folder", str(root), target, "--dry-run"]) == 0
    assert not (root / "dataset.json").exists()
    assert not (root / LEDGER).exists()
    assert call(["import", "folder", str(root), target]) == 0
    assert [item["what"] for item in kept(root)["left_out"]] == ["ann/old/01.png"]
    again = DATASETS["folder"](root)  # what lies there now is known
    list(again.samples)
    assert again.ledger is not None
    assert [item.what for item in again.ledger.left] == ["ann/old/01.png"]


def test_a_rater_without_a_mask_and_an_import_without_raters(tmp_path: Path) -> None:
    root = retina(tmp_path / "in")
    (root / "cy").mkdir()
    with pytest.raises(InputError, match=r"no mask of the rater 'cy' could be read .* -o without=cy"):
        import_dataset("folder", root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    done = import_dataset("folder", root, tmp_path / "out", options={"without": "cy"})
    assert open_dataset(tmp_path / "out").task.raters == ("ann", "bob")
    assert done.cases == 3
    with pytest.raises(InputError, match="no rater 'dee' to leave out; there are ann, bob, cy"):
        import_dataset("folder", root, tmp_path / "more", options={"without": "dee"})
    with pytest.raises(InputError, match="no rater was found"):
        import_dataset("folder", root, tmp_path / "more", options={"without": "ann,bob,cy"})


def test_pseudonyms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing that is handed on holds a name; who is who stands beside."""
    LAYOUTS["project"](tmp_path / "in")
    out = tmp_path / "set"
    command = ["import", "label-studio", str(tmp_path / "in"), str(out), "-o", "pseudonyms=true"]
    assert call(command) == 0, capsys.readouterr().err
    assert open_dataset(out).task.raters == ("rater1", "rater2")
    with (tmp_path / "set-raters.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["pseudonym", "rater"],
            ["rater1", "ann@example.org"],
            ["rater2", "bob@example.org"],
        ]
    for path in out.rglob("*"):
        assert "example" not in str(path.relative_to(out))
        if path.is_file():
            assert b"example.org" not in path.read_bytes()
    assert "do not share this file" in capsys.readouterr().err


def test_pseudonyms_of_any_layout_and_in_place(tmp_path: Path) -> None:
    root = retina(tmp_path / "in")
    (root / "ann/ann-notes.svg").write_text("<svg/>")
    import_dataset("folder", root, tmp_path / "out", options={"pseudonyms": True})
    assert open_dataset(tmp_path / "out").task.raters == ("rater1", "rater2")
    assert [item["what"] for item in kept(tmp_path / "out")["left_out"]] == ["rater1/rater1-notes.svg"]
    with pytest.raises(InputError, match="keep their raters' names"):
        import_dataset("folder", root, root / "dataset.json", options={"pseudonyms": "yes"})
    with pytest.raises(InputError, match="option 'pseudonyms' is 'maybe'; expected yes or no"):
        import_dataset("folder", root, tmp_path / "x", options={"pseudonyms": "maybe"})


def test_yes_and_true_mean_the_same(tmp_path: Path) -> None:
    root = retina(tmp_path)
    for word, anonymous in (("true", True), ("yes", True), ("1", True), ("no", False), ("false", False)):
        assert DATASETS["folder"](root, anonymous=word).task.anonymous == anonymous


def test_raters_that_differ_in_case_or_blanks_are_refused(tmp_path: Path) -> None:
    root = retina(tmp_path)
    (root / "bob").rename(root / "ann ")
    with pytest.raises(InputError, match=r"differ in case, blanks or the form of an accent"):
        DATASETS["folder"](root)


def test_the_ledger_follows_links_that_stay_inside(tmp_path: Path) -> None:
    root = retina(tmp_path)
    (root / "cy").symlink_to(root / "ann")
    source = DATASETS["folder"](root)
    cases(source)
    assert source.ledger is not None
    assert source.ledger.left == []


def test_renaming_touches_whole_names_only(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, [])
    ledger.note("ann drew annotations; joann did not")
    ledger.renamed({"ann": "rater1"})
    assert ledger.notes == ["rater1 drew annotations; joann did not"]


def test_what_is_left_of_a_rater_is_never_empty(tmp_path: Path) -> None:
    """A folder beside masks: what it holds is named, and the masks stay as they are."""
    root = tmp_path
    for number in (1, 2, 3):
        png(root / f"images/0{number}.png", picture(number))
        for rater in ("ann", "bob"):
            png(root / f"{rater}/0{number}.png", blob(number))
    png(root / "ann/old/01.png", ~blob(1))
    source = DATASETS["folder"](root)
    found = cases(source)
    assert (source.task.structures, source.task.raters) == (("object",), ("ann", "bob"))
    np.testing.assert_array_equal(found["01"].masks[0, 0], blob(1))
    assert source.ledger is not None
    assert [(item.what, item.rater) for item in source.ledger.left] == [("ann/old/01.png", "ann")]
    shutil.rmtree(root / "bob")
    with pytest.raises(
        InputError, match=r"'.*ann' has masks and beside them folders of masks, such as 'old'"
    ):
        DATASETS["folder"](root)


def test_the_page_of_readers_names_every_reader_and_every_common_option() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/readers.md").read_text(encoding="utf-8")
    assert [kind for kind in DATASETS if f"`{kind}`" not in page] == []
    assert [option for option in COMMON if f"-o {option}=" not in page] == []
    assert LEDGER in page


@pytest.mark.parametrize("kind", ["folder", "nnunet"])
def test_no_layout_is_told_of_an_option_that_it_does_not_have(kind: str, tmp_path: Path) -> None:
    """A mask of greys: `folder` can cut it at a value, `nnunet` cannot."""
    greys = np.tile(np.arange(0, 240, 20, dtype=np.uint8), (12, 1))
    places = {
        "folder": ("images/a.png", "ann/a.png"),
        "nnunet": ("imagesTr/a_0000.png", "labelsTr_ann/a.png"),
    }
    for place in places[kind]:
        (tmp_path / "in" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(greys).save(tmp_path / "in" / place)
    about = {
        "channel_names": {"0": "g"},
        "labels": {"background": 0, "cup": 20},
        "numTraining": 1,
        "file_ending": ".png",
    }
    if kind == "nnunet":
        (tmp_path / "in" / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(InputError) as raised:
        import_dataset(kind, tmp_path / "in", tmp_path / "out")
    offered = set(re.findall(r"-o (\w+)=", str(raised.value)))
    assert offered <= set(options_of(kind))
    assert ("threshold" in offered) is (kind == "folder")
