"""Pages that are read out of the program: commands, and names of Python."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import mrprism
from mrprism.cli import VERBS
from mrprism.cli.options import Offered, offered

GROUPS = {  # how the names of `mrprism` are put on their page
    "Data sets": ("open_dataset", "write_dataset", "import_dataset", "check_dataset", "phantom", "Dataset"),
    "Agreement and fusion": ("agree", "fuse_case", "fuse", "fuse_dataset", "fuse_masks"),
    "Learning": ("plan", "train", "resume", "evaluate", "load_run", "predict", "compare", "Run"),
    "Looking and handing on": (
        "plot_case",
        "plot_agreement",
        "plot_bland_altman",
        "plot_confidence",
        "plot_recurrence",
        "report",
        "report_study",
        "study",
        "view",
        "export",
        "demo",
    ),
    "What everything speaks of": ("Task", "MultiRaterSample", "Prediction", "InputError"),
}
TABLES = ("DATASETS", "FUSIONS", "METHODS", "METRICS")
PACKAGES = {  # the rooms of the house that are meant to be called, and what is in them
    "core": "What all speak of.",
    "images": "Files of pixels: read, written, placed, cut into slices.",
    "datasets": "Our own format: opened, checked, written, split.",
    "metrics": "Formulas, and a case scored.",
    "fusion": "Masks in, a consensus out.",
    "agreement": "Masks in, statistics out.",
    "layouts": "Other people's files.",
    "report": "One page about runs.",
    "compare": "Many runs: the plan, the sweep, statistics, tables.",
    "learn": "What needs torch: methods, training, runs, predictions.",
}


def commands() -> str:
    """Every command: what it says of itself, its arguments and options."""
    lines = ["# Commands", "", "What `mrprism COMMAND --help` prints, on one page.", ""]
    for verb, (_, what) in VERBS.items():
        lines.append(f"- [`mrprism {verb}`](#mrprism-{verb}): {what}")
    lines += [
        "",
        "What the exit codes mean stands in [one table](exit-codes.md). Each command takes its options out of "
        "[a file](../how-to/study.md), too: `--config FILE.toml`.",
        "",
    ]
    for verb, (module, _) in VERBS.items():
        run = importlib.import_module(f"mrprism.cli.{module}").run
        lines += [f"## mrprism {verb} {{ #mrprism-{verb} }}", "", inspect.cleandoc(run.__doc__ or ""), ""]
        given = [_row(option) for option in offered(run)]
        lines += ["| argument or option | | unless told |", "|---|---|---|", *given, ""]
    return "\n".join(lines)


def _row(option: Offered) -> str:
    name = option.spoken if option.off is None else f"{option.spoken}, {option.off}"
    if option.required:
        unless = "has to be given"
    elif option.default in (None, "", False):
        unless = "may be given several times" if option.many else ""
    else:
        unless = "on" if option.default is True else f"`{option.default}`"
    about = option.help
    if option.choices:
        about += f" One of {', '.join(f'`{choice}`' for choice in option.choices)}."
    return f"| `{name}` | {about} | {unless} |".replace("DATASET|RUN", "DATASET or RUN")


def names() -> str:
    """What `import mrprism` offers."""
    left = {*mrprism.API} - {*TABLES} - {name for group in GROUPS.values() for name in group}
    if left:
        raise ValueError(f"these names of mrprism have no place on the page of names: {sorted(left)}")
    lines = ["# Names of mrprism", "", "Whatever a command does is one call in Python:", ""]
    lines += ["```python", "import mrprism", "```", ""]
    for title, group in GROUPS.items():
        lines += [f"## {title}", ""]
        for name in group:
            called = getattr(mrprism, name)
            where = f"{called.__module__}.{called.__qualname__}"
            lines += [f"### mrprism.{name} {{ #mrprism.{name} }}", ""]
            lines += [
                f"::: {where}",
                "    options: {heading_level: 4, show_root_heading: false, show_root_toc_entry: false}",
                "",
            ]
    lines += [
        "## Tables of names",
        "",
        "Dictionaries that can be read: each name, and what is fetched for it.",
        "",
    ]
    for name in TABLES:
        keys = ", ".join(f"`{key}`" for key in getattr(mrprism, name))
        lines += [f"### mrprism.{name} {{ #mrprism.{name} }}", "", keys, ""]
    return "\n".join(lines)


def packages() -> str:
    """Modules of the packages, each with what is public in it."""
    about = (
        "For those who build on single parts. What stands on [the page of names](python.md) changes only as the "
        "[policy](../support.md#what-may-change-and-when) says; what stands here may change with any version, and the "
        "changelog says so."
    )
    lines = ["# Packages", "", about, ""]
    shown = {value for name in mrprism.API if name not in TABLES for value in [_home(name)]}
    for package, what in PACKAGES.items():
        lines += [f"## mrprism.{package}", "", what, ""]
        found = importlib.import_module(f"mrprism.{package}")
        for module in sorted(
            pkgutil.walk_packages(found.__path__, f"{found.__name__}."), key=lambda m: m.name
        ):
            if any(part.startswith("_") for part in module.name.split(".")):
                continue
            members = _public(module.name) - {
                name.rpartition(".")[2] for name in shown if name.rpartition(".")[0] == module.name
            }
            if not members:
                continue
            lines += [
                f"::: {module.name}",
                "    options:",
                "      heading_level: 3",
                f"      members: [{', '.join(sorted(members))}]",
                "",
            ]
    return "\n".join(lines)


def _home(name: str) -> str:
    called = getattr(mrprism, name)
    return f"{called.__module__}.{called.__qualname__}"


def _public(module: str) -> set[str]:
    """Functions and classes with a docstring that are made in a module."""
    found = vars(importlib.import_module(module))
    return {
        name
        for name, value in found.items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module
        and "__doc__" in dir(value)
        and value.__doc__
    }
