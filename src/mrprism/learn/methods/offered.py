"""Methods that other packages offer: what is none is refused with a sentence that names the package."""

from __future__ import annotations

import inspect
from typing import Any

from mrprism.learn.methods.method import Method

NEEDS = {"named raters", "two raters", "diagnosis", "reference"}


def method_of(found: Any, who: str) -> type[Method]:
    """What another package offers, if it is a method."""
    if not (isinstance(found, type) and issubclass(found, Method)):
        what = f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
        raise ValueError(f"is {what}; expected a class derived from mrprism.learn.methods.method.Method")
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise ValueError(f"lacks the function {' and '.join(missing)}; expected what Method asks for")
    parameters = inspect.signature(found).parameters
    if "backbone" not in parameters and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise ValueError("takes no backbone; expected a constructor (task, *, backbone=..., **options)")
    if found.reads not in ("image", "masks", "both"):
        raise ValueError(f"reads {found.reads!r}; expected image, masks or both")
    if not isinstance(found.dims, tuple) or not found.dims or not set(found.dims) <= {2, 3}:
        raise ValueError(f"learns from dims {found.dims!r}; expected (2,), (3,) or (2, 3)")
    if others := sorted(set(found.needs) - NEEDS):
        raise ValueError(f"needs {', '.join(map(repr, others))}; expected some of {', '.join(sorted(NEEDS))}")
    return found
