"""Plain random changes of sound inputs, for where there is no atheris, and for the tests."""

from __future__ import annotations

import random

ODD = [
    b"",
    b"\0",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b"null",
    b"[]",
    b"{}",
]
ODD += [b'"', b"\n", b"99999999999999999999", b"../", b"\xc3\x28", b"\\u0000"]


def mutated(seeds: list[bytes], draw: random.Random, longest: int = 1 << 16) -> bytes:
    """One of the seeds with one to eight random changes."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        start = draw.randint(0, len(data))
        end = min(len(data), start + draw.choice((1, 1, 2, 4, 16, 256)))
        kind = draw.randrange(7)
        if kind == 0 and data:
            data[min(start, len(data) - 1)] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[start:end] = draw.randbytes(end - start)
        elif kind == 2:
            del data[start:end]
        elif kind == 3:
            data[start:start] = data[start:end] * draw.choice((1, 2, 50))
        elif kind == 4:
            data[start : start + draw.choice((0, 1, 4))] = draw.choice(ODD)
        elif kind == 5:
            data = data[:start]
        else:
            other = draw.choice(seeds)
            place = draw.randint(0, len(other))
            data[start:end] = other[place : place + draw.choice((4, 64, 1024))]
    return bytes(data[:longest])
