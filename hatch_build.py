"""The description of the package on an index: README.md, of which no link or picture leads nowhere there.

With `Repository` in `[project.urls]` relative links become absolute; without it their words stay and the links go.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

PICTURE = re.compile(r"!\[([^\]]*)\]\((?![a-z]+:)([^)\s]+)\)(?:\n\n\*.*?\*\n)?", re.S)  # and its legend
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?![a-z]+:|#)([^)\s]+)\)")


class Readme(MetadataHookInterface):
    """Gives the package its description."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        home = metadata.get("urls", {}).get("Repository")
        metadata["readme"] = {"content-type": "text/markdown", "text": described(text, home)}


def described(text: str, home: str | None) -> str:
    """README.md for readers who have no repository beside it."""
    if home is None:
        return LINK.sub(r"\1", PICTURE.sub("", text))
    text = PICTURE.sub(lambda found: found[0].replace(found[2], f"{home}/raw/main/{found[2]}"), text)
    return LINK.sub(rf"[\1]({home}/blob/main/\2)", text)
