"""The Measurements section: the same values as the command line, never those of changed segments, DICOM report."""

import csv
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from module_panel import CHEST_CT, ROOT, chestSeries, inSliceOrder, loadedAsByTheDicomModule


@pytest.fixture
def segmented(panel, chestCt):
    panel.ui.measurementsCollapsibleButton.collapsed = False
    panel.type("left lung\nright lung")
    panel.segmentRange(51, 54)
    return chestCt


def measured(panel):
    panel.click("measureButton")
    panel.finishRun()
    return panel.widget.measurements.measured


def cells(panel):
    table = panel.ui.measurementsTable
    headings = [table.horizontalHeaderItem(column).text() for column in range(table.columnCount)]
    return [
        dict(zip(headings, [table.item(row, column).text() for column in range(table.columnCount)], strict=True))
        for row in range(table.rowCount)
    ]


def saved(panel, button, path):
    panel.answers.fileName = str(path)
    panel.click(button)
    panel.finishRun()
    return path


def edit(panel, name, volume):
    mask = panel.mask(name, volume)
    mask[52, 100:120, 100:130] = True
    segments = panel.segmentation.GetSegmentation()
    change = panel.slicer.util.updateSegmentBinaryLabelmapFromArray
    change(mask.astype(np.uint8), panel.segmentation, segments.GetSegmentIdBySegmentName(name), volume)


def test_the_table_equals_the_command_lines_and_is_copied_and_saved(panel, segmented, tmp_path):
    assert "Measure first" in panel.ui.saveMeasurementsButton.toolTip
    edit(panel, "left lung", segmented)
    measured(panel)
    table = saved(panel, "saveMeasurementsButton", tmp_path / "panel.csv")
    segments = saved(panel, "saveButton", tmp_path / "segments.seg.nrrd")
    command = [sys.executable, "-m", "fasttextdiff", "measure", str(CHEST_CT), str(segments), "-o"]
    subprocess.run([*command, str(tmp_path / "cli.csv")], check=True, capture_output=True)
    mine, other = (
        list(csv.DictReader(path.read_text("utf-8-sig").splitlines())) for path in (table, tmp_path / "cli.csv")
    )
    assert [row.pop("image") for row in mine] == [segmented.GetName()] * 2
    assert [row.pop("image") for row in other] == [CHEST_CT.name] * 2
    assert mine == other
    assert cells(panel) == [{name: row[name] for name in cells(panel)[0]} for row in mine]
    panel.click("copyMeasurementsButton")
    lines = panel.qt.QApplication.clipboard().text().splitlines()
    assert lines[1].split("\t")[:2] == ["left lung", mine[0]["volume (ml)"]]


def test_values_of_changed_segments_are_neither_copied_nor_saved(panel, segmented, tmp_path):
    measured(panel)
    before = cells(panel)[0]["volume (ml)"]
    edit(panel, "left lung", segmented)
    with pytest.raises(AssertionError, match="have changed since: measure again"):
        panel.click("copyMeasurementsButton")
    panel.answers.fileName = str(tmp_path / "old.csv")
    panel.ui.saveMeasurementsButton.enabled = True  # as if the change had not been noticed yet
    panel.click("saveMeasurementsButton")
    assert "have changed since" in panel.message
    assert not list(tmp_path.iterdir())
    measured(panel)
    assert float(cells(panel)[0]["volume (ml)"]) > float(before)
    assert panel.ui.copyMeasurementsButton.enabled


def test_a_file_of_the_image_is_not_replaced(panel, segmented, tmp_path):
    measured(panel)
    saved(panel, "saveMeasurementsButton", tmp_path / "table.txt")
    assert "choose .csv" in panel.message
    before = CHEST_CT.stat()
    link = tmp_path / "image.csv"
    link.symlink_to(CHEST_CT)
    saved(panel, "saveMeasurementsButton", link)
    assert "is a file of the image" in panel.message
    assert CHEST_CT.stat() == before


class Statistics:
    """Slicer's module Segment Statistics, as far as its interface is used: keys and a parameter node of its own."""

    factor = 1.0

    def __init__(self):
        self.parameters = None

    def setParameterNode(self, node):
        self.parameters = node

    def computeStatistics(self):
        import slicer

        segmentation, volume = (
            slicer.mrmlScene.GetNodeByID(self.parameters.GetParameter(name))
            for name in ("Segmentation", "ScalarVolume")
        )
        self.found = {}
        ids = segmentation.GetSegmentation().GetSegmentIDs()
        for one in ids:
            mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, one, volume) > 0
            values = slicer.util.arrayFromVolume(volume)[mask].astype(float)
            ml = mask.sum() * np.prod(volume.GetSpacing()) / 1000
            self.found[one, "LabelmapSegmentStatisticsPlugin.voxel_count"] = int(mask.sum())
            self.found[one, "LabelmapSegmentStatisticsPlugin.volume_cm3"] = ml * self.factor
            if mask.any():
                self.found[one, "ScalarVolumeSegmentStatisticsPlugin.mean"] = values.mean()
                self.found[one, "ScalarVolumeSegmentStatisticsPlugin.stdev"] = values.std(ddof=1)

    def getStatistics(self):
        return self.found


def test_slicers_segment_statistics_agree_or_a_line_says_so(panel, segmented, monkeypatch):
    monkeypatch.setitem(sys.modules, "SegmentStatistics", types.SimpleNamespace(SegmentStatisticsLogic=Statistics))
    kind = "vtkMRMLScriptedModuleNode"
    nodes = panel.slicer.mrmlScene.GetNumberOfNodesByClass(kind)
    assert measured(panel).notes == ()
    assert panel.slicer.mrmlScene.GetNumberOfNodesByClass(kind) == nodes
    monkeypatch.setattr(Statistics, "factor", 1.1)
    assert any("'left lung': volume_ml is" in line for line in measured(panel).notes)
    assert "Segment Statistics" in panel.ui.measurementsLabel.text


def test_slices_along_another_axis_are_measured_where_they_are(panel, segmented):
    from scene_volumes import GRIDS, addVolume

    array = np.random.default_rng(0).integers(-900, 100, (30, 20, 6)).astype(np.int16)
    volume = addVolume(GRIDS["permuted"][:, [2, 1, 0, 3]], array.shape, array=array)
    segmentation = panel.widget.logic.newSegmentation(volume)
    mask = np.zeros(array.shape, np.uint8)
    mask[4:14, 3:8, 2:4] = 1
    one = segmentation.GetSegmentation().AddEmptySegment("mass", "mass")
    panel.slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, one, volume)
    (found,) = panel.widget.logic.examining.measure(segmentation, volume, "ct").segments
    assert found.mean == pytest.approx(array[mask > 0].mean())
    assert (found.voxels, found.slice_number) == (100, 3)


def test_the_report_lies_beside_its_segments_and_images_without_uids_are_refused(panel, tmp_path, monkeypatch):
    pydicom = pytest.importorskip("pydicom")
    highdicom = pytest.importorskip("highdicom", reason="needs highdicom")
    files = inSliceOrder(chestSeries(tmp_path / "series", range(50, 53)))
    panel.open(loadedAsByTheDicomModule(panel.slicer, files))
    panel.type("left lung")
    panel.click("segmentVolumeButton")
    panel.finishRun()
    panel.ui.measurementsCollapsibleButton.collapsed = False
    found = measured(panel).segments[0]
    report = saved(panel, "saveMeasurementsButton", tmp_path / "report.dcm")
    assert panel.message.startswith("Saved"), panel.message
    stored = highdicom.sr.srread(report)
    (group,) = stored.content.get_volumetric_roi_measurement_groups()
    values = {each.name.meaning: each.value for each in group.get_measurements()}
    assert values["Long Axis"] == pytest.approx(found.longest_mm)
    segments = pydicom.dcmread(tmp_path / "report.seg.dcm")
    assert group.referenced_segment.referenced_sop_instance_uid == segments.SOPInstanceUID
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.SeriesInstanceUID = ""
        dataset.save_as(file)
    saved(panel, "saveMeasurementsButton", tmp_path / "second.dcm")
    assert "the images lack UIDs" in panel.message
    assert not list(tmp_path.glob("second*"))


def test_the_documented_script_measures(panel, segmented, capsys):
    page = (ROOT / "docs" / "measuring.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.S)[-1]
    exec(code, {"slicer": panel.slicer})
    assert capsys.readouterr().out.startswith("left lung ")
