"""Run folders that somebody edited, cut or made up: `report` says in a sentence what is wrong with which file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report.fabricate import fabricate_run

from mrprism.cli import call

Spoil = Callable[[Path], Any]


def changed(file: str, **entries: Any) -> Spoil:
    def spoil(run: Path) -> None:
        content = json.loads((run / file).read_text()) if (run / file).is_file() else {}
        (run / file).write_text(json.dumps({**content, **entries}))

    return spoil


def text(file: str, content: str | bytes) -> Spoil:
    return lambda run: (run / file).write_bytes(content.encode() if isinstance(content, str) else content)


def row(**entries: str) -> Spoil:
    """The first row of the table has other entries."""

    def spoil(run: Path) -> None:
        head, first, *others = (run / "table.csv").read_text().splitlines()
        cells = dict(zip(head.split(","), first.split(","), strict=True)) | entries
        (run / "table.csv").write_text("\n".join([head, ",".join(cells.values()), *others]) + "\n")

    return spoil


def example(**arrays: Any) -> Spoil:
    """The first example has other arrays; a function is given the one that is there."""

    def spoil(run: Path) -> None:
        path = min((run / "examples").glob("*.npz"))
        with np.load(path) as file:
            content = {key: file[key] for key in file.files}
        for key, value in arrays.items():
            content[key] = value(content[key]) if callable(value) else value
        np.savez(path, **{key: value for key, value in content.items() if value is not None})

    return spoil


def deep(levels: int, mapping: bool = False) -> str:
    return '{"a":' * levels + "1" + "}" * levels if mapping else "[" * levels + "]" * levels


DAMAGED: dict[str, tuple[Spoil, str]] = {
    "brackets without end in the config": (text("config.json", "[" * 200_000), "config.json cannot be read"),
    "a config that is a list": (text("config.json", "[]"), "config.json cannot be read: expected one JSON object"),
    "a config that is nothing": (text("config.json", "null"), "config.json cannot be read: expected one JSON object"),
    "a config that is a deep list": (text("config.json", deep(500)), "config.json cannot be read"),
    "options forty deep": (changed("config.json", options=json.loads(deep(40, mapping=True))), "things lie in it more than 16 deep"),
    "options five hundred deep": (text("config.json", '{"options":' + deep(500, mapping=True) + "}"), "things lie in it more than 16 deep"),
    "a number without end": (text("config.json", '{"seed": ' + "9" * 5000 + "}"), "config.json cannot be read"),
    "bytes for a config": (text("config.json", b"\xff\xfe"), "config.json cannot be read"),
    "a method that is a list": (changed("config.json", method=["mrprism"]), "config.json cannot be read: method: input should be a valid string"),
    "options that are a list": (changed("config.json", options=[1]), "config.json cannot be read: options: input should be"),
    "a task that is a word": (changed("config.json", task="disc"), "config.json cannot be read: task: input should be"),
    "structures that are a number": (changed("config.json", task={"structures": 3}), "task.structures: input should be a valid list"),
    "structures that are numbers": (changed("config.json", task={"structures": [1, 2]}), "task.structures.0: input should be a valid string"),
    "raters that are a word": (changed("config.json", task={"structures": ["disc", "cup"], "raters": "ann"}), "task.raters: input should be a valid list"),
    "anonymous raters by a word": (changed("config.json", task={"anonymous": "no"}), "task.anonymous: input should be a valid boolean"),
    "test cases that are a number": (changed("config.json", test=7), "test: input should be a valid list"),
    "other raters than in the examples": (changed("config.json", task={"structures": ["disc", "cup"], "raters": ["ann"]}), "raters, the run 1"),
    "half a pair for a rater": (changed("config.json", task={"structures": ["disc", "cup"], "raters": ["\ud800", "b", "c", "d", "e", "f", "g"]}), ""),
    "a result that is a list": (text("result.json", "[1]"), "result.json cannot be read: expected one JSON object"),
    "seconds that are a word": (changed("result.json", seconds="soon"), "result.json cannot be read: seconds: input should be a valid number"),
    "a collapse that is a number": (changed("result.json", collapsed=True, collapse=3), "collapse: input should be a valid list"),
    "a log line of a list": (text("log.jsonl", "[1]\n"), "log.jsonl is damaged at line 1: expected one JSON object"),
    "a log line of brackets": (text("log.jsonl", "{}\n" + "[" * 200_000 + "\n"), "log.jsonl is damaged at line 2"),
    "an epoch that is a word": (text("log.jsonl", '{"epoch": "1", "terms": {"a": 1}}\n'), "epoch: input should be a valid integer"),
    "an epoch out of bounds": (text("log.jsonl", '{"epoch": 1e400, "validation": {"score": 1}}\n'), "log.jsonl is damaged at line 1: epoch"),
    "terms that are words": (text("log.jsonl", '{"epoch": 1, "terms": {"a": "b"}}\n'), "terms.a: input should be a valid number"),
    "a validation that is a number": (text("log.jsonl", '{"epoch": 1, "validation": 3}\n'), "validation: input should be a valid dictionary"),
    "an unknown recurrence": (row(recurrence="RecX"), "table.csv is damaged at line 2"),
    "a recurrence below zero": (row(recurrence="Rec-1"), "table.csv is damaged at line 2"),
    "a number of a recurrence without end": (row(recurrence="Rec" + "9" * 50), "table.csv is damaged at line 2"),
    "read by nobody knows what": (row(reads="minds"), "table.csv is damaged at line 2"),
    "a value that is a word": (row(value="much"), "table.csv is damaged at line 2"),
    "a line with too few cells": (text("table.csv", "case,group,structure,recurrence,target,metric,value,reads\na,b\n"), "table.csv is damaged at line 2"),
    "an example without axes": (example(masks=np.array(1)), "is not an example case"),
    "an image without axes": (example(image=np.float32(0.5)), "is not an example case"),
    "a probability without axes": (example(probability=np.array(0.5)), "is not an example case: probability has the shape ()"),
    "who drew, without axes": (example(rated=np.array(True)), "is not an example case: rated has the shape ()"),
    "a name of three words": (example(name=lambda name: None), ""),
    "masks with an axis too few": (example(masks=lambda masks: masks[0]), "is not an example case"),
    "masks of no rater": (example(masks=lambda masks: masks[:0]), "is not an example case"),
    "masks of another size": (example(masks=lambda masks: masks[..., :5]), "is not an example case: image has the shape"),
    "a probability of one structure": (example(probability=lambda p: p[:1]), "is not an example case: probability has the shape"),
    "a probability that is no number": (example(probability=lambda p: p * np.float32(np.nan)), "is not an example case: probability holds values that are no numbers"),
    "an image of words": (example(image=np.array([["a"]])), "is not an example case"),
    "an example of objects": (example(image=np.array([[{}]], dtype=object)), "is not an example case"),
    "an example that is text": (lambda run: min((run / "examples").glob("*.npz")).write_text("dear all"), "is not an example case"),
    "an example without masks": (example(masks=None), "is not an example case"),
}  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fabricate_run(tmp_path_factory.mktemp("sound") / "run", cases=2, size=40)


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_run_is_a_sentence(
    name: str, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, says = DAMAGED[name]
    shutil.copytree(sound, tmp_path / "run")
    spoil(tmp_path / "run")
    code = call(["report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html")])
    said = capsys.readouterr().err
    if not says:
        assert code == 0, said
        return
    assert code == 2, said
    assert said.startswith("mrprism: ")
    assert said.count("\n") == 1
    assert says in said
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
