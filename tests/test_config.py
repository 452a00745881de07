"""Settings in a file: read with --config by any command, written back by those that make a folder."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import pytest

import mrprism
from mrprism.cli import VERBS, call
from mrprism.cli.config import filled, kept
from mrprism.cli.options import offered

ORDER = list(VERBS)


def command(verb: str) -> object:
    return importlib.import_module(f"mrprism.cli.{VERBS[verb][0]}").run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    mrprism.phantom("crowd", size=32, cases=6, out="data")
    return tmp_path


def test_a_file_gives_what_is_not_typed(place: Path) -> None:
    Path("study.toml").write_text('[fuse]\nmethod = "staple"\npooled = true\npaths = ["data"]\nout = "a"\n')
    assert call(["fuse", "--config", "study.toml"]) == 0
    assert '"pooled": true' in Path("a/fuse.json").read_text()
    assert (
        call(["fuse", "data", "--config=study.toml", "--out", "b", "--method", "simple", "--no-pooled"]) == 2
    )
    assert call(["fuse", "data", "--config=study.toml", "--out=c", "--method", "outline"]) == 0
    assert '"method": "outline"' in Path("c/fuse.json").read_text()


def test_paths_are_those_of_the_file(place: Path) -> None:
    Path("set/deep").mkdir(parents=True)
    Path("set/deep/s.toml").write_text(
        '[agree]\ndataset = "../../data"\nout = "../found"\nresamples = 5\npictures = 0\n'
    )
    assert call(["agree", "--config", "set/deep/s.toml"]) == 0
    assert Path("set/found/agreement.json").is_file()


def test_what_a_command_was_told_is_written_back_and_does_the_same(place: Path) -> None:
    assert call(["agree", "data", "--out", "found", "--resamples", "5", "--no-distances", "--seed", "3"]) == 0
    told = tomllib.loads(Path("found/settings.toml").read_text())["agree"]
    assert told["dataset"] == "../data"
    assert told["out"] == "."
    assert (told["resamples"], told["seed"], told["distances"], told["margin"]) == (5, 3, False, 0.05)
    assert call(["agree", "--config", "found/settings.toml", "--out", "again"]) == 0
    assert Path("again/agreement.json").read_bytes() == Path("found/agreement.json").read_bytes()


def test_a_file_that_a_person_wrote_is_not_replaced(place: Path) -> None:
    Path("study").mkdir()
    mine = '# mine\n[agree]\ndataset = "../data"\nout = "."\nresamples = 5\npictures = 0\n'
    Path("study/settings.toml").write_text(mine)
    assert call(["agree", "--config", "study/settings.toml"]) == 0
    assert Path("study/agreement.json").is_file()
    assert Path("study/settings.toml").read_text() == mine


def test_arguments_stand_in_the_order_of_the_command(place: Path) -> None:
    """Whatever their order in the file."""
    from mrprism.cli.config import filled

    table = {"files": ["a.png", "b.png"], "run": "run", "out": "o"}
    words = filled(command("predict"), [], table, Path("s.toml"))  # type: ignore[arg-type]
    assert [Path(word).name for word in words[words.index("--") + 1 :]] == ["run", "a.png", "b.png"]


def test_paths_with_nothing_in_common_are_written_whole(tmp_path: Path) -> None:
    from mrprism.cli.config import _relative

    assert _relative(Path("/mnt/runs/data"), Path("/home/u/out")) == "/mnt/runs/data"
    assert _relative(Path("/home/u/data"), Path("/home/u/out")) == "../data"


def test_a_training_is_written_back_with_its_options(place: Path) -> None:
    Path("t.toml").write_text(
        '[train]\ndataset = "data"\nout = "run"\nmethod = "fused-label"\nbackbone = "small"\nsize = 32\n'
        'epochs = 1\ndevice = "cpu"\nquiet = true\n[train.option]\nlabel = "majority"\n'
    )
    assert call(["train", "--config", "t.toml"]) == 0
    told = tomllib.loads(Path("run/settings.toml").read_text())["train"]
    assert told["option"] == {"label": "majority"}
    assert told["learning_rate"] == 1e-4
    assert mrprism.Run.open("run").config.options["label"] == "majority"
    assert call(["train", "--config", "run/settings.toml", "--out", "again"]) == 0
    assert Path("again/weights.safetensors").read_bytes() == Path("run/weights.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[agree]\nresampels = 3\n", "settings 'bad.toml': unknown setting 'resampels'"),
        ("[agree]\nresamples = 'many'\n", "'resamples' is 'many'; expected a whole number"),
        ("[agree]\nresamples = 1.5\n", "'resamples' is 1.5; expected a whole number"),
        ("[agree]\nresamples = true\n", "'resamples' is True; expected a whole number"),
        ("[agree]\ndistances = 1\n", "'distances' is 1; expected true or false"),
        ("[agree]\ndataset = 3\n", "'dataset' is 3; expected a path as a text"),
        ("[agree]\nout = {a = 1}\n", "expected a path as a text"),
        ("[agre]\nout = 'a'\n", "unknown command 'agre'"),
        ("[fuse]\nout = 'a'\n", "have no table [agree]; tables there: [fuse]"),
        ("agree = 3\n", "have no table [agree]; tables there: none"),
        ("[agree\n", "are not TOML"),
        ("\xff", "are not TOML"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_nothing_is_made(
    text: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.toml").write_text(text, encoding="latin-1")
    assert call(["agree", "data", "--out", "none", "--config", "bad.toml"]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
    assert not Path("none").exists()


def test_a_missing_file_and_a_missing_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["agree", "data", "--config", "no.toml"]) == 2
    assert "settings 'no.toml' cannot be read: No such file" in capsys.readouterr().err
    assert call(["agree", "data", "--config"]) == 2
    assert "--config needs a file" in capsys.readouterr().err
    assert call(["agree", "data", "--config", "a", "--config", "b"]) == 2
    assert "given twice" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_can_be_read_from_a_file(verb: str) -> None:
    """Each of its options has a name in a file, which gives the very words."""
    run = command(verb)
    for option in offered(run):
        key = option.name if option.argument else option.spoken[2:]
        value: object = {int: 3, float: 0.5, bool: True, Path: "there", str: "text"}[option.kind]
        if option.choices:
            value = option.choices[0]
        words = filled(run, [], {key: [value] if option.many else value}, Path("somewhere/s.toml"))
        text = {"there": str(Path("somewhere/there"))}.get(str(value), str(value))
        if option.kind is bool:
            assert words == [option.spoken]
        else:
            assert words == (["--", text] if option.argument else [f"{option.spoken}={text}"])


def test_texts_survive_the_file() -> None:
    odd = 'a "quoted" \\ name\twith é, \x7f and \n lines'
    run = command("train")
    written = kept(
        "train", run, {"dataset": Path("d"), "out": Path("o"), "method": odd, "option": [f"x={odd}"]}
    )
    assert written is not None
    told = tomllib.loads(written[1])["train"]
    assert told["method"] == odd
    assert told["option"]["x"] == odd


def test_study_of_a_folder_and_a_plan_of_notes_say_what_was_expected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["study", str(tmp_path)]) == 2
    assert "is a folder; expected the file that describes the study" in capsys.readouterr().err
    assert call(["agree", "data", "--config", str(tmp_path)]) == 2
    assert "is a folder; expected a file of settings" in capsys.readouterr().err
    (tmp_path / "notes.txt").write_text("my notes")
    assert call(["plan", str(tmp_path / "notes.txt")]) == 2
    assert "expected a data set: its folder or its dataset.json" in capsys.readouterr().err
