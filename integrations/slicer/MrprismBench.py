"""A module of 3D Slicer: raters of a case as segments, and the decision sent back to `mrprism view --adjudicate`.

Start `mrprism view DATASET --adjudicate --as NAME`, and in Slicer add the folder of this file under
Edit > Application Settings > Modules. Paste the address that was printed, choose a case, correct the segment
"decision" in the Segment Editor, and send it. Volumes only. Nothing but Slicer's own Python is needed.
"""

from __future__ import annotations

import base64
import json
import struct
import tempfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import qt
import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleWidget,
)

DECISION = "decision"


class MrprismBench(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        parent.title = "mrprism: settle a case"
        parent.categories = ["Segmentation"]
        parent.helpText = __doc__


class MrprismBenchWidget(ScriptedLoadableModuleWidget):
    """An address, a case, a structure, what to start from; open it, send it."""

    def setup(self):
        super().setup()
        self.logic = MrprismBenchLogic()
        form = qt.QFormLayout()
        self.address, self.case, self.structure = qt.QLineEdit(), qt.QComboBox(), qt.QComboBox()
        self.start, self.says = qt.QComboBox(), qt.QLabel()
        for name, part in (
            ("Address", self.address),
            ("Case", self.case),
            ("Structure", self.structure),
            ("Start from", self.start),
        ):
            form.addRow(name, part)
        for name, act in (("Connect", self.connect), ("Open", self.open), ("Send decision", self.send)):
            button = qt.QPushButton(name)
            button.clicked.connect(lambda _=False, act=act: self.tried(act))
            form.addRow(button)
        form.addRow(self.says)
        self.layout.addLayout(form)

    def tried(self, act):
        try:
            self.says.text = act()
        except (OSError, ValueError) as error:
            self.says.text = str(error)

    def connect(self):
        about = self.logic.connect(self.address.text)
        for box, names in (
            (self.case, self.logic.cases()),
            (self.structure, about["structures"]),
            (self.start, [*about["fusions"], *(rater["name"] for rater in about["raters"]), "nothing"]),
        ):
            box.clear()
            box.addItems(names)
        return f"{about['title']}, as {about['desk']['who']}"

    def open(self):
        self.logic.open(self.case.currentIndex, self.structure.currentIndex, self.start.currentText)
        return f"correct the segment '{DECISION}', then send it"

    def send(self):
        return self.logic.send()


class MrprismBenchLogic(ScriptedLoadableModuleLogic):
    """What is asked of the viewer, and what becomes of it in Slicer's scene."""

    def connect(self, address):
        """Remember the printed address and its key.

        Raises:
            ValueError: It is no address of a viewer in which somebody decides.
        """
        parts = urlsplit(address.strip())
        key = parse_qs(parts.query).get("key")
        if parts.scheme not in ("http", "https") or not key:
            raise ValueError("expected the address that mrprism view printed, which ends in a key")
        self.base, self.key = f"{parts.scheme}://{parts.netloc}", key[0]
        self.about = json.loads(self.ask("/api/about"))
        if not self.about["desk"]:
            raise ValueError("nothing can be decided there: start mrprism view with --adjudicate --as NAME")
        return self.about

    def ask(self, path, body=None, **query):
        """The bytes of an answer; the server's own sentence where it refuses."""
        request = urllib.request.Request(f"{self.base}{path}?{urlencode({**query, 'key': self.key})}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise ValueError(json.loads(error.read())["error"]) from None

    def cases(self):
        return [row["name"] for row in json.loads(self.ask("/api/cases"))["cases"]]

    def open(self, number, structure, start):
        """The image as a volume, every rater who did the structure as a segment, and the decision as one more."""
        case = json.loads(self.ask(f"/api/cases/{number}"))
        if not case["planes"]:
            raise ValueError(f"{case['name']} is an image; this module opens volumes")
        names = [rater["name"] for rater in self.about["raters"]]
        at = f"/api/cases/{number}"
        self.number, self.structure, self.shape = number, structure, case["size"]
        self.volume = slicer.util.loadVolume(self.kept(self.ask(f"{at}/image.nii"), "image.nii"))
        self.segments = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", case["name"])
        self.segments.SetReferenceImageGeometryParameterFromVolumeNode(self.volume)
        for r, name in enumerate(names):
            if case["states"][r][structure] != "absent":
                self.add(name, self.mask(f"{at}/mask.nii", structure=structure, of=f"rater{r}"))
        if start in names:
            begun = {"kind": "rater", "of": str(names.index(start))}
        else:
            begun = {"kind": "empty"} if start == "nothing" else {"kind": "fusion", "of": start}
        before = json.loads(self.ask(f"{at}/decisions"))["structures"][structure]
        heads = [save["id"] for save in before["saves"] if save["head"]]
        made = self.decide({"structure": structure, "start": begun, "base": heads, "status": "open"})
        self.saved = made["id"]
        self.sent = self.decided(made["id"])
        self.add(DECISION, self.sent)

    def send(self):
        """Every axis-0 slice that was changed, and how many there were."""
        mask = (
            slicer.util.arrayFromSegmentBinaryLabelmap(self.segments, self.id_of(DECISION), self.volume) > 0
        )
        changed = [index for index in range(len(mask)) if (mask[index] != self.sent[index]).any()]
        for index in changed:
            plane = {"plane": "z", "index": index, "png": base64.b64encode(png(mask[index])).decode()}
            asked = {"structure": self.structure, "base": [self.saved], "sitting": "slicer", "slice": plane}
            self.saved = self.decide(asked)["id"]
        self.sent = mask.copy()
        return f"{len(changed)} slices sent and kept" if changed else "nothing was changed"

    def decide(self, asked):
        return json.loads(self.ask(f"/api/cases/{self.number}/decisions", asked))

    def decided(self, id):
        return self.mask(f"/api/cases/{self.number}/decision.nii", structure=self.structure, id=id)

    def mask(self, path, **query):
        node = slicer.util.loadLabelVolume(self.kept(self.ask(path, **query), "mask.nii"))
        mask = slicer.util.arrayFromVolume(node) > 0
        slicer.mrmlScene.RemoveNode(node)
        return mask

    def add(self, name, mask):
        segment = self.segments.GetSegmentation().AddEmptySegment(name, name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            mask.astype(np.uint8), self.segments, segment, self.volume
        )

    def id_of(self, name):
        return self.segments.GetSegmentation().GetSegmentIdBySegmentName(name)

    def kept(self, content, name):
        """In a file of a folder that is Slicer's to tidy up."""
        path = Path(tempfile.mkdtemp(dir=slicer.app.temporaryPath), name)
        path.write_bytes(content)
        return str(path)


def png(mask):
    """(H, W) bool as a grey PNG: white inside."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = mask.shape
    rows = b"".join(b"\0" + bytes(row) for row in np.where(mask, 255, 0).astype(np.uint8))
    head = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
