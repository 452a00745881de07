"""Does every link of the built site lead somewhere, and does no page ask anybody else for anything?

python site/check.py build/site
"""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("link", "href"),
    ("form", "action"),
}
NAMED_ONLY = {"canonical", "author", "license"}  # links of the head that no browser follows by itself


class Page(HTMLParser):
    """The places a page has, the links it shows, and what a browser fetches to show it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: set[str] = set()
        self.fetched: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.places |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        for name, value in given.items():
            if (tag, name) in FETCHED and given.get("rel") not in NAMED_ONLY:
                self.fetched.add(value)


def faults(site: Path) -> list[str]:
    """One sentence for each link that leads nowhere, and for each page that fetches from elsewhere."""

    @cache
    def page(file: Path) -> Page:
        return Page(file.read_text(encoding="utf-8"))

    found = []
    for file in sorted(site.rglob("*.html")):
        here = file.relative_to(site)
        for address in sorted(page(file).links | page(file).fetched):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if address in page(file).fetched and parts.scheme != "data":
                    found.append(f"{here} fetches {address}")
                continue
            goal = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            goal = goal / "index.html" if goal.is_dir() else goal
            if file.name == "404.html" and parts.path.startswith("/"):
                continue
            if not goal.is_file():
                found.append(f"{here} links to {address}, which is not there")
            elif (
                parts.fragment and goal.suffix == ".html" and unquote(parts.fragment) not in page(goal).places
            ):
                found.append(f"{here} links to {address}, and that page has no such place")
    for file in sorted(site.rglob("*.css")):
        text = file.read_text(encoding="utf-8")
        found += [
            f"{file.relative_to(site)} fetches from elsewhere"
            for word in ("url(http", "url(//")
            if word in text
        ]
    return found


if __name__ == "__main__":
    said = faults(Path(sys.argv[1]).resolve())
    print(
        "\n".join(said) or f"{len(list(Path(sys.argv[1]).rglob('*.html')))} pages, every link leads somewhere"
    )
    sys.exit(1 if said else 0)
