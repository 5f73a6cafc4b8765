"""What the words of a finding do: ignored words, the result without text, findings of another kind of image."""

from pathlib import Path

import numpy as np
import pytest

from fasttextdiff import Segmenter, read_volume
from fasttextdiff.contract.answers import ArrayFile
from fasttextdiff.contract.requests import Open, OpenVolume
from fasttextdiff.contract.words import WeighWords
from fasttextdiff.errors import UsageError
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.info import BUNDLED_MODEL, read_info
from fasttextdiff.word_effects import IGNORED, WordEffect, WordEffects, weigh_words
from fasttextdiff.worker.jobs import Jobs

SAMPLES = Path(__file__).resolve().parents[2] / "Resources" / "samples"
SLICE = 52
"""A slice on which the bundled model marks an infection, though there is none."""


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(device="cpu")


@pytest.fixture(scope="module")
def chest():
    return read_volume(SAMPLES / "chest_ct" / "chest_ct_cropped.nii.gz")


def test_words_that_change_nothing_are_told_from_those_that_do(segmenter, chest):
    image = segmenter.prepare(chest, slices=(SLICE, SLICE + 1))
    weighed = weigh_words(segmenter, image, "please show the left lung infection")
    changes = {each.word: each.change for each in weighed.words}
    assert changes["please"] is changes["show"] is changes["the"] is None
    assert changes["left"] > IGNORED
    assert changes["infection"] > IGNORED
    shown = {"slices": (SLICE, SLICE + 1), "slice_by_slice": True}
    without = segmenter.segment(chest, ["please show the lung infection"], **shown)
    whole = segmenter.segment(chest, [weighed.finding], **shown)
    one, other = (result.findings[0].probability[SLICE].astype(float) for result in (whole, without))
    moved = 1 - 2 * np.minimum(one, other).sum() / (one + other).sum()
    assert changes["left"] == pytest.approx(
        max(moved, abs(float(whole.findings[0].presence[SLICE] - without.findings[0].presence[SLICE]))), abs=1e-4
    )
    free = segmenter.decode(image, [""], slice_by_slice=True).findings[0].mask[SLICE : SLICE + 1]
    assert np.array_equal(weighed.text_free, free)


def test_an_ignored_word_is_named_and_an_absent_finding_says_nothing_about_words():
    free = np.zeros((1, 2, 2), bool)
    words = (WordEffect("huge", 0.01), WordEffect("infection", 0.9), WordEffect("of", None))
    assert [each.is_ignored for each in words] == [True, False, False]
    ignoring = WordEffects("huge infection of", words, True, 0.9, free, 0.9)
    assert ignoring.note == "the model ignores 'huge' on this slice"
    absent = WordEffects("huge infection", words, False, 0.12, free, None)
    assert absent.note == "'huge infection' is not found on this slice (presence 12%)"
    lesion = WordEffects("infection", words[1:2], True, 0.9, free, 0.4)
    assert "without words, the model marks something else than 'infection' (Dice 0.40)" in lesion.note
    organ = WordEffects("left lung", words, True, 0.9, free, 0.0)
    assert "something else" not in organ.note  # without words it marks lesions, so that a lung always differs


def test_bad_requests_are_one_line(segmenter, chest):
    with pytest.raises(UsageError, match="tried on one slice"):
        weigh_words(segmenter, segmenter.prepare(chest, slices=(50, 52)), "infection")
    with pytest.raises(UsageError):
        weigh_words(segmenter, segmenter.prepare(chest, slices=(50, 51)), "  ")


def test_the_worker_answers_with_words_and_the_mask_without_text(chest, tmp_path):
    jobs, voxels = Jobs(), tmp_path / "voxels.raw"
    chest.array.tofile(voxels)
    jobs.open(Open(None, "cpu"))
    array = ArrayFile(voxels, chest.array.dtype.name, chest.shape)
    jobs.open_volume(OpenVolume("v", array, tuple(chest.ijk_to_ras.ravel().tolist()), modality="ct"))
    answer = jobs.do(WeighWords("v", "left lung", 50, tmp_path), lambda done, total: True)
    assert [each.word for each in answer.words] == ["left", "lung"]
    assert [each.ignored for each in answer.words] == [False, False]
    mask = np.fromfile(answer.text_free.file, np.uint8).reshape(answer.text_free.shape)
    assert mask.shape == (1, *chest.shape[1:])
    with pytest.raises(UsageError, match="there is no folder"):
        jobs.do(WeighWords("v", "left lung", 50, tmp_path / "gone"), lambda done, total: True)
    with pytest.raises(UsageError):
        jobs.do(WeighWords("v", "left lung", len(chest.array), tmp_path), lambda done, total: True)


def test_a_finding_of_another_kind_of_image_is_said_so():
    info = read_info(BUNDLED_MODEL)
    assert info.untaught("cell nuclei", Modality.CT).endswith("it was taught for histology images")
    assert "it was taught for" not in info.untaught("gallbladder", Modality.CT)
    assert info.untaught("left lung", Modality.CT) == ""
