"""A trained run in the layout of the Hugging Face Hub, for others to load with `mrprism.load_run`.

    OUT/config.json        the run's settings; cases have numbers instead of names, and no path of this machine is left
    OUT/model.safetensors  its chosen weights
    OUT/calibration.json   what validation cases taught of its probabilities, if there were some
    OUT/README.md          the model card: what it was trained on, its scores, what it is for and what not

Nothing is sent anywhere: whoever exports uploads the folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mrprism import __version__
from mrprism.core.errors import InputError
from mrprism.learn.calibration import FILE as CALIBRATION
from mrprism.learn.calibration import read_calibration, sha256_of
from mrprism.learn.run import Run, RunResult
from mrprism.learn.settings import RunConfig
from mrprism.learn.tie import settings_of, written
from mrprism.learn.weights import load_method, read_tensors, tensor_bytes
from mrprism.metrics import METRICS
from mrprism.metrics.scores import FINAL, read_table, summarise
from mrprism.output.files import write_file
from mrprism.output.folders import complete_folder
from mrprism.output.terminal import one_line

SHOWN = ("dice", "soft_dice", "ece", "brier", "hd95")


@dataclass(frozen=True)
class ExportedModel:
    """What an export left behind."""

    folder: Path
    parameters: int
    licence: str  # "" where nobody said


def export_model(run: str | Path | Run, out: str | Path, *, licence: str = "") -> ExportedModel:
    """Write a run as a folder that can be uploaded, and loaded offline by `mrprism.load_run`.

    Args:
        out: A folder that does not exist or is empty.
        licence: Under which the model may be used, such as "cc-by-4.0"; "": the card says that nobody said.

    Raises:
        InputError: No run or no weights, or a folder that holds something.
    """
    run = run if isinstance(run, Run) else Run.open(run)
    if licence and not all(letter.isascii() and (letter.isalnum() or letter in ".-") for letter in licence):
        raise InputError(f"--licence is '{licence}'; expected a short name such as cc-by-4.0 or apache-2.0")
    method = load_method(run)
    parameters = sum(parameter.numel() for parameter in method.parameters())
    if not parameters:
        raise InputError(
            f"method '{run.config.method}' has nothing that was learned: there is no model to export"
        )
    config = without_names(run.config)
    with complete_folder(Path(out)) as unfinished:
        write_file(unfinished / "config.json", config.model_dump_json(indent=2) + "\n")
        tensors = tensor_bytes(read_tensors(run.weights_file), written(settings_of(config)))
        write_file(unfinished / "model.safetensors", tensors)
        if (calibration := read_calibration(run)) is not None:  # names no case
            text = calibration.model_copy(
                update={"weights_sha256": sha256_of(unfinished / "model.safetensors")}
            )
            write_file(unfinished / CALIBRATION, text.model_dump_json(indent=1) + "\n")
        write_file(unfinished / "README.md", card(run, parameters, licence))
        Run.open(unfinished)
        load_method(Run.open(unfinished))  # what is handed on can be loaded
        read_calibration(Run.open(unfinished))
    return ExportedModel(Path(out), parameters, licence)


def without_names(config: RunConfig) -> RunConfig:
    """The settings without the names of cases, which may be those of patients, and without paths."""
    called = {
        name: f"{part}{number:05d}"
        for part in ("train", "val", "test")
        for number, name in enumerate(getattr(config, part), 1)
    }
    parts = {part: tuple(called[name] for name in getattr(config, part)) for part in ("train", "val", "test")}
    marks = {called[name]: mark for name, mark in config.images.items() if name in called}
    options = {name: value for name, value in config.options.items() if name != "encoder_weights"}
    changed = {**parts, "images": marks, "dataset_path": None, "options": options}
    return RunConfig.model_validate({**config.model_dump(), **changed})


def card(run: Run, parameters: int, licence: str) -> str:
    """The model card, in Markdown with the header that the Hub reads."""
    config, result = run.config, run.result()
    header = {
        "license": licence or "other",
        "library_name": "mrprism",
        "pipeline_tag": "image-segmentation",
        "tags": ["medical", "segmentation", "multi-rater", config.method],
    }
    lines = [
        "---",
        *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in header.items()),
        "---",
    ]
    structures = ", ".join(_text(name) for name in config.task.structures)
    lines += [
        f"# {_text(config.method)} on {_text(config.dataset)}",
        "",
        f"Outlines {structures} on images with {config.task.channels} channel(s), and was learned from the masks of "
        f"{len(config.task.raters)} raters with mrprism {_text(config.mrprism)}.",
        "",
        "## Intended use",
        "",
        "For research on images like those that it was trained on. **It is not a medical device and not for clinical "
        "decisions.** Nobody has tested it on other scanners, other patients or other raters unless this card says so.",
        "",
        "## How to use it",
        "",
        "```console",
        "$ pip install 'mrprism[learn]'",
        "$ mrprism predict THIS_FOLDER image.png --out outlines",
        "```",
        "",
        "```python",
        "import mrprism",
        "",
        'prediction = mrprism.load_run("THIS_FOLDER").predict(image)  # (channel, H, W), from 0 to 1',
        "```",
        "",
        "## What it was trained on",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in _facts(config, result, parameters)),
        "",
        "## Scores on its test cases",
        "",
        *_scores(run),
        "",
        "## Licence",
        "",
        f"{_text(licence)}"
        if licence
        else "Nobody has said under which licence this model may be used. Ask who made it.",
        "",
        "## Limits",
        "",
        "- A mistake that all raters share is in the model, too, and no number above shows it.",
        "- Scores are of the test cases of the same data set; on other data expect less.",
        "- Names of raters and of structures are in `config.json`. Names of cases are not: they were replaced by numbers.",
        "",
        f"Written by mrprism {__version__}.",
        "",
    ]
    return "\n".join(lines)


def _facts(config: RunConfig, result: RunResult | None, parameters: int) -> Iterator[tuple[str, str]]:
    yield "data set", _text(config.dataset)
    yield (
        "cases",
        f"{len(config.train)} to learn from, {len(config.val)} to choose the epoch, {len(config.test)} to test",
    )
    yield "raters", ", ".join(_text(name) for name in config.task.raters)
    yield "method", _text(config.method)
    if config.options:
        yield (
            "its options",
            ", ".join(f"{_text(name)} = {_text(value)}" for name, value in config.options.items()),
        )
    patch = (config.size, config.size) if config.plan is None else config.plan.patch
    yield "encoder, size", f"{_text(config.backbone)}, {' × '.join(map(str, patch))} pixels"
    yield (
        "slices",
        ("none: images" if config.dims == 2 else "none: volumes as they are")
        if config.slices is None
        else f"{config.slices}, {config.neighbours} neighbours",
    )
    yield "parameters", f"{parameters:,}"
    if result is not None:
        yield (
            "training",
            f"{result.epochs} epochs, {result.steps} steps; the epoch kept is {result.chosen_epoch}",
        )
        if result.collapsed:
            yield "**warning**", "**the network collapsed in training: its answer is constant**"


def _scores(run: Run) -> list[str]:
    """Mean and spread over cases of the last answer, or that there are none."""
    if not run.table_file.is_file():
        return ["It was not scored: there is no `table.csv` in the run."]
    lines = ["| structure | against | metric | mean | ± over cases | cases |", "|---|---|---|---|---|---|"]
    for found in summarise(read_table(run.table_file)):
        if (
            found.metric in SHOWN
            and found.recurrence == FINAL
            and found.reads == "image"
            and not math.isnan(found.mean)
        ):
            spread = "–" if math.isnan(found.sd) else f"{found.sd:.3f}"
            label = METRICS[found.metric].label
            row = [
                _text(found.structure),
                _text(found.target),
                label,
                f"{found.mean:.3f}",
                spread,
                str(found.n),
            ]
            lines.append(f"| {' | '.join(row)} |")
    return lines if len(lines) > 2 else ["No test case has a score of the image alone."]


def _text(value: object) -> str:
    """A text out of a run that means nothing to Markdown or HTML."""
    plain = one_line(" ".join(str(value).split()))
    for sign in "\\`*_[]<>|#":
        plain = plain.replace(sign, f"&#{ord(sign)};")
    return plain
