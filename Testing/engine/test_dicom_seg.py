"""DICOM SEG as others read it: no errors from dciodvfy; dcmqi (used by 3D Slicer) and highdicom find every voxel."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_files import write_multiframe, write_slice, write_stack
from dicom_readers import errors_found_by_dciodvfy, read_with_dcmqi, with_uids, world
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    XRayAngiographicImageStorage,
)

from fasttextdiff.contract.answers import ArrayFile
from fasttextdiff.contract.requests import ListSeries, SaveDicomSeg, SavedSegment
from fasttextdiff.contract.segments import unescape_tag
from fasttextdiff.environment import Requirement
from fasttextdiff.errors import Cancelled, FastTextDiffError, MissingPackagesError, UsageError
from fasttextdiff.io.read import read_volume
from fasttextdiff.io.write import (
    check_segmentation_path,
    check_segmentation_source,
    segmentation_notes,
    write_segmentation,
)
from fasttextdiff.result import FindingResult, Provenance, SegmentationResult
from fasttextdiff.segments.anatomy import Code
from fasttextdiff.segments.tags import segment_names, segment_tags
from fasttextdiff.segments.terminology import CodedFinding, assign_colors
from fasttextdiff.worker.dicom import list_series, save_dicom_seg

highdicom = pytest.importorskip("highdicom", reason="needs highdicom")

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
LONG = "ground-glass opacity, density=50% in the right lung " + "and again " * 8 + "肺炎"
FINDINGS = ("left lung", LONG, "heart")
PROVENANCE = Provenance(
    model="compact",
    weights_sha256="0123456789abcdef",
    software="fasttextdiff 0.1.0",
    seed=7,
    samples=3,
    timesteps=(50, 150, 250),
    plane="axial",
    slices=(0, 5),
    window=(-600.0, 1500.0),
    threshold=0.5,
    device="cuda:1",
    dtype="float32",
    created="2026-11-24T08:30:00+00:00",
)
PROJECTION = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"))
PATIENT = {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg", "PatientID": "4711", "PatientSex": "X"}


def turned(x: float, y: float, z: float) -> np.ndarray:
    degrees = sitk.Euler3DTransform((0, 0, 0), *np.deg2rad([x, y, z]).tolist())
    return np.reshape(degrees.GetMatrix(), (3, 3))


def grid(axes: np.ndarray, spacing: tuple[float, float, float] = (0.7, 0.9, 2.5)) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = axes * spacing
    matrix[:3, 3] = (3, -4, 5)
    return matrix


GRIDS = {
    "axial": grid(np.diag([-1.0, -1.0, 1.0])),
    "feet first": grid(np.diag([1.0, -1.0, -1.0])),
    "sagittal": grid(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])),
    "oblique": grid(turned(10, -20, 30)),
}


def stack(folder, matrix=GRIDS["axial"], slices=5, **attributes):
    voxels = np.random.default_rng(0).integers(-1000, 300, (slices, 6, 7)).astype(np.int16)
    return read_volume(write_stack(folder / "source", voxels, matrix, **{**PATIENT, **attributes}))


def multiframe(folder, heights=(9.0, 5.0, 1.0, 13.0, 9.0)):
    """Unordered frames; the last repeats the first."""
    voxels = np.random.default_rng(0).integers(-1000, 300, (len(heights), 6, 7)).astype(np.int16)
    voxels[-1] = voxels[0]
    return read_volume(write_multiframe(folder / "multiframe.dcm", voxels, list(heights), **PATIENT))


def projection(folder, sop_class=ComputedRadiographyImageStorage, **attributes):
    pixels = np.random.default_rng(0).integers(0, 4000, (16, 17)).astype(np.uint16)
    described = {**PROJECTION, **PATIENT, "SOPClassUID": sop_class, "Modality": "CR", **attributes}
    return read_volume(write_slice(folder / "source.dcm", pixels, **described))


def result_of(volume, masks=None, findings=FINDINGS, **changes):
    """Overlapping findings in some slices only; the last finding is empty."""
    if masks is None:
        random = np.random.default_rng(1).random((2, *volume.shape)) > 0.6
        random[1, 1:-2] = False
        masks = (*random, np.zeros(volume.shape, bool))
    noise = np.random.default_rng(2).random((len(masks), *volume.shape)).astype(np.float32)
    noise *= noise > 0.3
    presence = np.array([0.25, 0.875, np.nan], np.float32)
    found = (FindingResult(*each, None, presence) for each in zip(findings, noise, masks, strict=True))
    return SegmentationResult(volume, tuple(found), replace(PROVENANCE, **changes))


def write(folder, result, **options):
    (path,) = write_segmentation(result, folder / "result.dcm", **options)
    return path


def read_frames(path):
    """(segment number, SOP Instance UID, frame number of the source) and pixels of each frame."""
    segmentation = highdicom.seg.segread(path)
    pixels = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    for group, frame in zip(segmentation.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        origin = group.DerivationImageSequence[0].SourceImageSequence[0]
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        yield (number, origin.ReferencedSOPInstanceUID, int(origin.get("ReferencedFrameNumber", 1))), group, frame


VARIANTS = {
    **{name: lambda folder, name=name: write(folder, result_of(stack(folder, GRIDS[name]))) for name in GRIDS},
    "one slice": lambda folder: write(folder, result_of(stack(folder, slices=1))),
    "multi-frame": lambda folder: write(folder, result_of(multiframe(folder))),
    "fractional": lambda folder: write(folder, result_of(stack(folder)), fractional=True),
    "computed radiography": lambda folder: write(folder, result_of(projection(folder))),
    "digital X-ray with a frame of reference": lambda folder: write(
        folder, result_of(projection(folder, DigitalXRayImageStorageForPresentation, FrameOfReferenceUID="1.2.3"))
    ),
    "single angiographic frame": lambda folder: write(
        folder, result_of(projection(folder, XRayAngiographicImageStorage, PixelSpacing=None))
    ),
    "nothing found": lambda folder: write(folder, result_of(stack(folder), masks=[np.zeros((5, 6, 7), bool)] * 3)),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_validator_finds_no_error(tmp_path, name):
    assert errors_found_by_dciodvfy(VARIANTS[name](tmp_path)) == []


@pytest.mark.parametrize("name", [*GRIDS, "multi-frame", "one slice"])
def test_slicers_reader_places_every_voxel_as_in_the_source(tmp_path, name):
    sources = {"multi-frame": multiframe, "one slice": lambda folder: stack(folder, slices=1)}
    volume = sources.get(name, lambda folder: stack(folder, GRIDS[name]))(tmp_path)
    written = result_of(volume)
    found = read_with_dcmqi(write(tmp_path, written), tmp_path / "read")
    assert len(found) == len(written.findings)
    for label, finding in zip(segment_names(FINDINGS), written.findings, strict=True):
        np.testing.assert_allclose(found[label], world(finding.mask, LPS @ volume.ijk_to_ras), atol=1e-3)
    assert segmentation_notes(written, tmp_path / "result.dcm") == []


@pytest.mark.parametrize("source", [stack, multiframe, projection])
def test_each_frame_matches_the_slice_that_it_refers_to(tmp_path, source):
    volume = source(tmp_path)
    written = result_of(volume)
    path = write(tmp_path, written)
    names = [(uid, frame) for uid, (_, frame) in zip(volume.source.instance_uids, volume.source.frames, strict=True)]
    stored = set()
    for (number, *name), group, pixels in read_frames(path):
        k = names.index(tuple(name))
        stored.add((number, k))
        assert np.array_equal(pixels, written.findings[number - 1].mask[k])
        if not volume.is_planar:
            position = group.PlanePositionSequence[0].ImagePositionPatient
            np.testing.assert_allclose(position, (LPS @ volume.ijk_to_ras @ [0, 0, k, 1])[:3], atol=1e-4)
    wanted = {(n, k) for n, f in enumerate(written.findings, 1) for k in range(volume.shape[0]) if f.mask[k].any()}
    assert stored - wanted == {(3, 0)}  # the empty finding has one empty frame
    dataset = pydicom.dcmread(path)
    assert dataset.get("FrameOfReferenceUID", "") == volume.source.frame_of_reference_uid
    assert (dataset.StudyInstanceUID, str(dataset.PatientName)) == (volume.source.study_uid, "Müller^Jörg")
    referenced = dataset.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == volume.source.series_uid
    assert "research use" in dataset.SeriesDescription


def test_segments_have_codes_and_provenance(tmp_path):
    dataset = pydicom.dcmread(write(tmp_path, result_of(stack(tmp_path))))
    lung, opacity, heart = dataset.SegmentSequence
    kind = lung.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator) == ("39607008", "SCT")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    region = opacity.AnatomicRegionSequence[0]
    assert (region.CodeMeaning, region.AnatomicRegionModifierSequence[0].CodeMeaning) == ("Lung", "Right")
    assert len(opacity.SegmentLabel.encode()) <= 64
    assert opacity.SegmentLabel.endswith("…")
    assert (opacity.SegmentDescription, opacity.TrackingID, heart.SegmentLabel) == (LONG, LONG, "heart")
    assert (dataset.SegmentationType, dataset.SegmentsOverlap) == ("BINARY", "YES")
    assert opacity.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = opacity.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("FastTextDiff compact", "fasttextdiff 0.1.0")
    parameters = dict(pair.split("=") for pair in algorithm.AlgorithmParameters.split(","))
    assert unescape_tag(parameters["finding"]) == LONG
    assert (parameters["weights_sha256"], parameters["seed"]) == ("0123456789abcdef", "7")
    assert (parameters["device"], parameters["presence"]) == ("cuda", "0.88")


def test_equal_results_give_equal_bytes_and_other_results_other_uids(tmp_path):
    volume = stack(tmp_path)
    first = write(tmp_path, result_of(volume)).read_bytes()
    again = result_of(read_volume(tmp_path / "source"), device="cuda:0")
    assert write(tmp_path, again).read_bytes() == first
    retouched = [finding.mask.copy() for finding in again.findings]
    retouched[0][0, 0, 0] ^= True  # the descriptions are equal, so only the voxels differ
    others = [
        write_segmentation(result_of(volume, **changes), tmp_path / f"{n}.dcm", fractional=n == 0)[0]
        for n, changes in enumerate(
            (
                {},
                {"seed": 8},
                {"weights_sha256": "f" * 16},
                {"findings": ("right lung", LONG, "heart")},
                {"masks": retouched},
            )
        )
    ]
    datasets = [pydicom.dcmread(path) for path in (tmp_path / "result.dcm", *others)]
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == len(datasets)
    assert len({dataset.SeriesInstanceUID for dataset in datasets}) == len(datasets)


def test_probabilities_come_back_on_request(tmp_path):
    volume = stack(tmp_path)
    written = result_of(volume)
    path = write(tmp_path, written, fractional=True)
    dataset = pydicom.dcmread(path)
    assert (dataset.SegmentationType, dataset.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    for (number, uid, _), _, pixels in read_frames(path):
        expected = written.findings[number - 1].probability[volume.source.instance_uids.index(uid)]
        np.testing.assert_allclose(pixels / dataset.MaximumFractionalValue, expected, atol=0.5 / 255 + 1e-6)
    assert len(dataset.PerFrameFunctionalGroupsSequence) == 3 * 5


def test_slicers_limits_are_reported(tmp_path):
    (note,) = segmentation_notes(result_of(projection(tmp_path)), tmp_path / "result.dcm")
    assert "Slicer cannot open result.dcm" in note
    tilted = grid(np.array([[-1.0, 0, 0], [0, -1, 0.2], [0, 0, 1]]))
    (note,) = segmentation_notes(result_of(stack(tmp_path, tilted)), tmp_path / "result.dcm")
    assert "sheared" in note


def test_headers_left_by_anonymisers_are_accepted_and_not_leaked(tmp_path, capfd):
    odd = {"PatientSex": "UNKNOWN", "StudyDate": "REMOVED", "PatientName": "Secret Person", "StudyID": "x" * 40}
    odd |= {"SeriesNumber": None, "PixelSpacing": None, "SliceThickness": None, "PatientAge": "seventy"}
    with pydicom.config.disable_value_validation():
        written = result_of(stack(tmp_path, **odd))
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        path = write(tmp_path, written)
    assert (*capfd.readouterr(), shown) == ("", "", [])
    dataset = pydicom.dcmread(path)
    assert (dataset.PatientSex, dataset.StudyDate, dataset.PatientName) == ("", "", "Secret Person")
    assert len(list(read_frames(path))) == 5 + 3 + 1


# --- the real thing --------------------------------------------------------------------------------------------------


@pytest.fixture
def abdomen(samples, tmp_path):
    """The real series, whose anonymiser emptied the UIDs, with UIDs."""
    return read_volume(with_uids(samples / "abdominal_ct_dicom", tmp_path / "abdomen"))


def test_a_real_compressed_series_gets_a_segmentation_of_its_lungs(abdomen, tmp_path):
    air = (abdomen.array > -950) & (abdomen.array < -600)
    bone = abdomen.array > 300
    written = result_of(abdomen, (air, bone), ("lungs", "bone"))
    found = read_with_dcmqi(write(tmp_path, written), tmp_path / "read")
    for label, mask in (("lungs", air), ("bone", bone)):
        np.testing.assert_allclose(found[label], world(mask, LPS @ abdomen.ijk_to_ras), atol=1e-3)


@pytest.mark.shared
def test_another_writers_segmentation_is_reproduced_completely(shared, tmp_path):
    folder = shared / "samples" / "ct_liver_dcmqi"
    volume = read_volume(folder)
    theirs, mask = highdicom.seg.segread(folder / "liver.dcm"), np.zeros(volume.shape, bool)
    for group, pixels in zip(theirs.PerFrameFunctionalGroupsSequence, theirs.pixel_array, strict=True):
        origin = group.DerivationImageSequence[0].SourceImageSequence[0]
        mask[volume.source.instance_uids.index(origin.ReferencedSOPInstanceUID)] = pixels
    path = write(tmp_path, result_of(volume, [mask], ["liver"]))
    (liver,) = read_with_dcmqi(folder / "liver.dcm", tmp_path / "theirs").values()
    (ours,) = read_with_dcmqi(path, tmp_path / "ours").values()
    np.testing.assert_allclose(ours, liver, atol=1e-3)
    missing = {e.keyword for e in theirs} - {e.keyword for e in pydicom.dcmread(path)}
    assert {keyword for keyword in missing if not keyword.startswith("ClinicalTrial")} == set()


# --- what cannot be done ---------------------------------------------------------------------------------------------


def refused(volume, path):
    with pytest.raises(UsageError) as caught:
        check_segmentation_source(volume, path)
    with pytest.raises(UsageError):
        write_segmentation(result_of(volume), path)
    assert not path.exists()
    return str(caught.value)


def test_a_source_that_cannot_be_referred_to_is_refused_before_the_work(samples, tmp_path):
    path = tmp_path / "result.dcm"
    assert "this is not one" in refused(read_volume(next((samples / "chest_ct").glob("*.nii.gz"))), path)
    assert "lack UIDs" in refused(read_volume(samples / "abdominal_ct_dicom"), path)
    shared = stack(tmp_path / "b", SOPInstanceUID="1.2.3")
    assert shared.shape[0] == 5
    assert "5 files share 1 SOP Instance UIDs" in refused(shared, path)
    assert "Frame of Reference" in refused(stack(tmp_path / "a", FrameOfReferenceUID=None), path)
    for n, heights in enumerate(([1.0, 5.0], [9.0, 13.0])):
        (tmp_path / "two").mkdir(exist_ok=True)
        voxels = np.random.default_rng(n).integers(-1000, 300, (2, 6, 7)).astype(np.int16)
        write_multiframe(tmp_path / "two" / f"{n}.dcm", voxels, heights)
    assert "2 multi-frame objects" in refused(read_volume(tmp_path / "two"), path)


def test_missing_source_images_are_reported_in_one_line_and_leave_no_file(tmp_path):
    volume = stack(tmp_path)
    shutil.rmtree(tmp_path / "source")
    with pytest.raises(FastTextDiffError, match="moved or changed") as caught:
        write(tmp_path, result_of(volume))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("FrameOfReferenceUID", "1.2.3", "headers do not allow a DICOM SEG"),
        ("SOPClassUID", "", "lack the SOP Class UID"),  # as in the bundled anonymised series
    ],
)
def test_a_header_that_allows_no_valid_object_is_refused_in_one_line(tmp_path, keyword, value, words):
    volume = stack(tmp_path)
    dataset = pydicom.dcmread(volume.source.frames[3][0])
    setattr(dataset, keyword, value)
    dataset.save_as(volume.source.frames[3][0])
    with pytest.raises(FastTextDiffError, match=words) as caught:
        write(tmp_path, result_of(volume))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "result.dcm").exists()


@pytest.mark.parametrize(("name", "minimum"), [("highdicom", "99.0"), ("not-highdicom", "0.28")])
def test_without_the_optional_package_one_line_says_what_to_install(tmp_path, monkeypatch, name, minimum):
    needed = Requirement(name, minimum, name.replace("-", "_"))
    monkeypatch.setattr("fasttextdiff.io.write_dicom_seg.HIGHDICOM", needed)
    with pytest.raises(MissingPackagesError, match=f'pip install "{needed}"'):
        check_segmentation_path(tmp_path / "result.dcm")
    check_segmentation_path(tmp_path / "result.seg.nrrd")


def test_probabilities_are_refused_in_other_formats(tmp_path):
    with pytest.raises(UsageError, match="only DICOM SEG"):
        check_segmentation_path(tmp_path / "result.seg.nrrd", fractional=True)


# --- segments of Slicer's scene ---------------------------------------------------------------------------------------


def in_slicers_words(result, folder):
    """The request that 3D Slicer's module makes for a result in its scene."""
    saved = []
    findings = [finding.finding for finding in result.findings]
    looks = zip(result.findings, segment_names(findings), assign_colors(findings), strict=True)
    for n, (finding, name, color) in enumerate(looks):
        file = folder / f"{n}.raw"
        finding.mask.tofile(file)
        tags = segment_tags(finding, result.provenance)
        voxels = ArrayFile(file, "bool", finding.mask.shape)
        saved.append(SavedSegment(name, color, tags["TerminologyEntry"], tags, voxels))
    return SaveDicomSeg(
        output=folder / "saved.dcm",
        files=tuple(sorted({Path(file) for file, _ in result.volume.source.frames}, reverse=True)),
        name="CT",
        ijk_to_ras=tuple(result.volume.ijk_to_ras.ravel().tolist()),
        segments=tuple(saved),
    )


def go_on(done, total):
    return True


@pytest.mark.parametrize("source", [stack, multiframe, projection])
def test_unedited_segments_are_saved_as_the_command_line_writes_them(tmp_path, source):
    result = result_of(source(tmp_path))
    save_dicom_seg(in_slicers_words(result, tmp_path), go_on)
    assert (tmp_path / "saved.dcm").read_bytes() == write(tmp_path, result).read_bytes()


def test_slicer_gets_the_files_of_a_series_in_slice_order(tmp_path):
    volume = stack(tmp_path)
    write_slice(tmp_path / "source" / "other", np.zeros((6, 7), np.int16), SeriesInstanceUID="1.2.3")
    answer = list_series(ListSeries(tmp_path / "source", volume.source.series_uid))
    assert list(answer.files) == [Path(file) for file, _ in volume.source.frames] != sorted(answer.files)
    assert answer.instance_uids == tuple(volume.source.instance_uids)


def test_edited_renamed_drawn_and_foreign_segments_are_marked_and_keep_every_voxel(tmp_path):
    request = in_slicers_words(result_of(stack(tmp_path)), tmp_path)
    edited, renamed, drawn = request.segments
    mass = CodedFinding(type=Code("4147007", "SCT", "Mass")).slicer_entry
    foreign = {"DICOM.SegmentAlgorithmType": "AUTOMATIC", "DICOM.SegmentAlgorithmName": "Other 2"}
    segments = (
        replace(edited, tags={**edited.tags, "DICOM.SegmentAlgorithmType": "SEMIAUTOMATIC"}, terminology=mass),
        replace(renamed, tags={**renamed.tags, "FastTextDiff.Slices": "1:2 4:5"}, name="the shadow"),
        replace(drawn, tags={}, name="drawn", terminology="not~one"),
        replace(edited, tags=foreign, name="drawn", terminology=mass),
    )
    save_dicom_seg(replace(request, segments=segments), go_on)
    dataset = pydicom.dcmread(request.output)
    first, second, third, fourth = dataset.SegmentSequence
    kinds = [segment.SegmentAlgorithmType for segment in dataset.SegmentSequence]
    assert kinds == ["SEMIAUTOMATIC", "AUTOMATIC", "MANUAL", "AUTOMATIC"]
    assert (first.SegmentDescription, first.TrackingID) == ("left lung (edited by hand)", "left lung")
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Mass"
    assert (second.SegmentLabel, second.SegmentDescription) == ("the shadow", LONG)
    assert "slices=1:2 4:5" in second.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
    assert (third.SegmentLabel, fourth.SegmentLabel, fourth.SegmentAlgorithmName) == ("drawn", "drawn (2)", "Other 2")
    assert "SegmentationAlgorithmIdentificationSequence" not in third
    assert "edits by hand" in dataset.ContentDescription
    found = read_with_dcmqi(request.output, tmp_path / "read")
    assert len(found["drawn (2)"]) == len(found["left lung"]) == np.fromfile(edited.voxels.file, bool).sum()
    assert errors_found_by_dciodvfy(request.output) == []


def test_the_review_of_a_segment_is_saved_once_a_slice_was_looked_at(tmp_path):
    request = in_slicers_words(result_of(stack(tmp_path)), tmp_path)
    first, *others = request.segments
    looked_at = "2 of 3 slices looked at: accepted 5, corrected 2, unseen 3"

    def saved(**tags):
        segments = (replace(first, tags={**first.tags, **tags}), *others)
        save_dicom_seg(replace(request, segments=segments), go_on)
        return pydicom.dcmread(request.output)

    nothing = "0 of 3 slices looked at: unseen 2 3 5"
    plain, unseen = saved(), saved(**{"FastTextDiff.Review": nothing, "FastTextDiff.LookedAt": "0"})
    assert unseen == plain
    seen = saved(**{"FastTextDiff.Review": looked_at, "FastTextDiff.LookedAt": "2"})
    assert seen.SegmentSequence[0].SegmentDescription == f"left lung; review: {looked_at}"
    assert seen.SegmentSequence[1].SegmentDescription == plain.SegmentSequence[1].SegmentDescription
    assert seen.SOPInstanceUID != plain.SOPInstanceUID
    assert seen.PixelData == plain.PixelData
    edited = {"FastTextDiff.Review": looked_at, "DICOM.SegmentAlgorithmType": "SEMIAUTOMATIC"}
    description = saved(**edited).SegmentSequence[0].SegmentDescription
    assert description == f"left lung (edited by hand); review: {looked_at}"
    assert errors_found_by_dciodvfy(request.output) == []


def test_a_refused_save_from_slicer_is_one_line_and_keeps_an_older_file(samples, tmp_path):
    request = in_slicers_words(result_of(stack(tmp_path)), tmp_path)
    (tmp_path / "saved.dcm").write_bytes(b"older")
    moved = np.array(request.ijk_to_ras)
    moved[3] += 1
    drawn = tuple(replace(segment, tags={}) for segment in request.segments)
    no_uids = tuple(sorted((samples / "abdominal_ct_dicom").iterdir()))
    for change, words in (
        ({"ijk_to_ras": tuple(moved.tolist())}, "no longer on the grid of its DICOM files"),
        ({"files": (*request.files, tmp_path / "gone")}, "1 of 6 DICOM files of 'CT' are gone"),
        ({"files": no_uids}, "lack UIDs"),
        ({"segments": drawn}, "made none of these"),
        ({"segments": ()}, "no segment"),
    ):
        with pytest.raises(FastTextDiffError, match=words) as caught:
            save_dicom_seg(replace(request, **change), go_on)
        assert "\n" not in str(caught.value)
    for allowed in (0, 1):  # cancelled before and after the work
        with pytest.raises(Cancelled):
            save_dicom_seg(request, lambda done, total, allowed=allowed: done <= allowed)
    assert (tmp_path / "saved.dcm").read_bytes() == b"older"
    assert len(list(tmp_path.iterdir())) == 5  # three masks, the older file, the source
    shutil.rmtree(tmp_path / "source")
    with pytest.raises(FastTextDiffError, match="5 of 5 DICOM files"):
        save_dicom_seg(request, go_on)


def test_a_report_replaces_no_segmentation_of_the_name_beside_it(tmp_path):
    request = replace(in_slicers_words(result_of(stack(tmp_path)), tmp_path), report=tmp_path / "report.dcm")
    request.output.write_bytes(b"older")
    with pytest.raises(UsageError, match=r"saved\.dcm: it exists already"):
        save_dicom_seg(request, go_on)
    assert request.output.read_bytes() == b"older"
    assert not request.report.exists()
