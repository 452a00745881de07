"""Looking, in a real browser: weights, measures, planes and 3-D, the list, what is taken along, paper, and other eyes."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
from serving import served, until
from test_browser_tools import at
from volumes import TASK, volumes

from mrprism.core.sample import MultiRaterSample, Reading
from mrprism.datasets import open_dataset, write_dataset
from mrprism.fusion.one_case import fuse_case
from mrprism.images.slicing import Slicing
from mrprism.metrics.overlap import dice


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    samples = []
    for n in range(3):
        masks = np.zeros((3, 2, 60, 80), bool)
        for r in range(3):
            masks[r, 0, 10 : 40 + 3 * r * n, 20 : 60 - 4 * r * n] = True
            masks[r, 1, 20:30, 30 + 2 * r : 40] = True
        again, done = np.zeros_like(masks), np.zeros((3, 2), bool)
        again[0, 0, 12:40, 20:60], done[0, 0] = True, True  # the first rater drew the disc again
        image = random.random((1, 60, 80), np.float32)
        rated = np.ones((3, 2), bool)
        samples.append(
            MultiRaterSample(
                f"eye{n}", image, masks, rated, masks[0], group=f"p{n % 2}", readings=(Reading(again, done),),
                spacing_mm=(0.5, 0.25),
            )
        )  # fmt: skip
    folder = tmp_path_factory.mktemp("view") / "eyes"
    write_dataset(samples, folder, name="eyes", task=TASK)
    return folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("view") / "scans"
    write_dataset(volumes(1), folder, name="scans", task=TASK, image_format="nifti")
    return folder


def weighted(masks: np.ndarray, weights: list[float]) -> np.ndarray:
    return fuse_case(
        MultiRaterSample("x", None, masks, np.ones(masks.shape[:2], bool)), "weighted", weights=[float(w) for w in weights]
    ).probability[0] > 0.5  # fmt: skip


def test_moving_a_weight_moves_the_consensus(opened: Any, eyes: Path) -> None:
    with served(eyes) as (address, _):
        page = opened(address)
        assert page.inner_text("#name") == "eye2", "raters differ most on it"
        masks = open_dataset(eyes)["eye2"].masks[:, :1]
        page.click("#what-if summary")
        page.wait_for_selector("body[data-weighed]")

        def seen() -> np.ndarray:
            inside = page.evaluate("(() => { const c = $('weighed'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return [...Array(c.width * c.height).keys()].map((i) => d[4 * i + 3] > 0 ? 1 : 0); })()")  # fmt: skip
            return np.array(inside, bool).reshape(60, 80)

        assert np.array_equal(seen(), weighted(masks, [1, 1, 1]))
        for weights in ([1, 0.2, 0.3], [0.1, 0.1, 1], [0.5, 0, 0.5]):
            for r, weight in enumerate(weights):
                page.locator("#weights input").nth(r).fill(str(weight))
            expected = weighted(masks, weights)
            assert np.array_equal(seen(), expected), weights
            assert f"{expected.sum():,} pixels" in page.inner_text("#weigh-says")
        page.click("#weights-even")
        assert np.array_equal(seen(), weighted(masks, [1, 1, 1]))


def test_the_list_is_sorted_searched_flagged_and_taken_along(opened: Any, eyes: Path) -> None:
    def names() -> list[str]:
        return page.locator("#rows .label").all_inner_texts()

    with served(eyes) as (address, _):
        page = opened(address, permissions=["clipboard-read", "clipboard-write"])
        assert names() == ["eye2", "eye1", "eye0"]
        sample = open_dataset(eyes)["eye2"]
        pairs = [(0, 1), (0, 2), (1, 2)]
        mean = np.mean([[dice(sample.masks[r, c], sample.masks[s, c]) for r, s in pairs] for c in (0, 1)])
        listed = page.locator("#rows .value").first.inner_text()
        assert listed == f"{mean:.2f}"
        assert f"Mean over structures {listed}: the number in the list" in page.inner_text("#dice-says")
        assert "mean over pairs, then structures" in page.inner_text("#means")
        page.click("#direction")
        assert names() == ["eye0", "eye1", "eye2"]
        page.select_option("#sort", "name")
        assert names() == ["eye0", "eye1", "eye2"]
        page.select_option("#sort", "group")
        assert names() == ["eye0", "eye2", "eye1"]
        page.fill("#search", f"dice<{mean + 0.01:.2f} eye")
        assert names() == ["eye2"]
        page.fill("#search", "")
        page.keyboard.press("Escape")
        page.keyboard.press("x")
        page.fill("#case-note", '=1+1 "<b>", said ann')
        page.press("#case-note", "Tab")
        page.fill("#search", "flagged")
        assert names() == ["eye2"] and page.locator("#rows .flag").count() == 2
        with page.expect_download() as got:
            page.click("#save-table")
        text = Path(got.value.path()).read_text("utf-8-sig")
        page.click("#copy-table")
        until(page, "$('take-says').textContent === 'Table copied'")
        assert page.evaluate("navigator.clipboard.readText()").splitlines() == text.splitlines()
        [row] = list(csv.DictReader(io.StringIO(text)))
        assert (row["case"], row["flagged"]) == ("eye2", "yes")
        assert row["note"] == '\'=1+1 "<b>", said ann', "no formula"
        assert float(row["dice_mean"]) == pytest.approx(mean, abs=1e-4)
        with page.expect_download() as got:
            page.click("#save-svg")
        drawing = Path(got.value.path()).read_text()
        assert got.value.suggested_filename == "eye2.svg"
        assert drawing.count("<path") >= 6 and "ann" in drawing and "data:image/png" in drawing
        with page.expect_download() as got:
            page.click("#save-png")
        with PIL.Image.open(got.value.path()) as picture:
            colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
        assert (31, 119, 180) in colours, "the first rater's"
        page.click("#copy-png")
        until(page, "$('take-says').textContent === 'Picture copied'")
        page.click("#copy-link")
        until(page, "$('take-says').textContent.startsWith('Link copied')")
        link = page.evaluate("navigator.clipboard.readText()")
        assert "key" not in link
        page.select_option("#sort", "dice")
        page.fill("#search", "")
        page.locator("#rows li", has_text="eye1").click()
        page.goto("about:blank")
        page.goto(link)
        page.wait_for_selector("body[data-ready=yes]")
        assert page.inner_text("#name") == "eye2"


def test_flags_are_kept_beside_the_decisions_person_by_person(opened: Any, eyes: Path) -> None:
    with (
        served(eyes, "--adjudicate", "--as", "ann") as (hers, _),
        served(eyes, "--adjudicate", "--as", "bob") as (his, _),
    ):
        for address, note in ((hers, "notch"), (his, "none")):
            page = opened(address)
            page.click("#flag")
            page.fill("#case-note", note)
            page.press("#case-note", "Tab")
            until(page, "$('flag-says').textContent === 'Saved'")
        page = opened(hers)
        assert page.get_attribute("#flag", "aria-pressed") == "true"
        assert page.input_value("#case-note") == "notch"
        assert page.inner_text("#flag-others") == "⚑ bob: none"
    assert len(list((eyes / "decisions" / "flags").glob("*.json"))) == 2


def test_values_distances_and_areas(opened: Any, eyes: Path) -> None:
    with served(eyes) as (address, _):
        page = opened(address)
        page.mouse.move(*at(page, 45.5, 25.5))
        page.wait_for_selector("#readout:not([hidden])")
        value = open_dataset(eyes)["eye2"].image[0, 25, 45]  # type: ignore[index]
        said = page.inner_text("#readout")
        assert said.startswith("column 45, row 25 · ")
        assert float(said.split(" · ")[1]) == pytest.approx(value, abs=1e-5)
        assert "disc 2 of 3, cup 0 of 3" in said
        page.click("[data-ruler=distance]")
        for to, (x0, y0, x1, y1) in {"10.0 mm": (10, 20, 50, 20), "15.0 mm": (10, 20, 10, 50)}.items():
            page.mouse.move(*at(page, x0, y0))
            page.mouse.down()
            page.mouse.move(*at(page, x1, y1), steps=3)
            page.mouse.up()
            assert page.locator("#rulers text").last.text_content() == to, (
                "columns are 0.25 mm apart, rows 0.5"
            )
        page.keyboard.press("a")
        page.mouse.move(*at(page, 10, 10))
        page.mouse.down()
        for x, y in ((50, 10), (50, 30), (10, 30)):
            page.mouse.move(*at(page, x, y))
        page.mouse.up()
        assert page.locator("#rulers text").last.text_content() == "100.0 mm²"
        assert "mm" in page.locator("#scale text").first.text_content()
        page.click("#rulers-clear")
        assert page.locator("#rulers text").count() == 0


def test_lines_names_fills_dashes_and_second_readings(opened: Any, eyes: Path) -> None:
    with served(eyes) as (address, _):
        page = opened(address)
        style = "(name) => getComputedStyle(document.querySelector('#lines .rater'))[name]"
        page.fill("#line-width", "2")
        page.fill("#line-fill", "0.3")
        page.fill("#line-opacity", "0.5")
        assert page.evaluate(style, "strokeWidth") == "4.8px"
        assert page.evaluate(style, "fillOpacity") == "0.3"
        assert page.evaluate("getComputedStyle($('lines')).opacity") == "0.5"
        page.check("#names")
        assert page.locator("#labels text").all_text_contents() == ["ann", "bob", "cy"]
        page.keyboard.press("d")
        dashes = page.evaluate("[...document.querySelectorAll('#lines .rater:not(.again)')].map((l) => l.style.strokeDasharray)")  # fmt: skip
        assert len(set(dashes[:3])) == 3 and dashes[:3] == dashes[3:], "raters differ, structures do not"
        page.keyboard.press("d")
        dashes = page.evaluate("[...document.querySelectorAll('#lines .rater:not(.again)')].map((l) => l.style.strokeDasharray)")  # fmt: skip
        assert len(set(dashes[:3])) == 1 and dashes[0] != dashes[3], "structures differ, raters do not"
        assert page.locator("#lines .again").count() == 1
        again = dice(
            open_dataset(eyes)["eye2"].masks[0, 0], open_dataset(eyes)["eye2"].readings[0].masks[0, 0]
        )
        assert f"second reading, disc: Dice {again:.2f} with the first" in page.inner_text("#raters")
        page.uncheck("#again")
        assert page.locator("#lines .again").count() == 0
        ground = "getComputedStyle(document.body).backgroundColor"
        page.select_option("#theme", "light")
        light = page.evaluate(ground)
        page.select_option("#theme", "dark")
        assert (light, page.evaluate(ground)) == ("rgb(238, 241, 244)", "rgb(13, 16, 20)")


def test_three_planes_meet_in_one_voxel_and_turn_into_a_solid(opened: Any, scans: Path) -> None:
    sample = open_dataset(scans)[0]
    majority = fuse_case(sample, "majority").probability > 0.5
    with served(scans) as (address, _):
        page = opened(address)
        assert page.locator("#scale .letter").all_text_contents() == ["R", "L", "A", "P"]
        page.select_option("#fusion", "majority")
        page.click("#three")
        page.wait_for_selector("body[data-planes]")
        frames = page.locator("#planes .plane[data-plane]")
        assert [frame.get_attribute("data-plane") for frame in frames.all()] == [
            "axial",
            "coronal",
            "sagittal",
        ]
        letters = [frame.locator(".letter").all_text_contents() for frame in frames.all()]
        assert letters == [list("RLAP"), list("RLSI"), list("APSI")]
        for frame in frames.all():
            plane = frame.get_attribute("data-plane")
            index, turned = page.evaluate(f"along('{plane}', 0)"), Slicing(plane).cut(sample)
            raters, fused = turned.of(sample.masks)[:, :, index], turned.of(majority)[:, index]
            assert frame.locator(".rater").count() == raters.any(axis=(2, 3)).sum()
            assert frame.locator(".consensus").count() == fused.any(axis=(1, 2)).sum()
            assert frame.locator(".scale").inner_text().endswith("mm")
        box = frames.first.locator("svg").bounding_box()
        page.mouse.click(box["x"] + box["width"] * 0.5 + 12, box["y"] + box["height"] * 0.5 - 9)
        page.wait_for_timeout(150)
        d, h, w = page.evaluate("three.cross")
        where = page.evaluate("Object.keys(three.boxes).map((plane) => [along(plane, 0), along(plane, 1), along(plane, 2)])")  # fmt: skip
        axial, coronal, sagittal = where
        assert (axial[1], axial[2], coronal[2]) == (coronal[0], sagittal[0], axial[2])
        until(page, f"document.body.dataset.planes === '{d},{h},{w}'")
        value = float(re.findall(r"value (\S+)", page.inner_text("#cross-says"))[0])
        marked = sample.masks[:, 0, d, h, w].sum()
        assert f"disc {marked} of" in page.inner_text("#cross-says")
        stored = nib.load(next((scans / "images").glob("*.nii*"))).get_fdata()
        assert value == pytest.approx(stored[w, h, d], rel=1e-5), "x is first in the file"
        frames.nth(1).locator("svg").focus()
        page.keyboard.press("ArrowDown")
        until(page, f"along('coronal', 0) === {coronal[0] + 1}")
        page.click("#solid-begin")
        page.wait_for_selector("body[data-solid]")
        drawn = sum(bool(mask.any()) for mask in sample.masks[:, 0]) + 1
        assert int(page.get_attribute("body", "data-solid")) == drawn + bool(sample.reference is not None)
        pixels = PIL.Image.open(io.BytesIO(page.locator("#solid-canvas").screenshot())).convert("RGB")
        assert len(pixels.getcolors(1 << 24)) > 50, "something is drawn"
        page.click("#three")
        assert page.locator("#planes").is_hidden()


def test_paper_without_backgrounds_keeps_colours_and_clips_nothing(opened: Any, eyes: Path) -> None:
    with served(eyes) as (address, _):
        page = opened(address)
        page.keyboard.press("v")
        page.wait_for_selector("#bar:not([hidden])")
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        dots = page.evaluate("[...document.querySelectorAll('#raters .swatch, #dice i')].map((i) => getComputedStyle(i).borderTopColor + getComputedStyle(i).borderTopWidth)")  # fmt: skip
        assert len(dots) == 9 and all("rgb(31, 119, 180)" in dots[n] for n in (0, 3)), dots
        assert not any(dot.endswith("0px") for dot in dots), "borders are printed, backgrounds are not"
        stops = page.evaluate("[...document.querySelectorAll('#bar-stops stop')].map((s) => s.getAttribute('stop-color'))")  # fmt: skip
        assert len(set(stops)) == 9
        right = page.evaluate("Math.max(...[...document.querySelectorAll('main, #panel section, #dice td, #picture')].map((e) => e.getBoundingClientRect().right))")  # fmt: skip
        assert right <= page.evaluate("document.documentElement.clientWidth") + 1
        assert page.get_attribute("#picture", "viewBox"), "the whole image, not the part that was zoomed to"
        for hidden in ("#list", "#tools", "#head button", "#theme"):
            assert not page.locator(hidden).first.is_visible(), hidden


def test_who_hears_the_page_is_told_as_much(opened: Any, eyes: Path) -> None:
    with served(eyes, "--adjudicate", "--as", "ann") as (address, _):
        page = opened(address)
        nameless = page.evaluate("""[...document.querySelectorAll('button, input, select, textarea, [role=listbox]')]
          .filter((e) => e.offsetParent && !(e.textContent.trim() && e.tagName === 'BUTTON') && !e.labels?.length && !e.getAttribute('aria-label') && !e.title)
          .map((e) => e.id || e.outerHTML)""")
        assert nameless == []
        page.evaluate("$('theme').scrollIntoView()")
        assert page.evaluate("document.documentElement.scrollTop + document.body.scrollTop") == 0, (
            "what only a screen reader sees makes the page no longer"
        )
        assert page.get_attribute("#picture", "aria-label") == "eye2; outlines of ann, bob, cy"
        page.keyboard.press("ArrowRight")
        until(page, "$('announced').textContent.startsWith('eye1.')")
        page.keyboard.press("Space")
        assert page.get_attribute("#picture", "aria-label") == "eye1; outlines hidden"
        page.focus("#rows")
        page.keyboard.press("ArrowDown")
        until(page, "shown.number === 0")
        row = page.locator("#rows [aria-selected=true]")
        assert row.get_attribute("aria-label") == f"eye0, {row.locator('.value').text_content()}"
        assert (row.get_attribute("aria-posinset"), row.get_attribute("aria-setsize")) == ("3", "3")
        assert page.locator("#dice th .unseen").first.text_content() == "ann"


def test_a_phone_shows_all_of_it_and_nothing_wider(opened: Any, eyes: Path) -> None:
    with served(eyes, "--adjudicate", "--as", "ann") as (address, _):
        page = opened(address)
        page.set_viewport_size({"width": 390, "height": 844})
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("#rows li").count() == 3
        page.locator("#rows li").last.click()
        until(page, "shown.number === 0")
