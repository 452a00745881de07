"""A plan: what is measured, by which rules it is made, and that it survives its file."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mrprism
from mrprism.cli import call
from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import Dataset
from mrprism.learn.budget import Machine, bytes_of
from mrprism.learn.plan import Channel, Plan, Reasoned, read_plan
from mrprism.learn.planning import BASE, make_plan
from mrprism.learn.survey import Case, Drawn, Survey, measure, survey

TASK = Task(1, ("organ",), ("ann", "bob"))
PLAIN = Plan(dims=2, patch=(32, 48), batch_size=4)


def sample(
    space: tuple[int, ...], *masks: tuple[slice, ...], spacing: tuple[float, ...] | None = None
) -> MultiRaterSample:
    drawn = np.zeros((len(masks), 1, *space), bool)
    for rater, where in enumerate(masks):
        drawn[(rater, 0, *where)] = True
    image = np.linspace(0, 1, math.prod(space), dtype=np.float32).reshape(1, *space)
    return MultiRaterSample("a", image, drawn, np.ones((len(masks), 1), bool), spacing_mm=spacing)


def machine(memory: float = 8e9, **more: object) -> Machine:
    return Machine(memory, "told", "small", **more)  # type: ignore[arg-type]


def found(
    spaces: list[tuple[int, ...]],
    spacings: list[tuple[float, ...] | None] | None = None,
    apart: float = 1.0,
    extent: int | None = None,
    **more: object,
) -> Survey:
    cases = []
    for space, spacing in zip(spaces, spacings or [None] * len(spaces), strict=True):
        drawn = Drawn(2, 100.0, tuple(extent or n // 2 for n in space), 0.2, apart)
        cases.append(Case(space, spacing, np.linspace(0, 1, 1001, dtype=np.float32)[None], 0.0, (drawn,)))
    about = {"name": "set", "dims": tuple(map(len, spaces)), "channels": ("grey",), "window": None}
    rest = {"structures": ("organ",), "raters": 2, "there": len(spaces), "cases": tuple(cases)}
    return Survey(**{**about, **rest, **more})  # type: ignore[arg-type]


def test_a_case_is_measured() -> None:
    """Ann marks 6 × 6, Bob the inner 4 × 4: 20 of 36 disputed, the outer outline being 20 pixels long."""
    case = measure(sample((10, 12), (slice(2, 8), slice(3, 9)), (slice(3, 7), slice(4, 8))))
    (drawn,) = case.drawn
    assert drawn == Drawn(2, 26.0, (6, 6), 20 / 36, 20 / 20)
    assert case.space == (10, 12)
    assert case.foreground.shape == (1, 36)
    assert case.dark == pytest.approx(1 / 120)


def test_what_nobody_did_and_what_nobody_saw() -> None:
    empty = sample((8, 8), (slice(0, 0), slice(0, 0)), (slice(0, 0), slice(0, 0)))
    assert measure(empty).drawn == (None,)
    assert measure(empty).foreground.shape == (1, 64)
    absent = replace(empty, masks=np.ones((2, 1, 8, 8), bool), rated=np.array([[True], [False]]))
    (drawn,) = measure(absent).drawn
    assert drawn is not None
    assert (drawn.raters, drawn.disputed) == (1, 0.0)


def test_only_what_is_learned_from_is_measured() -> None:
    """Cases to choose on and to test on are four times as large; none of it shows in the plan."""
    samples = []
    for number in range(10):
        split = "train" if number < 6 else "val" if number < 8 else "test"
        side = 16 if split == "train" else 64
        one = sample((side, side), (slice(2, 9), slice(2, 9)), (slice(2, 9), slice(2, 8)))
        samples.append(replace(one, name=f"c{number}", split=split))
    made = survey(Dataset.from_samples("set", TASK, samples))
    assert {case.space for case in made.cases} == {(16, 16)}
    assert made.there == 6


def test_spacing_is_the_median_and_thick_slices_the_tenth_percentile() -> None:
    """As nnU-Net: with slices 4 to 8 mm thick of pixels of 1 mm the tenth percentile, 4.4 mm."""
    spacings: list[tuple[float, ...] | None] = [(float(z), 1.0, 1.0) for z in (4, 5, 6, 7, 8)]
    thick = make_plan(found([(30, 200, 200)] * 5, spacings), machine())
    assert thick.plan.spacing_mm == pytest.approx((4.4, 1.0, 1.0))
    assert "thick" in thick.reasons["spacing_mm"]
    spacings = [(float(z), 1.0, 1.0) for z in (1, 2, 3, 1, 2)]
    assert make_plan(found([(100, 200, 200)] * 5, spacings), machine()).plan.spacing_mm == (2.0, 1.0, 1.0)


def test_two_or_three_dimensions() -> None:
    assert make_plan(found([(40, 64, 64)] * 3), machine()).plan.dims == 3
    few = make_plan(found([(6, 64, 64)] * 3), machine()).plan
    assert (few.dims, len(few.patch)) == (2, 2)
    thin = make_plan(found([(40, 64, 64)] * 3, extent=2), machine())
    assert thin.plan.dims == 2
    assert "2 of them" in thin.reasons["dims"]
    with pytest.raises(InputError, match="images and volumes"):
        make_plan(found([(64, 64), (20, 64, 64)]), machine())


def test_whole_cases_or_patches() -> None:
    whole = make_plan(found([(100, 200), (120, 180)]), machine()).plan
    assert whole.long_side == 190
    assert whole.patch == (128, 192)
    assert (whole.patches_per_case, whole.drawn, whole.disputed) == (1, 0, 0)
    large = make_plan(found([(3000, 4000)] * 3), machine(3e9))
    assert large.plan.long_side == 4000
    assert math.prod(large.plan.patch) * large.plan.batch_size <= (3e9 - BASE) / 2400
    assert large.plan.patch[0] <= large.plan.patch[1]
    assert (large.plan.patches_per_case, large.plan.drawn, large.plan.disputed) == (8, 1 / 3, 1 / 3)
    assert "20 %" in large.reasons["disputed"]


def test_pixels_finer_than_raters_agree_on_are_not_kept() -> None:
    """Outlines 24 pixels apart can be drawn 4 times coarser, unless the structure becomes too small."""
    made = make_plan(found([(3000, 4000)] * 3, apart=24.0, extent=800), machine())
    assert made.plan.long_side == 1000
    assert "4.0 times coarser" in made.reasons["long_side"]
    assert make_plan(found([(3000, 4000)] * 3, apart=24.0, extent=128), machine()).plan.long_side == 2000
    assert make_plan(found([(3000, 4000)] * 3, apart=7.0, extent=800), machine()).plan.long_side == 4000
    fine = make_plan(found([(3000, 4000)] * 3, [(0.1, 0.1)] * 3, apart=24.0, extent=800), machine())
    assert fine.plan.spacing_mm == (0.4, 0.4)


def test_nobody_disagrees() -> None:
    alone = found([(3000, 4000)] * 3, apart=0.0)
    cases = [replace(c, drawn=(Drawn(1, 9.0, (50, 50), 0.0, 0.0),)) for c in alone.cases]
    plan = make_plan(replace(alone, cases=tuple(cases)), machine(3e9)).plan
    assert (plan.drawn, plan.disputed) == (2 / 3, 0.0)


def test_intensities() -> None:
    volumes = [(40, 64, 64)] * 3
    scan = make_plan(found(volumes, channels=("CT",), window=(-200.0, 400.0)), machine())
    (channel,) = scan.plan.channels
    assert (channel.low, channel.high, channel.mean) == pytest.approx((0.005, 0.995, 0.5), abs=1e-3)
    assert "-197 to 397" in scan.reasons["channels"]
    bare = make_plan(found(volumes, channels=("CT",)), machine())
    assert bare.plan.normalise == "case"
    assert "window=LOW:HIGH" in bare.reasons["normalise"]
    assert make_plan(found(volumes, channels=("T2",)), machine()).plan.normalise == "case"
    colours = found([(64, 64)] * 3, channels=("red", "green", "blue"))
    three = tuple(replace(case, foreground=np.repeat(case.foreground, 3, 0)) for case in colours.cases)
    assert make_plan(replace(colours, cases=three), machine()).plan.normalise == "none"


def test_time_decides_epochs() -> None:
    """Eight cases, two steps of 3 s an epoch and 15 % for the rest: 8.7 epochs a minute."""
    about = found([(64, 64)] * 8)
    timed = make_plan(about, machine(minutes=1.0, seconds=lambda patch, batch, spacing: 3.0))
    assert timed.plan.batch_size == 4
    assert timed.plan.epochs == 8
    with pytest.raises(InputError, match=r"one epoch takes 11\.5 minutes"):
        make_plan(about, machine(minutes=1.0, seconds=lambda patch, batch, spacing: 300.0))


def test_too_little_memory_is_said() -> None:
    with pytest.raises(InputError, match="too little for the smallest patch"):
        make_plan(found([(40, 64, 64)] * 3), machine(1.001e9))


@pytest.mark.parametrize(
    ("text", "size"), [("8GB", 8e9), ("500 MB", 5e8), ("2GiB", 2 * 2.0**30), ("1.5g", 1.5e9), (4e9, 4e9)]
)
def test_memory_as_people_write_it(text: str | float, size: float) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["much", "8 apples", "-3GB", "0GB", "1e99", "nan", "9999999TB", ""])
def test_what_is_no_memory(text: str) -> None:
    with pytest.raises(InputError, match="memory '"):
        bytes_of(text)


@given(
    dims=st.sampled_from([2, 3]),
    side=st.integers(8, 100),
    shares=st.floats(0, 0.5),
    spacing=st.floats(1e-3, 100),
    channel=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_a_plan_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory,
    dims: int,
    side: int,
    shares: float,
    spacing: float,
    channel: bool,
) -> None:
    plan = Plan(
        dims=2 if dims == 2 else 3,
        spacing_mm=(spacing,) * dims,
        patch=(side,) * dims,
        batch_size=2,
        drawn=shares,
        disputed=shares,
        normalise="foreground" if channel else "case",
        channels=(Channel(low=0.1, high=0.9, mean=0.4, deviation=0.2),) * channel,
    )
    file = tmp_path_factory.mktemp("plan") / "plan.toml"
    reasons = {key: f"because of {key} " * 30 for key in Plan.model_fields}
    file.write_text(Reasoned(plan, reasons, "what was measured " * 20).to_toml())
    assert read_plan(file) == plan
    assert max(map(len, file.read_text().splitlines())) <= 110


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dims = 2\npatch = [64, 64]\nbatch_size = 2\nsise = 3", "unknown key 'sise'"),
        ("dims = 4\npatch = [64, 64]\nbatch_size = 2", "dims is 4"),
        ("dims = 2\npatch = [64, 64, 64]\nbatch_size = 2", "patch has 3 numbers; expected 2"),
        ("dims = 2\npatch = [64, 4]\nbatch_size = 2", "8 pixels or more"),
        ("dims = 2\npatch = 64\nbatch_size = 2", "patch is 64"),
        ("dims = 2\npatch = [64, 64]", "batch_size: field required"),
        ('dims = 2\npatch = [64, 64]\nbatch_size = "2"', "batch_size"),
        ("dims = 2\npatch = [64, 64]\nbatch_size = 0", "batch_size is 0"),
        ("dims = 2\npatch = [4096, 4096]\nbatch_size = 100", "pixels a step"),
        ("dims = 2\npatch = [64, 64]\nbatch_size = 2\nspacing_mm = [1e-9, 1]", "spacing_mm"),
        ("dims = 2\npatch = [64, 64]\nbatch_size = 2\nspacing_mm = [nan, 1]", "spacing_mm"),
        (
            "dims = 2\npatch = [64, 64]\nbatch_size = 2\nspacing_mm = [1, 1]\nlong_side = 9",
            "expected one of them",
        ),
        ("dims = 2\npatch = [64, 64]\nbatch_size = 2\nlong_side = 1000000", "long_side"),
        ("dims = 2\npatch = [64, 64]\nbatch_size = 2\ndrawn = 0.7\ndisputed = 0.7", "more than 1"),
        ("dims = 2\npatch = [64, 64]\nbatch_size = 2\noverlap = 1", "overlap"),
        ("dims = 2\npatch = [64, 64]\nbatch_size = 2\nepochs = 10000000", "epochs"),
        ('dims = 2\npatch = [64, 64]\nbatch_size = 2\nnormalise = "foreground"', "channels belong to"),
        ('dims = 2\npatch = [64, 64]\nbatch_size = 2\nnormalise = "magic"', "normalise is 'magic'"),
        ('dims = 2\npatch = [64, 64]\nbatch_size = 2\nformat = "mrprism-plan/9"', "format"),
        ("dims = 2\npatch = [64, 64]\nbatch_size = 2\npatches_per_case = 100000", "patches_per_case"),
        ("dims = 2\npatch = [64, 64]\nbatch_size = 2\ndrawn = -1", "drawn is -1"),
        ("dims = [", "is no TOML"),
        ("\x00", "is no TOML"),
    ],
)
def test_a_plan_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(text)
    with pytest.raises(InputError) as raised:
        read_plan(file)
    assert said in str(raised.value)
    assert str(raised.value).startswith(f"plan '{file}'")
    assert "\n" not in str(raised.value).strip()


def test_a_channel_that_does_not_rise(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    text = 'dims = 2\npatch = [64, 64]\nbatch_size = 2\nnormalise = "foreground"\n[[channels]]\nlow = 1\nhigh = 0\nmean = 0\n'
    for deviation, said in ((1, "is not below"), (0, "deviation")):
        file.write_text(f"{text}deviation = {deviation}\n")
        with pytest.raises(InputError, match=said):
            read_plan(file)


def test_no_file_and_no_small_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_plan(tmp_path / "none.toml")
    (tmp_path / "big.toml").write_bytes(b"#" * (1 << 20) + b"##")
    with pytest.raises(InputError, match="larger than 1 MiB"):
        read_plan(tmp_path / "big.toml")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mrprism.phantom("crowd", cases=10, size=32, out=tmp_path / "set")
    out = tmp_path / "plan.toml"
    words = ["plan", str(tmp_path / "set"), "--memory", "4GB", "--backbone", "small"]
    assert call([*words, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed == out.read_text()
    assert read_plan(out).patch == (32, 32)
    assert call([*words, "--json"]) == 0
    assert '"normalise": "none"' in capsys.readouterr().out
    assert call([*words, "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert call(["plan", str(tmp_path / "set"), "--memory", "lots"]) == 2
    assert "expected such as 8GB" in capsys.readouterr().err
    assert call([*words, "--minutes", "0"]) == 2
    assert "expected a number above 0" in capsys.readouterr().err


def test_minutes_are_those_of_a_step_here() -> None:
    data = mrprism.phantom("crowd", cases=10, size=32)
    made = mrprism.plan(
        data, memory="4GB", minutes=1000.0, backbone="small", method="fused-label", device="cpu"
    )
    assert made.plan.epochs == 1000
    assert "a step took" in made.reasons["epochs"]
    with pytest.raises(InputError, match="trains nothing"):
        mrprism.plan(data, memory="4GB", minutes=1.0, backbone="small", method="fuse", device="cpu")


def test_minutes_of_volumes_are_timed_on_volumes() -> None:
    data = mrprism.phantom("crowd", cases=6, size=40, dims=3)
    for method in ("fused-label", "mrprism"):
        made = mrprism.plan(data, memory="4GB", minutes=60.0, backbone="small", method=method, device="cpu")
        assert made.plan.dims == 3
        assert "a step took" in made.reasons["epochs"]


def test_slices_of_volumes_are_counted_as_they_are_learned_from() -> None:
    """Five volumes of eight slices are 40 images: ten steps of four."""
    made = make_plan(
        found([(8, 64, 64)] * 5), machine(minutes=1.0, seconds=lambda patch, batch, spacing: 1.0)
    )
    assert made.plan.dims == 2
    assert f"an epoch has {40 // made.plan.batch_size} of them" in made.reasons["epochs"]


def test_names_are_known_before_anything_is_measured() -> None:
    data = mrprism.phantom("crowd", cases=4, size=32)
    with pytest.raises(InputError, match="unknown method 'nonsense'"):
        mrprism.plan(data, method="nonsense")
    with pytest.raises(InputError, match="unknown backbone 'resnet99'"):
        mrprism.plan(data, backbone="resnet99")
