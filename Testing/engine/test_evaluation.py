"""Scores follow the published protocols, and the model gets the images and texts of the protocol."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tiny_models import one_line

from fasttextdiff.errors import UsageError
from fasttextdiff.evaluation.datasets import Target
from fasttextdiff.evaluation.metrics import (
    PROTOCOLS,
    by_text,
    evaluate,
    protocol_i,
    protocol_p,
    report,
    save_mask,
    score,
)
from fasttextdiff.image.volume import Modality


class FakeSegmenter:
    """Answers with the pixels brighter than 100, and records images and texts."""

    def __init__(self):
        self.volumes, self.asked = [], []

    def prepare(self, volume):
        self.volumes.append(volume)
        return volume

    def decode(self, volume, findings, *, threshold, try_anyway=False):
        self.asked.append((*findings, threshold))
        grey = volume.array if volume.array.ndim == 3 else volume.array[..., 0]
        return SimpleNamespace(findings=[SimpleNamespace(mask=grey > 100)])


def mask(rows, columns, shape=(10, 10)):
    array = np.zeros(shape, bool)
    array[rows, columns] = True
    return array


NOTHING = mask(slice(0), slice(0))
TEN = mask(slice(0, 1), slice(0, 10))
TWENTY = mask(slice(0, 2), slice(0, 10))
THIRTY = mask(slice(1, 4), slice(0, 10))


def target(folder, name="a", image=None, truth=TEN, text="left lung", labels="labelcol"):
    """A target whose picture is 200 where `image` is True and 20 elsewhere."""
    shown = np.where(truth if image is None else image, 200, 20).astype(np.uint8)
    paths = folder / "img" / f"{name}.png", folder / labels / f"{name}.png"
    for path, pixels in zip(paths, (shown, truth.astype(np.uint8) * 255), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return Target(*paths, text, Modality.XRAY)


def texts_of(*texts):
    return [Target(None, None, text, Modality.XRAY) for text in texts]


def test_dice_and_iou_of_a_partial_overlap_match_a_hand_computation():
    result = score("a.png", "finding", TWENTY, THIRTY)
    assert (result.truth_px, result.mask_px, result.overlap_px) == (30, 20, 10)
    assert result.iou == pytest.approx(10 / 40, abs=1e-6)
    assert result.dice == pytest.approx(20 / 50, abs=1e-6)
    assert (result.image, result.text) == ("a.png", "finding")


@pytest.mark.parametrize(
    ("found", "truth", "expected"), [(NOTHING, NOTHING, 1), (TEN, NOTHING, 0), (NOTHING, TEN, 0), (TEN, TEN, 1)]
)
def test_an_empty_truth_requires_an_empty_mask(found, truth, expected):
    result = score("a", "", found, truth)
    assert result.dice == pytest.approx(expected, abs=1e-5)
    assert result.iou == pytest.approx(expected, abs=1e-5)


def test_protocol_i_means_images_and_protocol_p_pools_pixels():
    scores = [score("a", "", TEN, TEN), score("b", "", TWENTY, THIRTY), score("c", "", NOTHING, NOTHING)]
    assert protocol_i(scores) == pytest.approx({"dice": (1 + 0.4 + 1) / 3, "iou": (1 + 0.25 + 1) / 3}, abs=1e-6)
    assert protocol_p(scores) == pytest.approx({"dice": 2 * 20 / (40 + 30), "iou": 20 / 50})
    assert protocol_p(scores[2:]) == {"dice": 1.0, "iou": 1.0}


def test_each_target_is_shown_whole_with_its_text(tmp_path):
    segmenter = FakeSegmenter()
    targets = [target(tmp_path, "a", image=TWENTY, truth=THIRTY), target(tmp_path, "b", truth=NOTHING)]
    kept = []
    scores = list(
        evaluate(segmenter, targets, texts=["", "heart"], threshold=0.3, keep=lambda t, m: kept.append((t, m.sum())))
    )
    assert segmenter.asked == [("", 0.3), ("heart", 0.3)]
    assert [(v.array.shape, v.modality, v.is_planar) for v in segmenter.volumes] == [
        ((1, 10, 10), Modality.XRAY, True)
    ] * 2
    assert segmenter.volumes[0].array[0, 0, 0] == 200
    assert [s.dice for s in scores] == pytest.approx([0.4, 1.0], abs=1e-6)
    assert [s.image for s in scores] == ["a.png", "b.png"]
    assert kept == [(targets[0], 20), (targets[1], 0)]


def test_the_published_protocol_shows_256_pixels_and_dilates_the_truth(tmp_path):
    line = mask(slice(None), slice(100, 101), shape=(512, 512))
    segmenter = FakeSegmenter()
    (result,) = evaluate(segmenter, [target(tmp_path, truth=line)], texts=["x"], protocol="published")
    assert segmenter.volumes[0].array.shape == (1, 256, 256)
    # one column of 512 covers half a column of the small grid: bilinear and > 0 keep it whole
    assert result.truth_px == 256
    square = mask(slice(61, 121), slice(61, 121), shape=(384, 384))
    (result,) = evaluate(segmenter, [target(tmp_path, truth=square)], texts=["x"], protocol="published")
    assert result.truth_px == 41**2  # 60 of 384 px are 40 of 256, plus one that only touches the edge
    (native,) = evaluate(segmenter, [target(tmp_path, truth=square)], texts=["x"])
    assert native.truth_px == 60**2


def test_the_published_protocol_keeps_colours(tmp_path):
    item = target(tmp_path)
    colours = np.zeros((300, 200, 3), np.uint8)
    colours[..., 0], colours[..., 2] = 150, 30
    Image.fromarray(colours).save(item.image)
    Image.fromarray(np.zeros((300, 200), np.uint8)).save(item.mask)
    segmenter = FakeSegmenter()
    list(evaluate(segmenter, [item], texts=["x"], protocol="published"))
    shown = segmenter.volumes[0].array
    assert shown.shape == (1, 256, 256, 3)
    assert shown[0, 100, 100].tolist() == [150, 0, 30]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path, protocol):
    item = target(tmp_path)
    Image.fromarray(np.zeros((9, 10), np.uint8)).save(item.mask)
    with pytest.raises(UsageError) as caught:
        list(evaluate(FakeSegmenter(), [item], texts=["x"], protocol=protocol))
    one_line(caught, str(item.mask), "(9, 10)", "(10, 10)")


def test_the_report_has_exactly_the_agreed_keys_and_is_json():
    run = {"dataset": "d", "split": "val", "model": "m", "text": "true", "protocol": "native", "threshold": 0.5}
    content = report([score("a.png", "x", TEN, TEN), score("b.png", "y", TEN, NOTHING)], **run)
    assert set(content) == {*run, "n", "n_empty", "protocol_i", "protocol_p", "images"}
    assert (content["n"], content["n_empty"]) == (2, 1)
    assert set(content["protocol_i"]) == set(content["protocol_p"]) == {"dice", "iou"}
    assert content["protocol_i"]["dice"] == pytest.approx(0.5)
    assert content["protocol_p"]["dice"] == pytest.approx(2 / 3)
    assert [set(image) for image in content["images"]] == [{"image", "text", "dice", "iou", "truth_px", "mask_px"}] * 2
    assert content["images"][1] == {
        "image": "b.png",
        "text": "y",
        "dice": 0.0,
        "iou": 0.0,
        "truth_px": 0,
        "mask_px": 10,
    }
    assert json.loads(json.dumps(content)) == content


def test_scores_are_grouped_by_finding_but_not_by_caption():
    targets = texts_of("heart", "lungs", "heart")
    scores = [score("a", "", TEN, TEN), score("b", "", TWENTY, THIRTY), score("c", "", NOTHING, TEN)]
    groups = by_text(scores, targets)
    assert set(groups) == {"heart", "lungs"}
    assert groups["heart"] == pytest.approx({"n": 2, "dice": 0.5, "iou": 0.5}, abs=1e-5)
    assert by_text(scores[:1] * 13, texts_of(*map(str, range(13)))) == {}


@pytest.mark.parametrize(
    ("labels", "expected"), [("labelcol", "a.png"), ("targets/ggo", "ggo/a.png"), ("targets/heart", "heart/a.png")]
)
def test_masks_are_saved_under_the_truths_name(tmp_path, labels, expected):
    save_mask(tmp_path / "out", target(tmp_path, labels=labels), TEN)
    saved = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert saved == [tmp_path / "out" / expected]
    assert np.array_equal(np.asarray(Image.open(saved[0])), TEN * np.uint8(255))
