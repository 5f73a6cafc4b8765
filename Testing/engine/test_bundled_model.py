"""The bundled weights on the bundled real images."""

import numpy as np
import pytest
from spellings import PAIRS

from fasttextdiff import FastTextDiffPipeline, Segmenter, read_volume
from fasttextdiff.errors import UsageError
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.info import BUNDLED_MODEL
from fasttextdiff.segments.tags import segment_tags


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(FastTextDiffPipeline.from_pretrained(), device="cpu")


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_model_folder_is_small_and_describes_itself():
    sizes = {path: path.stat().st_size for path in BUNDLED_MODEL.rglob("*") if path.is_file()}
    weights = sum(size for path, size in sizes.items() if path.suffix == ".safetensors")
    assert weights <= 25e6
    assert sum(sizes.values()) <= weights + 1e6  # tokenizer, descriptions, graphs of the converted networks
    assert "CC BY-NC-SA" in (BUNDLED_MODEL / "README.md").read_text()
    info = FastTextDiffPipeline.from_pretrained().info
    assert info.knows("left lung", Modality.XRAY)
    assert len(info.weights_sha256) == 16


def test_sides_on_an_x_ray_are_the_patients_and_absent_findings_are_not_found(segmenter, samples):
    volume = read_volume(samples / "cxr_hannover" / "18017511.png")
    masks = segmenter.segment(volume, ["left lung", "right lung", "heart", "nuclei"], try_anyway=True).mask
    columns = {name: np.nonzero(mask[0])[1] / mask.shape[2] for name, mask in masks.items()}
    assert 0.1 < masks["left lung"].mean() < 0.3
    assert np.mean(columns["left lung"] > 0.5) > 0.97  # the patient's left is on the right of the picture
    assert np.mean(columns["right lung"] < 0.5) > 0.97
    assert 0.4 < columns["heart"].mean() < 0.65
    assert not masks["nuclei"].any()


def test_every_spelling_of_a_finding_gives_the_same_bits_and_records_what_was_typed(segmenter, samples):
    image = segmenter.prepare(read_volume(samples / "cxr_hannover" / "18017511.png"))
    some = PAIRS[::6]  # a test without a model checks that each one is understood as the plain form
    plain = {name: segmenter.decode(image, [name]).findings[0] for name in {plain for _, plain in some}}
    assert len(PAIRS) >= 60
    for text, name in some:
        result = segmenter.decode(image, [text])
        found, tags = result.findings[0], segment_tags(result.findings[0], result.provenance)
        assert found.finding == name
        assert np.array_equal(found.probability, plain[name].probability)
        if " ".join(text.split()) != name:
            assert f"understood as: {name}" in found.warnings
            assert found.typed == text
            assert "FastTextDiff.Typed" in tags
        else:
            assert (found.typed, found.warnings) == ("", plain[name].warnings)


def test_a_misspelt_finding_is_answered_like_the_word_and_says_so(segmenter, samples):
    image = segmenter.prepare(read_volume(samples / "cxr_hannover" / "18017511.png"))
    typed, plain = segmenter.decode(image, ["rihgt lung", "right lung"]).findings
    assert np.array_equal(typed.probability, plain.probability)
    assert typed.finding == "rihgt lung"
    assert typed.warnings == ("spelling corrected: right lung", *plain.warnings)


def test_spellings_are_answered_once_and_unreadable_findings_are_refused(segmenter, samples):
    volume = read_volume(samples / "cxr_hannover" / "18017511.png")
    assert list(segmenter.segment(volume, ["right lung", "\u201cR lung\u201d", "RIGHT LUNG."]).mask) == ["right lung"]
    for text in ("", "\u2318", "left \u043b\u0451\u0433\u043a\u043e\u0435"):
        with pytest.raises(UsageError):
            segmenter.segment(volume, ["right lung", text])


def test_lungs_on_a_chest_ct_contain_air(segmenter, samples):
    volume = read_volume(samples / "chest_ct" / "chest_ct_cropped.nii.gz")
    masks = segmenter.segment(volume, ["left lung", "right lung"], slices=(60, 90)).mask
    air = volume.array[60:90] < -600
    left, right = masks["left lung"][60:90], masks["right lung"][60:90]
    assert dice(left | right, air) > 0.85
    patient_x = volume.ijk_to_ras[0, 0] * np.arange(volume.shape[2])  # R is positive
    middle = {name: patient_x[np.nonzero(mask)[2]].mean() for name, mask in (("left", left), ("right", right))}
    assert middle["left"] < middle["right"]


def test_nuclei_are_darker_than_their_surroundings(segmenter, samples):
    volume = read_volume(samples / "histology" / "4d14a3629b6af6de.png")
    masks = segmenter.segment(volume, ["cell nuclei", "left lung"], try_anyway=True).mask
    grey = volume.array.mean(axis=-1)
    assert grey[masks["cell nuclei"]].mean() < grey[~masks["cell nuclei"]].mean() - 30
    assert not masks["left lung"].any()
