"""What a safetensors file holds, said by its first bytes: names, types, shapes. No tensor is read for it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as hooks

from mrprism.core.errors import InputError

MOST_BYTES = 16 << 20  # of a header
MOST_TENSORS = 100_000
SPARE = 1000  # parts a method may make for itself while it is built, beside those it keeps
PER_CASE = 10_000  # values a buffer may hold for each training case, where it is as long as they are many

TYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


@dataclass(frozen=True)
class Stored:
    """One tensor of a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """All that a file says of itself."""

    tensors: dict[str, Stored]
    about: dict[str, str]  # what was written beside them


def read_header(file: Path) -> Header:
    """The header of a safetensors file; its sizes fit the file.

    Raises:
        InputError: It is no such file, or its header asks for more than the file holds.
    """
    try:
        if file.exists() and not file.is_file():  # a pipe, say, on which opening would wait for ever
            raise ValueError("it is no file")
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(size - 8, MOST_BYTES):
                raise ValueError(f"its header would have {length} of {size} bytes")
            header = json.loads(stream.read(length))
        about = header.pop("__metadata__", {})
        if len(header) > MOST_TENSORS:
            raise ValueError(f"it announces {len(header)} tensors")
        if not all(isinstance(text, str) for pair in about.items() for text in pair):
            raise ValueError("what stands beside the tensors is no text")
        tensors = {name: _stored(name, entry, size - 8 - length) for name, entry in header.items()}
    except FileNotFoundError as error:
        raise InputError(f"{file} is missing") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{file} is not a complete safetensors file: {said[:200]}") from error
    return Header(tensors, about)


def _stored(name: str, entry: Mapping[str, Any], held: int) -> Stored:
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in TYPES:
        raise ValueError(f"tensor '{name[:80]}' is of the type {str(dtype)[:20]}")
    if len(shape) > 16 or not all(type(n) is int and 0 <= n < 2**63 for n in (*shape, begin, end)):
        raise ValueError(f"tensor '{name[:80]}' has no shape")
    if end > held or end - begin != math.prod(shape) * TYPES[dtype].itemsize:
        raise ValueError(f"tensor '{name[:80]}' asks for other bytes than the file holds")
    return Stored(TYPES[dtype], tuple(shape))


class TooManyPartsError(InputError):
    """A method that is being built has more parts than its file."""


@contextmanager
def few_parts(most: int, file: Path) -> Iterator[None]:
    """While a method is built: stop as soon as it has more parameters and buffers than its file can hold."""
    made = 0

    def count(module: nn.Module, name: str, part: object) -> None:
        nonlocal made
        made += 1
        if made > most:
            raise TooManyPartsError(
                f"{file}: these are not the weights of this run's method: its config.json asks for a network of "
                f"more than {most} parts, the file holds fewer"
            )

    handles = [
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
        hooks.register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_weights(method: nn.Module, header: Header, file: Path, cases: int) -> None:
    """Compare a method's tensors with those a file announces; a method on the meta device will do.

    A buffer that is empty in a fresh method may have any length along its first axis: such as hold something
    for every training case.

    Args:
        cases: How many the run was trained on.

    Raises:
        InputError: Names, shapes or types differ.
    """
    expected = method.state_dict()
    buffers = {name for name, _ in method.named_buffers()}

    def fits(name: str) -> bool:
        if name not in expected or name not in header.tensors:
            return False
        wanted, found = expected[name], header.tensors[name]
        if found.dtype != wanted.dtype:
            return False
        if found.shape == tuple(wanted.shape):
            return True
        longer = len(found.shape) == wanted.ndim > 0 and found.shape[1:] == tuple(wanted.shape[1:])
        return (
            name in buffers
            and wanted.shape[:1] == (0,)
            and longer
            and math.prod(found.shape) <= PER_CASE * max(1, cases)
        )

    wrong = [
        name for name in [*expected, *(n for n in header.tensors if n not in expected)] if not fits(name)
    ]
    if wrong:
        raise InputError(
            f"{file}: these are not the weights of this run's method "
            f"({type(method).__name__}): {len(wrong)} of {len(expected)} tensors differ in name, shape or type, "
            f"first '{wrong[0][:200]}'; a run of another version of mrprism is read by that version, "
            "which its config.json names, or is trained anew"
        )
