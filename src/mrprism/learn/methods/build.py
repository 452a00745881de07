"""A method made by its name, with the options its constructor takes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from mrprism.core.errors import InputError, UnknownName, nearest
from mrprism.core.sample import Task
from mrprism.learn.bounds import bounded_options
from mrprism.learn.methods import METHODS, method_class

if TYPE_CHECKING:
    from mrprism.learn.methods.method import Method


def build_method(name: str, task: Task, backbone: str, options: Mapping[str, Any]) -> Method:
    """A method with fresh weights.

    Raises:
        InputError: No such method, or it has no such option or refuses its value.
    """
    make = method_class(name)
    try:
        options = bounded_options(options)
    except ValueError as error:
        raise InputError(f"method '{name}': {error}") from error
    options = _read_options(name, make, options)
    check_dims(name, make, task)
    try:
        method = make(task, backbone=backbone, **options)  # type: ignore[call-arg]
    except InputError:
        raise
    except Exception as error:
        expected = (ValueError, TypeError, RuntimeError, MemoryError, OverflowError)
        if METHODS.package(name) is None and not isinstance(error, expected):
            raise
        given = f"backbone '{backbone}' and options {dict(options)}"
        raise InputError(f"{METHODS.called(name)} with {given}: {error or type(error).__name__}") from error
    return method


def check_dims(name: str, make: type[Method], task: Task) -> None:
    """Refuse what a method does not learn from, before anything is trained."""
    if task.dims not in make.dims:
        others = ", ".join(
            n for n in METHODS if METHODS.package(n) is None and task.dims in method_class(n).dims
        )
        raise InputError(
            f"method '{name}' learns from images, not from volumes as they are: train it on slices by --slices axial, "
            f"coronal or sagittal, or choose one of {others}"
        )


def _read_options(name: str, make: type[Method], options: Mapping[str, Any]) -> dict[str, Any]:
    """A method's options as its constructor's annotations say."""
    known = inspect.signature(make, eval_str=True).parameters
    passes_on = any(p.kind is p.VAR_KEYWORD for p in known.values())
    own = {
        p.name: Any if p.annotation is p.empty else p.annotation
        for p in known.values()
        if p.name not in ("task", "backbone") and p.kind is not p.VAR_KEYWORD
    }
    read = dict(options)
    for option, value in options.items():
        if option in own:
            try:
                read[option] = TypeAdapter(own[option]).validate_python(value)
            except ValidationError as error:
                said = error.errors()[0]["msg"].lower()
                raise InputError(f"option '{option}' of method '{name}' is {value!r}: {said}") from error
        elif not passes_on:
            raise UnknownName(
                f"method '{name}' has no option '{option}'; known: {', '.join(own) or 'none'}{nearest(option, own)}"
            )
    return read
