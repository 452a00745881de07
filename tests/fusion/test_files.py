"""Mask files fused block by block."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest
from PIL import Image

from mrprism.cli import call
from mrprism.cli.fusing import fuse_masks
from mrprism.core.errors import InputError
from mrprism.core.patterns import count_patterns
from mrprism.fusion import BY_DISTANCE, FUSIONS
from mrprism.fusion.files import RULES, fuse_files
from mrprism.images.streams import NiftiMask

AFFINE = np.array([[-0.7, 0, 0, 10], [0, 0.7, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]])


def volumes(raters=4):
    rng = np.random.default_rng(0)
    x, y, z = np.ogrid[:20, :21, :22]
    return np.stack(
        [
            (x - 10 - rng.normal()) ** 2 + (y - 9) ** 2 + (z - 11 - rng.normal()) ** 2
            < rng.uniform(5, 8) ** 2
            for _ in range(raters)
        ]
    )


def save(path, volume, affine=AFFINE, dtype=np.uint8, value=1):
    nibabel.save(nibabel.Nifti1Image((volume * value).astype(dtype), affine), path)
    return path


@pytest.fixture
def saved(tmp_path):
    return [save(tmp_path / f"{name}.nii.gz", v) for name, v in zip("abcd", volumes(), strict=True)]


@pytest.mark.parametrize("method", FUSIONS)
def test_files_give_what_arrays_give(tmp_path, saved, method):
    fused = fuse_files(saved, method, tmp_path / "out")
    options = {"spacing_mm": (0.7, 0.7, 2.5)} if method in BY_DISTANCE else {}
    expected = FUSIONS[method](volumes()[:, None], np.ones((4, 1), bool), **options)
    chance = nibabel.load(fused.probability)
    # where two voxels are equally near, the order of axes decides which one is taken
    far = 5e-3 if method == "outline" else 1e-6
    np.testing.assert_allclose(np.asarray(chance.dataobj), expected.probability[0], atol=far)
    assert chance.get_data_dtype() == np.float32
    mask = nibabel.load(fused.mask)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), expected.probability[0] > 0.5)
    assert mask.get_data_dtype() == np.uint8
    for image in (mask, chance):
        np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    assert fused.inside == (expected.probability[0] > 0.5).sum()
    rates = fused.counts / fused.counts.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(rates, expected.confusion[:, 0], atol=max(far, 1e-5))
    assert method in RULES or method in BY_DISTANCE


def test_any_value_any_type_and_no_compression(tmp_path):
    one, two = volumes(2)
    paths = [
        save(tmp_path / "a.nii", one, dtype=np.float32, value=1.0),
        save(tmp_path / "b.nii", two, dtype=np.int16, value=255),
    ]
    fused = fuse_files(paths, "majority", tmp_path / "out")
    assert fused.mask.name == "consensus.nii"
    np.testing.assert_array_equal(np.asarray(nibabel.load(fused.mask).dataobj), one & two)
    assert fused.ties == (one ^ two).sum()


def test_a_stream_reads_as_the_array_in_blocks(tmp_path):
    volume = volumes(1)[0]
    stream = NiftiMask(save(tmp_path / "a.nii.gz", volume))
    table = count_patterns([stream, stream], block=50)
    assert table.pixels == volume.size
    np.testing.assert_array_equal(table.volumes()[0], [(~volume).sum(), volume.sum()])
    np.testing.assert_array_equal(stream[(slice(0, 20), slice(0, 21), slice(3, 5))], volume[:, :, 3:5])
    stream.close()


def test_empty_masks_give_an_empty_consensus(tmp_path):
    paths = [save(tmp_path / f"{n}.nii.gz", np.zeros((5, 6, 7))) for n in "ab"]
    fused = fuse_files(paths, "staple", tmp_path / "out")
    assert fused.inside == 0
    assert not np.asarray(nibabel.load(fused.probability).dataobj).any()


def test_png_files(tmp_path):
    masks = volumes(3)[..., 11]
    paths = []
    for r, mask in enumerate(masks):
        paths.append(tmp_path / f"{r}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(paths[-1])
    fused = fuse_files(paths, "majority", tmp_path / "out")
    np.testing.assert_array_equal(np.asarray(Image.open(fused.mask)) == 255, masks.sum(axis=0) >= 2)
    assert np.asarray(Image.open(fused.probability)).max() == 65535


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("shape", r"'.*a\.nii\.gz' has \(20, 21, 22\), '.*b\.nii\.gz' has \(20, 21, 20\)"),
        ("spacing", r"'.*a\.nii\.gz' and '.*b\.nii\.gz'.*spacing.*2\.5.*3"),
        ("origin", r"'.*a\.nii\.gz' and '.*b\.nii\.gz'.*origin.*30.*35"),
        ("direction", r"'.*a\.nii\.gz' and '.*b\.nii\.gz'.*direction"),
        ("values", r"'.*b\.nii\.gz' holds the values 1 and 2 besides 0"),
        ("fraction", r"'.*b\.nii\.gz' holds 0\.5, which is not a whole number"),
        ("cut", r"'.*b\.nii\.gz' is (broken or )?cut short"),
        ("checksum", r"'.*b\.nii\.gz' is broken: CRC"),
        ("text", r"'.*b\.nii\.gz' is broken or not a NIfTI file"),
        ("missing", r"'.*b\.nii\.gz' does not exist"),
        ("four axes", r"'.*b\.nii\.gz' has the shape \(20, 21, 22, 2\)"),
    ],
)
def test_bad_files_are_named_and_nothing_is_left(tmp_path, saved, change, sentence):
    volume, path, affine = volumes()[1].astype(np.float32), saved[1], AFFINE.copy()
    if change == "shape":
        volume = volume[..., :20]
    elif change == "spacing":
        affine[2, 2] = 3
    elif change == "origin":
        affine[2, 3] = 35
    elif change == "direction":
        affine[0, 0] *= -1
    elif change == "values":
        volume[10, 10, 10] = 2
    elif change == "fraction":
        volume *= 0.5
    elif change == "four axes":
        volume = np.stack([volume, volume], axis=-1)
    save(path, volume, affine, np.float32)
    content = path.read_bytes()
    if change == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif change == "checksum":
        path.write_bytes(content[:-8] + bytes(4) + content[-4:])
    elif change == "text":
        path.write_bytes(gzip.compress(b"no image" * 100))
    elif change == "missing":
        path.unlink()
    with pytest.raises(InputError, match=sentence):
        fuse_files(saved, "staple", tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_command(tmp_path, saved, capsys):
    names = [str(path) for path in saved]
    out = str(tmp_path / "out")
    assert call(["fuse", "--masks", *names, "--method", "majority", "--out", out]) == 0
    assert "pixels where the vote was even" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "consensus.nii.gz",
        "probability.nii.gz",
        "skill.csv",
        "skill.json",
    }
    assert call(["fuse", "--masks", names[0], "--out", out]) == 2
    assert "one rater only" in capsys.readouterr().err
    assert call(["fuse", "--masks", *names, "--method", "vote", "--out", out]) == 2
    assert "unknown method 'vote'" in capsys.readouterr().err


def test_a_mask_given_twice_and_dicom(saved, tmp_path):
    with pytest.raises(InputError, match=r"a.nii.gz' is given twice"):
        fuse_masks([saved[0], saved[1], saved[0]], "majority", tmp_path / "out")
    with pytest.raises(InputError, match=r"is DICOM, .* mrprism import dicom-seg"):
        fuse_files([saved[0], tmp_path / "ann.dcm"], "majority", tmp_path)
