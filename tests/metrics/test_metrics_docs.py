"""The page about metrics runs, and leaves none out."""

import re
from pathlib import Path

import pytest

from mrprism.metrics import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_every_metric_is_explained() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| (?:higher|lower|) ?\|", TEXT, flags=re.MULTILINE)) == set(METRICS)


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL))
def test_examples_run(code: str) -> None:
    exec(compile(code, str(PAGE), "exec"), {})
