"""What mkdocs does not do by itself: pages made from the program, and links that also hold outside `docs/`.

reference/commands.md   from what `mrprism COMMAND --help` knows
reference/python.md     the names of `mrprism`; reference/packages.md: the packages under them
gallery.md              what `examples/*.py` print and draw, run while the site is built
notebook.md             examples/notebook.ipynb, run from top to bottom
project/                the documents of the root, and benchmarks/
"""

from __future__ import annotations

import ast
import os
import posixpath
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "site"))

import ipynb  # noqa: E402
import program  # noqa: E402

DOCUMENTS = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(\))")


def pages() -> dict[str, str]:
    """Where a document that lies outside docs/ stands on the site, by its path in the repository."""
    found = {
        f"docs/{file.relative_to(ROOT / 'docs').as_posix()}": "" for file in (ROOT / "docs").rglob("*.*")
    }
    moved = {path: path.removeprefix("docs/") for path in found}
    moved |= {name: f"project/{name}" for name in DOCUMENTS}
    moved |= {f"benchmarks/{file.name}": f"project/benchmarks/{file.name}" for file in benchmarks()}
    return moved | {
        "examples": "gallery.md",
        "README.md": "index.md",
        "tests/plugin/package": "project/plugin.md",
    }


def benchmarks() -> list[Path]:
    return sorted((ROOT / "benchmarks").glob("*.md"))


def relinked(text: str, source: str, page: str) -> str:
    """Links of a document of the repository, as they have to be on its page of the site.

    Raises:
        ValueError: A link leads to a file that has no page.
    """
    places = pages()

    def place(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
        if target not in places:
            if (ROOT / target).is_file():  # code, licence, settings: shown as they are
                places[target] = f"project/files/{target}.txt"
                return f"{link[1]}{posixpath.relpath(places[target], posixpath.dirname(page))}{link[4]}"
            raise ValueError(f"{source} links to {link[2]}, which has no page on the site")
        return (
            f"{link[1]}{posixpath.relpath(places[target], posixpath.dirname(page))}{link[3] or ''}{link[4]}"
        )

    parts = re.split(r"(^```.*?^```)", text, flags=re.M | re.S)
    return "".join(part if part.startswith("```") else LINK.sub(place, part) for part in parts)


def linked_files() -> list[str]:
    """Files of the repository that documents link to and that are no documents."""
    places, found = pages(), set()
    for source in places:
        file = ROOT / source
        if file.suffix == ".md" and source != "README.md":
            for link in LINK.finditer(file.read_text(encoding="utf-8")):
                target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[2]))
                if target not in places and (ROOT / target).is_file():
                    found.add(target)
    return sorted(found)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made."""

    def add(page: str, content: str | bytes) -> None:
        files.append(File.generated(config, page, content=content))

    for name in DOCUMENTS:
        add(f"project/{name}", relinked((ROOT / name).read_text(encoding="utf-8"), name, f"project/{name}"))
    for file in benchmarks():
        page = f"project/benchmarks/{file.name}"
        add(page, relinked(file.read_text(encoding="utf-8"), f"benchmarks/{file.name}", page))
    for file in sorted((ROOT / "site" / "assets").iterdir()):
        add(f"site-assets/{file.name}", file.read_bytes())
    for name in linked_files():
        add(f"project/files/{name}.txt", (ROOT / name).read_bytes())
    add("project/plugin.md", plugin_page())
    add("reference/commands.md", program.commands())
    add("reference/python.md", program.names())
    add("reference/packages.md", program.packages())
    for page, content in gallery().items():
        add(page, content)
    for page, content in ipynb.page(ROOT / "examples" / "notebook.ipynb").items():
        add(page, content)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links out of docs/ lead to where those documents stand here."""
    if page.file.generated_by:
        return markdown
    return relinked(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)


def plugin_page() -> str:
    """The small package of tests/plugin, file by file."""
    folder = ROOT / "tests" / "plugin" / "package"
    lines = ["# A package with a method, a layout and a fusion", ""]
    for file in [folder / "pyproject.toml", *sorted(folder.rglob("*.py"))]:
        kind = "toml" if file.suffix == ".toml" else "python"
        text = file.read_text(encoding="utf-8").rstrip()
        if text:
            lines += [f"`{file.relative_to(folder).as_posix()}`", "", f"```{kind}", text, "```", ""]
    return "\n".join(lines)


def gallery() -> dict[str, str | bytes]:
    """Every example: what it is, its code, what it prints, and the pictures and pages that it leaves."""
    made: dict[str, str | bytes] = {}
    lines = ["# Gallery", "", "Each script in `examples/` was run when this site was built.", ""]
    for file in sorted((ROOT / "examples").glob("*.py")):
        code = file.read_text(encoding="utf-8")
        said = ast.get_docstring(ast.parse(code)) or file.stem
        printed, pictures = ran(file)
        title, _, more = said.partition("\n")
        lines += [f"## {title.rstrip('.').split(': ')[0]}", "", more.strip(), ""]
        for name, content in pictures.items():
            made[f"gallery/{file.stem}-{name}"] = content
            if name.endswith(".png"):
                lines += [f"![{title}](gallery/{file.stem}-{name})", ""]
            else:
                lines += [f"[The page that it writes](gallery/{file.stem}-{name})", ""]
        lines += [f'```python title="examples/{file.name}"', code.split('"""\n', 1)[-1].strip(), "```", ""]
        if printed.strip():
            lines += ["It prints:", "", "```text", printed.strip(), "```", ""]
    return {"gallery.md": "\n".join(lines), **made}


def ran(file: Path) -> tuple[str, dict[str, bytes]]:
    """What an example prints, and the pictures and pages it leaves in its folder."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(file)], cwd=folder, capture_output=True, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"},
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{file.name} stopped: {done.stderr[-2000:]}")
        left = sorted(path for kind in ("*.png", "*.html") for path in Path(folder).glob(kind))
        return done.stdout, {path.name: path.read_bytes() for path in left if path.name != "photo.png"}
