"""Everything of one kind by its name: our own, and what other packages offer by entry points.

A package says in its pyproject.toml, for instance,

    [project.entry-points."mrprism.methods"]
    agreed-pixels = "agreed_pixels:AgreedPixels"

and `mrprism train --method agreed-pixels` finds it. What is offered is imported only when it is asked for.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from mrprism.core.errors import InputError, unknown

Entry = TypeVar("Entry")


class Registry(MutableMapping[str, Entry], Generic[Entry]):
    """A dict that says what it holds when it is asked for something else, and goes on with other packages'.

    Iterating gives names and imports nothing. What is set, replaced or deleted is our own.
    """

    def __init__(
        self,
        what: str,
        entries: Mapping[str, Entry],
        group: str = "",
        fitting: Callable[[Any, str], Entry] | None = None,
    ) -> None:
        """
        Args:
            what: What the names are names of, such as "fusion".
            group: Of entry points, such as "mrprism.fusions"; empty: other packages offer none.
            fitting: Given what a package offers and what to call it in a sentence, returns it ready to be
                used; raises ValueError that says what was expected.
        """
        self.what, self.group = what, group
        self._own: dict[str, Entry] = dict(entries)
        self._fitting = fitting
        self._found: tuple[tuple[str, ...], dict[str, list[EntryPoint]]] = ((), {})
        self._ready: dict[str, Entry] = {}

    def __getitem__(self, name: str) -> Entry:
        """One of them.

        Raises:
            UnknownName: There is none of this name.
            InputError: It is another package's, and that one is at fault; the sentence names the package.
        """
        if not isinstance(name, str):
            raise unknown(self.what, name, self)
        offers = self._offers().get(name, [])
        if name in self._own:
            if offers:
                raise InputError(f"{self.called(name, offers[0])} has the name of one of ours: {_RENAME}")
            return self._own[name]
        if not offers:
            raise unknown(self.what, name, self)
        if len(offers) > 1:
            others = " and ".join(f"'{_package(offer)}'" for offer in offers)
            raise InputError(f"{self.what} '{name}' is offered by the packages {others}: {_RENAME}")
        return self._load(name, offers[0])

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from sorted(self._offers().keys() - self._own.keys())

    def __len__(self) -> int:
        return len(self._own.keys() | self._offers().keys())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._own or name in self._offers())

    def __setitem__(self, name: str, value: Entry) -> None:
        self._own[name] = value

    def __delitem__(self, name: str) -> None:
        del self._own[name]

    def ready(self) -> Iterator[tuple[str, Entry]]:
        """Our own, and those of other packages that were asked for by now."""
        yield from self._own.items()
        yield from self._ready.items()

    def package(self, name: str) -> str | None:
        """The package that offers it; None: it is our own."""
        offers = self._offers().get(name, [])
        return _package(offers[0]) if offers and name not in self._own else None

    def called(self, name: str, offer: EntryPoint | None = None) -> str:
        """What to call one of them in a sentence: "method 'x'", with the package that offers it."""
        package = self.package(name) if offer is None else _package(offer)
        return f"{self.what} '{name}'" + (f" of package '{package}'" if package else "")

    def _offers(self) -> dict[str, list[EntryPoint]]:
        path = tuple(sys.path)
        if self._found[0] != path:
            found: dict[str, list[EntryPoint]] = {}
            for offer in entry_points(group=self.group) if self.group else ():
                found.setdefault(offer.name, []).append(offer)
            self._found = path, found
            self._ready.clear()
        return self._found[1]

    def _load(self, name: str, offer: EntryPoint) -> Entry:
        who = self.called(name, offer)
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            raise InputError(f"{who}: a name has small letters and digits, with hyphens between words")
        if name not in self._ready:
            try:
                thing = offer.load()
            except (Exception, SystemExit) as error:
                said = f"{type(error).__name__}: {error}"
                raise InputError(
                    f"{who} cannot be used: importing '{offer.value}' fails with {said}"
                ) from error
            assert self._fitting is not None
            try:
                self._ready[name] = self._fitting(thing, who)
            except ValueError as error:
                raise InputError(f"{who} cannot be used: '{offer.value}' {error}") from error
        return self._ready[name]


_RENAME = "rename it in its package, or uninstall the package"


def _package(offer: EntryPoint) -> str:
    return offer.dist.name if offer.dist is not None else offer.module
