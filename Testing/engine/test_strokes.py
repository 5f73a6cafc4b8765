"""Strokes correct one slice: they hold exactly, the rest follows, and the model stays as it was."""

import numpy as np
import pytest
import torch
from tiny_models import tiny_pipeline

from fasttextdiff.errors import UsageError
from fasttextdiff.image.preprocessing import Fit
from fasttextdiff.teaching.strokes import StrokeCorrector

SHAPE = (60, 90)
DISC = (np.hypot(*(np.indices(SHAPE) - np.array([30, 40])[:, None, None])) < 15).astype(bool)


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


@pytest.fixture
def corrector(pipeline):
    fit = Fit.of(SHAPE, (1.0, 1.0), 64, pipeline.denoiser.multiple)
    pixels = np.where(DISC, 0.8, 0.2).astype(np.float32)
    torch.manual_seed(0)
    maps = [torch.randn(1, pipeline.fusion.config.width, fit.padded[0] // k, fit.padded[1] // k) for k in (8, 4)]
    text = pipeline.text_encoder.encode(["lesion"])
    return StrokeCorrector(pipeline.fusion, pixels, maps, fit, text, fit.padded)


def stroke(row, first, last):
    mark = np.zeros(SHAPE, bool)
    mark[row, first:last] = True
    return mark


def dice(mask, truth):
    return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())


def test_strokes_hold_exactly_and_the_mask_follows(corrector):
    before = corrector.mask()
    corrector.add(stroke(30, 35, 46), True)
    corrector.add(stroke(5, 20, 70), False)
    corrector.add(stroke(55, 20, 70), False)
    after = corrector.mask()
    assert after[30, 35:46].all()
    assert not after[5, 20:70].any()
    assert dice(after, DISC) > dice(before, DISC) + 0.1
    assert ((corrector.probability() > 0.999)[30, 35:46]).all()  # at every threshold


def test_more_true_strokes_do_not_spoil_the_mask(corrector):
    """Small strokes late in a correction must not overturn what earlier ones made."""
    corrector.add(stroke(30, 30, 50), True)
    best = dice(corrector.mask(), DISC)
    for row, first, last in ((5, 20, 70), (25, 34, 36), (50, 60, 80), (20, 40, 42), (46, 40, 43), (12, 40, 43)):
        corrector.add(stroke(row, first, last), bool(DISC[row, first]))
        found = dice(corrector.mask(), DISC)
        assert found > best - 0.05
        best = max(best, found)


def test_forty_strokes_side_by_side_hold_exactly(corrector):
    rows = np.random.default_rng(0).permutation(40) + 10
    for number, row in enumerate(rows, start=1):
        corrector.add(stroke(row, 20, 70), bool(row % 2))
        drawn = rows[:number]
        assert (corrector.mask()[drawn, 20:70] == (drawn % 2 == 1)[:, None]).all()


def test_a_stroke_that_fails_leaves_the_strokes_as_they_were(corrector, monkeypatch):
    corrector.add(stroke(30, 35, 46), True)
    before = corrector.probability()
    with monkeypatch.context() as patched:
        patched.setattr("scipy.optimize.nnls", lambda *_arguments, **_options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            corrector.add(stroke(5, 20, 70), False)
    assert len(corrector) == 1
    np.testing.assert_array_equal(corrector.probability(), before)
    corrector.undo()
    assert len(corrector) == 0


def test_undo_takes_one_stroke_back(corrector):
    answers = [corrector.probability()]
    for row, present in ((30, True), (5, False)):
        corrector.add(stroke(row, 35, 46), present)
        answers.append(corrector.probability())
    for answer in reversed(answers[:-1]):
        corrector.undo()
        np.testing.assert_array_equal(corrector.probability(), answer)
    with pytest.raises(UsageError, match="no stroke to undo"):
        corrector.undo()


@pytest.mark.parametrize(
    ("mark", "present", "message"),
    [
        (np.zeros(SHAPE, bool), True, "marks no pixel"),
        (np.ones((90, 60), bool), True, "90 x 60 pixels, the slice has 60 x 90"),
        (stroke(30, 44, 50), False, "2 pixels are marked as finding and as background"),
    ],
)
def test_a_stroke_that_cannot_be_is_refused_and_changes_nothing(corrector, mark, present, message):
    corrector.add(stroke(30, 35, 46), True)
    before = corrector.probability()
    with pytest.raises(UsageError, match=message):
        corrector.add(mark, present)
    assert len(corrector) == 1
    np.testing.assert_array_equal(corrector.probability(), before)


def test_the_model_is_only_read(pipeline, corrector):
    before = {name: weight.clone() for name, weight in pipeline.state_dict().items()}
    corrector.add(stroke(30, 35, 46), True)
    corrector.mask()
    assert all(torch.equal(weight, before[name]) for name, weight in pipeline.state_dict().items())
    assert not any(weight.requires_grad and weight.grad is not None for weight in pipeline.parameters())


def test_a_thin_stroke_on_a_large_slice_counts(pipeline):
    """A single pixel of 512 is less than a pixel of the head's grid."""
    fit = Fit.of((512, 512), (1.0, 1.0), 64, pipeline.denoiser.multiple)
    maps = [torch.zeros(1, pipeline.fusion.config.width, 8, 8), torch.zeros(1, pipeline.fusion.config.width, 16, 16)]
    text = pipeline.text_encoder.encode(["lesion"])
    corrector = StrokeCorrector(pipeline.fusion, np.zeros((512, 512), np.float32), maps, fit, text, fit.padded)
    before = corrector.probability()
    mark = np.zeros((512, 512), bool)
    mark[255, 255] = True
    corrector.add(mark, True)
    assert corrector.probability()[262, 262] > before[262, 262]
