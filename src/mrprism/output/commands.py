"""Commands that are told to users, so that they can be pasted into a terminal."""

from __future__ import annotations

import os
import shlex
from pathlib import Path


def command(*words: str | os.PathLike[str]) -> str:
    """`mrprism WORDS...`, with quotes around what holds a blank or anything else that a shell reads."""
    return shlex.join(["mrprism", *(os.fspath(word) for word in words)])


SETTINGS = "settings.toml"  # what a command was told, in the folder that it made


def wrote_settings(verb: str, file: Path) -> bool:
    """Whether a file of settings is one that this command wrote; what a person wrote is theirs."""
    return file.is_file() and file.read_bytes().startswith(f"# mrprism {verb} ".encode())


def option(name: str, value: str) -> str:
    """`-o NAME=VALUE`, quoted alike."""
    return shlex.join(["-o", f"{name}={value}"])
