"""Long rows of pixels, a piece at a time, so that a volume is never copied whole in double precision."""

from collections.abc import Iterator

PIECE = 1 << 21  # pixels; larger than most images, which so are one piece


def pieces(pixels: int) -> Iterator[slice]:
    """Slices that cover so many pixels."""
    return (slice(start, min(start + PIECE, pixels)) for start in range(0, pixels, PIECE))
