"""XML without what makes XML dangerous."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from mrprism.core.errors import InputError
from mrprism.core.files import plain_file
from mrprism.images import limit_text

_BARE = re.compile(rb"<!DOCTYPE\s+[A-Za-z]\w*\s*>")


def read_markup(path: Path) -> ElementTree.Element:
    """The root of an XML file.

    Raises:
        InputError: It cannot be read, is too large, is no XML, or defines or fetches a document type,
            through which it could read other files or grow without limit. A bare name of one is harmless.
    """
    try:
        limit_text(path, plain_file(path).stat().st_size)
        return parse_markup(path.read_bytes(), path)
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from error


def parse_markup(content: bytes, path: Path) -> ElementTree.Element:
    """As `read_markup`, from what a file held."""
    limit_text(path, len(content))
    plain = _BARE.sub(b"", content, count=1)
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain or b"\0" in content:  # zeros: UTF-16 could hide them
        raise InputError(f"'{path}' declares a document type or is not UTF-8, which is not read")
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"'{path}' is not valid XML: {error}") from error
