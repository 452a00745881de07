"""A Jupyter notebook run from top to bottom by plain Python, and shown as a page."""

from __future__ import annotations

import io
import json
import os
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any


def page(file: Path) -> dict[str, str | bytes]:
    """The page `notebook.md` and its pictures."""
    import matplotlib

    matplotlib.use("agg")
    made: dict[str, str | bytes] = {}
    lines: list[str] = []
    names: dict[str, Any] = {}
    begun = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for number, (kind, text) in enumerate(cells(file)):
                if kind == "markdown":
                    lines += [text, ""]
                    continue
                printed, value = run_cell(text, names)
                lines += ["```python", text.rstrip(), "```", ""]
                if hasattr(value, "savefig"):
                    picture = io.BytesIO()
                    value.savefig(picture, dpi=110, format="png")
                    made[f"gallery/notebook-{number}.png"] = picture.getvalue()
                    lines += [f"![What this cell shows](gallery/notebook-{number}.png)", ""]
                elif value is not None:
                    printed += repr(value)
                if printed.strip():
                    lines += ["```text", printed.rstrip(), "```", ""]
        finally:
            os.chdir(begun)
    lines += ["The notebook itself: [notebook.ipynb](gallery/notebook.ipynb)", ""]
    made["gallery/notebook.ipynb"] = file.read_bytes()
    return {"notebook.md": "\n".join(lines), **made}


def cells(file: Path) -> list[tuple[str, str]]:
    """Kind and text of each cell."""
    document = json.loads(file.read_text(encoding="utf-8"))
    return [(cell["cell_type"], "".join(cell["source"])) for cell in document["cells"]]


def run_cell(text: str, names: dict[str, Any]) -> tuple[str, Any]:
    """What a cell prints, and the value of its last line if that is an expression, as a notebook shows it."""
    import ast

    tree = ast.parse(text)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with redirect_stdout(printed):
        exec(compile(tree, "notebook", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "notebook", "eval"), names)
    return printed.getvalue(), value
