"""The fusion that predicts best what a rater left out has drawn."""

from __future__ import annotations

import json

import numpy as np

from mrprism.cli import call
from mrprism.core.patterns import count_patterns
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets.raters import SCENARIOS, Scenario, Style, draw_raters
from mrprism.datasets.write import write_dataset
from mrprism.fusion.auto import choose
from mrprism.fusion.band import band_weights
from mrprism.fusion.cases import fuse_cases
from mrprism.metrics.overlap import dice


def drawn(scenario: Scenario, cases: int, size: int = 48) -> list[MultiRaterSample]:
    row, column = np.ogrid[:size, :size]
    found = []
    for number in range(cases):
        rng = np.random.default_rng(number)
        far = np.hypot(row - size / 2 - rng.normal(), column - size / 2 - rng.normal())
        truth = (far < rng.uniform(9, 14))[None]
        masks, rated = draw_raters(truth, scenario, rng)
        image = np.zeros((1, size, size), np.float32)
        found.append(MultiRaterSample(f"case {number}", image, masks, rated, truth))
    return found


def test_weights_by_hand():
    """Two raters against one on 8 pixels, and the odd one alone on 2: he is right on none."""
    labels = np.array([[1] * 4 + [0] * 4 + [0] * 4, [1] * 4 + [0] * 4 + [0] * 4, [0] * 4 + [1] * 4 + [0] * 4])
    weights = band_weights(count_patterns(labels))
    # all eight disputed pixels weigh alike; a hundredth of them counts as usual, three of four right
    right = (4 + 0.08 * 0.75) / (4 + 0.08)
    clearest = np.log(0.98 / 0.02)
    assert np.log(right / (1 - right)) > clearest - 1e-9 or right < 0.98
    np.testing.assert_allclose(weights[0], min(np.log(right / (1 - right)), clearest), rtol=1e-6)
    np.testing.assert_allclose(weights[2], np.log(0.55 / 0.45), rtol=1e-6)


def test_a_crowd_is_not_left_to_the_vote():
    cases = drawn(SCENARIOS["crowd"], 24)
    chosen = choose(cases, ("disc",), anonymous=False).choices[0]
    assert chosen.method != "majority"
    assert chosen.low > 0
    assert "predicts a left-out rater better than the vote" in chosen.why

    def score(method: str, pooled: bool) -> float:
        fused = fuse_cases(cases, method, pooled=pooled)
        pairs = zip(fused, cases, strict=True)
        return float(np.mean([dice(f.probability[0] > 0.5, c.reference[0]) for f, c in pairs]))

    best = max(score(method, True) for method in ("band", "staple", "outline"))
    assert score("auto", False) > best - 0.01
    assert score("auto", False) > score("majority", False) + 0.02


def test_two_raters_on_a_few_images_are_left_to_the_vote():
    chosen = choose(drawn(SCENARIOS["two"], 7), ("disc",), anonymous=False).choices[0]
    assert (chosen.method, chosen.pooled, chosen.gain) == ("majority", False, None)
    assert "nothing can be judged" in chosen.why


def test_two_raters_are_told_apart_where_their_outlines_say_so():
    chosen = choose(drawn(SCENARIOS["two"], 30), ("disc",), anonymous=False).choices[0]
    assert (chosen.method, chosen.pooled, chosen.gain) == ("outline", True, None)
    assert "vary less in themselves" in chosen.why
    alike = choose(drawn(Scenario((Style(wobble=0.05),) * 2), 12), ("disc",), anonymous=False).choices[0]
    assert alike.method == "majority"


def test_anonymous_raters_have_no_skill_over_all_cases():
    chosen = choose(drawn(SCENARIOS["anonymous"], 10), ("disc",), anonymous=True)
    assert set(chosen.choices[0].scores) == {"majority", "simple", "shape-average", "outline"}
    assert not any(chosen.pools.values())


def test_command_says_what_it_chose(tmp_path, capsys):
    data = write_dataset(
        drawn(SCENARIOS["crowd"], 12),
        tmp_path / "data",
        name="crowd",
        task=Task(1, ("disc",), tuple(f"rater{n}" for n in range(7))),
    )
    out = tmp_path / "out"
    given = ["fuse", str(data), "--method", "auto", "--out", str(out)]
    assert call(given) == 0
    said = capsys.readouterr().out
    choice = json.loads((out / "choice.json").read_text())[0]
    assert f"disc: {choice['why']}" in said
    assert call([*given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["choices"] == [choice]
    one, other, *_ = sorted((out / "cases").glob("*/disc.png"))
    assert call(["fuse", "--masks", str(one), str(other), "--method", "auto", "--out", str(out / "x")]) == 2
    assert "data set" in capsys.readouterr().err
