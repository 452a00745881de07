"""Every fault of a data set is one sentence that names the file and the case; all come at once."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import open_dataset, write_dataset
from mrprism.datasets.check import check_dataset
from mrprism.datasets.manifest import schema

TASK = Task(channels=1, structures=("disc", "cup"), raters=("ann", "bob", "cy"))
ROOT = Path(__file__).parents[2]


def samples(count: int = 6, size: int = 24) -> list[MultiRaterSample]:
    row, column = np.mgrid[:size, :size]
    made = []
    for number in range(count):
        rng = np.random.default_rng(number)
        masks = np.zeros((3, 2, size, size), bool)
        for r in range(3):
            for c, radius in enumerate((8, 4)):
                y, x = size / 2 + rng.normal(0, 0.7, 2)
                masks[r, c] = (row - y) ** 2 + (column - x) ** 2 < (radius + rng.normal(0, 0.7)) ** 2
        image = np.round(rng.random((1, size, size)) * 255).astype(np.float32) / np.float32(255)
        made.append(
            MultiRaterSample(
                f"case{number}", image, masks, np.ones((3, 2), bool), masks.sum(0) > 1, f"p{number}"
            )
        )
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_dataset(samples(), tmp_path / "data", name="toy", task=TASK)


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = folder / "dataset.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def first(document: dict[str, Any]) -> dict[str, Any]:
    case: dict[str, Any] = document["cases"][0]
    return case


MANIFEST = {  # fault: (change of dataset.json, what the sentence says)
    "unknown rater": (
        lambda d: first(d)["masks"].update(zoe={"disc": "masks/ann/case0_disc.png"}),
        "case 'case0' has a mask of the unknown rater 'zoe'; known: ann, bob, cy",
    ),
    "unknown structure": (
        lambda d: first(d)["masks"]["ann"].update(lens="masks/ann/case0_disc.png"),
        "case 'case0' has a mask of the unknown structure 'lens'; known: disc, cup",
    ),
    "duplicate case": (lambda d: d["cases"].append(first(d)), "case 'case0' appears twice"),
    "empty": (lambda d: d.update(cases=[]), "the data set is empty"),
    "missing file": (
        lambda d: first(d).update(image="images/gone.png"),
        "image 'images/gone.png' of case 'case0' does not exist",
    ),
    "path up": (
        lambda d: first(d).update(image="../secret.png"),
        "image '../secret.png' of case 'case0' leaves the data set's folder",
    ),
    "path up inside": (
        lambda d: first(d).update(image="images/../../x.png"),
        "leaves the data set's folder",
    ),
    "absolute path": (lambda d: first(d).update(image="/etc/passwd"), "is not a relative path"),
    "drive letter": (lambda d: first(d).update(image="C:/x.png"), "is not a relative path"),
    "backslashes": (lambda d: first(d).update(image="images\\case0.png"), "is not a relative path"),
    "twin raters": (lambda d: d.update(raters=["ann", "ann", "bob", "cy"]), "rater 'ann' is listed twice"),
    "label map without labels": (
        lambda d: first(d)["masks"].update(ann="masks/ann/case0_disc.png"),
        "labels does not say which values are disc, cup",
    ),
    "unknown label": (lambda d: d.update(labels={"lens": [1]}), "labels name the structure 'lens'"),
    "wrong number of channels": (
        lambda d: first(d).update(image=["images/case0.png", "images/case1.png"]),
        "case 'case0' has 2 image files; expected one for each of the 1 channels",
    ),
    "split": (lambda d: first(d).update(split="training"), "split of case 'case0'"),
    "diagnosis": (lambda d: first(d).update(diagnosis=2), "diagnosis of case 'case0'"),
    "spacing": (lambda d: first(d).update(spacing_mm=[1, -1]), "spacing_mm.1 of case 'case0'"),
    "misspelt": (lambda d: first(d).update(mask={}), "mask of case 'case0': Extra inputs are not permitted"),
    "no name": (lambda d: first(d).pop("name"), "name of case 'number 1': Field required"),
    "format": (lambda d: d.update(format="other/2"), "format: Input should be 'mrprism-dataset/1'"),
    "votes": (lambda d: first(d).update(voters=4), "votes and voters belong together"),
    "window": (lambda d: d.update(window=[5, 5]), "is in the wrong order"),
    "case without a name": (lambda d: d["cases"].insert(0, 7), "case 'number 1'"),
    "structures": (lambda d: d.update(structures=[]), "structures"),
    "a list for a mask": (
        lambda d: first(d)["masks"].update(ann=["masks/ann/case0_disc.png"]),
        "masks.ann of case 'case0': Input should be a valid dictionary or a valid string, found [",
    ),
}


@pytest.mark.parametrize("fault", MANIFEST)
def test_manifest(folder: Path, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, says = MANIFEST[fault]
    edit(folder, change)
    with pytest.raises(InputError) as error:
        open_dataset(folder)
    assert says in str(error.value)
    assert call(["check", str(folder)]) == 2
    assert says in capsys.readouterr().out


def spoil_png(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def spoil_size(path: Path) -> None:
    Pillow.new("L", (5, 5)).save(path)


def spoil_grey(path: Path) -> None:
    Pillow.fromarray(np.arange(24 * 24, dtype=np.uint8).reshape(24, 24) // 100).save(path)


FILES = {  # fault: (file, how it is spoilt, what the sentence says)
    "truncated image": ("images/case0.png", spoil_png, "case0.png' is broken or not a PNG file"),
    "truncated mask": ("masks/ann/case0_cup.png", spoil_png, "case0_cup.png' is broken or not a PNG file"),
    "mask of another size": (
        "masks/ann/case0_cup.png",
        spoil_size,
        "case0_cup.png' of case 'case0' has the size 5 × 5, its image",
    ),
    "grey mask": ("masks/bob/case0_disc.png", spoil_grey, "has grey values 0, 1, 2"),
    "reference of another size": ("reference/case0_cup.png", spoil_size, "has the size 5 × 5"),
}


@pytest.mark.parametrize("fault", FILES)
def test_files(folder: Path, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    path, spoil, says = FILES[fault]
    spoil(folder / path)
    data = open_dataset(folder)
    assert len(data) == 6
    with pytest.raises(InputError) as error:
        data["case0"]
    assert says in str(error.value)
    assert call(["check", str(folder)]) == 2
    assert says in capsys.readouterr().out


def test_all_faults_come_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, spoil, _ in FILES.values():
        spoil(folder / path.replace("case0", "case3") if "image" not in path else folder / path)
    (folder / "masks/cy/case5_cup.png").unlink()
    edit(folder, lambda d: d["cases"][4].update(image="../x.png"))
    assert call(["check", str(folder), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert [f["case"] for f in found["faults"] if f["severity"] == "error"] == [
        "case4",
        "case5",
        "case0",
        "case3",
        "case3",
        "case3",
    ]
    assert found["summary"]["cases"] == 6
    with pytest.raises(InputError, match=r"\(and 1 more: see mrprism check"):
        open_dataset(folder)


def test_links_may_not_leave(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    os.replace(folder / "images/case0.png", secret)
    (folder / "images/case0.png").symlink_to(secret)
    with pytest.raises(InputError, match="leaves the data set's folder through a link"):
        open_dataset(folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not valid JSON"),
        ("{", "is not valid JSON"),
        ("[]", "Input should be a valid dictionary"),
        ('{"name": "a", "name": "b"}', "the key 'name' appears twice"),
        ("[" * 100_000, "is not valid JSON"),
        ('{"x": NaN}', "format"),
        ("\xff", "cannot be read"),
    ],
)
def test_json(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "dataset.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=says):
        open_dataset(tmp_path)


def test_no_data_set_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"has no dataset.json"):
        open_dataset(tmp_path)
    assert call(["check", str(tmp_path / "nowhere")]) == 2
    assert "does not exist; expected a folder" in capsys.readouterr().err


def test_a_good_data_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = check_dataset(folder / "dataset.json")
    assert check.faults == []
    assert check.summary["sizes"] == {"24 × 24": 6}
    assert check.summary["raters"]["bob"]["cup"] == {"masks": 6, "empty": 0}
    assert check.summary["missing_masks"] == 0
    assert call(["check", str(folder)]) == 0
    assert "no errors, no warnings" in capsys.readouterr().out


def test_missing_masks_and_overlap(folder: Path) -> None:
    def thin(document: dict[str, Any]) -> None:
        for case in document["cases"][:4]:
            del case["masks"]["ann"]
        for case in document["cases"][3:]:
            del case["masks"]["bob"]["cup"]
        del document["cases"][5]["masks"]["bob"]

    edit(folder, thin)
    summary = check_dataset(folder).summary
    assert summary["missing_masks"] == 4 * 2 + 3 + 1
    assert summary["overlap"]["ann"] == {"ann": 2, "bob": 1, "cy": 2}
    data = open_dataset(folder)
    np.testing.assert_array_equal(data["case0"].rated, [[False, False], [True, True], [True, True]])
    np.testing.assert_array_equal(data["case3"].rated, [[False, False], [True, False], [True, True]])


def suspicious(tmp_path: Path, change: Callable[[MultiRaterSample], None]) -> list[str]:
    made = samples()
    for sample in made:
        change(sample)
    out = write_dataset(made, tmp_path / "odd", name="odd", task=TASK)
    check = check_dataset(out)
    assert check.errors == []
    return [fault.sentence for fault in check.warnings]


def test_raters_who_never_differ(tmp_path: Path) -> None:
    def copy(sample: MultiRaterSample) -> None:
        sample.masks[2] = sample.masks[0]

    assert suspicious(tmp_path, copy)[0] == "raters 'ann' and 'cy' never differ (12 masks)"


def test_shifted_rater(tmp_path: Path) -> None:
    def shift(sample: MultiRaterSample) -> None:
        sample.masks[1] = np.roll(sample.masks[1], 4, axis=1)

    found = suspicious(tmp_path, shift)
    assert len(found) == 2
    assert found[0].startswith("all 6 masks of 'disc' by rater 'bob' lie (+")


def test_empty_full_and_border_masks(tmp_path: Path) -> None:
    def spoil(sample: MultiRaterSample) -> None:
        sample.masks[0, 1] = False
        if sample.name == "case1":
            sample.masks[1, 0] = True
        if sample.name == "case2":
            sample.masks[1, 0] = True
            sample.masks[1, 0, 1:-1, 1:-1] = False

    found = suspicious(tmp_path, spoil)
    assert "the mask by rater 'bob' of 'disc' on case 'case1' covers the whole image" in found
    assert "the mask by rater 'bob' of 'disc' on case 'case2' is nothing but the image's border" in found
    assert "all 6 masks of 'cup' by rater 'ann' are empty" in found


def test_reference_that_is_a_rater(tmp_path: Path) -> None:
    def copy(sample: MultiRaterSample) -> None:
        assert sample.reference is not None
        sample.reference[:] = sample.masks[2]

    assert suspicious(tmp_path, copy) == ["the reference is rater 'cy' copied (12 masks)"]


def test_patients_in_two_splits_and_twin_images(folder: Path) -> None:
    def share(document: dict[str, Any]) -> None:
        document["cases"][0].update(group="p", split="train")
        document["cases"][1].update(group="p", split="test")
        document["cases"][1]["image"] = document["cases"][0]["image"]

    edit(folder, share)
    assert [f.sentence for f in check_dataset(folder).warnings] == [
        "patient 'p' has cases in test and train",
        "cases 'case0', 'case1' have the same image, in test and train",
    ]


def test_one_case_and_one_rater(tmp_path: Path) -> None:
    task = Task(1, TASK.structures, ("ann",))
    made = samples()[0]
    one = MultiRaterSample("a", made.image, made.masks[:1], made.rated[:1])
    check = check_dataset(write_dataset([one], tmp_path / "one", name="one", task=task))
    assert [f.sentence.split(";")[0] for f in check.faults] == [
        "the data set has one case only",
        "there is one rater only",
    ]


# --- writing ------------------------------------------------------------------------------------


def test_out_must_be_new(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_dataset(samples(2), tmp_path / "out", name="toy", task=TASK)
    with pytest.raises(InputError, match="exists already"):
        write_dataset(samples(2), tmp_path / "out", name="toy", task=TASK)


def test_nothing_is_left_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="is empty"):
        write_dataset([], tmp_path / "out", name="toy", task=TASK)
    with pytest.raises(InputError, match="two samples are named 'case0'"):
        write_dataset(samples(1) + samples(1), tmp_path / "out", name="toy", task=TASK)
    with pytest.raises(InputError, match="has the shape"):
        write_dataset(samples(1), tmp_path / "out", name="toy", task=Task(3, TASK.structures, TASK.raters))
    calls = 0
    fsync = os.fsync

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 10:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_dataset(samples(4), tmp_path / "out", name="toy", task=TASK)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writing_is_started_again(tmp_path: Path) -> None:
    (tmp_path / ".out.unfinished" / "images").mkdir(parents=True)
    (tmp_path / ".out.unfinished" / "images" / "stale.png").write_bytes(b"half")
    write_dataset(samples(2), tmp_path / "out", name="toy", task=TASK)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert sorted(p.name for p in (tmp_path / "out/images").iterdir()) == ["case0.png", "case1.png"]


# --- schema -------------------------------------------------------------------------------------


def test_the_published_schema_is_the_real_one() -> None:
    published = (ROOT / "docs/reference/dataset.schema.json").read_text()
    shipped = (ROOT / "src/mrprism/datasets/dataset.schema.json").read_text()
    assert json.loads(published) == json.loads(shipped) == schema()
