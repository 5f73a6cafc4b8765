"""Findings that hold together across slices: organs without islands, lesions without specks, alike in all programs."""

import json

import nibabel
import numpy as np
import pytest
from scipy.ndimage import label
from tiny_models import tiny_pipeline

from fasttextdiff import Modality, Segmenter, Volume, read_volume
from fasttextdiff.batch.events import Listener
from fasttextdiff.batch.folder import Run
from fasttextdiff.batch.stopping import Stop
from fasttextdiff.batch.work import request_of, segment_case
from fasttextdiff.contract import messages
from fasttextdiff.contract.answers import TaughtFinding
from fasttextdiff.contract.segments import SLICE_BY_SLICE
from fasttextdiff.image.consistency import ConsistencyRule, SliceGrid, settle
from fasttextdiff.model.info import ModelInfo
from fasttextdiff.segments.consistency_rules import (
    FOCAL,
    ORGAN,
    ORGANS,
    PATCHY,
    SLENDER,
    SLENDER_PAIR,
    UNKNOWN,
    hold_together,
    rule_of,
)
from fasttextdiff.segments.tags import segment_tags, texts_of_tags
from fasttextdiff.worker.jobs import Jobs
from fasttextdiff_lab.vocabulary import STRUCTURES

ISOTROPIC = SliceGrid((1.0, 1.0, 1.0), 1.0, 0)


def settled(probability, rule, grid=ISOTROPIC, presence=None, **more):
    """The probabilities after a rule was applied, and what was done."""
    changed = np.array(probability, np.float32)
    presence = np.ones(changed.shape[grid.axis], np.float32) if presence is None else np.float32(presence)
    done = settle(changed, presence, grid, rule, threshold=0.5, presence_threshold=0.5, **more)
    return changed, done


def boxes(*places, shape=(30, 40, 40), value=0.9):
    grid = np.zeros(shape, np.float32)
    for place in places:
        grid[place] = value
    return grid


BODY = np.s_[5:25, 5:30, 5:20]
ISLAND = np.s_[8:16, 10:14, 28:36]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("bridge", [np.s_[0:0], np.s_[10:12, 11:13, 20:28]], ids=["apart", "on a thin bridge"])
def test_an_organ_is_its_largest_part_at_lower_thresholds_too(axis, bridge):
    raw = boxes(BODY, ISLAND, bridge)
    raw[3:20, 32:38, 28:36] = 0.4  # an island that the threshold hides
    found, done = settled(np.moveaxis(raw, 0, axis), ORGAN, SliceGrid((1.0, 1.0, 1.0), 1.0, axis))
    found = np.moveaxis(found, axis, 0)
    for threshold in (0.25, 0.5, 0.8):
        assert (found > threshold)[12:18, 5:30, 5:20].all()
        assert not (found > threshold)[:, :, 27:].any()
    assert done.left_out == 1
    assert 0.8 * 256 < done.voxels < 1.6 * 256


@pytest.mark.parametrize(("spacing", "missing"), [(1.0, 3), (5.0, 1), (9.0, 1)])
def test_thin_gaps_between_slices_part_no_organ(spacing, missing):
    raw = boxes(np.s_[2:14], np.s_[14 + missing : 26], shape=(28, 12, 12))
    rule = ConsistencyRule(smoothing=0, parts=1)
    found, done = settled(raw, rule, SliceGrid((spacing, 1.0, 1.0), spacing, 0))
    assert np.array_equal(found, raw)
    assert done.left_out == 0
    wide = boxes(np.s_[2:14], np.s_[20:26], shape=(28, 12, 12))
    assert settled(wide, rule, SliceGrid((spacing, 1.0, 1.0), spacing, 0))[1].left_out == 1


def test_a_slice_that_flickers_is_filled_by_its_neighbours_and_a_lone_one_goes():
    presence = np.ones(20)
    presence[9], presence[16:] = 0.3, 0.05
    presence[18] = 0.6
    asked = np.float32(presence)
    raw = np.full((20, 8, 8), 0.9, np.float32)
    settle(raw, asked, SliceGrid((1.5, 1.0, 1.0), 1.5, 0), ORGAN, threshold=0.5, presence_threshold=0.5)
    assert list(np.flatnonzero(asked < 0.5)) == [17, 18, 19]
    assert np.allclose(raw, 0.9)  # nothing fades at the ends


def test_a_small_part_is_left_out_unless_an_end_cuts_it_or_the_voxels_are_large():
    small = np.s_[12:14, 20:22, 30:32]
    raw = boxes(BODY, small, np.s_[0:1, 35:37, 30:32])
    rule = ConsistencyRule(smoothing=0, smallest=14)
    found, done = settled(raw, rule)
    assert (done.left_out, done.voxels) == (1, 8)
    assert not found[small].any()
    assert found[0, 35:37, 30:32].all()
    assert settled(raw, rule, SliceGrid((2.0, 1.0, 1.0), 2.0, 0))[1].left_out == 0


def test_both_lungs_may_be_one_part_or_two_but_no_island_stands_in_for_one():
    two = boxes(np.s_[5:25, 5:30, 2:14], np.s_[5:25, 5:30, 22:34])
    joined = boxes(np.s_[5:25, 5:30, 2:34], np.s_[8:14, 33:39, 8:14])
    assert settled(two, ORGANS)[1].left_out == 0
    assert settled(joined, ORGANS)[1].left_out == 1


def test_large_pieces_of_a_lung_are_kept_however_thin():
    base = np.s_[5:25, 2:5, 5:32]  # a recess of 3 mm beside the lung
    second = np.s_[5:25, 5:30, 30:34]  # the other lung, as good as collapsed
    both = boxes(BODY, base, second)
    assert settled(both, ORGANS)[1].left_out == 0
    one, done = settled(both - boxes(base, value=0.9) * (both > 0), ORGAN)
    assert done.left_out == 1
    assert not (one > 0.5)[second].any()
    assert settled(boxes(BODY, base), ORGAN)[1].left_out == 0


def test_smoothing_is_in_millimetres_and_leaves_padding_and_distant_slices_alone():
    raw = np.random.default_rng(0).random((12, 16, 16), np.float32)
    padding = np.zeros(raw.shape, bool)
    padding[:, :4] = True
    raw[padding] = 0
    near, done = settled(raw, UNKNOWN, padding=padding)
    assert done.is_smoothed
    assert not near[padding].any()
    assert np.diff(near, axis=0).std() < 0.5 * np.diff(raw, axis=0).std()
    far, done = settled(raw, UNKNOWN, SliceGrid((5.0, 0.5, 0.5), 1.25, 0))
    assert not done.is_smoothed
    assert np.array_equal(far, raw)


KINDS = {
    ORGAN: ("left lung", "right lung", "heart", "liver", "spleen", "left kidney", "right kidney", "bladder"),
    ORGANS: ("lungs", "kidneys"),
    SLENDER: ("left clavicle", "right clavicle", "trachea", "aorta", "left_atrium", "right_atrium", "left_ventricle",
              "right_ventricle", "left_ventricular_myocardium", "pancreas", "stomach", "prostate"),
    SLENDER_PAIR: ("clavicles",),
    UNKNOWN: ("hepatic_vessels", "bowel", "hippocampus", "amygdala", "grey_matter", "white_matter", "skull",
              "cerebrospinal_fluid", "vertebrae", "intervertebral_discs", "spinal_canal", "pulmonary_artery",
              "prostate_central_gland", *(f"vertebra_l{n}" for n in range(1, 6))),
}  # fmt: skip
"""By what the bundled model is taught; all others are lesions."""


@pytest.mark.parametrize("name", STRUCTURES)
def test_all_words_for_a_structure_mean_the_same_rule(name):
    expected = [rule for rule, names in KINDS.items() if name in names] or [FOCAL, PATCHY]
    assert {rule_of(word) for word in STRUCTURES[name].words} <= set(expected)


@pytest.mark.parametrize(
    ("finding", "rule"),
    [
        ("L lung", ORGAN),
        ("Both Lungs.", ORGANS),
        ("infection in the left lung", PATCHY),
        ("mass in the heart", FOCAL),
        ("nodules of both lungs", FOCAL),
        ("lower left lung", UNKNOWN),
        ("left and right ventricle", SLENDER_PAIR),
        ("left ventricle", SLENDER),
        ("clavicles", SLENDER_PAIR),
        ("right-sided clavicle", SLENDER),
        ("spoon", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_only_an_organ_named_alone_is_an_organ(finding, rule):
    assert rule_of(finding) == rule


@pytest.mark.parametrize(
    ("asked", "parts"), [("show the left lung please", 1), ("upper left lung", 2), ("left lung and liver", 2)]
)
def test_asking_words_change_no_rule_but_parts_and_other_organs_do(asked, parts):
    info = ModelInfo("model", taught={"ct": (TaughtFinding("left lung"), TaughtFinding("liver"))})
    voxels, presence = boxes(BODY, ISLAND)[None], np.ones((1, 30), np.float32)
    names = {asked: info.whole_finding(asked, Modality.CT)}
    hold_together(names, voxels, presence, ISOTROPIC, threshold=0.5, presence_threshold=0.5)
    assert label(voxels[0] > 0.5)[1] == parts


def test_much_of_an_organ_is_not_left_out_in_silence(segmenter, volume):
    [found] = segmenter.segment(volume, ["left lung"]).findings
    assert "left out" in found.consistency
    assert [line for line in found.warnings if "ml apart from the largest part were left out" in line]


def test_a_speck_that_goes_is_not_hidden():
    speck, presence = boxes(np.s_[12:14, 20:22, 30:32])[None], np.ones((1, 30), np.float32)
    limits = {"threshold": 0.5, "presence_threshold": 0.5}
    [(_, warning)] = hold_together({"nodule": ""}, speck, presence, ISOTROPIC, **limits).values()
    assert not (speck > 0.5).any()
    assert "nothing was kept of 0.01 ml" in warning
    body = np.where(boxes(BODY) > 0, 0.9, 0.0)[None].astype(np.float32)
    assert hold_together({"nodule": ""}, body, presence, ISOTROPIC, **limits)["nodule"][1] == ""
    assert hold_together({"nodule": ""}, 0 * body, presence, ISOTROPIC, **limits)["nodule"][1] == ""


# --- everywhere alike ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(tiny_pipeline(), device="cpu")


@pytest.fixture(scope="module")
def volume():
    voxels = np.random.default_rng(0).integers(-1000, 400, (9, 40, 30)).astype(np.int16)
    return Volume(voxels, np.diag([-1.0, -1.0, 1.5, 1.0]), Modality.CT)


def test_a_range_uses_its_own_slices_only_and_one_slice_is_as_the_model_answers_it(segmenter, volume):
    whole = segmenter.segment(volume, ["infection on the left"], slice_by_slice=True)
    part = segmenter.segment(volume, ["infection on the left"], slices=(2, 6))
    raw, _ = settled(whole.probability["infection on the left"][2:6], PATCHY, SliceGrid.of(volume, 0))
    np.testing.assert_allclose(part.probability["infection on the left"][2:6], raw, atol=1e-4)
    assert not part.probability["infection on the left"][[0, 1, 6, 7, 8]].any()
    one = segmenter.segment(volume, ["left lung"], slices=(3, 4))
    alone = segmenter.segment(volume, ["left lung"], slices=(3, 4), slice_by_slice=True)
    assert np.array_equal(one.probability["left lung"], alone.probability["left lung"])
    assert one.provenance.slice_by_slice
    assert one.findings[0].consistency == SLICE_BY_SLICE


@pytest.mark.parametrize("flag", [(), ("--slice-by-slice",)])
def test_command_line_library_and_worker_give_the_same_masks_and_say_how(run, model, volume, tmp_path, flag):
    findings, path = ["left lung", "infection"], stored(volume, tmp_path)
    image, asked = read_volume(path), [word for text in findings for word in ("-f", text)]
    result = Segmenter(tiny_pipeline(), device="cpu").segment(image, findings, slice_by_slice=bool(flag))
    assert result.provenance.slice_by_slice == bool(flag)

    assert run("segment", path, *asked, *flag, "-o", tmp_path / "a.nii.gz")[0] == 0
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["provenance"]["slice_by_slice"] == bool(flag)
    written = np.asarray(nibabel.load(tmp_path / "a.nii.gz").dataobj).T
    for n, (found, said) in enumerate(zip(result.findings, record["findings"], strict=True)):
        assert np.array_equal(written[n] > 0 if written.ndim == 4 else written == n + 1, found.mask)
        assert said["consistency"] == found.consistency

    answers = worker_answer(model, image, findings, tmp_path, slice_by_slice=bool(flag))
    for answer, expected in zip(answers, result.findings, strict=True):
        mask = np.fromfile(answer["mask"]["file"], np.uint8).reshape(answer["mask"]["shape"])
        assert np.array_equal(mask, expected.mask)
        tags = segment_tags(expected, result.provenance)
        for name in ("FastTextDiff.Consistency", "FastTextDiff.SliceBySlice"):
            assert answer["tags"][name] == tags[name]
        assert (tags["FastTextDiff.Consistency"] == SLICE_BY_SLICE) == bool(flag)


@pytest.mark.parametrize("flag", [(), ("--slice-by-slice",)])
def test_a_batch_segments_its_cases_likewise(run, volume, segmenter, tmp_path, monkeypatch, flag):
    asked = []
    monkeypatch.setattr("fasttextdiff.batch.request.show_dry_run", lambda request, *_: asked.append(request))
    run("batch", stored(volume, tmp_path).parent, "-f", "infection", *flag, "-o", tmp_path / "b", "--dry-run")
    [case] = asked[0].find(Listener(), Stop()).cases
    image = case.read()
    made = segment_case(segmenter, image, case, Run("", "", (), "cpu", "auto", False, "now"))
    expected = segmenter.segment(image, ["infection"], slice_by_slice=bool(flag))
    assert np.array_equal(made.probability["infection"], expected.probability["infection"])
    assert made.provenance.slice_by_slice == request_of(case)["slice_by_slice"] == bool(flag)


def stored(volume, folder):
    """The volume as a file in a folder of its own."""
    path = folder / "in" / "ct.nii.gz"
    path.parent.mkdir()
    nibabel.save(nibabel.Nifti1Image(volume.array.transpose(2, 1, 0), volume.ijk_to_ras), path)
    return path


def worker_answer(model, image, findings, folder, **options):
    """What the worker's jobs say to "segment"."""
    voxels, output = folder / "v.raw", folder / "output"
    output.mkdir()
    np.ascontiguousarray(image.array).tofile(voxels)
    jobs = Jobs()

    def ask(op, **fields):
        return messages.event_fields(1, jobs.do(messages.request_of({"op": op, **fields}), lambda *_: True))

    ask("open", model=str(model), device="cpu")
    file = {"file": str(voxels), "dtype": image.array.dtype.name, "shape": list(image.array.shape)}
    matrix = image.ijk_to_ras.ravel().tolist()
    ask("open_volume", volume="v", voxels=file, ijk_to_ras=matrix, modality=image.modality.value)
    return ask("segment", volume="v", findings=findings, output=str(output), **options)["findings"]


def test_segments_of_earlier_versions_keep_their_provenance(segmenter, volume):
    result = segmenter.segment(volume, ["left lung"])
    tags = segment_tags(result.findings[0], result.provenance)
    del tags["FastTextDiff.SliceBySlice"]
    assert texts_of_tags(tags)["slice_by_slice"] == "True"
