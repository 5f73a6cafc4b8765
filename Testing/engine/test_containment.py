"""Lesions of the lung on CT lie in the lungs: what is marked in the heart or the chest wall is left out, and said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes, label

from fasttextdiff import Segmenter, read_volume
from fasttextdiff.containment import Containment, outline
from fasttextdiff.contract.segments import SLICE_BY_SLICE
from fasttextdiff.correction import SliceCorrection, Stroke
from fasttextdiff.image.assembly import SliceAnswer
from fasttextdiff.image.containment import filled, leave_out_outside
from fasttextdiff.image.volume import Modality

SAMPLES = Path(__file__).resolve().parents[2] / "Resources" / "samples"
LUNG = np.zeros((40, 40), bool)
LUNG[5:35, 4:18] = True
LUNG[15:25, 8:12] = False  # a dense lesion that looks unlike lung
MIDDLE = slice(30, 70)
"""Slices of the chest CT with both lungs and the heart."""


def picture(*boxes, value=0.9):
    grid = np.zeros(LUNG.shape, np.float32)
    for box in boxes:
        grid[box] = value
    return grid


INSIDE, ACROSS, OUTSIDE = np.s_[8:12, 6:10], np.s_[26:32, 14:21], np.s_[10:20, 24:34]
DENSE, MOSTLY_OUTSIDE = np.s_[15:25, 8:12], np.s_[1:4, 15:30]


def test_parts_stay_if_half_of_them_lie_within_the_filled_outline():
    found = picture(INSIDE, ACROSS, OUTSIDE, DENSE, MOSTLY_OUTSIDE)
    assert leave_out_outside([found], filled(LUNG), 0.5)
    assert np.array_equal(found, picture(INSIDE, ACROSS, DENSE))
    assert not leave_out_outside([found], filled(LUNG), 0.5)


@pytest.mark.parametrize("gap", [0, 2], ids=["joined", "apart"])
def test_nothing_appears_if_the_threshold_is_lowered(gap):
    found = picture(INSIDE, OUTSIDE)
    found[6:14, 4:18] = np.maximum(found[6:14, 4:18], 0.3)  # the skirt of a lesion that stays
    found[8:22, 18 + gap : 36] = np.maximum(found[8:22, 18 + gap : 36], 0.3)  # of one that does not
    found[30:34, 25:30] = 0.4  # hidden by the threshold
    leave_out_outside([found], filled(LUNG), 0.5)
    assert (found > 0.25)[6:14, 4:18].all()
    assert not found[:, 19:].any()


def test_the_mean_of_noise_samples_decides_for_all_of_them():
    one, other = picture(INSIDE, OUTSIDE), picture(OUTSIDE, value=0.3)
    assert leave_out_outside([one, other], filled(LUNG), 0.5)
    assert not one[OUTSIDE].any()
    assert not other[OUTSIDE].any()
    assert np.array_equal(one, picture(INSIDE))


def contained(info, lesion, presence=0.9):
    rule = Containment.of(info, Modality.CT, ["infection"], ["infection"], 0.5)
    assert rule.organs_of([0]) == ["lungs"]
    answers = [SliceAnswer(lesion[None], np.float32([presence]))]
    rule.contain([0], answers, {"lungs": outline([SliceAnswer(np.float32(0.9 * LUNG[None]), np.float32([0.9]))], info)})
    return rule, answers[0].probability[0]


def test_an_organ_that_is_absent_has_no_outline_and_so_no_lesion(segmenter):
    absent = [SliceAnswer(np.float32(0.9 * LUNG[None]), np.float32([0.1]))]
    assert not outline(absent, segmenter.info).any()
    found = picture(INSIDE)
    leave_out_outside([found], outline(absent, segmenter.info), 0.5)
    assert not found.any()


def test_tag_and_warning_say_on_how_many_slices_something_was_left_out(segmenter):
    rule, kept = contained(segmenter.info, picture(INSIDE, OUTSIDE))
    assert np.array_equal(kept, picture(INSIDE))
    assert rule.outcome(0)[0] == "within the lungs, which changed 1 slice"
    assert rule.outcome(0)[1].startswith("'infection': areas outside the lungs were left out on 1 slice: ")


def test_nothing_is_said_of_slices_on_which_the_finding_is_absent_anyway(segmenter):
    rule, kept = contained(segmenter.info, picture(OUTSIDE), presence=0.1)
    assert not kept.any()
    assert rule.outcome(0) == ("within the lungs", "")


@pytest.mark.parametrize(
    ("finding", "modality", "has_organ"),
    [
        ("ground-glass opacity in the left lung", Modality.CT, True),
        ("covid pneumonia", Modality.CT, True),
        ("lungs", Modality.CT, False),
        ("kidney tumour", Modality.CT, False),
        ("infection", Modality.XRAY, False),
        ("", Modality.CT, False),
        ("liver lesion", Modality.CT, False),  # untaught, and tried anyway
        ("infection of the liver", Modality.CT, False),
    ],
)
def test_lung_lesions_on_ct_have_an_organ(segmenter, finding, modality, has_organ):
    assert Containment.of(segmenter.info, modality, [finding], [finding], 0.5).organs == (
        {0: "lungs"} if has_organ else {}
    )


def test_a_learned_finding_may_lie_anywhere(segmenter):
    assert not Containment.of(segmenter.info, Modality.CT, ["infection"], [], 0.5).organs


# --- with the bundled model, on a chest CT without any known lesion --------------------------------------------------


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(runtime="torch", dtype="float32")


@pytest.fixture(scope="module")
def chest():
    return read_volume(SAMPLES / "chest_ct" / "chest_ct_cropped.nii.gz")


def test_lesions_of_the_demo_lie_in_the_lungs(segmenter, chest):
    for k in range(MIDDLE.start, MIDDLE.stop, 4):
        found = segmenter.segment(chest, ["infection", "lungs"], slices=(k, k + 1))
        assert found.of("infection").consistency.startswith("within the lungs")
        assert found.of("lungs").consistency == SLICE_BY_SLICE
        inside = binary_fill_holes(found.of("lungs").mask[k])
        parts, count = label(found.of("infection").mask[k])
        assert all(inside[parts == n].mean() >= 0.5 for n in range(1, count + 1))


def test_of_a_volume_less_than_half_as_much_is_marked_outside_the_lungs(segmenter, chest):
    window = {"slices": (MIDDLE.start, MIDDLE.stop)}
    raw = segmenter.segment(chest, ["infection", "lungs"], slice_by_slice=True, **window)
    found = segmenter.segment(chest, ["infection"], **window).of("infection")
    lungs = np.stack([binary_fill_holes(mask) for mask in raw.of("lungs").mask])
    before, after = ((mask & ~lungs).sum() for mask in (raw.of("infection").mask, found.mask))
    assert after < before / 2
    assert found.consistency.startswith("within the lungs, which changed ")
    assert raw.of("infection").consistency == SLICE_BY_SLICE


@pytest.fixture(scope="module")
def changed(segmenter, chest):
    """A slice on which much of an infection is left out, as (first, last + 1)."""
    image = segmenter.prepare(chest, slices=(MIDDLE.start, MIDDLE.stop))
    raw = segmenter.decode_slices(image, ["infection"], slice_by_slice=True).findings[0]
    outside = [
        int((mask & ~segmenter.segment(chest, ["infection"], slices=(k, k + 1)).findings[0].mask[k]).sum())
        for k, mask in enumerate(raw.mask, start=MIDDLE.start)
    ]
    assert max(outside) > 50
    most = MIDDLE.start + int(np.argmax(outside))
    return most, most + 1


def test_one_slice_is_answered_like_those_of_a_volume(segmenter, chest, changed):
    alone = segmenter.segment(chest, ["infection"], slices=changed).findings[0]
    also = segmenter.segment(chest, ["infection", "left lung"], slices=changed).findings[0]
    assert np.array_equal(alone.mask, also.mask)
    assert alone.consistency == f"within the lungs, which changed 1 slice; {SLICE_BY_SLICE}"
    assert any("outside the lungs" in warning for warning in alone.warnings)


def test_the_outline_is_computed_once_for_a_slice_and_a_cached_one_gives_the_same_bits(segmenter, chest, monkeypatch):
    segmenter.cache.clear()
    image = segmenter.prepare(chest, slices=(50, 51))
    calls, maps = [], segmenter.runtime.maps
    texts, read = [], segmenter.runtime.text
    monkeypatch.setattr(segmenter.runtime, "text", lambda findings: texts.extend(findings) or read(findings))
    monkeypatch.setattr(segmenter.runtime, "maps", lambda *image: calls.append(1) or maps(*image))
    first = segmenter.decode(image, ["infection"]).findings[0]
    assert texts == ["infection", "lungs"]
    second = segmenter.decode(image, ["infection"]).findings[0]
    assert texts == ["infection", "lungs", "infection"]
    assert calls == [1]
    assert np.array_equal(first.probability, second.probability)
    assert first.warnings == second.warnings


def test_without_room_in_the_cache_the_denoiser_still_runs_once_a_slice(segmenter, chest, monkeypatch):
    poor = Segmenter(cache_bytes=0, runtime=segmenter.runtime)
    image = poor.prepare(chest, slices=(50, 51))
    calls, maps = [], segmenter.runtime.maps
    monkeypatch.setattr(segmenter.runtime, "maps", lambda *views: calls.append(1) or maps(*views))
    found = poor.decode(image, ["infection"]).findings[0]
    assert calls == [1]
    assert np.array_equal(found.mask, segmenter.segment(chest, ["infection"], slices=(50, 51)).findings[0].mask)


def test_the_same_body_at_another_place_has_its_own_outline(segmenter, chest):
    def padded(left):
        around = ((0, 0), (10, 10), (left, 30 - left))
        return replace(chest, array=np.pad(chest.array, around, constant_values=chest.array.min()), padding=None)

    def found(volume):
        return segmenter.segment(volume, ["infection"], slices=(50, 51)).findings[0].mask[50]

    segmenter.cache.clear()
    first, shifted, plain = found(padded(20)), found(padded(10)), found(chest)
    assert np.array_equal(first[:, 10:], shifted[:, :-10])
    assert first.shape != plain.shape


# --- strokes ---------------------------------------------------------------------------------------------------------


def test_a_stroke_brings_back_what_was_left_out_and_no_other_stroke_does(segmenter, chest, changed):
    image = segmenter.prepare(chest, slices=changed)
    own = segmenter.decode_slices(image, ["infection"]).findings[0].mask[0]
    plain = segmenter.decode_slices(image, ["infection"], slice_by_slice=True).findings[0].mask[0]
    parts, _ = label(plain & ~own)
    largest = parts == np.argmax(np.bincount(parts[parts > 0]))
    mark = np.zeros_like(largest)
    mark[tuple(np.argwhere(largest)[len(np.argwhere(largest)) // 2])] = True
    elsewhere = np.zeros_like(largest)
    elsewhere[2:4, 2:4] = True
    correction = SliceCorrection(segmenter, image, "infection")
    back = correction.result([Stroke(mark[None], present=True)]).findings[0].mask[0]
    assert (back & largest).sum() > 0.5 * largest.sum()
    away = correction.result([Stroke(elsewhere[None], present=False)]).findings[0].mask[0]
    assert not (away & plain & ~own).any()
    kept = SliceCorrection(segmenter, image, "infection", slice_by_slice=True)
    assert np.array_equal(kept.result([]).findings[0].mask[0], plain)
    assert (kept.result([Stroke(elsewhere[None], present=False)]).findings[0].mask[0] & plain & ~own).any()
