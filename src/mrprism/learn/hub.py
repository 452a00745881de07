"""A run named as `hf:OWNER/NAME`: fetched once from a Hugging Face Hub, and then read from this machine.

This is the one place that opens a connection, and only when such a name is given. Two files are asked for, config.json and
model.safetensors, which are read by the rules for runs from strangers. `hf:OWNER/NAME@REVISION` takes a branch, tag or
commit. HF_ENDPOINT names another server, MRPRISM_CACHE another folder than ~/.cache/mrprism.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote, urlsplit

from mrprism.core.errors import InputError
from mrprism.learn.bounds import MOST_BYTES
from mrprism.output.files import replacing
from mrprism.output.folders import complete_folder

PREFIX = "hf:"
FILES = {"config.json": MOST_BYTES, "model.safetensors": 1 << 34}  # and how many bytes each may have
MAY_BE_ABSENT = {"calibration.json": MOST_BYTES}
_NAME = re.compile(r"hf:([A-Za-z0-9][\w.-]{0,95})/([A-Za-z0-9][\w.-]{0,95})(?:@([\w./-]{1,100}))?", re.ASCII)
_TIMEOUT = 60.0  # seconds without an answer


def local(run: str | Path) -> Path:
    """The folder of a run; of one named `hf:OWNER/NAME` the folder it was fetched into.

    Raises:
        InputError: The name is none, or the server does not give the files.
    """
    if not str(run).startswith(PREFIX):
        return Path(run)
    found = _NAME.fullmatch(str(run))
    if found is None or ".." in str(run):
        raise InputError(f"'{run}' names no model; expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    owner, name, revision = found[1], found[2], found[3] or "main"
    whole = hashlib.sha256("\0".join((_endpoint(), owner, name, revision)).encode()).hexdigest()[:8]
    folder = _cache() / "hf" / f"{owner}--{name}--{revision.replace('/', '--')}-{whole}"  # of this server
    if not (folder / "config.json").is_file():
        base = f"{_endpoint()}/{owner}/{name}/resolve/{quote(revision, safe='')}"
        with complete_folder(folder) as unfinished:
            for file, most in FILES.items():
                _fetch(f"{base}/{file}", unfinished / file, most, str(run))
            for file, most in MAY_BE_ABSENT.items():
                _fetch(f"{base}/{file}", unfinished / file, most, str(run), absent=True)
    return folder


def _cache() -> Path:
    told = os.environ.get("MRPRISM_CACHE")
    return Path(told) if told else Path.home() / ".cache" / "mrprism"


def _endpoint() -> str:
    told = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if urlsplit(told).scheme not in ("http", "https"):
        raise InputError(f"HF_ENDPOINT is '{told}'; expected an address that begins with https://")
    return told.rstrip("/")


def _fetch(address: str, file: Path, most: int, run: str, *, absent: bool = False) -> None:
    """Read a file of a server into one here; with `absent`, there may be none."""
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT) as answer, replacing(file) as goal:
            told = answer.headers.get("Content-Length")
            size = 0
            while part := answer.read(1 << 20):
                size += len(part)
                if size > most:
                    raise InputError(f"'{run}': {file.name} is larger than {most} bytes")
                goal.write(part)
            if told is not None and told.isdecimal() and size != int(told):
                raise InputError(f"'{run}': {file.name} was cut off after {size} of {told} bytes; try again")
    except urllib.error.HTTPError as error:
        with error:
            if absent and error.code == 404:
                return
            raise InputError(
                f"'{run}': {address} answers {error.code} {error.reason}; is the name right, and is the model public?"
            ) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = getattr(error, "reason", None) or error
        raise InputError(f"'{run}' cannot be fetched from {address}: {why}; is there a network?") from None
