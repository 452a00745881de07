"""MONAI datalists, raters kept in each of the ways people keep them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trees import blob, cases, nifti, picture, png

from mrprism.core.errors import InputError
from mrprism.layouts import DATASETS

read = DATASETS["monai"]


def tree(root: Path, **document: Any) -> Path:
    for name in ("a", "b"):
        png(root / f"imagesTr/{name}.png", picture(len(name)))
        for number, rater in enumerate(("ann", "bob")):
            png(root / f"labelsTr/{name}_{rater}.png", blob(number).astype(np.uint8) * 255)
    path = root / "dataset.json"
    path.write_text(json.dumps({"name": "cells", "numTraining": 2, **document}))
    return path


def item(name: str, **keys: Any) -> dict[str, Any]:
    return {"image": f"./imagesTr/{name}.png", **keys}


def test_a_key_for_each_rater(tmp_path: Path) -> None:
    both = {"label_ann": "labelsTr/a_ann.png", "label_bob": "./labelsTr/a_bob.png"}
    one = {"label_ann": None, "label_bob": "labelsTr/b_bob.png", "label": "gone.png", "fold": 0}
    path = tree(
        tmp_path,
        training=[item("a", patient=7, **both)],
        validation=[item("b", **one)],
        test=["imagesTr/c.png"],
    )
    source = read(path, raters="label_*", group="patient", structure="cell")
    found = cases(source)
    assert (source.task.raters, source.task.structures) == (("ann", "bob"), ("cell",))
    assert {name: s.split for name, s in found.items()} == {"a": "train", "b": "val"}
    assert [s.group for s in found.values()] == ["7", None]
    np.testing.assert_array_equal(found["a"].masks[:, 0], [blob(0), blob(1)])
    np.testing.assert_array_equal(found["b"].rated, [[False], [True]])
    assert source.notes == ["1 images of 'test' have no masks and were left out"]
    np.testing.assert_array_equal(cases(read(tmp_path, raters="label_*"))["a"].masks, found["a"].masks)


def test_an_item_for_each_rater(tmp_path: Path) -> None:
    items = [
        item("a", label="labelsTr/a_bob.png", reader="bob"),
        item("b", label="labelsTr/b_bob.png", reader="bob"),
        item("a", label="labelsTr/a_ann.png", reader="ann"),
    ]
    found = cases(read(tree(tmp_path, training=items), rater="reader"))
    np.testing.assert_array_equal(found["a"].masks[:, 0], [blob(0), blob(1)])
    np.testing.assert_array_equal(found["b"].rated, [[False], [True]])
    tree(tmp_path, training=[*items, items[0]])
    with pytest.raises(InputError, match=r"has two masks of '.*a\.png' by 'bob'"):
        read(tmp_path, rater="reader")


def test_a_list(tmp_path: Path) -> None:
    listed = ["labelsTr/a_ann.png", "labelsTr/a_bob.png"]
    path = tree(tmp_path, training=[item("a", label=listed), item("b", label=[None, listed[1]])])
    source = read(path, raters="label")
    found = cases(source)
    assert source.task.raters == ("rater 1", "rater 2")
    np.testing.assert_array_equal(found["b"].rated, [[False], [True]])
    tree(tmp_path, training=[item("a", label=listed[0])])
    with pytest.raises(InputError, match="expected a list, one mask a rater"):
        read(path, raters="label")


def test_channels_and_label_maps_of_volumes(tmp_path: Path) -> None:
    affine = np.diag([1, 1, 3.0, 1])
    labels = np.random.default_rng(0).integers(0, 3, (6, 5, 4)).astype(np.uint8)
    for folder in ("p1", "p2"):
        for name in ("t1", "t2"):
            nifti(tmp_path / folder / f"{name}.nii.gz", picture(len(folder), (6, 5, 4)), affine)
        nifti(tmp_path / folder / "ann.nii.gz", labels, affine)
    items = [
        {"image": [f"{p}/t1.nii.gz", f"{p}/t2.nii.gz"], "label_ann": f"{p}/ann.nii.gz"} for p in ("p1", "p2")
    ]
    (tmp_path / "list.json").write_text(json.dumps({"training": items}))
    source = read(tmp_path, raters="label_*", labels="organ:1+2,tumour:2")
    found = cases(source)
    assert list(found) == ["p1/t1", "p2/t1"]
    assert (source.task.channels, source.image_format) == (2, "nifti")
    np.testing.assert_array_equal(found["p2/t1"].masks[0, 1].T, labels == 2)
    assert found["p2/t1"].spacing_mm == (3, 1, 1)
    nifti(tmp_path / "p1/ann.nii.gz", labels, np.diag([1, 1, 2.0, 1]))
    with pytest.raises(InputError, match="lies in another place than its image"):
        cases(read(tmp_path, raters="label_*", labels="organ:1+2,tumour:2"))


@pytest.mark.parametrize(
    ("document", "options", "says"),
    [
        ({"training": []}, {}, "a datalist does not say where its raters are"),
        ({}, {"rater": "r"}, "is not a MONAI datalist"),
        ({"training": {}}, {"rater": "r"}, "has no list under 'training'"),
        ({"training": [3]}, {"rater": "r"}, "has '3' under 'training'"),
        ({"training": [item("a")]}, {"rater": "r"}, "has an item without 'r'"),
        ({"training": [{"label_x": "a"}]}, {"raters": "label_*"}, "has an item without 'image'"),
        ({"training": [item("a")]}, {"raters": "label_*"}, r"has no mask under 'label_\*'"),
        ({"training": [item("a", label_x=3)]}, {"raters": "label_*"}, "where the name of a file is expected"),
        ({"training": [item("a", label_x="../b.png")]}, {"raters": "label_*"}, "not a path inside"),
        ({"training": [item("a", label_x="/etc/b.png")]}, {"raters": "label_*"}, "not a path inside"),
        ({"training": [item("a", label_x=["a", "b"])]}, {"raters": "label_*"}, "has 2 files of 'x'"),
        (
            {"training": [item("a", label_x="a")], "test": [item("a", label_x="a")]},
            {"raters": "label_*"},
            "both in train and in test",
        ),
    ],
)
def test_faults(tmp_path: Path, document: dict[str, Any], options: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read(tree(tmp_path, **document), **options)


def test_what_was_told_and_is_not_there(tmp_path: Path) -> None:
    both = {"label_ann": "labelsTr/a_ann.png", "label_bob": "labelsTr/a_bob.png"}
    path = tree(tmp_path, training=[item("a", patient={"id": 1}, **both)], testing=[item("b", **both)])
    with pytest.raises(InputError, match="has no item with 'pateint'"):
        read(path, raters="label_*", group="pateint")
    with pytest.raises(InputError, match=r"'patient' of an item in .* expected a name"):
        read(path, raters="label_*", group="patient")
    ledger = read(path, raters="label_*").ledger
    assert ledger is not None
    assert [(left.what, left.why) for left in ledger.left] == [
        ("'testing' of 'dataset.json'", "is none of training, validation, test")
    ]
    items = [item("a", label="labelsTr/a_ann.png", reader={"id": 1})]
    with pytest.raises(InputError, match=r"'reader' of an item in .* expected a name"):
        read(tree(tmp_path, training=items), rater="reader")
