"""Whatever a command does is one call from Python."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mrprism
from mrprism import cli
from mrprism.cli import VERBS
from mrprism.compare import Budget
from mrprism.core.errors import InputError

CALLS = {  # verb: the calls that do what it does
    "demo": ["demo"],
    "phantom": ["phantom"],
    "import": ["import_dataset"],
    "check": ["check_dataset"],
    "agree": ["agree"],
    "fuse": ["fuse_dataset", "fuse_masks"],
    "plan": ["plan"],
    "train": ["train", "resume", "evaluate"],
    "evaluate": ["evaluate"],
    "predict": ["predict"],
    "compare": ["compare"],
    "study": ["study"],
    "report": ["report", "report_study"],
    "view": ["view"],
    "export": ["export"],
}
ELSEWHERE = {  # what only a command line needs, or what has another name in a call
    "as_json": "the answer is an object",
    "quiet": "",
    "option": "options",
    "set_": "options",
    "raters": "options",
    "seed": "options",
    "resample": "options",
    "masks": "fuse_masks",
    "whole_field": "margin=None",
    "smoothing": "options",
    "ties": "options",
    "candidate": "candidates",
    "path": "source",
    "without": "options",
    "pseudonyms": "options",
    "epochs": "budget",
    "size": "budget",
    "backbone": "budget",
    "batch_size": "budget",
    "learning_rate": "budget",
    "schedule": "budget",
    "augment": "budget",
    "slices": "budget",
    "neighbours": "budget",
    "drawn_only": "budget",
    "split_seed": "budget",
    "plan": "budget",
    "evaluate": "evaluate",
    "resume": "resume",
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_a_call(verb: str) -> None:
    """Each option of the command is a parameter of a call of the same name, or of one said above."""
    run = importlib.import_module(f"mrprism.cli.{VERBS[verb][0]}").run
    taken: set[str] = set()
    for call in CALLS[verb]:
        taken |= set(inspect.signature(getattr(mrprism, call)).parameters)
    for option in inspect.signature(run).parameters:
        other = ELSEWHERE.get(option)
        said = other is not None and (
            other in taken
            or other in CALLS[verb]
            or other.split("=")[0] in taken
            or option in ("as_json", "quiet")
        )
        assert option in taken or said, f"mrprism {verb}: {option} is nothing of {', '.join(CALLS[verb])}"


def test_the_calls_are_public() -> None:
    assert CALLS.keys() == VERBS.keys()
    for calls in CALLS.values():
        for call in calls:
            assert call in mrprism.__all__


@pytest.fixture(scope="module")
def data() -> mrprism.Dataset:
    return mrprism.phantom("crowd", cases=12, size=32)


def test_fuse_dataset(data: mrprism.Dataset, tmp_path: Path) -> None:
    made = mrprism.fuse_dataset(data, "majority", tmp_path / "fused")
    assert (made.cases, made.skipped) == (12, 0)
    assert {row.rater for row in made.skill} == set(data.task.raters)
    assert (tmp_path / "fused" / "skill.csv").is_file()
    assert repr(made).startswith("FusedFolder(folder=")


def test_fusing_names_raters_whose_masks_are_those_of_another(
    data: mrprism.Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mrprism.fuse_dataset(data, "majority", tmp_path / "plain").copies == ()
    twice = [
        replace(sample, masks=np.concatenate([sample.masks, sample.masks[:1]]), rated=np.ones((8, 2), bool))
        for sample in data
    ]
    raters = (*data.task.raters, "copy")
    mrprism.write_dataset(twice, tmp_path / "d", name="d", task=replace(data.task, raters=raters))
    made = mrprism.fuse_dataset(tmp_path / "d", "majority", tmp_path / "fused")
    assert made.copies == ("raters 'rater1' and 'copy' never differ (24 masks)",)
    assert (
        cli.call(["fuse", str(tmp_path / "d"), "--method", "majority", "--out", str(tmp_path / "fused")]) == 0
    )
    assert "raters 'rater1' and 'copy' never differ (24 masks); such masks are one opinion given twice" in (
        capsys.readouterr().out
    )


def test_fuse_masks(data: mrprism.Dataset, tmp_path: Path) -> None:
    from mrprism.images import read_mask, write_mask

    for rater in range(3):
        write_mask(tmp_path / f"r{rater}.png", data[0].masks[rater, 0])
    made, rows = mrprism.fuse_masks(sorted(tmp_path.glob("r*.png")), "majority", tmp_path / "fused")
    want = data[0].masks[:3, 0].sum(axis=0) > 1.5
    np.testing.assert_array_equal(read_mask(made.mask).array, want)
    assert [row.rater for row in rows] == ["r0", "r1", "r2"]


def test_export_of_a_data_set_in_memory(data: mrprism.Dataset, tmp_path: Path) -> None:
    made = mrprism.export(data, "coco", tmp_path / "coco")
    assert (made.cases, made.raters) == (12, data.task.raters)
    with pytest.raises(InputError, match=r"unknown target 'cocoo'; .*did you mean 'coco'"):
        mrprism.export(data, "cocoo", tmp_path / "other")
    with pytest.raises(InputError, match="does not exist"):
        mrprism.export(tmp_path / "nothing", "coco", tmp_path / "other")


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_view_serves_what_it_is_given(
    data: mrprism.Dataset, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Any] = []

    def serve(view: Any, **how: Any) -> None:
        served.append(
            (view.about()["cases"], view.case(0)["name"], view.image(0, "", 0, 0, (0.0, 1.0))[:4], how)
        )

    monkeypatch.setattr("mrprism.viewer.server.serve", serve)
    shown: Any = data
    if where == "disk":
        shown = mrprism.write_dataset(data, tmp_path / "d", name="d", task=data.task)
    mrprism.view(shown, port=8000, browser=False)
    assert served == [
        (12, "case0000", b"\x89PNG", {"port": 8000, "browser": False, "desk": None, "host": None})
    ]
    with pytest.raises(InputError, match="belong to a run"):
        mrprism.view(shown, device="cpu")


def test_compare_takes_a_data_set_in_memory(
    data: mrprism.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs find it in the comparison's folder; the same call goes on, other data are refused."""
    asked: list[Any] = []

    def sweep(work: Any, *_: Any, **__: Any) -> dict[str, str]:
        asked.append([mrprism.open_dataset(job.dataset_path) for job in work])
        return {}

    monkeypatch.setattr(importlib.import_module("mrprism.compare.build"), "sweep", sweep)
    budget = Budget(epochs=1, size=32, backbone="small")
    for _ in range(2):
        outcome = mrprism.compare(data, tmp_path / "out", methods="fuse", budget=budget, quiet=True)
    assert repr(outcome).startswith("Outcome(")
    for opened in asked[0]:
        assert opened.names == data.names
        np.testing.assert_array_equal(opened[0].image, data[0].image)
        np.testing.assert_array_equal(opened[0].masks, data[0].masks)
    changed = [replace(data[0], masks=~data[0].masks), *data[1:]]
    other = mrprism.Dataset.from_samples(data.name, data.task, changed)
    with pytest.raises(InputError, match="keeps other cases"):
        mrprism.compare(other, tmp_path / "out", methods="fuse", budget=budget, quiet=True)


def test_compare_of_a_part_of_a_data_set_keeps_that_part(
    data: mrprism.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("mrprism.compare.build"), "sweep", lambda *_, **__: {})
    folder = mrprism.write_dataset(data, tmp_path / "d", name="d", task=data.task)
    part = mrprism.open_dataset(folder)[:8]
    mrprism.compare(
        part, tmp_path / "out", methods="fuse", budget=Budget(epochs=1, size=32, backbone="small"), quiet=True
    )
    plan = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert mrprism.open_dataset(plan["dataset_path"]).names == part.names
    assert {*plan["train"], *plan["val"], *plan["test"]} == set(part.names)


def test_a_manifest_of_another_name_is_the_one_that_is_opened_again(
    data: mrprism.Dataset, tmp_path: Path
) -> None:
    folder = mrprism.write_dataset(data, tmp_path / "d", name="d", task=data.task)
    assert mrprism.open_dataset(folder).path == folder
    (folder / "other.json").write_bytes((folder / "dataset.json").read_bytes())
    assert mrprism.open_dataset(folder / "other.json").path == folder / "other.json"
    assert mrprism.open_dataset(folder / "dataset.json").path == folder
    assert mrprism.open_dataset(folder, resample=True).path is None
    assert data.path is None


def test_agree_writes_what_the_command_writes(data: mrprism.Dataset, tmp_path: Path) -> None:
    found = mrprism.agree(data, tmp_path / "agreement", resamples=10, distances=False, pictures=1)
    assert (tmp_path / "agreement" / "agreement.html").is_file()
    assert found.candidates == ()
    folder = mrprism.write_dataset(data, tmp_path / "d", name="d", task=data.task)
    one = replace(data.task, raters=("model",))
    model = [replace(case, masks=case.masks[:1], rated=case.rated[:1]) for case in data]
    mrprism.write_dataset(model, tmp_path / "model", name="model", task=one)
    again = mrprism.agree(
        folder, tmp_path / "other", candidates=[tmp_path / "model"], resamples=10, distances=False, pictures=0
    )
    assert {test.candidate for test in again.candidates} == {"model"}
    with pytest.raises(InputError, match="is a file; expected a folder"):
        mrprism.agree(data, folder / "dataset.json")


def test_check_takes_what_is_open(data: mrprism.Dataset, tmp_path: Path) -> None:
    folder = mrprism.write_dataset(data, tmp_path / "d", name="d", task=data.task)
    found = mrprism.check_dataset(mrprism.open_dataset(folder), tmp_path / "check.html")
    assert not found.errors
    assert repr(found) == f"Check('{folder / 'dataset.json'}', {found.verdict})"
    assert "<table>" in (tmp_path / "check.html").read_text()
    with pytest.raises(InputError, match="this data set is in memory"):
        mrprism.check_dataset(data)


def test_import(data: mrprism.Dataset, tmp_path: Path) -> None:
    made = mrprism.export(data, "png", tmp_path / "png")
    assert made.files > 0
    done = mrprism.import_dataset("folder", tmp_path / "png", tmp_path / "again", name="again")
    assert done.dataset.task.raters == data.task.raters
    np.testing.assert_array_equal(done.dataset["case0003"].masks[:, ::-1], data["case0003"].masks)
    assert repr(done).startswith(f"Imported('{tmp_path / 'again'}', 12 cases")
    dry = mrprism.import_dataset("folder", tmp_path / "png", None, dry_run=True)
    assert dry.cases == 12
    with pytest.raises(InputError, match="nothing was written"):
        _ = dry.dataset
    with pytest.raises(InputError, match=r"unknown layout 'foldr'; .*did you mean 'folder'"):
        mrprism.import_dataset("foldr", tmp_path / "png", tmp_path / "x")
    with pytest.raises(InputError, match=r"folder has no option 'label'; .*did you mean 'labels'"):
        mrprism.import_dataset("folder", tmp_path / "png", tmp_path / "x", label="a:1")


WRONG = {  # what is given: words of the sentence
    "mrprism.METHODS['mrprsm']": "unknown method 'mrprsm'; known: mrprism,",
    "mrprism.DATASETS['x']": "unknown layout 'x'; known: bids",
    "mrprism.METRICS['x']": "unknown metric 'x'",
    "mrprism.FUSIONS[['staple']]": "unknown fusion",
    "mrprism.agree(data, resamples=-1)": "resamples must be 0 or more, not -1",
    "mrprism.agree(data, resamples=2.5)": "resamples must be a whole number; found the number 2.5",
    "mrprism.agree(data, seed='a')": "seed must be a whole number; found the text 'a'",
    "mrprism.agree(data, margin=-1)": "margin must be a number of 0 or more; found the number -1",
    "mrprism.agree(data, margin=float('nan'))": "margin must be a number of 0 or more",
    "mrprism.agree(data, candidates='masks')": "expected a list of a model's folders; found the text 'masks': write ['masks']",
    "mrprism.agree(data, out=3)": "expected the path of what is written; found the number 3",
    "mrprism.agree(None)": "expected a data set, or the path of one; found None",
    "mrprism.open_dataset(None)": "expected the path of a data set; found None",
    "mrprism.open_dataset(data)": "expected the path of a data set; found something of the kind Dataset",
    "mrprism.check_dataset(3)": "expected a data set, or the path of one; found the number 3",
    "mrprism.fuse_case('x', 'staple')": "expected one case, such as data[0]; found the text 'x'",
    "mrprism.fuse_case(data, 'staple')": "expected one case, such as data[0]; found something of the kind Dataset",
    "mrprism.fuse_case(data[0], 'staple', iterations='a')": "option iterations of staple must be a whole number",
    "mrprism.fuse_case(data[0], 'staple', margin=-1)": "option margin of staple must be 0 or more, not -1",
    "mrprism.fuse('d', 'staple')": "expected an open data set, such as mrprism.open_dataset gives",
    "mrprism.fuse(data, 'stapel')": "did you mean 'staple'?",
    "mrprism.fuse_masks('a.png')": "expected a list of mask files, one a rater; found the text 'a.png': write ['a.png']",
    "mrprism.fuse_masks([])": "no masks at all: fusing needs the masks of two or more",
    "mrprism.fuse_dataset(data, out=None)": "expected the path of what is written; found None",
    "data[::0]": "a step that is not 0",
    "data['a':'b']": "are cut out by whole numbers",
    "data.subset('case0000')": "expected a list of names of cases",
    "data.subset(None)": "expected a list of names of cases; found None",
    "mrprism.report('run', 'r.html')": "expected a list of run folders; found the text 'run': write ['run']",
    "mrprism.report([None], 'r.html')": "expected run folders in this list; found None",
    "mrprism.report(['run'], None)": "expected the path of what is written; found None",
    "mrprism.predict('run', 'a.png', 'o')": "expected a list of images or folders of images; found the text 'a.png'",
    "mrprism.load_run(3)": "expected a run, or the path of its folder; found the number 3",
    "mrprism.train(None, 'mrprism', 'r')": "expected the path of a data set; found None",
    "mrprism.train(data, 'mrprism', None)": "expected the path of what is written; found None",
    "mrprism.train(data, 'mrprism', 'r', options='a')": "expected options as a dictionary",
    "mrprism.resume(None)": "expected the path of what is written; found None",
    "mrprism.compare(data, 'c', methods=['mrprism'])": "expected methods as one text",
    "mrprism.compare(data, 'c', seeds=3)": "expected a list of seeds; found the number 3",
    "mrprism.compare(data, 'c', seeds=[-1])": "a seed must be 0 or more, not -1",
    "mrprism.compare(data, 'c', on='mars')": "unknown place to run on 'mars'; known: local, ray",
    "mrprism.import_dataset('folder', None, 'o')": "expected the path of what is imported; found None",
    "mrprism.import_dataset(['folder'], 'd', 'o')": "unknown layout",
    "mrprism.export(data, 'nnunet', None)": "expected the path of what is written; found None",
    "mrprism.phantom('crowd', cases='a')": "cases must be a whole number; found the text 'a'",
    "mrprism.plot_agreement('x')": "expected what mrprism.agree found; found the text 'x'",
    "mrprism.plot_confidence('x', None)": "expected one case, such as data[0]; found the text 'x'",
    "mrprism.plot_recurrence(3)": "expected the folder of a run; found the number 3",
    "mrprism.plot_case('x')": "expected one case, such as data[0]; found the text 'x'",
    "mrprism.plot_case(data[0], 'x')": "expected what a fusion or a run made of it; found the text 'x'",
    "mrprism.view(data, port='a')": "port must be a whole number; found the text 'a'",
    "mrprism.Task(3, 'disc', ('ann',))": "structures are a tuple of names; found 'disc': write ('disc',)",
    "mrprism.write_dataset('d', 'o', name='d', task=data.task)": "expected cases, one after the other; found the text 'd'",
    "mrprism.write_dataset(data, 'o', name='d', task=None)": "expected the task",
}  # fmt: skip


TELL = """
import json, sys
import mrprism
data, said = mrprism.phantom("crowd", cases=12, size=32), {}
for call in json.load(sys.stdin):
    try:
        eval(call)
        said[call] = "nothing was raised"
    except mrprism.InputError as error:
        said[call] = str(error)
    except Exception as error:
        said[call] = repr(error)
json.dump(said, sys.stdout)
"""


def test_a_thing_of_another_kind_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """In a process of its own: here, where types are checked while tests run, none of them would get that far."""
    done = subprocess.run(
        [sys.executable, "-c", TELL],
        input=json.dumps(list(WRONG)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {call: text for call, text in said.items() if WRONG[call] not in text} == {}
    assert said.keys() == WRONG.keys()
    assert list(tmp_path.iterdir()) == []  # nothing is left half-written


def test_a_structure_of_an_agreement_is_a_short_text_and_a_table(data: mrprism.Dataset) -> None:
    found = mrprism.agree(data, resamples=20, distances=False)["cup"]
    assert len(repr(found)) < 150 and "\n" not in repr(found)
    rows = found.rows()
    assert rows.columns == ["statistic", "value", "low", "high", "cases", "patients"]
    assert next(row for row in rows if row["statistic"] == "dice")["value"] == float(
        found.overall["dice"].value
    )
    assert "hd95" not in {row["statistic"] for row in rows}  # it was not computed
    html = found._repr_html_()
    assert "<td>fleiss_kappa</td>" in html and "StructureAgreement" in html
    if importlib.util.find_spec("pandas") is None:
        with pytest.raises(InputError, match="pip install pandas"):
            found.to_frame()
