"""What every reader of a layout promises, as a check that a reader of any package can be put to.

    from mrprism.layouts.contract import check_reader

    def test_my_reader(tmp_path):
        make_a_tiny_tree(tmp_path / "tree")
        check_reader(read, tmp_path / "tree", tmp_path / "work")

It raises AssertionError where a promise is broken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mrprism.core.errors import InputError
from mrprism.core.sample import MultiRaterSample, Task
from mrprism.datasets import open_dataset, write_dataset
from mrprism.layouts.source import Source

Read = Callable[..., Source]  # (path, **options)


def check_reader(read: Read, tree: Path, work: Path, **options: Any) -> None:
    """All checks on one tree.

    Args:
        tree: A small data set as it was published, with two cases at least.
        work: A folder to write to; made if it is not there.
        options: Of the reader.
    """
    it_gives_whole_cases(read, tree, **options)
    it_leaves_the_tree_alone(read, tree, **options)
    reading_again_gives_the_same(read, tree, **options)
    what_it_reads_can_be_written_and_opened(read, tree, work / "written", **options)
    a_folder_with_nothing_in_it_is_refused(read, work / "empty", **options)


def it_gives_whole_cases(read: Read, tree: Path, **options: Any) -> None:
    """Names are unlike, arrays fit the task and each other, and what is absent is not marked."""
    source = read(tree, **options)
    assert isinstance(source, Source), f"a reader returns a Source, not a {type(source).__name__}"
    task, names = source.task, []
    for sample in source.samples:
        check_sample(sample, task)
        names.append(sample.name)
    assert names, "no case was read"
    assert len(names) == len(set(names)), f"two cases have one name: {names}"
    assert len(set(task.raters)) == len(task.raters), f"two raters have one name: {task.raters}"


def check_sample(sample: MultiRaterSample, task: Task) -> None:
    """One case fits the task."""
    who = f"case '{sample.name}'"
    masks, rated = sample.masks, sample.rated
    shape = len(task.raters), len(task.structures)
    assert masks.dtype == bool and rated.dtype == bool, f"{who}: masks and rated are true or false"
    assert masks.shape[:2] == rated.shape == shape, f"{who}: masks of {masks.shape[:2]}, expected {shape}"
    if sample.image is not None:
        image = sample.image
        assert image.dtype == np.float32, f"{who}: the image is float32"
        assert image.shape == (task.channels, *sample.space), f"{who}: the image is {image.shape}"
        assert np.isfinite(image).all(), f"{who}: every intensity is a number"
        assert image.min() >= 0 and image.max() <= 1, f"{who}: intensities go from 0 to 1"
    assert not masks[~rated].any(), f"{who}: a rater who is absent marks nothing"
    if sample.reference is not None:
        expected = (len(task.structures), *sample.space)
        assert sample.reference.shape == expected, f"{who}: the reference is (C, *space)"
    if sample.spacing_mm is not None:
        assert len(sample.spacing_mm) == len(sample.space), f"{who}: one spacing for each axis"
        assert all(step > 0 for step in sample.spacing_mm), f"{who}: spacing is above 0"


def it_leaves_the_tree_alone(read: Read, tree: Path, **options: Any) -> None:
    """Other people's files are read, and nothing else."""
    before = _content(tree)
    for _ in read(tree, **options).samples:
        pass
    assert _content(tree) == before, f"reading changed what lies in {tree}"


def reading_again_gives_the_same(read: Read, tree: Path, **options: Any) -> None:
    """The same cases in the same order."""
    first, again = list(read(tree, **options).samples), list(read(tree, **options).samples)
    assert [sample.name for sample in again] == [sample.name for sample in first], "other cases"
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(two.masks, one.masks, err_msg=one.name)
        np.testing.assert_array_equal(two.rated, one.rated, err_msg=one.name)


def what_it_reads_can_be_written_and_opened(read: Read, tree: Path, out: Path, **options: Any) -> None:
    """As `mrprism import` writes it: no mask, absence or reference is lost on the way."""
    source = read(tree, **options)
    samples = list(source.samples)
    write_dataset(
        samples, out, name=source.name, task=source.task, channels=source.channels,
        image_format=source.image_format,  # type: ignore[arg-type]
    )  # fmt: skip
    written = open_dataset(out)
    assert written.task == source.task, f"{written.task} was written, {source.task} was read"
    found = {sample.name: sample for sample in written}
    assert len(found) == len(samples), f"{len(found)} cases were written, {len(samples)} were read"
    for one in samples:
        other = found[one.name]
        np.testing.assert_array_equal(other.masks, one.masks, err_msg=one.name)
        np.testing.assert_array_equal(other.rated, one.rated, err_msg=one.name)
        assert (other.reference is None) == (one.reference is None), f"the reference of {one.name}"
        assert (other.group, other.diagnosis) == (one.group, one.diagnosis), (
            f"group and diagnosis of {one.name}"
        )


def a_folder_with_nothing_in_it_is_refused(read: Read, empty: Path, **options: Any) -> None:
    """By an `InputError`, at once or when the first case is asked for."""
    empty.mkdir(parents=True, exist_ok=True)
    try:
        samples = list(read(empty, **options).samples)
    except InputError:
        return
    raise AssertionError(f"an empty folder was read as {len(samples)} cases; expected an InputError")


def _content(tree: Path) -> dict[str, str]:
    """The hash of every file below a folder, or of the file itself."""
    files = [path for path in tree.rglob("*") if path.is_file()] if tree.is_dir() else [tree]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
