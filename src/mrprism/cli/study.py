"""`mrprism study`: from a data set to a page for the statistician, as one file of settings says."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from mrprism.core.errors import InputError, unknown

STEPS = ("agree", "fuse", "outline", "compare")  # commands between check and report; outline is a second fuse
MADE = {  # the file that stands in a step's folder when the step is done
    "agree": "agreement/agreement.json",
    "fuse": "fused/skill.json",
    "outline": "outline/skill.json",
    "compare": "comparison/compare.html",
}
OURS = ("dataset", "out", "paths")  # settings of a step that the study gives itself
KNOWN = ("dataset", "out", "title", "about")


@dataclass(frozen=True)
class Plan:
    """What a file of a study says."""

    file: Path
    dataset: Path
    out: Path
    title: str
    about: dict[str, str]
    tables: dict[str, dict[str, Any]]  # settings of each command


def run(
    file: Annotated[Path, typer.Argument(help="The file that describes the study.", metavar="STUDY.toml")],
    again: Annotated[
        bool, typer.Option("--again", help="Do every step again, also those that are done.")
    ] = False,
) -> int:
    """Check, agree, fuse, compare and report in one go, as one file says.

    The file names the data set and the folder to write to. It may hold the settings of each step, in a table with the
    name of the step. Paths are relative to the file:

        [study]
        dataset = "retina-set"
        out = "retina-study"
        title = "Optic disc and cup, three readers"

        [study.about]
        readers = "Three ophthalmologists, 5 to 20 years of practice"
        masking = "Each outlined alone and saw nobody else's outlines"

        [fuse]
        method = "majority"

    The folder then holds the folders of the steps and study.html. This page has the design, who did what, agreement with
    intervals, each reader's bias and spread, the consensus, models against readers, and limits. Methods are compared
    only if there is a table [compare].

    Steps that were done with the same settings and the same data are skipped. After a kill, give the same command
    again: it goes on. The exit code is 1 if a step gave warnings, and 2 if the data set has errors.

    Example: mrprism study study.toml
    """
    return _whole(file, again)


def study(file: str | os.PathLike[str], *, again: bool = False) -> Path:
    """Check, agree, fuse, compare and report in one go, as one file says; what is done already is skipped.

    Args:
        file: The study as TOML; its paths are relative to it.
        again: Do every step, also those that are done.

    Returns:
        The page of the study.

    Raises:
        InputError: The file is wrong, the data set has errors, or a step stopped, which has said why.
    """
    plan = read_plan(Path(file))
    if _whole(Path(file), again) > 1:
        raise InputError(f"the study in '{plan.out}' stopped before its end; the messages above say why")
    return plan.out / "study.html"


def _whole(file: Path, again: bool) -> int:
    from mrprism.output.lock import alone

    plan = read_plan(file)
    with alone(plan.out):
        return _study(plan, again)


def _study(plan: Plan, again: bool) -> int:
    from mrprism.output.files import write_file
    from mrprism.report.study import build_study

    state_file = plan.out / "study.json"
    if (
        plan.out.exists()
        and not state_file.is_file()
        and (
            plan.out.is_file()
            or any(path.name != ".lock" for path in plan.out.iterdir())  # the lock of a mount
        )
    ):
        raise InputError(f"'{plan.out}' holds files, but no study; name another folder as out")
    commands = {step: _words(step, plan) for step in STEPS}  # before anything is done: settings may be wrong
    _methods(plan)
    done = {} if again else _state(state_file).get("steps", {})
    data = data_state(plan.dataset, plan.out)
    kept: dict[str, Any] = {"title": plan.title, "about": plan.about, "steps": {}, "left_out": {}}
    worst = 0

    def keep(step: str, mark: str, code: int) -> None:
        kept["steps"][step] = {"settings": mark, "code": code}
        write_file(state_file, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")

    summary, code = _check(plan, done, data, keep)
    worst = max(worst, code)
    if code == 2:
        return 2
    for step in STEPS:
        why = _left_out(step, plan, summary)
        if why:
            kept["left_out"][step] = why
            print(f"{step}: left out, {why}")
            continue
        mark = _mark([step, plan.tables.get(step, {}), *_models(step, plan)], data)
        before = done.get(step, {})
        if before.get("settings") == mark and (plan.out / MADE[step]).is_file():
            print(f"{step}: done already")
            keep(step, mark, before.get("code", 0))
        else:
            print(f"{step}:", flush=True)
            code = _call(commands[step])
            if code not in (0, 1):
                return code
            keep(step, mark, code)
        worst = max(worst, kept["steps"][step]["code"])
    keep("report", _mark(["report"], data), 0)
    print(build_study(plan.out, plan.out / "study.html"))
    return worst


def read_plan(file: Path) -> Plan:
    """What a file of a study says.

    Raises:
        InputError: It is no TOML, has no [study], or says something unknown.
    """
    from mrprism.cli import VERBS
    from mrprism.cli.config import read_toml

    if file.is_dir():
        raise InputError(
            f"'{file}' is a folder; expected the file that describes the study, such as '{file / 'study.toml'}': "
            "mrprism study --help shows one"
        )
    found = read_toml(file)
    study = found.get("study")
    if not isinstance(study, dict):
        raise InputError(f"'{file}' has no table [study]; expected one with dataset and out")
    for name in study:
        if name not in KNOWN:
            raise InputError(f"'{file}': {unknown('setting of [study]', name, KNOWN)}")
    for name in ("dataset", "out"):
        if not isinstance(study.get(name), str) or not study[name] or "\0" in study[name]:
            raise InputError(f"'{file}': [study] needs {name} = \"...\", a path relative to the file")
    title, about = study.get("title", ""), study.get("about", {})
    if not isinstance(title, str):
        raise InputError(f"'{file}': title is {title!r}; expected a text")
    if not isinstance(about, dict) or not all(isinstance(text, str) for text in about.values()):
        raise InputError(
            f"'{file}': [study.about] holds something that is not a text; expected lines such as readers = \"...\""
        )
    tables = {name: table for name, table in found.items() if name != "study"}
    for name, table in tables.items():
        if name not in VERBS or not isinstance(table, dict):
            raise InputError(f"'{file}': {unknown('command', name, VERBS)}")
        if name in ("agree", "fuse", "compare") and (both := set(OURS) & set(table)):
            raise InputError(
                f"'{file}': leave out {min(both)} in [{name}]: [study] already names it for all steps"
            )
    place = file.parent
    dataset, out = (Path(os.path.normpath(place / study[name])) for name in ("dataset", "out"))
    return Plan(file, dataset, out, title, dict(about), tables)


def _methods(plan: Plan) -> None:
    """Look up the methods that steps name, which else would be missed only when the steps before them are done."""
    fusion, methods = (
        plan.tables.get(step, {}).get(key) for step, key in (("fuse", "method"), ("compare", "methods"))
    )
    if isinstance(fusion, str):
        from mrprism.fusion import FUSIONS

        if fusion not in (*FUSIONS, "auto"):
            raise InputError(f"'{plan.file}': [fuse]: {unknown('method', fusion, [*FUSIONS, 'auto'])}")
    if isinstance(methods, str):
        from mrprism.compare.candidates import choose

        choose(methods)


def data_state(dataset: Path, out: Path) -> str:
    """A hash of which files a data set has, how long they are and when they were written."""
    root = dataset if dataset.is_dir() else dataset.parent
    apart = Path(os.path.realpath(out))
    digest = hashlib.sha256()

    def files(folder: Path) -> Iterator[os.DirEntry[str]]:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                if entry.name.startswith(".") or Path(os.path.realpath(entry.path)) == apart:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from files(Path(entry.path))
                else:
                    yield entry

    if not root.is_dir():
        raise InputError(f"there is no data set at '{dataset}'")
    for entry in files(root):
        try:
            about = entry.stat()
        except OSError:  # a link that leads nowhere: check will tell
            continue
        line = f"{os.path.relpath(entry.path, root)}\0{about.st_size}\0{about.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _check(plan: Plan, done: dict[str, Any], data: str, keep: Any) -> tuple[dict[str, Any], int]:
    """The summary of the check, and its exit code."""
    from mrprism.cli.calls import check_dataset
    from mrprism.output.files import write_file
    from mrprism.output.terminal import one_line

    file, mark = plan.out / "check.json", _mark(["check"], data)
    before = done.get("check", {})
    if before.get("settings") == mark and file.is_file():
        print("check: done already")
        found = json.loads(file.read_text(encoding="utf-8"))
        code = int(before.get("code", 0))
    else:
        check = check_dataset(plan.dataset)
        found, code = check.as_json(), check.exit_code
        print(f"check: {check.verdict}")
        for finding in check.findings:
            print(f"  {finding.fault.severity}: {one_line(finding.sentence)}", file=sys.stderr)
        if code == 2:
            return {}, code  # nothing is made of a data set with errors
        write_file(plan.out / "check.html", check.as_html())
        write_file(file, json.dumps(found, indent=1) + "\n")
    keep("check", mark, code)
    return dict(found["summary"]), code


def _left_out(step: str, plan: Plan, summary: dict[str, Any]) -> str:
    """Why a step is not done; "": it is."""
    if step == "compare" and "compare" not in plan.tables:
        return f"'{plan.file.name}' has no table [compare]"
    if step == "compare" and not summary["images"]:
        return "to compare methods needs images, and the data set has masks only"
    if step == "outline" and summary["anonymous"]:
        return "raters are anonymous, so no bias belongs to one person"
    if step in ("fuse", "outline") and len(summary["raters"]) < 2:
        return "there is only one rater"
    return ""


def _words(step: str, plan: Plan) -> list[str]:
    """The command of a step."""
    import importlib

    from mrprism.cli.config import filled

    if step == "outline":
        out = str(plan.out / "outline")
        return ["fuse", "--method", "outline", "--pooled", "--out", out, "--", str(plan.dataset)]
    out = str(plan.out / MADE[step].split("/")[0])
    command = importlib.import_module(f"mrprism.cli.{step}").run
    words = filled(command, ["--out", out], plan.tables.get(step, {}), plan.file)
    return [step, *words, "--", str(plan.dataset)]


def _call(words: list[str]) -> int:
    from mrprism.cli import call

    return call(words)


def _mark(told: list[Any], data: str) -> str:
    """What a step depends on, as a hash."""
    from mrprism import __version__

    return hashlib.sha256(json.dumps([__version__, told, data], default=str).encode()).hexdigest()


def _models(step: str, plan: Plan) -> Iterator[str]:
    """The state of the masks of models that are held against the readers."""
    told = plan.tables.get("agree", {}).get("candidate", []) if step == "agree" else []
    for path in [told] if isinstance(told, str) else told:
        folder = plan.file.parent / path
        yield data_state(folder, plan.out) if folder.exists() else ""


def _state(file: Path) -> dict[str, Any]:
    """What an earlier call left; nothing where it cannot be read, so that all is done again."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        steps = found["steps"]
        return found if all(isinstance(each, dict) for each in steps.values()) else {}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return {}
