"""Commands that are told to users, so that they can be pasted into a terminal."""

from __future__ import annotations

import os
import shlex


def command(*words: str | os.PathLike[str]) -> str:
    """`mrprism WORDS...`, with quotes around what holds a blank or anything else that a shell reads."""
    return shlex.join(["mrprism", *(os.fspath(word) for word in words)])


def option(name: str, value: str) -> str:
    """`-o NAME=VALUE`, quoted alike."""
    return shlex.join(["-o", f"{name}={value}"])
