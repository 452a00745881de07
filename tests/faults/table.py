"""Bad inputs: what is done to a good one, the command it is given to, and the sentence that must come.

`given` names a good input of `inputs.py`; without a command it gets its own, from `COMMANDS`. In a command
{in} is the input and {out} a folder that is not there. A sentence may have `...` in it, for what is in between.
"""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faults import inputs, pixel_faults
from faults.hostile import HOSTILE
from faults.spoil import (
    Spoil,
    archive,
    both,
    byte,
    colour,
    copy,
    cut,
    edit,
    edit_text,
    giant,
    link,
    linked_away,
    member,
    move,
    nifti_values,
    nothing,
    paint,
    put,
    remove,
    rename,
    repaint,
    resize,
    text,
    write,
    zipped,
)


@dataclass(frozen=True)
class Bad:
    given: str  # a good input
    name: str  # what is wrong with it
    spoil: Spoil
    says: str
    command: str = ""
    stays: str = ""  # what a command that goes on later has finished, and keeps


def case(**changes: Any) -> Spoil:
    """The first case of a data set has other entries."""
    return edit("dataset.json", lambda d: d["cases"][0].update(changes))


def dataset(**changes: Any) -> Spoil:
    return edit("dataset.json", lambda d: d.update(changes))


def annotation(**changes: Any) -> Spoil:
    return edit("ann.json", lambda d: d["annotations"][0].update(changes))


def mark(**changes: Any) -> Spoil:
    return edit("export.json", lambda d: d[0]["annotations"][0]["result"][0].update(changes))


IMAGE, MASK, VOLUME = "images/case0.png", "masks/ann/case0_disc.png", "images/scan0.nii.gz"

DATA_SETS = [
    Bad("squares", "no manifest", remove("dataset.json"), "has no dataset.json; expected a mrprism data set"),
    Bad("squares", "an empty manifest", write("dataset.json", ""), "dataset.json' is not valid JSON"),
    Bad("squares", "a manifest cut short", cut("dataset.json"), "dataset.json' is not valid JSON"),
    Bad("squares", "bytes for a manifest", write("dataset.json", b"\xff\xfe\x00"), "dataset.json' cannot be read"),
    Bad("squares", "braces without end", write("dataset.json", "[" * 99_999), "dataset.json' is not valid JSON"),
    Bad("squares", "a list for a manifest", write("dataset.json", "[]"), "Input should be a valid dictionary"),
    Bad("squares", "a key twice", text("dataset.json", '"channels"', '"name": "x", "channels"'), "the key 'name' appears twice"),
    Bad("squares", "another format", dataset(format="other/9"), "format: Input should be 'mrprism-dataset/1'"),
    Bad("squares", "a misspelt key", case(mask={}), "mask of case 'case0': Extra inputs are not permitted"),
    Bad("squares", "no cases", dataset(cases=[]), "the data set is empty: no cases"),
    Bad("squares", "a case twice", edit("dataset.json", lambda d: d["cases"].append(d["cases"][0])), "case 'case0' appears twice"),
    Bad("squares", "a rater twice", dataset(raters=["ann", "ann", "bob", "cy"]), "rater 'ann' is listed twice"),
    Bad("squares", "an unknown rater", dataset(raters=["ann", "bob"]), "has a mask of the unknown rater 'cy'; known: ann, bob"),
    Bad("squares", "an unknown structure", dataset(structures=["disc"]), "has a mask of the unknown structure 'cup'; known: disc"),
    Bad("squares", "a path upwards", case(image="../x.png"), "image '../x.png' of case 'case0' leaves the data set's folder"),
    Bad("squares", "no image and no mask", edit("dataset.json", lambda d: d["cases"].append({"name": "bare"})), "case 'bare' has neither an image nor a mask"),
    Bad("squares", "an image and no channel", dataset(channels=[]), "has an image, but channels is empty"),
    Bad("squares", "a list of no images", case(image=[]), "image"),
    Bad("squares", "one case without an image, to train on", case(image=None), "training needs images, but case 'case0'", "train {in} --out {out}"),
    Bad("squares", "one case without an image, to compare on", case(image=None), "comparing needs images, but case 'case0'", "compare {in} --out {out}"),
    Bad("squares", "a second reading without a first", case(masks={"bob": {"disc": "masks/bob/case0_disc.png"}}, readings={"ann": [{"disc": "masks/ann/case0_disc.png"}]}), "a second reading by 'ann' and no first"),
    Bad("squares", "a second reading by nobody", case(readings={"zoe": [{"disc": "masks/ann/case0_disc.png"}]}), "unknown rater 'zoe'"),
    Bad("squares", "a second reading of an unknown structure", case(readings={"ann": [{"lens": "masks/ann/case0_disc.png"}]}), "unknown structure 'lens'"),
    Bad("squares", "a second reading that is not there", case(readings={"ann": [{"disc": "gone.png"}]}), "mask 'gone.png' of case 'case0' does not exist"),
    Bad("squares", "a second reading that leads out", case(readings={"ann": [{"disc": "../gone.png"}]}), "leaves the data set's folder"),
    Bad("squares", "a second reading that is no list", case(readings={"ann": {"disc": "masks/ann/case0_disc.png"}}), "readings.ann of case 'case0'"),
    Bad("squares", "no second reading in the list", case(readings={"ann": []}), "readings.ann of case 'case0'"),
    Bad("squares", "a completion for no shell", nothing, "unknown shell 'bsh'; known: bash", "--show-completion bsh"),
    Bad("squares", "readings that no folder has", nothing, "no folder ends in '.9'", "import folder {in}/masks {out} -o readings=.9"),
    Bad("squares", "an absolute path", case(image="/etc/passwd"), "image '/etc/passwd' of case 'case0' is not a relative path"),
    Bad("squares", "a drive letter", case(image="C:/x.png"), "is not a relative path with forward slashes"),
    Bad("squares", "a null byte in a path", case(image="a\0.png"), "is not a relative path with forward slashes"),
    Bad("squares", "a path without end", case(image="a" * 5000 + ".png"), "image 'aaa...' of case 'case0' does not exist"),
    Bad("squares", "a path of a folder", case(image="images"), "images' holds no DICOM slice"),
    Bad("squares", "a link to a file outside", link(IMAGE, "itself"), "leaves the data set's folder through a link"),
    Bad("squares", "a link for a folder", both(remove("masks/bob"), lambda root: (root / "masks/bob").symlink_to("/")), "leaves the data set's folder through a link"),
    Bad("squares", "spacing below zero", case(spacing_mm=[1, -1]), "spacing_mm.1 of case 'case0': Input should be greater than 0, found -1"),
    Bad("squares", "spacing of three axes", case(spacing_mm=[1, 1, 1]), "case 'case0' has 3 numbers in spacing_mm; expected 2"),
    Bad("squares", "a window that falls", dataset(window=[5, 1]), "the window 5 to 1 is in the wrong order; expected two numbers"),
    Bad("squares", "a split nobody knows", case(split="training"), "split of case 'case0': Input should be 'train', 'val' or 'test'"),
    Bad("squares", "two images of one channel", case(image=[IMAGE, IMAGE]), "has 2 image files; expected one for each of the 1 channels"),
    Bad("squares", "a label map without labels", case(masks={"ann": MASK}), "labels does not say which values are disc, cup"),
    Bad("squares", "votes without voters", case(votes={"disc": MASK}), "votes and voters belong together"),
    Bad("squares", "more votes than voters", case(votes={"disc": MASK, "cup": MASK}, voters=3), "case0_disc.png' of case 'case0' reach 255; expected 0 to 3"),
    Bad("squares", "votes that lack a structure", case(votes={"disc": MASK}, voters=3), "votes of case 'case0' lack the structure 'cup'"),
    Bad("squares", "a reference that lacks a structure", case(reference={"disc": MASK}), "reference of case 'case0' lacks cup; expected every structure"),
    Bad("squares", "an image that is not there", remove(IMAGE), "image 'images/case0.png' of case 'case0' does not exist"),
    Bad("squares", "a mask that is not there", remove(MASK), "mask 'masks/ann/case0_disc.png' of case 'case0' does not exist"),
]  # fmt: skip

FILES = [
    Bad("squares", "an image cut short", cut(IMAGE), "case0.png' is broken or not a PNG file"),
    Bad("squares", "an empty image", write(IMAGE, b""), "case0.png' is broken or not a PNG file"),
    Bad("squares", "text for an image", write(IMAGE, "dear all"), "case0.png' is broken or not a PNG file"),
    Bad("squares", "a wrong checksum in an image", byte(IMAGE, 60), "case0.png' is broken or not a PNG file"),
    Bad("squares", "an image of a billion pixels", giant(IMAGE), "case0.png' ... more than MRPRISM_MAX_PIXELS"),
    Bad("squares", "an image in colour", colour(IMAGE), "has 3 channels; expected 1: grey"),
    Bad("squares", "a mask of another size", resize(MASK), "case0_disc.png' of case 'case0' has the size 5 × 5, its image ... 20 × 20; expected the same"),
    Bad("squares", "a grey mask", paint(MASK, [0, 17, 255]), "case0_disc.png' has grey values 0, 17, 255; expected 0 and at most one other value"),
    Bad("squares", "a mask in colour", colour(MASK), "case0_disc.png' has 3 different channels; expected one value per pixel"),
    Bad("squares", "a mask of text", write(MASK, "<svg/>"), "case0_disc.png' is broken or not a PNG file"),
    Bad("squares", "a mask of a kind nobody reads", both(rename(MASK, "case0_disc.xcf"), edit("dataset.json", lambda d: d["cases"][0]["masks"]["ann"].update(disc=MASK.replace("png", "xcf")))), "case0_disc.xcf': expected one of .png"),
    Bad("volumes", "a volume cut short", cut(VOLUME), "scan0.nii.gz' is cut short", "check {in}"),
    Bad("volumes", "a wrong checksum in a volume", byte(VOLUME, -6), "scan0.nii.gz' is broken: CRC check failed", "check {in}"),
    Bad("volumes", "a volume whose header asks for more", put(VOLUME, 42, struct.pack("<h", 30_000)), "scan0.nii.gz' ... asks for", "check {in}"),
    Bad("volumes", "a volume of a billion voxels", put(VOLUME, 42, struct.pack("<hhh", *[30_000] * 3)), "more than MRPRISM_MAX_PIXELS", "check {in}"),
    Bad("volumes", "a volume without axes", put(VOLUME, 40, struct.pack("<h", 0)), "scan0.nii.gz' ... expected two to five axes", "check {in}"),
    Bad("volumes", "a volume with no extent", put(VOLUME, 42, struct.pack("<h", -3)), "scan0.nii.gz' ... expected two to five axes, none empty", "check {in}"),
    Bad("volumes", "spacing below zero in a header", put(VOLUME, 80, struct.pack("<f", -2.0)), "scan0.nii.gz' gives two sizes for its voxels", "check {in}"),
    Bad("volumes", "spacing that is not a number", put(VOLUME, 80, struct.pack("<f", float("nan"))), "scan0.nii.gz' gives two sizes for its voxels", "check {in}"),
    Bad("volumes", "voxels of complex numbers", put(VOLUME, 70, struct.pack("<hh", 32, 64)), "scan0.nii.gz' holds complex64 values; expected whole numbers or floats", "check {in}"),
    Bad("volumes", "voxels of no known type", put(VOLUME, 70, struct.pack("<h", 999)), "scan0.nii.gz' is broken or not a NIFTI file", "check {in}"),
    Bad("volumes", "voxels that are not numbers", nifti_values(VOLUME, lambda a: np.where(a > 0.5, np.nan, a).astype(np.float32)), "scan0.nii.gz' has ... NaN or infinite pixels; expected finite values", "check {in}"),
    Bad("volumes", "a bomb behind a header", lambda root: (root / VOLUME).write_bytes(gzip.compress(gzip.decompress((root / VOLUME).read_bytes()) + bytes(200_000_000), 1)), "scan0.nii.gz' holds far more bytes than its header asks for", "check {in}"),
    Bad("volumes", "a PNG named NIfTI", write(VOLUME, b"\x89PNG\r\n\x1a\n" + bytes(99)), "scan0.nii.gz' is broken or not a NIfTI file: no NIfTI header", "check {in}"),
    Bad("volumes", "a mask that lies elsewhere", move("masks/bob/scan0_organ.nii.gz"), "scan0_organ.nii.gz' of case 'scan0' lies in another place than its image ... origin", "check {in}"),
    Bad("volumes", "a mask with fewer slices", nifti_values("masks/bob/scan0_organ.nii.gz", lambda a: a[..., :4]), "has the size 4 × 10 × 9, its image ... 6 × 10 × 9", "check {in}"),
    Bad("volumes", "a mask of fractions", nifti_values("masks/bob/scan0_organ.nii.gz", lambda a: (a * 0.5).astype(np.float32)), "holds values that are not whole numbers, such as 0.5; expected exact labels", "check {in}"),
]  # fmt: skip

LAYOUTS = [
    Bad("folder", "no folder of images", rename("images", "pictures"), "if 'pictures' holds the images, -o images=pictures says so"),
    Bad("folder", "no images in it", both(remove("images/a.png"), remove("images/b.png")), "images' has no images"),
    Bad("folder", "no raters", both(remove("ann"), remove("bob")), "has no folder of masks beside 'images'"),
    Bad("folder", "a folder of other things", write("notes/plan.txt", "x"), "notes' holds no mask but 'plan.txt'; expected beside 'images' a folder of masks"),
    Bad("folder", "a mask without an image", copy("ann/a.png", "ann/c.png"), "ann' has a mask 'c.png' for which there is no image in 'images'"),
    Bad("folder", "names that differ in case only", copy("ann/a.png", "ann/A.png"), "differ in case only; expected one of them"),
    Bad("folder", "names that differ in ending only", copy("ann/a.png", "ann/a.tif"), "have the same name but for the ending"),
    Bad("folder", "a mask of another size", resize("bob/b.png"), "b.png' has the size 5 × 5, its image ... 12 × 10"),
    Bad("folder", "a grey mask", paint("bob/b.png", [0, 3, 9]), "b.png' has grey values 0, 3, 9"),
    Bad("folder", "an image cut short", cut("images/b.png"), "b.png' is broken or not a PNG file"),
    Bad("folder", "one image in colour", colour("images/b.png"), "b.png' has 3 channels; others have 1"),
    Bad("folder", "a group that is no pattern", nothing, "group '(' is not a regular expression", "import folder {in} {out} -o group=("),
    Bad("folder", "a group that finds nobody", nothing, "group 'p(x)' finds no patient in the case 'a'", "import folder {in} {out} -o group=p(x)"),
    Bad("folder", "a window that falls", nothing, "window 9 to 1 is in the wrong order; expected two numbers, the smaller first", "import folder {in} {out} -o window=9:1"),
    Bad("folder", "a window of words", nothing, "window 'wide' is not understood; expected LOW:HIGH", "import folder {in} {out} -o window=wide"),
    Bad("label_maps", "a value without a name", paint("ann/a.png", [0, 1, 7]), "a.png' holds the values 7; expected 0, 1, 2"),
    Bad("label_maps", "labels that are not understood", nothing, "labels 'disc=1' are not understood", "import folder {in} {out} -o labels=disc=1"),
    Bad("coco", "no JSON file", both(remove("ann.json"), remove("bob.json")), "has no JSON file"),
    Bad("coco", "JSON cut short", cut("ann.json"), "ann.json' is not valid JSON"),
    Bad("coco", "no pictures listed", edit("ann.json", lambda d: d.pop("images")), "ann.json' is not a COCO file: it has no 'images'"),
    Bad("coco", "a picture that is not there", remove("images/a.png"), "the picture 'a.png' is not in"),
    Bad("coco", "a picture upwards", edit("ann.json", lambda d: d["images"][0].update(file_name="../a.png")), "the picture '../a.png' is not a path inside"),
    Bad("coco", "a picture of another size", edit("ann.json", lambda d: d["images"][0].update(height=99)), "ann.json' says 99 × 10 for a picture of 12 × 10"),
    Bad("coco", "a polygon of two points", annotation(segmentation=[[1, 2, 3, 4]]), "annotation 7 ... has a polygon that is not three or more pairs of numbers"),
    Bad("coco", "a polygon of words", annotation(segmentation=[["a", "b", "c", "d", "e", "f"]]), "annotation 7 ... ann.json' is 'a'; expected a number"),
    Bad("coco", "a polygon without bounds", annotation(segmentation=[[1, 2, 3, float("inf"), 5, 6]]), "annotation 7 ... is inf; expected a finite number"),
    Bad("coco", "runs of another size", annotation(segmentation={"size": [10, 12], "counts": [120]}), "annotation 7 ... has runs that are not for a picture of 12 × 10"),
    Bad("coco", "runs that end early", annotation(segmentation={"size": [12, 10], "counts": [100]}), "annotation 7 ... add up to 100; expected 120 pixels"),
    Bad("coco", "runs of words", annotation(segmentation={"size": [12, 10], "counts": ["a"]}), "a run of annotation 7 ... is 'a'; expected a whole number"),
    Bad("coco", "runs with strange letters", annotation(segmentation={"size": [12, 10], "counts": "!!"}), "run lengths hold the character '!', which cannot be there"),
    Bad("coco", "a segmentation of another kind", annotation(segmentation=5), "'segmentation' of annotation 7 ... is 5; expected polygons or runs"),
    Bad("coco", "an annotation without a rater", nothing, "annotation 7 in ... has no 'who'", "import coco {in} {out} -o rater=who"),
    Bad("cvat", "XML cut short", cut("ann.xml"), "ann.xml' is not valid XML"),
    Bad("cvat", "XML of something else", write("ann.xml", "<html/>"), "ann.xml' begins with 'html'; expected an export 'CVAT for images 1.1'"),
    Bad("cvat", "entities that grow", text("ann.xml", "<annotations>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>'), "ann.xml' declares a document type"),
    Bad("cvat", "an archive cut short", both(remove("ann.xml"), zipped("ann.zip", "annotations.xml", b"<a/>" * 99), cut("ann.zip")), "ann.zip' is broken"),
    Bad("cvat", "an archive of something else", zipped("cy.zip", "readme.txt", b"hello"), "cy.zip' has no annotations.xml"),
    Bad("cvat", "a bomb in an archive", zipped("cy.zip", "annotations.xml", b"<a/>", claims=600_000_000), "cy.zip' has 600000000 bytes of text, more than MRPRISM_MAX_TEXT"),
    Bad("cvat", "a picture of another size", text("ann.xml", 'height="12"', 'height="13"'), "ann.xml' says 13 × 10 for a picture of 12 × 10"),
    Bad("cvat", "a size of words", text("ann.xml", 'height="12"', 'height="tall"'), "the image 'a.png' in ... ann.xml' has the height 'tall'; expected a whole number"),
    Bad("cvat", "an order of words", text("ann.xml", 'z_order="0"', 'z_order="top"'), "has the z_order 'top'; expected a whole number"),
    Bad("cvat", "a shape without a label", text("ann.xml", '<polygon label="cell"', "<polygon"), "ann.xml' has a polygon that cannot be read: it has no label"),
    Bad("cvat", "a polygon of two points", text("ann.xml", "2,1;5,1;5,4;2,4", "2,1;5,1"), "ann.xml' has a polygon that cannot be read: fewer than three points"),
    Bad("cvat", "a mask that leaves its picture", text("ann.xml", 'left="1"', 'left="9"'), "ann.xml' has a mask that cannot be read: its box of 3 × 2 at 9, 6 leaves the picture"),
    Bad("cvat", "a mask whose runs end early", text("ann.xml", 'rle="2, 2, 2"', 'rle="2, 2"'), "the runs of a mask of 'cell' add up to 4; expected 6 pixels"),
    Bad("label_studio", "an object for a list", write("export.json", "{}"), "export.json' is not a Label Studio export: expected a list of tasks"),
    Bad("label_studio", "a task without a picture", edit("export.json", lambda d: d[0].update(data={"text": "hello"})), "task 1 in ... export.json' has no picture in its data; expected -o key="),
    Bad("label_studio", "nobody who completed it", edit("export.json", lambda d: d[0]["annotations"][0].pop("completed_by")), "export.json' has no 'completed_by'; expected an export of the kind 'JSON'"),
    Bad("label_studio", "a picture of another size", mark(original_height=99), "export.json' says 99 × 10 for a picture of 12 × 10"),
    Bad("label_studio", "a turned picture", mark(image_rotation=90), "a mark on the turned picture 'a' cannot be placed"),
    Bad("label_studio", "a polygon of words", mark(value={"points": "abc", "polygonlabels": ["cell"]}), "'points' of a polygon of 'cell' in ... export.json' is 'abc'; expected a list"),
    Bad("label_studio", "a brush cut short", mark(type="brushlabels", value={"rle": [0, 0, 1, 224, 56], "brushlabels": ["cell"]}), "export.json': a brush mark is cut short"),
    Bad("label_studio", "a brush for a planet", mark(type="brushlabels", value={"rle": [255] * 40, "brushlabels": ["cell"]}), "export.json': a brush mark holds 4294967295 values; expected 12 × 10 × 4"),
    Bad("nnunet", "no dataset.json", remove("dataset.json"), "dataset.json' does not exist"),
    Bad("nnunet", "labels with a gap", edit("dataset.json", lambda d: d.update(labels={"background": 0, "liver": 2})), "has the labels [2]; expected 1, 2, 3, ..."),
    Bad("nnunet", "a label without end", text("dataset.json", '"liver": 1', '"liver": 1e999'), "dataset.json' is inf; expected a finite number"),
    Bad("nnunet", "no background", edit("dataset.json", lambda d: d.update(labels={"liver": 1})), "must name the label 0 'background'"),
    Bad("nnunet", "labels of no image", remove("imagesTr/liver_1_0000.nii.gz"), "has no file like 'case_0000.nii.gz'"),
    Bad("nnunet", "a mask that lies elsewhere", move("labelsTr_bob/liver_1.nii.gz"), "lies in another place than its image ... origin"),
    Bad("nnunet", "a value without a name", nifti_values("labelsTr_bob/liver_1.nii.gz", lambda a: a * 5), "liver_1.nii.gz' holds the values 5; expected 0, 1"),
    Bad("nnunet", "a pattern that is none", rename("labelsTr_ann", "labelsTr"), "'(' is not a regular expression with one bracket", "import nnunet {in} {out} -o rater=("),
    Bad("bids", "no rater anywhere", nothing, "has no mask or dseg file with the entity 'acq-'", "import bids {in} {out} -o rater=acq"),
    Bad("bids", "a mask without an image", remove("sub-01/anat/sub-01_T1w.nii.gz"), "has no image in"),
    Bad("bids", "a mask that lies elsewhere", move("sub-01/anat/sub-01_label-lesion_desc-bob_mask.nii.gz"), "lies in another place than its image"),
    Bad("monai", "no raters named", nothing, "a datalist does not say where its raters are", "import monai {in} {out}"),
    Bad("monai", "a list without splits", write("dataset.json", '{"all": []}'), "is not a MONAI datalist: expected 'training', 'validation' or 'test' in it"),
    Bad("monai", "a path upwards", edit("dataset.json", lambda d: d["training"][0].update(image="../a.png")), "names '../a.png', which is not a path inside"),
    Bad("slicer", "a segmentation cut short", cut("ann/c.seg.nrrd", 0.95), "c.seg.nrrd' is cut short"),
    Bad("slicer", "a wrong checksum", byte("ann/c.seg.nrrd", -6), "c.seg.nrrd' is broken"),
    Bad("slicer", "a segmentation of nothing", write("ann/c.seg.nrrd", "NRRD0005\n"), "c.seg.nrrd' is broken or not an NRRD file: no header"),
    Bad("slicer", "a header that asks for more", text("ann/c.seg.nrrd", "sizes: 5 5 3", "sizes: 500 500 300"), "c.seg.nrrd' is cut short: its header asks for 75000000 bytes"),
    Bad("slicer", "a header that asks for a planet", text("ann/c.seg.nrrd", "sizes: 5 5 3", "sizes: 99999 99999 99999"), "more than MRPRISM_MAX_PIXELS"),
    Bad("slicer", "a header that asks for less", text("ann/c.seg.nrrd", "sizes: 5 5 3", "sizes: 5 5 2"), "it holds more than its header says"),
    Bad("slicer", "sizes below zero", text("ann/c.seg.nrrd", "sizes: 5 5 3", "sizes: -5 -5 3"), "c.seg.nrrd' has the sizes (-5, -5, 3) for 3 axes"),
    Bad("slicer", "a value of words", text("ann/c.seg.nrrd", "LabelValue:=1", "LabelValue:=one"), "segment 'organ' has a layer or value that is not a whole number"),
    Bad("slicer", "a file upwards", text("ann/c.seg.nrrd", "encoding: gzip", "data file: ../x.raw\nencoding: raw"), "c.seg.nrrd' ... '../x.raw'"),
    Bad("slicer", "a segmentation between voxels", text("ann/c.seg.nrrd", "(0.8,1.6,2)", "(0.5,1.6,2)"), "voxels beside the grid of its image"),
    Bad("slicer", "a segmentation outside", text("ann/c.seg.nrrd", "(0.8,1.6,2)", "(80,1.6,2)"), "segment 'organ' of ... reaches outside its image"),
    Bad("slicer", "a segmentation of no image", remove("images/c.nii.gz"), "c.seg.nrrd' by 'ann' has no image 'c' in 'images'"),
    Bad("bu_bil", "a set that is not there", nothing, "has no set '9'; it has 1", "import bu-bil {in} {out} --set 9"),
    Bad("bu_bil", "raters nobody knows", nothing, "unknown raters 'mob'; known: crowd, experts, persons, all", "import bu-bil {in} {out} --raters mob"),
    Bad("bu_bil", "an inverted mask", paint("set1/crowd/B01_c2.png", [255]), "B01_c2.png' seems inverted"),
    Bad("bu_bil", "a mask of another size", resize("set1/crowd/B01_c2.png"), "B01_c2.png' has the size (5, 5), its image"),
    Bad("bu_bil", "no layout of BU-BIL", rename("set1", "first"), "has no 'set1' or 'BU-BIL_Dataset1'; expected BU-BIL's layout"),
    Bad("bu_bil_original", "crowd masks without windows", remove("BU-BIL_Dataset1/crop_offsets.json"), "are windows cut from the images; expected"),
    Bad("bu_bil_original", "a window without a pixel", write("BU-BIL_Dataset1/crop_offsets.json", '{"B01": {"y": 0, "x": 0, "h": 5, "w": 0}}'), "has the window 0, 0, 5, 0 for 'b01'; expected one inside the image"),
    Bad("bu_bil_original", "a window beside the image", write("BU-BIL_Dataset1/crop_offsets.json", '{"B01": {"y": 0, "x": 900, "h": 5, "w": 5}}'), "the window 0, 900, 5, 5 of 'B01' reaches out of its image"),
    Bad("bu_bil_original", "a window of words", write("BU-BIL_Dataset1/crop_offsets.json", '{"B01": {"y": "top"}}'), "'y' of the window of 'B01' in ... crop_offsets.json' is 'top'; expected a number"),
    Bad("curvas", "no annotations", remove("UKCHLL001"), "has no folder with image.nii.gz and annotation_1.nii.gz"),
    Bad("curvas", "an unknown set", nothing, "unknown set 'x'; known: 2024, pdacvi", "import curvas {in} {out} --set x"),
    Bad("curvas", "a mask that lies elsewhere", move("UKCHLL001/annotation_2.nii.gz"), "annotation_2.nii.gz' lies in another place than its image"),
    Bad("curvas", "values between labels", nifti_values("UKCHLL001/annotation_2.nii.gz", lambda a: a * 0.9), "annotation_2.nii.gz' holds values that are not nearly whole numbers"),
    Bad("curvas", "values beyond labels", nifti_values("UKCHLL001/annotation_2.nii.gz", lambda a: a + 7), "annotation_2.nii.gz' holds the values"),
    Bad("drishti", "no table of splits", write("meta.json", '{"001": 5}'), "'001' in ... meta.json' is 5; expected an object"),
    Bad("drishti", "more votes than experts", paint("od_votes/001.png", [0, 9]), "od_votes/001.png' reach 9; expected 0 to 4"),
    Bad("drishti", "votes of another size", resize("od_votes/001.png"), "disc votes of '001' have the size (5, 5), their image"),
    Bad("drishti", "a crowd nobody knows", nothing, "unknown scenario 'mob'; known: symmetric", "import drishti {in} {out} --raters mob"),
    Bad("drishti_original", "a soft map with other greys", paint("Test/Test_GT/001/SoftMap/001_ODsegSoftmap.png", [0, 127]), "holds the grey value 127; expected 0, 64, 128, 191, 255"),
    Bad("drishti_original", "values no soft map has", repaint("Test/Test_GT/001/SoftMap/001_ODsegSoftmap.png", lambda a: np.full(a.shape, 9999, np.uint16)), "holds the grey value 9999; expected 0, 64, 128, 191, 255"),
    Bad("drive", "no layout of DRIVE", rename("test", "testing"), "has neither 'training' nor 'test'; expected DRIVE's layout"),
    Bad("drive", "a grey mask", paint("test/1st_manual/01_manual1.png", [0, 99, 255]), "01_manual1.png' has 3 grey values; expected black and white"),
    Bad("drive", "a photograph cut short", cut("test/images/01_test.tif", 0.9), "01_test.tif' is cut short"),
    Bad("drive", "a TIFF of nothing", write("test/images/01_test.tif", b"II*\x00\x00\x00\x00\x00"), "01_test.tif' is broken"),
    Bad("stare", "no photographs", remove("im0001.ppm"), "has no photographs of this data set"),
    Bad("stare", "a packed mask cut short", cut("im0001.ah.ppm.gz"), "im0001.ah.ppm.gz' is broken"),
    Bad("stare", "a bomb for a mask", write("im0001.ah.ppm.gz", gzip.compress(bytes(60_000_000))), "im0001.ah.ppm.gz' unpacks to more than 50000000 bytes"),
    Bad("chase", "a mask of another size", resize("Image_01L_1stHO.png"), "Image_01L_1stHO.png' has the size 5 × 5"),
    Bad("chase", "a photograph cut short", cut("Image_01L.jpg", 0.1), "Image_01L.jpg' is broken or not a JPEG file"),
    Bad("gleason", "no maps", both(remove("Maps1_T"), remove("Maps2_T")), "has no 'Maps1_T'; expected the layout of Gleason 2019"),
    Bad("gleason", "a grade nobody gives", paint("Maps1_T/slide001_core001_classimg_nonconvex.png", [0, 2, 9]), "holds the values 2, 9; expected 0, 1, 3, 4, 5, 6"),
    Bad("lidc", "an archive cut short", cut("lidc.npz"), "lidc.npz' is broken or not a LIDC archive"),
    Bad("lidc", "an archive that lacks an array", archive("lidc.npz", patient=None), "lidc.npz' is broken or not a LIDC archive"),
    Bad("lidc", "a wrong checksum in an archive", byte("lidc.npz", 300), "lidc.npz' is broken or not a LIDC archive"),
    Bad("lidc", "images that are no planes", archive("lidc.npz", images=np.zeros((2, 8), np.uint8)), "lidc.npz' has masks of shape (2, 4, 8, 2) for images of shape (2, 8)"),
    Bad("lidc", "fewer patients than images", archive("lidc.npz", patient=np.array(["x"])), "lidc.npz' has 1 of 'patient' for 2 images"),
    Bad("lidc", "objects in an archive", archive("lidc.npz", patient=np.array([{}, {}], dtype=object)), "lidc.npz' is broken or not a LIDC archive: Object arrays cannot be loaded"),
    Bad("lidc", "an image that is one number", archive("lidc.npz", images=np.uint8(3)), "lidc.npz' has masks of shape (2, 4, 8, 2) for images of shape ()"),
    Bad("lidc", "masks that are not packed in bytes", archive("lidc.npz", masks_packed=np.zeros((2, 4, 8, 2), np.int16)), "lidc.npz' has 'masks_packed' of type int16; expected uint8"),
    Bad("lidc", "nodules by name", archive("lidc.npz", nodule=np.array(["a", "b"])), "lidc.npz' has 'nodule' of type <U1; expected integer"),
    Bad("lidc", "a member that is no array", both(archive("lidc.npz", patient=None), member("lidc.npz", "patient")), "lidc.npz' has 'patient' of type |S"),
    Bad("lidc", "pickles", both(remove("lidc.npz"), write("lidc.pickle", b"\x80\x04.")), "pickle"),
    Bad("lidc_crops", "a slot that is not there", remove("train/gt/LIDC-IDRI-0005/z_c0_l2.png"), "z_c0_l2.png' does not exist"),
    Bad("lidc_crops", "a mask of another size", resize("test/gt/LIDC-IDRI-0004/z_c0_l2.png"), "z_c0_l2.png' has the size (5, 5), its image"),
    Bad("qubiq", "no set named", nothing, "which set of ... expected -o set= one of brain-growth", "import qubiq {in} {out}"),
    Bad("qubiq", "a set that is not there", nothing, "has no cases of the set 'kidney'", "import qubiq {in} {out} --set kidney"),
    Bad("qubiq", "a rater twice", copy("prostate/Training/case01/task01_seg01.nii.gz", "prostate/Training/case01/task1_seg01.nii.gz"), "are the same task and rater"),
    Bad("qubiq", "a mask of another size", nifti_values("prostate/Training/case01/task01_seg01.nii.gz", lambda a: a[:5]), "task01_seg01.nii.gz' has the size 12 × 5"),
    Bad("riga", "a table without a column", text("DiscRegion/Glaucoma_multirater_MESSIDOR.csv", "maskName", "mask"), "has no column 'maskName'; it has"),
    Bad("riga", "a table that lacks a row", text("DiscRegion/Glaucoma_multirater_MESSIDOR.csv", "6,MESSIDOR\\Image\\1.png,MESSIDOR\\FinalLabel\\1.png,1,x,0,0,9,9,64,64,1,6\n", ""), "has 6 rows; expected seven for each image"),
    Bad("riga", "a table that names files outside", text("DiscRegion/Glaucoma_multirater_MESSIDOR.csv", "MESSIDOR\\Image\\1.png", "..\\..\\secret.png"), "which is not a path inside"),
    Bad("riga", "a table that names no file a system can have", text("DiscRegion/Glaucoma_multirater_MESSIDOR.csv", "FinalLabel\\1.png", "FinalLabel\\1\0.png"), "which is not a path inside"),
    Bad("riga", "a table with a cell without end", write("DiscRegion/Glaucoma_multirater_MESSIDOR.csv", "imgName,maskName,label,rater\n" + "a" * 200_000), "Glaucoma_multirater_MESSIDOR.csv' cannot be read as a table"),
    Bad("riga", "a mask with two middle greys", paint("DiscRegion/MESSIDOR/Rater2/1.png", [0, 77, 128, 255]), "has the grey values 77, 128 besides 0 and 255; expected one between them"),
    Bad("riga_plus", "a grey no mask has", paint("R/1_mask-2.png", [0, 127]), "1_mask-2.png' holds the grey value 127; expected 0, 128, 255"),
    Bad("diaretdb1", "no marks", both(remove("groundtruth/diaretdb1_image001_01_plain.xml"), remove("groundtruth/diaretdb1_image001_02_plain.xml")), "has no files like diaretdb1_image001_01_plain.xml"),
    Bad("diaretdb1", "marks without an image", rename("images/diaretdb1_image001.png", "diaretdb1_image002.png"), "has no image 'diaretdb1_image001.png'"),
    Bad("diaretdb1", "XML cut short", cut("groundtruth/diaretdb1_image001_01_plain.xml"), "_01_plain.xml' is not valid XML"),
    Bad("diaretdb1", "entities that grow", text("groundtruth/diaretdb1_image001_01_plain.xml", "<!DOCTYPE imgannotool>", '<!DOCTYPE a [<!ENTITY b "c">]>'), "_01_plain.xml' declares a document type"),
    Bad("diaretdb1", "a radius of words", text("groundtruth/diaretdb1_image001_01_plain.xml", ">3<", ">wide<"), "_01_plain.xml'"),
    Bad("diaretdb1", "a kind nobody marks", nothing, "unknown structure 'warts'; known: Hard_exudates", "import diaretdb1 {in} {out} -o structures=warts"),
    Bad("qu_brats", "a sequence that is not there", remove("BraTS20_Training_001/BraTS20_Training_001_t1.nii.gz"), "BraTS20_Training_001"),
    Bad("qu_brats", "a value BraTS does not have", nothing, "name the value 3, which BraTS 2020 does not have; expected 1, 2, 4", "import qu-brats {in} {out} -o labels=x:3"),
    Bad("qu_brats", "a reference that lies elsewhere", move("BraTS20_Training_001/BraTS20_Training_001_seg.nii.gz"), "lies in another place than its image"),
    Bad("dicom_seg", "no segmentation", remove("seg"), "{in}"),
    Bad("dicom_seg", "no series", remove("ct"), "{in}"),
    Bad("dicom_seg", "a segmentation cut short", cut("seg/bob.dcm", 0.8), "bob.dcm'"),
    Bad("dicom_seg", "a slice that is not there", lambda root: sorted((root / "ct").iterdir())[1].unlink(), "{in}"),
    Bad("refuge", "no raters' masks", remove("Test-400"), "has no files like 0001_seg_disc_1.png; expected REFUGE with seven raters"),
    Bad("refuge", "an eighth rater", copy("Test-400/0544/0544_seg_cup_1.png", "Test-400/0544/0544_seg_cup_8.png"), "is of rater 8; expected 1 to 7"),
    Bad("refuge", "no photograph", remove("Test-400/0544/0544.jpg"), "has masks of '0544' but no photograph '0544.jpg'"),
    Bad("refuge", "a consensus that is the opposite", repaint("Test-400/0544/0544_disc.bmp", lambda a: np.pad(~a[1:-1, 1:-1], 1)), "its border and the raters disagree about which side is inside"),
]  # fmt: skip

COMMANDS = [
    Bad("squares", "a command nobody knows", nothing, "unknown command 'chekc'; known: demo", "chekc {in}"),
    Bad("squares", "an option nobody knows", nothing, "No such option: --fast", "check {in} --fast"),
    Bad("squares", "a data set that is not there", nothing, "nowhere' does not exist; expected a folder with a dataset.json", "check {in}/nowhere"),
    Bad("squares", "a layout nobody knows", nothing, "unknown layout 'rigga'; known: bids", "import rigga {in} {out}"),
    Bad("squares", "an import to nowhere", nothing, "import needs a layout, a source and a place to write to: mrprism import KIND SRC OUT", "import folder {in}"),
    Bad("squares", "an import from nowhere", nothing, "does not exist; expected a data set of the layout 'coco'", "import coco {in}/nowhere {out}"),
    Bad("folder", "an option no layout has", nothing, "folder has no option 'tint'; known: images", "import folder {in} {out} -o tint=red"),
    Bad("folder", "an option without a value", nothing, "option 'labels' is not understood; expected NAME=VALUE", "import folder {in} {out} -o labels"),
    Bad("drishti", "a seed of words", nothing, "an option of drishti expects a whole number", "import drishti {in} {out} --raters crowd -o seed=x"),
    Bad("folder", "a file for a folder", nothing, "a.png' is a file; expected the folder that holds images and masks", "import folder {in}/images/a.png {out}"),
    Bad("folder", "an import onto itself", nothing, "exists already; expected a new or empty folder", "import folder {in} {in}"),
    Bad("folder", "an import into a file", nothing, "cannot write ...a.png/x'", "import folder {in} {in}/images/a.png/x"),
    Bad("squares", "a phantom too small", nothing, "a phantom needs at least 32 pixels and 1 case; asked for 8 pixels", "phantom {out} --size 8"),
    Bad("squares", "a phantom of a planet", nothing, "'phantom' has 1000000 × 1000000 pixels, more than MRPRISM_MAX_PIXELS", "phantom {out} --size 1000000 --cases 1"),
    Bad("squares", "a seed below zero", nothing, "Invalid value for '--seed'", "phantom {out} --seed -1 --size 32 --cases 2"),
    Bad("squares", "raters nobody knows", nothing, "unknown scenario 'mob'; known: symmetric", "phantom {out} --scenario mob"),
    Bad("volumes", "a phantom over nothing", nothing, "has no reference to draw simulated raters over", "phantom {out} --over {in}"),
    Bad("squares", "a fusion nobody knows", nothing, "unknown method 'staples'; known: ", "fuse {in} --method staples --out {out}"),
    Bad("squares", "a fusion of a broken mask", cut(MASK), "case0_disc.png' is broken or not a PNG file", "fuse {in} --method majority --out {out}", stays="out/fuse.json"),
    Bad("squares", "a fusion of one rater", edit("dataset.json", lambda d: [d.update(raters=["ann"]), *[c.update(masks={"ann": c["masks"]["ann"]}) for c in d["cases"]]]), "has one rater only; fusing needs two or more", "fuse {in} --out {out}"),
    Bad("squares", "anonymous raters pooled", dataset(anonymous=True), "anonymous slots, not the same persons", "fuse {in} --pooled --out {out}"),
    Bad("squares", "ties of a fusion without any", nothing, "--ties belongs to --method majority", "fuse {in} --ties foreground --out {out}"),
    Bad("squares", "a fusion onto other files", nothing, "holds other files; expected a new folder", "fuse {in} --out {in}/images"),
    Bad("squares", "a margin below zero", nothing, "--margin", "fuse {in} --margin -4 --out {out}"),
    Bad("masks", "one mask alone", nothing, "fusing needs the masks of two or more", "fuse --masks {in}/ann.png --out {out}"),
    Bad("masks", "a mask that is not there", nothing, "gone.png' does not exist", "fuse --masks {in}/ann.png {in}/gone.png --out {out}"),
    Bad("masks", "masks of two sizes", resize("bob.png"), "bob.png'", "fuse --masks {in}/ann.png {in}/bob.png --out {out}"),
    Bad("masks", "masks of two places", move("bob.nii.gz"), "bob.nii.gz' ... origin", "fuse --masks {in}/ann.nii.gz {in}/bob.nii.gz --out {out}"),
    Bad("masks", "masks of two shapes", nifti_values("bob.nii.gz", lambda a: a[..., :4]), "bob.nii.gz'", "fuse --masks {in}/ann.nii.gz {in}/bob.nii.gz --out {out}"),
    Bad("masks", "a volume cut short", cut("bob.nii.gz"), "bob.nii.gz' is broken or not a NIfTI file", "fuse --masks {in}/ann.nii.gz {in}/bob.nii.gz --method majority --out {out}"),
    Bad("masks", "a wrong checksum", byte("bob.nii.gz", -6), "bob.nii.gz' is broken", "fuse --masks {in}/ann.nii.gz {in}/bob.nii.gz --method majority --out {out}"),
    Bad("masks", "a volume with two labels", nifti_values("bob.nii.gz", lambda a: a + np.arange(6, dtype=np.uint8)), "bob.nii.gz'", "fuse --masks {in}/ann.nii.gz {in}/bob.nii.gz --method majority --out {out}"),
    Bad("squares", "agreement with nowhere", nothing, "no folder", "agree {in} --out {out} --candidate {in}/nowhere"),
    Bad("squares", "agreement with a stranger", nothing, "holds no masks of these cases; expected for example case0", "agree {in} --out {out} --candidate {in}/images"),
    Bad("squares", "agreement into a file", nothing, "is a file; expected a folder to write to", "agree {in} --out {in}/dataset.json"),
    Bad("squares", "agreement about a broken mask", cut(MASK), "case0_disc.png' is broken", "agree {in} --out {out} --resamples 10"),
    Bad("squares", "an export nobody reads", nothing, "unknown target 'paint'; known: nnunet", "export {in} --to paint --out {out}"),
    Bad("squares", "an export of a fusion nobody knows", nothing, "unknown raters 'mob'; known: each", "export {in} --to png --raters mob --out {out}"),
    Bad("squares", "an export of a broken mask", cut(MASK), "case0_disc.png' is broken", "export {in} --to png --out {out}"),
    Bad("squares", "an export onto the data set", nothing, "exists already; expected a new or empty folder", "export {in} --to png --out {in}"),
    Bad("squares", "planes for Slicer", nothing, "case0", "export {in} --to seg-nrrd --out {out}"),
    Bad("squares", "a training without an end", nothing, "train needs a data set and --out RUN, or --resume RUN", "train {in}"),
    Bad("squares", "a method nobody knows", nothing, "'mrprsm'", "train {in} --out {out} --method mrprsm"),
    Bad("squares", "an option no method has", nothing, "method 'mrprism' has no option 'magic'; known: ", "train {in} --out {out} --option magic=1"),
    Bad("squares", "an option that is none", nothing, "--option 'recurrences' is not of the form NAME=VALUE", "train {in} --out {out} --option recurrences"),
    Bad("squares", "an option's word nobody knows", nothing, "option 'fusion' of method 'mrprism' is 'sum': input should be 'log-odds', 'share', 'ratio' or 'verbatim'", "train {in} --out {out} --option fusion=sum"),
    Bad("squares", "a loss nobody knows", nothing, "option 'loss' of method 'fused-label' is 'hinge': input should be 'bce', 'ssim', 'dice' or 'bce+dice'", "train {in} --out {out} --method fused-label --option loss=hinge"),
    Bad("squares", "an option that is no number", nothing, "option 'floor' of method 'mrprism' is 'low': input should be a valid number", "train {in} --out {out} --option floor=low"),
    Bad("squares", "a prediction of no rounds", nothing, "predict_recurrences must be at least 1, not 0", "train {in} --out {out} --option predict_recurrences=0"),
    Bad("squares", "half a recurrence", nothing, "option 'recurrences' of method 'mrprism' is 1.5: input should be a valid integer", "train {in} --out {out} --option recurrences=1.5"),
    Bad("squares", "a backbone nobody knows", nothing, "'huge'", "train {in} --out {out} --backbone huge"),
    Bad("squares", "no epochs", nothing, "epochs is 0: input should be greater than or equal to 1", "train {in} --out {out} --epochs 0"),
    Bad("squares", "a learning rate below zero", nothing, "learning_rate is -1.0: input should be greater than 0", "train {in} --out {out} --learning-rate -1"),
    Bad("squares", "a learning rate that is no number", nothing, "learning_rate is nan", "train {in} --out {out} --learning-rate nan"),
    Bad("squares", "images of no size", nothing, "size is 0", "train {in} --out {out} --size 0"),
    Bad("squares", "a device that is not here", nothing, "device", "train {in} --out {out} --device cuda:99"),
    Bad("squares", "a device nobody builds", nothing, "device 'toaster'", "train {in} --out {out} --device toaster"),
    Bad("squares", "training on a broken mask", cut(MASK), "case0_disc.png' is broken", "train {in} --out {out} --size 20 --backbone small --method fused-label --epochs 1"),
    Bad("squares", "a patient on two sides", both(case(group="p"), edit("dataset.json", lambda d: d["cases"][2].update(group="p"))), "group 'p' has cases in 'train' and in 'test'", "train {in} --out {out}"),
    Bad("squares", "too few patients", edit("dataset.json", lambda d: d.update(cases=[{k: v for k, v in c.items() if k != "split"} for c in d["cases"][:2]])), "2 patients cannot be divided into train and test and val", "train {in} --out {out}"),
    Bad("squares", "a method that wants a diagnosis", nothing, "diagnosis", "train {in} --out {out} --method diagnosis-first --size 20 --backbone small"),
    Bad("squares", "weights that run code", write("weights.pt", b"\x80\x04\x95."), "weights.pt", "train {in} --out {out} --option encoder_weights={in}/weights.pt --size 32"),
    Bad("volumes", "planes wanted, volumes given", nothing, "is a volume of shape", "train {in} --out {out} --size 20 --backbone small --method fused-label --epochs 1"),
    Bad("squares", "nothing to go on with", nothing, "is not a run folder: it has no config.json", "train --resume {in}"),
    Bad("squares", "a training into something else", nothing, "already holds files that are not a run: name another folder", "train {in} --out {in}/images"),
    Bad("squares", "a comparison of nothing", nothing, "'mrprsm' is neither a table nor a method", "compare {in} --out {out} --methods mrprsm"),
    Bad("squares", "seeds of words", nothing, "--seeds should be whole numbers with commas between", "compare {in} --out {out} --seeds 0,x"),
    Bad("squares", "a comparison into something else", nothing, "already holds files that are not a comparison", "compare {in} --out {in}/images --methods fuse"),
    Bad("comparison", "a plan cut short", cut("comparison/compare.json"), "compare.json", "compare {in}/data --out {in}/comparison --methods fuse --epochs 1 --size 20 --backbone small"),
    Bad("comparison", "another budget", nothing, "budgets are not mixed", "compare {in}/data --out {in}/comparison --methods fuse --epochs 9 --size 20 --backbone small"),
    Bad("run", "a run folder that is none", remove("run/config.json"), "run is not a run folder: it has no config.json"),
    Bad("run", "settings cut short", cut("run/config.json"), "config.json: ... (written by another version of mrprism?)"),
    Bad("run", "settings of another version", edit("run/config.json", lambda d: d.update(magic=1)), "config.json: magic is 1: extra inputs are not permitted (written by another version of mrprism?)"),
    Bad("run", "a method this version lacks", edit("run/config.json", lambda d: d.update(method="gone")), "'gone'"),
    Bad("run", "options out of range", edit("run/config.json", lambda d: d.update(method="mrprism", options={"recurrences": -5})), "weights.safetensors was trained with method ... and config.json says ... put config.json back as it was"),
    Bad("run", "no weights", remove("run/weights.safetensors"), "has no weights.safetensors yet"),
    Bad("run", "weights cut short", cut("run/weights.safetensors"), "weights.safetensors is not a complete safetensors file"),
    Bad("run", "weights that are a pickle", write("run/weights.safetensors", b"\x80\x04\x95\x00."), "weights.safetensors is not a complete safetensors file"),
    Bad("run", "weights whose header asks for more", put("run/weights.safetensors", 0, struct.pack("<Q", 2**40)), "weights.safetensors is not a complete safetensors file"),
    Bad("run", "weights of another method", edit("run/config.json", lambda d: d.update(method="crowd-layer", options={})), "weights.safetensors was trained with method ... and config.json says \"crowd-layer\""),
    Bad("run", "no photograph at all", both(remove("photos"), lambda root: (root / "photos").mkdir()), "there is no image to predict"),
    Bad("run", "a photograph that is not there", nothing, "gone.png' does not exist", "predict {in}/run {in}/gone.png --out {out} --device cpu"),
    Bad("run", "a photograph cut short", cut("photos/0.png"), "0.png' is broken or not a PNG file"),
    Bad("run", "a photograph in colour", colour("photos/0.png"), "0.png' has 3 channels; the run takes 1"),
    Bad("run", "photographs of one name", copy("photos/0.png", "photos/0.tif"), "would be written to one folder"),
    Bad("run", "an answer that is none", write("answers/0/prediction.json", "{"), "answers/0' is there already and holds no prediction; expected a new folder", "predict {in}/run {in}/photos --out {in}/answers --device cpu"),
    Bad("run", "a score of nothing", nothing, "nowhere' does not exist", "evaluate {in}/run --dataset {in}/nowhere --device cpu"),
    Bad("run", "a score on other structures", edit("data/dataset.json", lambda d: [d.update(structures=["disc"]), *[c.update(masks={r: {"disc": m["disc"]} for r, m in c["masks"].items()}, reference={"disc": c["reference"]["disc"]}) for c in d["cases"]]]), "has the structures disc; ... outlines disc, cup", "evaluate {in}/run --dataset {in}/data --device cpu"),
    Bad("run", "a score on cases that are gone", edit("data/dataset.json", lambda d: d["cases"].pop(2)), "has no case 'case2'", "evaluate {in}/run --dataset {in}/data --device cpu"),
    Bad("run", "a report of nothing", nothing, "nowhere", "report {in}/nowhere --out {out}.html"),
    Bad("run", "a report without scores", remove("run/table.csv"), "table.csv", "report {in}/run --out {out}.html"),
    Bad("run", "a report of a table cut short", write("run/table.csv", "case,group\n1"), "table.csv", "report {in}/run --out {out}.html"),
    Bad("run", "a report of a table of words", text("run/table.csv", "soft_dice,0.", "soft_dice,x."), "table.csv", "report {in}/run --out {out}.html"),
    Bad("run", "a report of examples that run code", lambda root: [p.write_bytes(b"\x80\x04.") for p in (root / "run/examples").iterdir()], "examples", "report {in}/run --out {out}.html"),
    Bad("run", "answers onto photographs", lambda root: (root / "answers/0").mkdir(parents=True), "answers/0' is there already and holds no prediction", "predict {in}/run {in}/photos --out {in}/answers --device cpu"),
]  # fmt: skip


def half_a_number(root: Path) -> None:
    """The rows of a slice are given in three bytes instead of two."""
    path = min((root / "ct").iterdir())
    rows = bytes.fromhex("28001000 5553")
    content = path.read_bytes()
    at = content.index(rows) + len(rows)
    path.write_bytes(
        content[:at] + struct.pack("<H", 3) + content[at + 2 : at + 4] + b"\0" + content[at + 4 :]
    )


def unknown_kind(root: Path) -> None:
    """The class of an object is written as a kind of value that DICOM does not have."""
    path = root / "seg/bob.dcm"
    content = path.read_bytes()
    known = bytes.fromhex("08001600") + b"UI"
    assert known in content
    path.write_bytes(content.replace(known, known[:4] + b"UA"))


def deflated(root: Path) -> None:
    """A DICOM file that would unpack to far more than it holds."""
    import pydicom

    file = pydicom.dcmread(root / "seg/bob.dcm")
    file.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    file.save_as(root / "seg/bob.dcm")


AWAY = "is a link to '...outside-in', outside '{in}'; set MRPRISM_FOLLOW_LINKS=1 if these links are yours"
IMPORTED = [name for name, command in inputs.COMMANDS.items() if command.startswith("import ")]

OUTSIDE = [
    *[Bad(name, "a link to a file outside", linked_away, AWAY) for name in IMPORTED],
    Bad("folder", "a link to a folder outside", both(remove("bob"), lambda root: (root / "bob").symlink_to("/")), "bob' is a link to '/', outside '{in}'; set MRPRISM_FOLLOW_LINKS=1"),
    Bad("folder", "a link to a folder above", lambda root: (root / "cy").symlink_to(".."), "cy' is a link to '...', outside '{in}'"),
    Bad("folder", "a link left in place", linked_away, AWAY, "import folder {in} {in}/dataset.json"),
    Bad("monai", "a link in a datalist's folder", link("images/a.png", "itself"), "a.png' is a link to '...outside-in', outside", "import monai {in}/dataset.json {out} -o raters=label_*"),
    Bad("monai", "an absolute path", edit("dataset.json", lambda d: d["training"][0].update(image="/etc/a.png")), "names '/etc/a.png', which is not a path inside"),
    Bad("coco", "an absolute picture", edit("ann.json", lambda d: d["images"][0].update(file_name="/etc/a.png")), "the picture '/etc/a.png' is not a path inside"),
    Bad("coco", "a picture on a drive", edit("ann.json", lambda d: d["images"][0].update(file_name="C:\\a.png")), "the picture 'C:\\a.png' is not a path inside"),
    Bad("cvat", "a picture upwards", text("ann.xml", 'name="a.png"', 'name="../../a.png"'), "the picture '../../a.png' is not a path inside"),
    Bad("cvat", "a picture upwards from Windows", text("ann.xml", 'name="a.png"', 'name="..\\a.png"'), "the picture '..\\a.png' is not a path inside"),
    Bad("label_studio", "a picture upwards", edit("export.json", lambda d: d[0]["data"].update(image="/data/local-files/?d=../../etc/secret.png")), "the picture '../../etc/secret.png' is not a path inside"),
    Bad("dicom_seg", "a number of three bytes", half_a_number, ".dcm' has a header that cannot be read: "),
    Bad("dicom_seg", "a value of an unknown kind", unknown_kind, "bob.dcm' has a header that cannot be read: Unknown Value Representation 'UA'"),
    Bad("dicom_seg", "a file deflated as a whole", deflated, "bob.dcm' is deflated as a whole, which is not read"),
    Bad("riga_plus", "a table that names files outside", text("Base1_train.csv", "R/1.png,", "../1.png,"), "names '../1.png', which is not a path inside"),
]  # fmt: skip


def strictly(kind: str, more: str = "") -> str:
    return f"import {kind} {{in}} {{out}} --strict {more}"


def result(**changes: Any) -> Spoil:
    """A second rater's only mark has other entries."""
    return edit("export.json", lambda d: d[0]["annotations"][1]["result"][0].update(changes))


def alone(kind: str) -> dict[str, Any]:
    """A mark without labels."""
    return {"type": kind, "value": {"points": [[20, 10], [60, 10], [60, 50]]}}


def fork(path: str, to: str) -> Spoil:
    """A copy in a folder that may not be there yet."""
    return lambda root: ((root / to).parent.mkdir(parents=True, exist_ok=True), copy(path, to)(root))


STRICT = "with --strict this is refused"

LEFT_OUT = [
    # what may be a rater's work and is not drawn: named, and with --strict refused
    Bad("folder", "a folder beside masks", fork("ann/a.png", "ann/old/a.png"), f"'ann/old/a.png' by ann (in a folder beside masks ... {STRICT}", strictly("folder")),
    Bad("folder", "an image deeper than others", fork("images/a.png", "images/more/z.png"), f"'images/more/z.png' (not where ... {STRICT}", strictly("folder")),
    Bad("folder", "a drawing nobody reads", write("ann/a.svg", "<svg/>"), f"'ann/a.svg' (neither an image ... {STRICT}", strictly("folder")),
    Bad("coco", "a box alone", annotation(segmentation=[], bbox=[1, 1, 3, 3]), f"annotation 7 of 'cell' by ann on 'a' (it has a box and no outline; -o boxes=yes draws boxes) ... {STRICT}", strictly("coco")),
    Bad("coco", "an annotation without a segmentation", edit("ann.json", lambda d: d["annotations"][0].pop("segmentation")), f"(it has nothing and no outline) ... {STRICT}", strictly("coco")),
    Bad("cvat", "a line beside a shape", text("ann.xml", "<mask", '<polyline label="cell" points="1,1;2,2"/><mask'), f"a polyline of 'cell' by ann on 'a' (a line or points, which enclose nothing) ... {STRICT}", strictly("cvat")),
    Bad("label_studio", "a key point beside a shape", edit("export.json", lambda d: d[0]["annotations"][0]["result"].append({"type": "keypointlabels", "value": {"keypointlabels": ["cell"]}})), f"a keypoint of 'cell' by user 1 on 'a' (a point or line, which encloses nothing) ... {STRICT}", strictly("label-studio")),
    Bad("nnunet", "a label map that ends otherwise", fork("labelsTr_ann/liver_1.nii.gz", "labelsTr_ann/liver_1.nii"), f"'labelsTr_ann/liver_1.nii' (not where ... {STRICT}", strictly("nnunet")),
    Bad("bids", "a mask of no rater", copy("sub-01/anat/sub-01_label-lesion_desc-ann_mask.nii.gz", "sub-01/anat/sub-01_label-lesion_mask.nii.gz"), f"(has no entity 'desc-' to name the rater) ... {STRICT}", strictly("bids")),
    Bad("bids", "probabilities", copy("sub-01/anat/sub-01_label-lesion_desc-ann_mask.nii.gz", "sub-01/anat/sub-01_desc-ann_probseg.nii.gz"), f"(holds probabilities) ... {STRICT}", strictly("bids")),
    Bad("monai", "a mask that is not listed", copy("labels/a_ann.png", "labels/a_cy.png"), f"'labels/a_cy.png' (not where ... {STRICT}", strictly("monai", "-o raters=label_*")),
    Bad("slicer", "a segmentation of another kind", copy("ann/c.seg.nrrd", "ann/d.nrrd"), f"'ann/d.nrrd' (not where ... {STRICT}", strictly("slicer")),
    Bad("bu_bil", "an expert's mask without an image", copy("set1/experts/B01_Person1_Amira.png", "set1/experts/B09_Person1_Amira.png"), f"'set1/experts/B09_Person1_Amira.png' by Person1 Amira (a mask without an image) ... {STRICT}", strictly("bu-bil", "--set 1")),
    Bad("curvas", "an annotation of another name", copy("UKCHLL001/annotation_2.nii.gz", "UKCHLL001/annotation_b.nii.gz"), f"'UKCHLL001/annotation_b.nii.gz' (not where ... {STRICT}", strictly("curvas")),
    Bad("drive", "a mask without a photograph", copy("test/1st_manual/01_manual1.png", "test/1st_manual/02_manual1.png"), f"'test/1st_manual/02_manual1.png' (a mask without an image) ... {STRICT}", strictly("drive")),
    Bad("stare", "a mask of a third person", copy("im0001.ah.ppm.gz", "im0001.xy.ppm.gz"), f"'im0001.xy.ppm.gz' (neither an image ... {STRICT}", strictly("stare")),
    Bad("chase", "a third observer", copy("Image_01L_1stHO.png", "Image_01L_3rdHO.png"), f"'Image_01L_3rdHO.png' (not where ... {STRICT}", strictly("chase-db1")),
    Bad("gleason", "a map without an image", copy("Maps1_T/slide001_core001_classimg_nonconvex.png", "Maps1_T/slide001_core009_classimg_nonconvex.png"), f"core009_classimg_nonconvex.png' by pathologist 1 (a map without an image) ... {STRICT}", strictly("gleason")),
    Bad("lidc_crops", "a fifth slot", copy("train/gt/LIDC-IDRI-0005/z_c0_l2.png", "train/gt/LIDC-IDRI-0005/z_c0_l4.png"), f"'train/gt/LIDC-IDRI-0005/z_c0_l4.png' (not where ... {STRICT}", strictly("lidc")),
    Bad("qubiq", "a mask of another name", copy("prostate/Training/case01/task01_seg01.nii.gz", "prostate/Training/case01/task01_seg01_old.nii.gz"), f"task01_seg01_old.nii.gz' (not where ... {STRICT}", strictly("qubiq", "--set prostate")),
    Bad("riga", "a mask that no table names", copy("DiscRegion/MESSIDOR/Rater2/1.png", "DiscRegion/MESSIDOR/Rater2/2.png"), f"'DiscRegion/MESSIDOR/Rater2/2.png' (not where ... {STRICT}", strictly("riga")),
    Bad("refuge", "a mask of another ending", copy("Test-400/0544/0544_seg_cup_1.png", "Test-400/0544/0544_seg_cup_1.tif"), f"'Test-400/0544/0544_seg_cup_1.tif' (not where ... {STRICT}", strictly("refuge")),
    Bad("diaretdb1", "marks without their plain twin", copy("groundtruth/diaretdb1_image001_01_plain.xml", "groundtruth/diaretdb1_image001_03.xml"), f"diaretdb1_image001_03.xml' (its marks are read from the file that ends in _plain.xml ... {STRICT}", strictly("diaretdb1")),
    Bad("qu_brats", "a case without a reference", lambda root: [copy(str(p.relative_to(root)), f"{p.relative_to(root).parent}/../{p.name.replace('001', '002')}")(root) for p in sorted(root.rglob("*.nii.gz")) if "_seg" not in p.name], f"(of a case that has no reference) ... {STRICT}", strictly("qu-brats")),
    Bad("drishti", "votes of a third structure", copy("od_votes/001.png", "od_votes/002.png"), f"'od_votes/002.png' (not where ... {STRICT}", strictly("drishti")),
    Bad("squares", "a mask that no manifest names", copy(MASK, "masks/ann/case99_disc.png"), f"'masks/ann/case99_disc.png' (not where ... {STRICT}", strictly("dataset")),
    # a rater of whom nothing can be read, and imports without raters
    Bad("coco", "a rater who drew boxes only", edit("ann.json", lambda d: [a.update(segmentation=[], bbox=[1, 1, 3, 3]) for a in d["annotations"]]), "no mask of the rater 'ann' could be read ... -o without=ann"),
    Bad("label_studio", "a rater whose mark nobody reads", result(type="cuboidlabels", value={"cuboidlabels": ["cell"]}), "no mask of the rater 'user 2' could be read ... a cuboid of 'cell' was left out (not a kind of mark that is read)"),
    Bad("label_studio", "a mark without labels", result(**alone("polygon")), "no mask of the rater 'user 2' ... it has no label; -o structure= names what such marks are of"),
    Bad("label_studio", "a polygon that is a line", result(value={"points": [[1, 1], [9, 9]], "polygonlabels": ["cell"]}), "no mask of the rater 'user 2' ... encloses no pixel of the picture"),
    Bad("cvat", "a rater who drew lines only", both(text("ann.xml", "polygon", "polyline"), text("ann.xml", "mask", "points")), "no mask of the rater 'ann' could be read"),
    Bad("folder", "a rater who has not begun", lambda root: (root / "cy").mkdir(), "no mask of the rater 'cy' could be read ... -o without=cy"),
    Bad("folder", "a rater nobody knows left out", nothing, "there is no rater 'dee' to leave out; there are ann, bob", "import folder {in} {out} -o without=dee"),
    Bad("folder", "everybody left out", nothing, "no rater was found", "import folder {in} {out} -o without=ann,bob"),
    Bad("bu_bil_original", "experts where there are none", nothing, "no mask by experts was found in", "import bu-bil {in} {out} --raters experts"),
    Bad("chase", "photographs alone", both(remove("Image_01L_1stHO.png"), remove("Image_01L_2ndHO.png")), "no rater was found in 'chase-db1'"),
    # names and ids of others
    Bad("coco", "two structures that differ in case", edit("ann.json", lambda d: d["categories"].append({"id": 4, "name": "Cell "})), "has the structures 'cell' and 'Cell ', which differ in case, blanks or the form of an accent only"),
    Bad("slicer", "two raters that differ in case", rename("bob", "Ann"), "Ann' and 'ann' differ in case only; expected one of them"),
    Bad("bids", "two spellings of a rater", rename("sub-01/anat/sub-01_label-lesion_desc-bob_mask.nii.gz", "sub-01_label-cyst_desc-Ann_mask.nii.gz"), "the raters ... differ in case"),
    Bad("coco", "an id of two pictures", edit("ann.json", lambda d: d["images"][1].update(id=0)), "says two things of the picture with the id 0"),
    Bad("coco", "an id that is not listed", annotation(image_id=99), "annotation 7 in ... ann.json' names the picture 99, which ... does not list"),
    Bad("coco", "an id that cannot be one", edit("ann.json", lambda d: d["images"][0].update(id={})), "has a picture with the id {}; expected a number or a text"),
    Bad("coco", "a key twice", text("ann.json", '"categories"', '"images": [], "categories"'), "ann.json' is not valid JSON: the key 'images' appears twice in one object"),
    Bad("label_studio", "two tasks of one name", edit("export.json", lambda d: d.append({"data": {"image": "/data/upload/0a1b2c3d-a.png"}, "annotations": d[0]["annotations"]})), "are two pictures, and ... is the only one of that name"),
    Bad("label_studio", "two pictures in a task", edit("export.json", lambda d: d[0]["data"].update(after="/data/upload/b.png")), "shows 2 pictures (image, after); expected -o key="),
    Bad("label_studio", "pages in a task", edit("export.json", lambda d: d[0].update(data={"pages": ["a.png", "b.png"]})), "shows 2 pages under 'pages'; expected one picture in a task"),
    Bad("label_studio", "the small export", edit("export.json", lambda d: d.__setitem__(0, {"id": 1, "image": "a.png", "annotator": 1, "label": []})), "is an export of the kind 'JSON-MIN'; expected an export of the kind 'JSON'"),
    Bad("label_studio", "a COCO export", write("export.json", '{"images": [], "annotations": [], "categories": []}'), "is a COCO file and no Label Studio export"),
    Bad("nnunet", "a data set of version 1", edit("dataset.json", lambda d: d.update(labels={"0": "background", "1": "liver"}, modality={"0": "CT"})), "is of nnU-Net v1 or the Decathlon"),
    Bad("nnunet", "a case without a channel", edit("dataset.json", lambda d: d.update(channel_names={"0": "CT", "1": "PET"})), "have 1 channels, 'dataset.json' names 2: CT, PET"),
    Bad("nnunet", "a channel that is not named", copy("imagesTr/liver_1_0000.nii.gz", "imagesTr/liver_1_0001.nii.gz"), "'liver_1_0001.nii.gz' is of channel 1, which 'dataset.json' does not name"),
    Bad("nnunet", "labels without an image", copy("labelsTr_ann/liver_1.nii.gz", "labelsTr_ann/liver_9.nii.gz"), "case 'liver_9' has labels but no image in imagesTr"),
    Bad("refuge", "two labels of one case", text("REFUGE1Test.csv", "0544.jpg,1\n", "0544.jpg,1\nx,D/Test-400/0544/0544.jpg,0\n"), "says two things of the case with the id 'test-400/0544'"),
    Bad("riga", "an image twice", edit_text("DiscRegion/Glaucoma_multirater_MESSIDOR.csv", lambda t: t + t.split("\n", 1)[1]), "in rows 2 and 9; expected it once"),
    # masks as drawing programs save them, with the option that would help
    Bad("folder", "soft edges", paint("ann/a.png", [0, 90, 200, 255]), "ann/a.png' has grey values 0, 90, 200, 255 ... -o threshold="),
    Bad("folder", "masks in colour", colour("ann/a.png"), "different channels ... -o colour="),
    Bad("folder", "another colour than the one named", nothing, "has other colours than those named: #ffffff; expected -o colour= with all of them", "import folder {in} {out} -o colour=red"),
    Bad("folder", "a colour nobody knows", nothing, "'rot' is not a colour; expected a name such as red, or such as #ff0000", "import folder {in} {out} -o colour=rot"),
    Bad("folder", "a threshold of words", nothing, "threshold 'half' is not understood", "import folder {in} {out} -o threshold=half"),
    Bad("folder", "names with another ending", both(rename("ann/a.png", "a_mask.png"), rename("ann/b.png", "b_mask.png")), "2 masks have no image in 'images': ... -o suffix=_mask takes the endings off"),
    Bad("folder", "faults of several masks", both(resize("ann/a.png"), resize("bob/b.png")), "2 masks do not fit: ... ann/a.png' ... bob/b.png'"),
    Bad("folder", "an option said twice", nothing, "option 'images' is given twice", "import folder {in} {out} -o images=a -o images=b"),
    Bad("folder", "a yes that is neither", nothing, "option 'anonymous' is 'perhaps'; expected yes or no", "import folder {in} {out} -o anonymous=perhaps"),
    Bad("folder", "pseudonyms in place", nothing, "keep their raters' names", "import folder {in} {in}/dataset.json -o pseudonyms=yes"),
]  # fmt: skip

PIXELS = [Bad("folder", *row) for row in pixel_faults.FOLDER] + [
    Bad("volumes", *row, "check {in}") for row in pixel_faults.VOLUMES
]
ON_PURPOSE = [Bad(*row) for row in HOSTILE]

TABLE = [*DATA_SETS, *FILES, *PIXELS, *LAYOUTS, *COMMANDS, *OUTSIDE, *LEFT_OUT, *ON_PURPOSE]
