"""How commands end: stopped, with nobody listening, on terminals that show little, and by a fault of mrprism."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from faults import inputs
from faults.test_bad_inputs import arguments
from mrprism import cli
from mrprism.cli import call
from mrprism.core.errors import Terminated

UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
EVIL = "\x1b]0;owned\x07\x1b[8m\u202e\x9b2J"


def verb(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    """A verb `try` that does this."""
    module = type(sys)("mrprism.cli.try_")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mrprism.cli.try_", module)
    monkeypatch.setitem(cli.VERBS, "try", ("try_", "Do it."))


# --- a fault of mrprism -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        TypeError("no such\nthing"),
        KeyError("x"),
        RecursionError(),
        UnicodeEncodeError("ascii", "×", 0, 1, "no"),
        AssertionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_nobody_thought_of_is_said_in_one_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> None:
        raise error

    verb(monkeypatch, run)
    monkeypatch.delenv("MRPRISM_DEBUG", raising=False)
    assert call(["try"]) == 70
    said = capsys.readouterr().err
    assert said.startswith(f"mrprism: unexpected error, a fault of mrprism ({type(error).__name__}")
    assert said.count("\n") == 1
    assert "please report it" in said
    monkeypatch.setenv("MRPRISM_DEBUG", "1")
    assert call(["try"]) == 70
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_fault_names_nothing_raw(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> None:
        raise ValueError(EVIL)

    verb(monkeypatch, run)
    for debug in ("", "1"):
        monkeypatch.setenv("MRPRISM_DEBUG", debug)
        assert call(["try"]) == 70
        assert not UNSEEN.search(capsys.readouterr().err)


# --- stopped ------------------------------------------------------------------------------------

SLOW = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background turns off
from mrprism.layouts import in_place, readers
from mrprism.datasets import write
from mrprism.cli import call
real = write._write_case
def slow(*given, **named):
    case = real(*given, **named)
    print("begun", flush=True)
    time.sleep(30)
    return case
write._write_case = slow
sys.exit(call(sys.argv[1:]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs signals")
@pytest.mark.parametrize(
    ("name", "code"), [("SIGTERM", 143), ("SIGHUP", 143), ("SIGINT", 130)], ids=lambda value: str(value)
)
def test_a_command_that_is_stopped_cleans_up(name: str, code: int, tmp_path: Path) -> None:
    inputs.folder(tmp_path / "in")
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments("import folder {in} {out}", tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    assert len(list(tmp_path.glob(".out.*.unfinished"))) == 1
    for _ in range(3):  # more than once, as some managers of jobs do
        process.send_signal(
            getattr(signal, name) if _ == 0 or (name == "SIGINT" and _ < 1) else signal.SIGTERM
        )
        if name == "SIGINT":
            break
        time.sleep(0.01)
    _, said = process.communicate()
    assert (process.returncode, said) == (code, "mrprism: interrupted\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_signals_are_as_they_were_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    verb(monkeypatch, lambda: seen.append(signal.getsignal(signal.SIGTERM)))
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        assert call(["try"]) == 0
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as by somebody who wants no stop: it is kept
        assert call(["try"]) == 0
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert callable(seen[0])
    assert seen[1] is signal.SIG_IGN


def test_what_a_stopped_command_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error, code in ((KeyboardInterrupt("go on with x"), 130), (Terminated("go on with x"), 143)):

        def run(error: BaseException = error) -> None:
            raise error

        verb(monkeypatch, lambda: run())
        assert call(["try"]) == code
        assert capsys.readouterr().err == "mrprism: go on with x\n"


# --- a result begun for something else ----------------------------------------------------------


def test_a_fusion_begun_for_other_masks_is_not_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two data sets whose cases have the same names: what is there of the one is no part of the other."""
    inputs.squares(tmp_path / "in")
    command = arguments("fuse {in} --method majority --out {out}", tmp_path)
    assert call(command) == 0
    assert call(command) == 0, "the same again"
    mask = tmp_path / "in/masks/ann/case0_disc.png"
    mask.write_bytes((tmp_path / "in/masks/bob/case1_disc.png").read_bytes())
    capsys.readouterr()
    assert call(command) == 2
    assert "was begun for other masks of these cases; expected a new folder" in capsys.readouterr().err
    other = tmp_path / "in/images/case0.png"
    assert call([*command[:-1], str(tmp_path / "out2")]) == 0
    other.write_bytes((tmp_path / "in/images/case1.png").read_bytes())
    assert call([*command[:-1], str(tmp_path / "out2")]) == 0, "images are not fused"


def test_mask_files_are_not_fused_into_a_data_set_s_fusion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs.squares(tmp_path / "in")
    assert call(arguments("fuse {in} --method majority --out {out}", tmp_path)) == 0
    before = (tmp_path / "out/skill.csv").read_bytes()
    masks = [str(tmp_path / f"in/masks/{rater}/case0_disc.png") for rater in ("ann", "bob")]
    assert call(["fuse", "--masks", *masks, "--method", "majority", "--out", str(tmp_path / "out")]) == 2
    assert "holds the fusion of a data set" in capsys.readouterr().err
    assert (tmp_path / "out/skill.csv").read_bytes() == before
    for method in ("staple", "majority"):  # a set of files, replaced as one
        assert call(["fuse", "--masks", *masks, "--method", method, "--out", str(tmp_path / "one")]) == 0
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "consensus.png",
        "probability.png",
        "skill.csv",
        "skill.json",
    ]


# --- nobody listens -----------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="pipes end otherwise")
@pytest.mark.parametrize("command", ["check {in}", "import list", "--help"])
def test_nobody_reads_what_is_printed(command: str, tmp_path: Path) -> None:
    inputs.squares(tmp_path / "in")
    ours, theirs = os.pipe()
    os.close(ours)
    process = subprocess.run(
        [sys.executable, "-m", "mrprism", *arguments(command, tmp_path)],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    os.close(theirs)
    assert (process.returncode, process.stderr) == (141, b"")


# --- terminals that show little, and names that are not text ------------------------------------

TERMINALS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}


def put_names(root: Path, name: str) -> None:
    """A data set whose case, rater, structure and own name are this."""
    file = root / "dataset.json"
    document = json.loads(file.read_text())
    document.update(name=name, raters=[name, "bob", "cy"], structures=[name, "cup"])
    for number, case in enumerate(document["cases"]):
        case["name"] = f"{name}{number}"
        case["masks"] = {r.replace("ann", name): drawn for r, drawn in case["masks"].items()}
        for drawn in (*case["masks"].values(), case["reference"]):
            drawn[name] = drawn.pop("disc")
    file.write_text(json.dumps(document))


COMMANDS = [
    "check {in}",
    "check {in} --json",
    "fuse {in} --method majority --out {out}",
    "agree {in} --out {out} --resamples 5 --no-distances --pictures 1",
    "export {in} --to png --out {out}",
    "import dataset {in} {out}",
    "fuse {in} --method nonsense --out {out}",
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    "name", ["山田 × κ 😀", EVIL, "[/x] [red]a:smile:", "=1+1"], ids=["signs", "escapes", "markup", "formula"]
)
def test_names_are_shown_on_any_terminal(
    name: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs.squares(tmp_path / "in")
    put_names(tmp_path / "in", name)
    import io

    for encoding in ("ascii", "utf-8"):
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            code = call([part.replace("/out", f"/out-{encoding}") for part in arguments(command, tmp_path)])
        said = "".join(stream.detach().getvalue().decode(encoding) for stream in (out, err))  # type: ignore[union-attr]
        assert code in ((2,) if "nonsense" in command else (0, 1)), said
        assert "Traceback" not in said
        assert not UNSEEN.search(said)
        if "--json" in command:
            assert json.loads(said)["summary"]["name"] == name


@pytest.mark.parametrize("terminal", TERMINALS.values(), ids=TERMINALS)
def test_a_real_terminal_that_shows_little(terminal: dict[str, str], tmp_path: Path) -> None:
    inputs.squares(tmp_path / "in")
    put_names(tmp_path / "in", "山田 ×")
    process = subprocess.run(
        [sys.executable, "-m", "mrprism", "check", str(tmp_path / "in")],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **terminal},
    )
    assert process.returncode in (0, 1), process.stderr
    assert b"\\u5c71\\u7530" in process.stdout
    assert process.stderr == b""


SURROGATE = "\\ud800"


@pytest.mark.parametrize(
    ("given", "file", "old", "command"),
    [
        ("squares", "dataset.json", '"ann"', "check {in}"),
        ("squares", "dataset.json", '"case0"', "fuse {in} --method majority --out {out}"),
        ("coco", "ann.json", '"disc"', "import coco {in} {out}"),
        ("label_studio", "export.json", '"disc"', "import label-studio {in} {out}"),
        ("nnunet", "dataset.json", '"organ"', "import nnunet {in} {out}"),
        ("run", "run/config.json", '"ann"', "predict {in}/run {in}/photos --out {out} --device cpu"),
    ],
)
def test_half_a_pair_in_json_is_a_sentence_or_is_kept(
    given: str, file: str, old: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs.GOOD[given](tmp_path / "in")
    path = tmp_path / "in" / file
    text = path.read_text()
    if old not in text:
        old = json.dumps(next(iter(re.findall(r'"(\w+)"\s*[,\]}]', text))))
    assert old in text
    path.write_text(text.replace(old, f'"a{SURROGATE}b"'))
    capsys.readouterr()
    code = call(arguments(command, tmp_path))
    printed = capsys.readouterr()
    assert code in (0, 1, 2), printed.err
    assert "Traceback" not in printed.err
    if code == 2:
        assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names of files are text there")
@pytest.mark.parametrize(
    ("given", "file", "command"),
    [
        ("folder", "images/a.png", "import folder {in} {out}"),
        ("folder", "ann", "import folder {in} {out}"),
        ("folder", "bob/b.png", "import folder {in} {out}"),
        ("coco", "ann.json", "import coco {in} {out}"),
        ("squares", "images/case0.png", "check {in}"),
        ("run", "photos", "predict {in}/run {in}/photos --out {out} --device cpu"),
        ("masks", "ann.png", "fuse --masks {in}/ann.png {in}/bob.png --out {out}"),
        ("bids", "sub-01", "import bids {in} {out}"),
        ("drive", "test/images/01_test.tif", "import drive {in} {out}"),
    ],
)
def test_a_name_that_is_no_text(
    given: str, file: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file name with the byte 0xff, in the middle of a tree and as what is named on the command line."""
    inputs.GOOD[given](tmp_path / "in")
    odd = os.fsdecode(b"\xff")
    path = tmp_path / "in" / file
    (path if path.is_file() else next(iter([path]))).rename(path.with_name(odd + path.name))
    capsys.readouterr()
    code = call(arguments(command, tmp_path))
    printed = capsys.readouterr()
    assert code in (0, 1, 2), printed.err
    assert "Traceback" not in printed.err
    named = [part.replace(path.name, odd + path.name) for part in arguments(command, tmp_path)]
    code = call([part.replace("/out", "/again") for part in named])
    printed = capsys.readouterr()
    assert code in (0, 1, 2), printed.err
    assert [left for left in tmp_path.rglob(".*") if left.name.endswith((".unfinished", ".tmp"))] == []
