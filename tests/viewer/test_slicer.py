"""The module of 3D Slicer against a stub of Slicer and a viewer that runs: raters come, the decision goes back.

The same is what any script can do with `urllib`: the module uses nothing else.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from serving import served
from volumes import TASK, volumes

from mrprism.datasets import open_dataset, write_dataset
from mrprism.datasets.decisions import Decisions
from mrprism.fusion.one_case import fuse_case

pytest.importorskip("fastapi", reason="the extra 'view' is not installed")
MODULE = Path(__file__).parents[2] / "integrations" / "slicer" / "MrprismBench.py"


class Segmentation:
    """As vtkMRMLSegmentationNode, as far as the module goes."""

    def __init__(self) -> None:
        self.masks: dict[str, np.ndarray] = {}

    def SetReferenceImageGeometryParameterFromVolumeNode(self, _: Any) -> None: ...  # noqa: N802

    def GetSegmentation(self) -> Segmentation:  # noqa: N802
        return self

    def AddEmptySegment(self, id: str, _: str) -> str:  # noqa: N802
        return id

    def GetSegmentIdBySegmentName(self, name: str) -> str:  # noqa: N802
        return name


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The file as Slicer loads it, with arrays in Slicer's order: slice, row, column."""

    def array(path: str) -> np.ndarray:
        return np.asarray(nib.load(path).dataobj).transpose(2, 1, 0)

    def update(mask: np.ndarray, node: Segmentation, segment: str, _: Any) -> None:
        node.masks[segment] = mask

    util = types.SimpleNamespace(
        loadVolume=array,
        loadLabelVolume=array,
        arrayFromVolume=lambda volume: volume,
        arrayFromSegmentBinaryLabelmap=lambda node, segment, _: node.masks[segment],
        updateSegmentBinaryLabelmapFromArray=update,
    )
    scene = types.SimpleNamespace(AddNewNodeByClass=lambda *_: Segmentation(), RemoveNode=lambda _: None)
    slicer = types.ModuleType("slicer")
    app = types.SimpleNamespace(temporaryPath=str(tmp_path))
    slicer.__dict__.update(util=util, mrmlScene=scene, app=app)
    scripted = types.ModuleType("slicer.ScriptedLoadableModule")
    for name in ("", "Logic", "Widget"):
        setattr(scripted, f"ScriptedLoadableModule{name}", type("Base", (), {}))
    for name, stub in (("slicer", slicer), (scripted.__name__, scripted), ("qt", types.ModuleType("qt"))):
        monkeypatch.setitem(sys.modules, name, stub)
    spec = importlib.util.spec_from_file_location("MrprismBench", MODULE)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_raters_come_as_segments_and_the_decision_goes_back(module: Any, tmp_path: Path) -> None:
    write_dataset(volumes(1), tmp_path / "scans", name="scans", task=TASK, image_format="nifti")
    sample = open_dataset(tmp_path / "scans")[0]
    with served(tmp_path / "scans", "--adjudicate", "--as", "ann") as (address, _):
        logic = module.MrprismBenchLogic()
        for wrong in ("", "http://127.0.0.1:1/", "ftp://x/?key=y"):
            with pytest.raises(ValueError, match="ends in a key"):
                logic.connect(wrong)
        assert logic.connect(address)["structures"] == list(TASK.structures)
        assert logic.cases() == [sample.name]
        with pytest.raises(ValueError, match="no case number 9"):
            logic.open(9, 0, "majority")
        logic.open(0, 0, "majority")
        done = [name for r, name in enumerate(TASK.raters) if sample.rated[r, 0]]
        assert list(logic.segments.masks) == [*done, "decision"]
        for name in done:
            assert np.array_equal(logic.segments.masks[name], sample.masks[TASK.raters.index(name), 0])
        majority = fuse_case(sample, "majority").probability[0] > 0.5
        assert np.array_equal(logic.segments.masks["decision"], majority)
        assert logic.send() == "nothing was changed"
        corrected = majority.copy()
        corrected[2, 3:6, 4:9] ^= True
        corrected[5, 0, 0] = True
        logic.segments.masks["decision"] = corrected
        assert logic.send() == "2 slices sent and kept"
    manifest = open_dataset(tmp_path / "scans").manifest
    assert manifest is not None
    decisions = Decisions(tmp_path / "scans", manifest)
    held = decisions.standing(sample.name)["disc"].held
    assert held is not None and (held.who, held.status, held.start.said) == ("ann", "open", "fusion majority")
    assert np.array_equal(decisions.mask(held), corrected)
