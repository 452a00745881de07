"""Completion in the shell, and commands that are told so that they can be pasted."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import mrprism
from mrprism.cli import VERBS, call, completion
from mrprism.compare.protocols import PROTOCOLS
from mrprism.core.errors import InputError
from mrprism.output.commands import command, option


def complete(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """What bash is answered with the cursor behind the last word."""
    monkeypatch.setenv("_MRPRISM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(["mrprism", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    assert call([]) == 0
    return capfd.readouterr().out.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([""], list(VERBS)),
        (["ag"], ["agree"]),
        (["import", "la"], ["label-studio"]),
        (["export", "fundus", "--to", "se"], ["seg-nrrd"]),
        (["export", "fundus", "--raters", "e"], ["each"]),
        (["fuse", "fundus", "--method", "sta"], ["staple"]),
        (["train", "fundus", "--method", "mrp"], ["mrprism", "mrprism-outline"]),
        (["train", "fundus", "--backb"], ["--backbone"]),
        (["phantom", "out", "--scenario", "cr"], ["crowd"]),
        (["compare", "fundus", "--methods", "table2"], ["table2"]),
        (["compare", "fundus", "--protocol", "lidc"], list(PROTOCOLS)),
    ],
)
def test_verbs_options_kinds_and_methods(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: list[str], found: list[str]
) -> None:
    assert complete(monkeypatch, capfd, *words) == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(["--show-completion", shell]) == 0
    assert "_MRPRISM_COMPLETE" in capfd.readouterr().out


def test_a_shell_nobody_knows(capfd: pytest.CaptureFixture[str]) -> None:
    assert call(["--show-completion", "bsh"]) == 2
    assert "unknown shell 'bsh'; known: bash" in capfd.readouterr().err


def test_protocols_are_those_there_are() -> None:
    assert tuple(completion.PROTOCOLS) == tuple(PROTOCOLS)


def test_help_does_not_load_what_completes() -> None:
    code = "import sys; from mrprism.cli import call; call(['--help']); print('typer' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.splitlines()[-1] == "False False"


def test_commands_are_quoted() -> None:
    assert command("check", Path("my data/it's")) == """mrprism check 'my data/it'"'"'s'"""
    assert shlex.split(command("check", "a b; rm -rf c")) == ["mrprism", "check", "a b; rm -rf c"]
    assert option("images", "my photos") == "-o 'images=my photos'"


def test_what_is_printed_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command that phantom and import print, with a blank in every folder, does what it says."""
    monkeypatch.chdir(tmp_path)
    assert call(["phantom", "my data", "--cases", "10", "--size", "32"]) == 0
    agree, train = (
        shlex.split(line.split(": ", 1)[1])[1:]
        for line in capsys.readouterr().out.splitlines()
        if ": " in line and "mrprism " in line
    )
    assert call([*agree, "--resamples", "5", "--no-distances", "--pictures", "0"]) == 0
    assert train == ["train", "my data", "--out", "run"]
    mrprism.export("my data", "png", "as png")
    capsys.readouterr()
    assert call(["import", "folder", "as png", "my import"]) == 0
    (told,) = (line for line in capsys.readouterr().out.splitlines() if "mrprism check" in line)
    assert call(shlex.split(told.split("look at it with: ")[1])[1:]) in (0, 1)
    Path("my import/masks/rater1").rename("my import/masks/gone")
    with pytest.raises(InputError) as caught:
        mrprism.open_dataset("my import")
    assert "see mrprism check 'my import'" in str(caught.value)
