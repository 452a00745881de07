"""A real browser that looks at what is served."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]  # the last two: WebGL without a GPU


@pytest.fixture(scope="session")
def _started() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: no browser is driven"
    )
    pytest.importorskip("fastapi", reason="the extra 'view' is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: no browser is driven")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def opened(_started: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address and waits for the first picture. At the end no page may have complained or asked elsewhere."""
    wrong: list[str] = []
    contexts: list[Any] = []

    def complained(said: Any) -> None:
        # a server that a test ends, and a refusal that it asks for, are no faults of the page
        if said.type == "error" and not re.search("ERR_CONNECTION|status of 422", said.text):
            wrong.append(said.text)

    def look(address: str, **options: Any) -> Any:
        context = _started.new_context(
            viewport={"width": 1200, "height": 800}, accept_downloads=True, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)  # milliseconds: other tests run beside this one
        page.on("console", complained)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda asked: (
                None
                if re.match(r"(http://127\.0\.0\.1:|blob:|data:)", asked.url)
                else wrong.append(asked.url)
            ),
        )
        page.goto(address)
        page.wait_for_selector("body[data-ready=yes]")
        return page

    yield look
    for context in contexts:
        context.close()
    assert wrong == []
