"""What people settled: kept beside the raters' masks, nothing overwritten, nothing lost."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from volumes import TASK, volumes

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample
from mrprism.datasets import open_dataset, write_dataset
from mrprism.datasets.decision import Start
from mrprism.datasets.decisions import Decisions

VOTE = Start(kind="fusion", of="majority")
NAMES = ("eye/1", "eye:1", "œil 2")  # file systems take the first two for the same


def samples() -> list[MultiRaterSample]:
    masks = np.zeros((3, 2, 12, 16), bool)
    masks[:, 0, 2:10, 3:11] = True
    masks[:, 1, 4:8, 5:9] = True
    image = np.full((1, 12, 16), 0.5, np.float32)
    return [MultiRaterSample(name, image, masks, np.ones((3, 2), bool), masks[0]) for name in NAMES]


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    write_dataset(samples(), tmp_path / "eyes", name="eyes", task=TASK)
    return tmp_path / "eyes"


def layer(folder: Path) -> Decisions:
    manifest = open_dataset(folder).manifest
    assert manifest is not None
    return Decisions(folder, manifest)


def square(size: int) -> np.ndarray:
    mask = np.zeros((12, 16), bool)
    mask[:size, :size] = True
    return mask


def settle(decisions: Decisions, case: str, size: int = 3, who: str = "dr ann") -> None:
    for structure in TASK.structures:
        mask = square(size)
        decisions.save(case, structure, who, mask=mask, start=Start(kind="union"), status="final")


def test_a_decision_says_who_when_from_what_and_how_much_was_changed(eyes: Path) -> None:
    before = {path: path.read_bytes() for path in eyes.rglob("*") if path.is_file()}
    decisions = layer(eyes)
    begun = decisions.save("eye/1", "disc", "dr ann", mask=square(4), start=VOTE)
    assert (begun.status, begun.changed, begun.marked, begun.parents) == ("open", 0, 16, [])
    painted = decisions.save("eye/1", "disc", "dr ann", mask=square(5), base=[begun.id], sitting="w")
    assert (painted.changed, painted.marked) == (9, 25)
    final = decisions.save(
        "eye/1", "disc", "dr bob", base=[painted.id], status="final", note="vessel left out"
    )
    assert (final.start, final.origin, final.changed, final.who) == (VOTE, begun.id, 9, "dr bob")
    standing = layer(eyes).standing("eye/1")
    assert standing["disc"].settled == final
    assert [one.id for one in standing["disc"].history] == [final.id, painted.id, begun.id]
    assert standing["cup"].status == "none"
    assert np.array_equal(decisions.mask(final), square(5))
    assert layer(eyes).standing("eye:1")["disc"].status == "none", "another case whose name looks the same"
    assert {path: path.read_bytes() for path in before} == before, "no rater's mask was touched"


def test_strokes_take_each_other_s_place_and_what_was_settled_stays(eyes: Path) -> None:
    decisions = layer(eyes)
    last = decisions.save("eye/1", "disc", "ann", mask=square(2), start=VOTE)
    for size in (3, 4, 5):
        last = decisions.save("eye/1", "disc", "ann", mask=square(size), base=[last.id], sitting="window")
    standing = decisions.standing("eye/1")["disc"]
    assert [one.marked for one in standing.history] == [25, 4], "the last stroke and the beginning"
    assert len(list(decisions.place("eye/1").glob("*.png"))) == 2
    final = decisions.save("eye/1", "disc", "ann", base=[last.id], sitting="window", status="final")
    assert final.mask == last.mask, "the same pixels are kept once"
    again = decisions.save("eye/1", "disc", "ann", mask=square(6), base=[final.id], sitting="window")
    assert again.status == "open", "a settled mask that is painted on is settled no more"
    history = decisions.standing("eye/1")["disc"].history
    assert [one.marked for one in history] == [36, 25, 25, 4]
    assert [
        np.array_equal(decisions.mask(one), square(n)) for one, n in zip(history, (6, 5, 5, 2), strict=True)
    ]


def test_two_people_at_once_are_a_conflict_and_both_are_kept_until_one_ends_it(eyes: Path) -> None:
    ann, bob = layer(eyes), layer(eyes)
    begun = ann.save("eye/1", "disc", "ann", mask=square(4), start=VOTE)
    hers = ann.save("eye/1", "disc", "ann", base=[begun.id], status="final", mask=square(5))
    his = bob.save("eye/1", "disc", "bob", base=[begun.id], status="final", mask=square(6))
    standing = ann.standing("eye/1")["disc"]
    assert (standing.status, standing.settled) == ("conflict", None)
    assert {head.id for head in standing.heads} == {hers.id, his.id}
    assert np.array_equal(ann.mask(hers), square(5)) and np.array_equal(ann.mask(his), square(6))
    ended = ann.save("eye/1", "disc", "cy", base=[his.id, hers.id], status="final", note="bob is right")
    after = bob.standing("eye/1")["disc"]
    assert after.settled == ended
    assert ended.marked == 36
    assert len(after.history) == 4


def test_people_of_one_mind_are_no_conflict_and_to_discuss_what_is_settled_is(eyes: Path) -> None:
    decisions = layer(eyes)
    decisions.save("eye/1", "disc", "ann", mask=square(4), start=VOTE, status="agreed")
    decisions.save("eye/1", "disc", "bob", mask=square(4), start=Start(kind="rater", of="cy"))
    assert decisions.standing("eye/1")["disc"].status == "agreed"
    decisions.save("eye/1", "disc", "cy", mask=square(4), start=VOTE, status="discuss")
    assert decisions.standing("eye/1")["disc"].status == "conflict"


def test_whoever_goes_on_from_a_stroke_that_went_on_loses_nothing(eyes: Path) -> None:
    decisions = layer(eyes)
    begun = decisions.save("eye/1", "disc", "ann", mask=square(2), start=VOTE)
    seen = decisions.save("eye/1", "disc", "ann", mask=square(3), base=[begun.id], sitting="a")
    for size in (4, 5):
        last = decisions.standing("eye/1")["disc"].heads[0]
        decisions.save("eye/1", "disc", "ann", mask=square(size), base=[last.id], sitting="a")
    his = decisions.save("eye/1", "disc", "bob", mask=square(7), base=[seen.id], sitting="b")
    standing = decisions.standing("eye/1")["disc"]
    assert (standing.status, his.changed) == ("conflict", 45)
    assert [head.marked for head in standing.heads] == [49, 25]
    with pytest.raises(InputError, match="'ann' painted on 'disc' of case 'eye/1' in the meantime"):
        decisions.save("eye/1", "disc", "cy", base=[seen.id], status="final")


def test_many_windows_at_once_lose_nothing(eyes: Path) -> None:
    begun = layer(eyes).save("eye/1", "disc", "ann", mask=square(1), start=VOTE)

    def work(number: int) -> None:
        mine, last = layer(eyes), begun
        for stroke in range(5):
            mask = square(2)
            mask[number + 2, stroke] = True
            last = mine.save("eye/1", "disc", f"p{number}", mask=mask, base=[last.id], sitting=f"s{number}")

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    standing = layer(eyes).standing("eye/1")["disc"]
    assert sorted(head.who for head in standing.heads) == ["p0", "p1", "p2", "p3"]
    for head in standing.heads:
        expected = square(2)
        expected[int(head.who[1]) + 2, 4] = True
        assert np.array_equal(layer(eyes).mask(head), expected)


KILLED = """
import sys, numpy as np
from pathlib import Path
from mrprism.datasets import open_dataset
from mrprism.datasets.decisions import Decisions
from mrprism.datasets.decision import Start
folder = Path(sys.argv[1])
decisions = Decisions(folder, open_dataset(folder).manifest)
mask = np.zeros((12, 16), bool)
last = decisions.save("eye/1", "disc", "ann", mask=mask, start=Start(kind="empty"))
for pixel in range(10**6):
    mask.flat[pixel % mask.size] ^= True
    last = decisions.save("eye/1", "disc", "ann", mask=mask, base=[last.id], sitting="w")
    print(pixel, flush=True)
"""


@pytest.mark.parametrize("strokes", [1, 4, 7])
def test_a_kill_while_painting_loses_at_most_the_stroke_in_progress(eyes: Path, strokes: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(eyes)], stdout=subprocess.PIPE, text=True
    ) as painter:
        assert painter.stdout is not None
        said = [painter.stdout.readline() for _ in range(strokes)]
        os.kill(painter.pid, signal.SIGKILL)
    assert said[-1] == f"{strokes - 1}\n"
    decisions = layer(eyes)
    held = decisions.standing("eye/1")["disc"].held
    assert held is not None
    assert held.marked >= strokes
    mask = np.zeros((12, 16), bool)
    mask.flat[: held.marked] = True
    assert np.array_equal(decisions.mask(held), mask)
    decisions.save("eye/1", "disc", "ann", base=[held.id], status="final")
    left = {path.name.partition(".")[0] for path in decisions.place("eye/1").iterdir()}
    standing = decisions.standing("eye/1")["disc"]
    assert left == {one.id for one in standing.history}, "what the kill left half-written is gone"
    assert standing.status == "final"


def test_a_settled_case_has_the_decision_as_its_reference_where_it_is_asked_for(
    eyes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="no case of data set 'eyes' is settled"):
        open_dataset(eyes, reference="decisions")
    decisions = layer(eyes)
    settle(decisions, "eye/1")
    decisions.save("œil 2", "disc", "ann", mask=square(5), start=VOTE, status="agreed")
    for who, size in (("ann", 2), ("bob", 6)):
        settle(decisions, "eye:1", size, who)
    data = open_dataset(eyes, reference="decisions")
    said = capsys.readouterr().err
    assert "1 case of 'eyes' without a reference: people decided differently" in said
    assert "1 case of 'eyes' without a reference: not every structure is settled yet" in said
    assert data.referenced == {"eye/1": True, "eye:1": False, "œil 2": False}
    assert np.array_equal(data["eye/1"].reference, np.stack([square(3), square(3)]))
    assert (data.decided, data.path, data.place) == (True, None, eyes)
    plain = open_dataset(eyes)
    assert np.array_equal(plain["eye/1"].reference, samples()[0].reference), "as the manifest says"
    assert (plain.decided, plain.path) == (False, eyes)
    with pytest.raises(InputError, match="unknown reference 'decision'"):
        open_dataset(eyes, reference="decision")


def test_a_copy_of_settled_cases_has_the_decisions_as_references(eyes: Path, tmp_path: Path) -> None:
    for case in NAMES:
        settle(layer(eyes), case)
    data = open_dataset(eyes, reference="decisions")
    copy = write_dataset((data[n] for n in range(3)), tmp_path / "copy", name="copy", task=TASK)
    assert np.array_equal(open_dataset(copy)["eye:1"].reference, np.stack([square(3)] * 2))


def test_volumes_keep_their_place_in_the_patient(tmp_path: Path) -> None:
    write_dataset(volumes(1), tmp_path / "scans", name="scans", task=TASK, image_format="nifti")
    decisions = layer(tmp_path / "scans")
    sample = open_dataset(tmp_path / "scans")[0]
    for c, structure in enumerate(TASK.structures):
        mask = sample.masks[0, c]
        decisions.save(
            sample.name, structure, "ann", mask=mask, start=Start(kind="rater", of="ann"), status="final"
        )
    data = open_dataset(tmp_path / "scans", reference="decisions")
    assert np.array_equal(data[0].reference, sample.masks[0])
    import nibabel

    kept = nibabel.load(next(decisions.place(sample.name).glob("*.nii.gz")))
    assert np.allclose(kept.affine, sample.geometry.affine)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"status": "perhaps"}, "status: Input should be 'open', 'discuss', 'agreed' or 'final'"),
        ({"mask": "../../../dataset.json"}, "is not the name of a decision's mask"),
        ({"parents": ["../x"]}, "is not the name of a decision"),
        ({"case": "eye:1"}, "is about 'disc' of case 'eye:1'"),
        ({"structure": "lens"}, "is about 'lens'"),
        ({"more": 1}, "Extra inputs are not permitted"),
        ({"who": "\x1b[31m"}, "characters that can be printed"),
        (None, "Invalid JSON"),
    ],
)
def test_a_damaged_or_hostile_decision_is_refused_by_name(
    eyes: Path, change: dict[str, object] | None, says: str
) -> None:
    decisions = layer(eyes)
    made = decisions.save("eye/1", "disc", "ann", mask=square(3), start=VOTE)
    file = decisions.place("eye/1") / f"{made.id}.json"
    file.write_text("{" if change is None else json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(InputError, match="eye-1") as refused:
        decisions.standing("eye/1")
    assert says in str(refused.value)
    assert made.id in str(refused.value)


def test_a_mask_changed_by_other_hands_or_behind_a_link_is_not_taken_for_the_decision(
    eyes: Path, tmp_path: Path
) -> None:
    decisions = layer(eyes)
    settle(decisions, "eye/1")
    made = decisions.standing("eye/1")["disc"].heads[0]
    other = decisions.save("eye:1", "disc", "ann", mask=square(7), start=VOTE)
    file = decisions.place("eye/1") / made.mask
    file.write_bytes((decisions.place("eye:1") / other.mask).read_bytes())
    with pytest.raises(InputError, match="was changed outside mrprism"):
        decisions.mask(made)
    with pytest.raises(InputError, match="was changed outside mrprism"):
        open_dataset(eyes, reference="decisions")
    file.rename(tmp_path / "secret.png")
    file.symlink_to(tmp_path / "secret.png")
    with pytest.raises(InputError, match="through a link"):
        decisions.mask(made)
    with pytest.raises(InputError, match="through a link"):
        open_dataset(eyes, reference="decisions")


def test_what_does_not_fit_is_refused_and_leaves_nothing(eyes: Path) -> None:
    decisions = layer(eyes)
    before = sorted(path for path in eyes.rglob("*"))
    start = {"mask": square(3), "start": VOTE}
    for says, arguments in {
        "there is no case 'x'": ("x", "disc", "ann", start),
        "there is no structure 'lens'; known: disc, cup": ("eye/1", "lens", "ann", start),
        "12 × 15 pixels; expected 12 × 16": ("eye/1", "disc", "ann", {**start, "mask": square(3)[:, 1:]}),
        "expected a mask, and what it is": ("eye/1", "disc", "ann", {"status": "final"}),
        "who: a name has 1 to 80 characters": ("eye/1", "disc", " ", start),
        "note: String should have at most 4000": ("eye/1", "disc", "ann", {**start, "note": "x" * 4001}),
        "there is no decision 'nothing'": ("eye/1", "disc", "ann", {**start, "base": ["nothing"]}),
    }.items():
        case, structure, who, options = arguments
        with pytest.raises(InputError) as refused:
            decisions.save(case, structure, who, **options)  # type: ignore[arg-type]
        assert says in str(refused.value)
    left = [path for path in eyes.rglob("*") if path.is_file() and path not in before]
    assert left == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_data_set_that_cannot_be_written_to_says_so(eyes: Path) -> None:
    eyes.chmod(0o500)
    try:
        with pytest.raises(InputError, match="Permission denied"):
            settle(layer(eyes), "eye/1")
    finally:
        eyes.chmod(0o700)


def test_the_digest_of_a_mask_is_that_of_its_pixels(eyes: Path) -> None:
    made = layer(eyes).save("eye/1", "disc", "ann", mask=square(3), start=VOTE)
    packed = np.packbits(square(3)).tobytes()
    assert made.pixels_sha256 == hashlib.sha256(b"(12, 16)" + packed).hexdigest()


@pytest.mark.parametrize("whole", [True, False])
def test_nothing_is_written_or_tidied_through_a_link_out_of_the_data_set(
    eyes: Path, tmp_path: Path, whole: bool
) -> None:
    """A data set of somebody else may hold one; what lies behind it is not theirs."""
    decisions = layer(eyes)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".notes.tmp").write_text("keep")
    link = decisions.folder if whole else decisions.place("eye/1")
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match="through a link"):
        decisions.save("eye/1", "disc", "ann", mask=square(3), start=VOTE)
    assert [path.name for path in (tmp_path / "mine").rglob("*")] == [".notes.tmp"]
