"""LIDC in pickles: numbers are read, anything else stops the reading before it could act."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trees import blob, cases, picture

from mrprism.core.errors import InputError
from mrprism.layouts import DATASETS

read = DATASETS["lidc"]


def case(seed: int, **more: Any) -> dict[str, Any]:
    masks = [(blob(seed + k) & (k != 2)).astype(np.uint8) for k in range(4)]
    return {"image": picture(seed), "masks": masks, "series_uid": "pid_0007", **more}


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_medical_matting(tmp_path: Path, protocol: int) -> None:
    content = {"n_1": case(1, alpha=picture(9)), "n_2": case(2, alpha=picture(9))}
    with zipfile.ZipFile(tmp_path / "lidc_attributes.zip", "w") as archive:
        archive.writestr("lidc_attributes.pickle", pickle.dumps(content, protocol))
    with pytest.raises(InputError, match="is a pickle, which can run code"):
        read(tmp_path / "lidc_attributes.zip")
    source = read(tmp_path / "lidc_attributes.zip", pickle="yes")
    found = cases(source)
    assert source.task.anonymous
    np.testing.assert_array_equal(found["n_2"].masks[:, 0], np.array(content["n_2"]["masks"], bool))
    assert found["n_2"].rated.all() and not found["n_2"].masks[2].any()
    np.testing.assert_allclose(found["n_2"].image[0], picture(2) / 255, atol=1e-6)
    assert found["n_2"].group == "pid_0007"
    assert "'alpha' is made from the masks and was left out" in source.notes


def test_intensities_from_0_to_1_in_a_folder(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((12, 10))
    (tmp_path / "data_lidc.pickle").write_bytes(pickle.dumps({"a": case(1, image=image)}))
    np.testing.assert_allclose(cases(read(tmp_path, pickle="yes"))["a"].image[0], image, atol=1e-6)


class Attack:
    """What a pickle can do: call anything."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1], "is not a pickle of LIDC: expected a dictionary of cases"),
        ({"a": {"image": picture(1)}}, "has no 'masks'"),
        ({"a": case(1, masks=[blob(1)] * 3)}, "has 3 masks; expected 4"),
        ({"a": case(1, masks=[picture(1)] * 4)}, "a mask with other values than 0 and 1"),
        ({"a": case(1, masks=[blob(1).T] * 4)}, "expected the same"),
        ({"a": case(1, image="x")}, "has no image of one plane"),
        ({"a": case(1, image=np.array([[None]]))}, "has no image of one plane"),
        ({"a": case(1, image=np.zeros((0, 5)))}, "is not a case; expected an image with pixels"),
        ({"a": case(1, masks=4)}, "is not a case; expected an image with pixels, a list of masks"),
    ],
)
def test_faults(tmp_path: Path, content: Any, says: str) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=says):
        cases(read(tmp_path / "x.pkl", pickle="yes"))


@pytest.mark.parametrize("kind", ["<f4", ">f8", ">i2", "|b1", "<u1", "<f2"])
def test_every_kind_of_number(tmp_path: Path, kind: str) -> None:
    """Numbers of either byte order, by rows or by columns, and masks of any kind."""
    image = np.asfortranarray(picture(1) > 100).astype(kind, order="K")
    masks = [np.asfortranarray(blob(k)).astype(kind, order="K") for k in range(4)]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": case(1, image=image.astype("f8"), masks=masks)}))
    found = cases(read(tmp_path / "x.pkl", pickle="yes"))["a"]
    np.testing.assert_array_equal(found.image[0], image)
    np.testing.assert_array_equal(found.masks[:, 0], np.array(masks) != 0)


def test_other_forms_of_a_case(tmp_path: Path) -> None:
    """All masks in one array, bytes for a text, and beside them what is not read."""
    masks = np.array([blob(k) for k in range(4)])
    content = {"a": case(1, masks=masks, series_uid=b"1.3", alpha=np.array(["x", "y"]))}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    found = cases(read(tmp_path / "x.pkl", pickle="yes"))["a"]
    np.testing.assert_array_equal(found.masks[:, 0], masks)
    assert found.group == "1.3"


def test_a_broken_array_is_refused_and_crashes_nothing(tmp_path: Path) -> None:
    content = pickle.dumps({"a": case(1)}, 4)
    rows = b"K\x0cK\x0a\x86"  # the shape, 12 x 10
    assert content.count(rows) == 5
    (tmp_path / "x.pkl").write_bytes(content.replace(rows, b"K\x7fK\x7f\x86"))
    with pytest.raises(InputError, match=r"x\.pkl: a' holds a broken array: cannot reshape"):
        cases(read(tmp_path / "x.pkl", pickle="yes"))
    (tmp_path / "x.pkl").write_bytes(content.replace(b"\x8c\x02u1", b"\x8c\x02O8"))
    with pytest.raises(InputError, match="has no image of one plane"):
        cases(read(tmp_path / "x.pkl", pickle="yes"))


def test_code_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": case(1, alpha=Attack(tmp_path / "hit"))}))
    with pytest.raises(InputError, match=r"x\.pkl' holds 'posix\.mkdir', which could run code"):
        cases(read(tmp_path / "x.pkl", pickle="yes"))
    assert not (tmp_path / "hit").exists()
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04cnumpy\nndarray\nJ\x00\x00\x00\x7f\x85R.")
    with pytest.raises(InputError, match="is broken or not a pickle"):
        cases(read(tmp_path / "x.pkl", pickle="yes"))
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04}r\xff\xff\xff\x0f.")
    with pytest.raises(InputError, match="asks for room for 268435455 things in its first 3 bytes"):
        cases(read(tmp_path / "x.pkl", pickle="yes"))
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": case(1)})[:-40])
    with pytest.raises(InputError, match="is broken or not a pickle"):
        cases(read(tmp_path / "x.pkl", pickle="yes"))
