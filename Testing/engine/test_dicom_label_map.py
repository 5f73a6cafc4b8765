"""A DICOM Segmentation that stores a label map: the same voxels as one with masks, for other readers and for ours.

No validator: dciodvfy of Debian 13 does not know this kind of object (DICOM supplement 243).
"""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from dicom_readers import read_with_dcmqi, world
from test_dicom_seg import LPS, go_on, in_slicers_words, multiframe, projection, result_of, stack

from fasttextdiff.errors import UsageError
from fasttextdiff.io.read_segmentation import read_segmentation
from fasttextdiff.io.write import check_segmentation_path, segmentation_notes, write_segmentation
from fasttextdiff.io.write_dicom_sr import write_report
from fasttextdiff.segments.measuring import measure_segments
from fasttextdiff.segments.tags import segment_names
from fasttextdiff.worker.dicom import save_dicom_seg

highdicom = pytest.importorskip("highdicom", reason="needs highdicom")

LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
NAMES = ("left lung", "heart", "liver")


def apart(volume, names=NAMES):
    """Findings of which no two share a voxel, some slices without any; the last finding is empty."""
    label = np.random.default_rng(3).integers(0, len(names), volume.shape)
    label[1:2] = 0
    return result_of(volume, [label == n for n in range(1, len(names) + 1)], names)


def write(folder, result, name="result.labelmap.dcm"):
    (path,) = write_segmentation(result, folder / name)
    return path


def masks_read_by_highdicom(path, volume):
    """(k, j, i) by segment label."""
    stored = highdicom.seg.segread(path)
    options = {"assert_missing_frames_are_empty": True, "ignore_spatial_locations": True, "combine_segments": True}
    if len({file for file, _ in volume.source.frames}) < len(volume.source.frames):
        frames = [frame for _, frame in volume.source.frames]
        pixels = stored.get_pixels_by_source_frame(volume.source.instance_uids[0], frames, **options)
    else:
        pixels = stored.get_pixels_by_source_instance(list(volume.source.instance_uids), **options)
    return {stored.get_segment_description(n).segment_label: pixels == n for n in stored.segment_numbers}


@pytest.mark.parametrize("source", [stack, multiframe, projection])
def test_every_voxel_comes_back(tmp_path, source):
    volume = source(tmp_path)
    written = apart(volume)
    path = write(tmp_path, written)
    dataset = pydicom.dcmread(path)
    assert (dataset.SOPClassUID, dataset.SegmentationType) == (LABEL_MAP_STORAGE, "LABELMAP")
    found = masks_read_by_highdicom(path, volume)
    for finding in written.findings:
        assert np.array_equal(found[finding.finding], finding.mask)
    assert dataset.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lung"


def test_slicers_reader_places_every_voxel_as_in_the_source(tmp_path):
    volume = stack(tmp_path)
    written = apart(volume)
    found = read_with_dcmqi(write(tmp_path, written), tmp_path / "read")
    for finding in written.findings[:-1]:
        np.testing.assert_allclose(found[finding.finding], world(finding.mask, LPS @ volume.ijk_to_ras), atol=1e-3)
    assert segmentation_notes(written, tmp_path / "result.labelmap.dcm") == []


def test_more_findings_than_a_byte_can_number(tmp_path):
    volume = stack(tmp_path)
    names = [f"nodule {n}" for n in range(1, 301)]
    label = np.random.default_rng(4).integers(0, 301, volume.shape)
    written = result_of(volume, [label == n for n in range(1, 301)], names)
    path = write(tmp_path, written)
    assert pydicom.dcmread(path).BitsAllocated == 16
    found = masks_read_by_highdicom(path, volume)
    assert all(np.array_equal(found[each.finding], each.mask) for each in written.findings)
    read = read_segmentation(path, volume)
    assert all(np.array_equal(mine.mask, each.mask) for mine, each in zip(read, written.findings, strict=True))


def test_overlapping_findings_are_kept_as_masks_and_said_to_be(tmp_path):
    written = result_of(stack(tmp_path))
    path = write(tmp_path, written)
    assert pydicom.dcmread(path).SegmentationType == "BINARY"
    assert path.read_bytes() == write(tmp_path, written, "masks.dcm").read_bytes()
    (note,) = segmentation_notes(written, path)
    assert note == (
        "findings overlap, which a label map cannot hold, so result.labelmap.dcm has one mask for each finding"
    )


def test_nothing_found_is_an_empty_label_map(tmp_path):
    volume = stack(tmp_path)
    path = write(tmp_path, result_of(volume, [np.zeros(volume.shape, bool)] * 3, NAMES))
    assert not any(mask.any() for mask in masks_read_by_highdicom(path, volume).values())


def test_equal_results_give_equal_bytes_and_masks_have_other_uids(tmp_path):
    written = apart(stack(tmp_path))
    path = write(tmp_path, written)
    assert path.read_bytes() == write(tmp_path, written, "again.labelmap.dcm").read_bytes()
    masks = pydicom.dcmread(write(tmp_path, written, "masks.dcm"))
    assert masks.SegmentationType == "BINARY"
    assert masks.SOPInstanceUID != pydicom.dcmread(path).SOPInstanceUID


def test_slicer_saves_what_the_command_line_writes(tmp_path):
    written = apart(stack(tmp_path))
    request = in_slicers_words(written, tmp_path)
    saved = tmp_path / "saved.labelmap.dcm"
    save_dicom_seg(type(request)(**{**vars(request), "output": saved}), go_on)
    assert saved.read_bytes() == write(tmp_path, written).read_bytes()


def test_it_is_measured_and_reported_like_masks(tmp_path):
    volume = stack(tmp_path)
    written = apart(volume)
    path = write(tmp_path, written)
    measured = measure_segments(volume, read_segmentation(path, volume))
    of_masks = measure_segments(volume, read_segmentation(write(tmp_path, written, "masks.dcm"), volume))
    assert measured == of_masks
    write_report(volume, path, measured, tmp_path / "report.dcm")
    groups = highdicom.sr.srread(tmp_path / "report.dcm").content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == segment_names(NAMES[:2])
    references = [group.referenced_segment for group in groups]
    assert {each.referenced_sop_instance_uid for each in references} == {pydicom.dcmread(path).SOPInstanceUID}


def test_probabilities_do_not_fit_a_label_map(tmp_path):
    with pytest.raises(UsageError, match=r"only DICOM SEG .* holds probabilities"):
        check_segmentation_path(tmp_path / "result.labelmap.dcm", fractional=True)
