"""Names that look alike."""

import pytest

from mrprism.core.names import near_twins


@pytest.mark.parametrize(
    "pair",
    [
        ("Liver", "liver"),
        ("cup", "Cup "),
        ("Le\u0301a", "L\u00e9a"),
        ("left lung", "left  lung"),
        ("STRASSE", "stra\u00dfe"),
        ("disc", "disc\u200b"),
        ("\uff21nn", "Ann"),
    ],
)
def test_names_that_sound_the_same(pair: tuple[str, str]) -> None:
    assert near_twins(["other", *pair]) == [pair]


def test_other_names_are_others() -> None:
    assert near_twins(["ann", "anna", "ann1", "\u00e4nn", "ann", "a-nn"]) == []
