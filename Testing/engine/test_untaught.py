"""A finding that the model was not taught is left empty, and its words alone decide which that is."""

import numpy as np
import pytest
from tiny_models import tiny_pipeline

from fasttextdiff.contract.answers import TaughtFinding
from fasttextdiff.evaluation.texts import mistyped
from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.model.untaught import explain_untaught, nearest, strange_words
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.segments.tags import segment_tags
from fasttextdiff.training.prompts import TAUGHT

XRAY = (*TAUGHT["xray"], TaughtFinding("lung nodule", ("nodule",)))
ABDOMEN = (
    TaughtFinding("liver tumour", ("liver tumor", "HCC", "hepatic lesion")),
    TaughtFinding("kidneys", ("kidney",)),
    TaughtFinding("intracranial haemorrhage", ("ICH",)),
)


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("Bilateral pulmonary infection, two infected areas, upper left lung and upper right lung.", XRAY),
        ("COVID-19 changes at two sites: the whole left lung.", XRAY),
        ("consolidated tissue in the RLL", XRAY),
        ("please outline the patchy opacities at both bases", XRAY),
        ("pnuemonia, rigth lung", XRAY),
        ("no infection on the left", XRAY),
        ("tumors of the liver", ABDOMEN),
        ("a large hepatic lesion", ABDOMEN),
        ("hepatic carcinma", ABDOMEN),
        ("tumour of the inferior hepatic lobe", ABDOMEN),
        ("bleed in the brain", ABDOMEN),
        ("right kidney's outline", ABDOMEN),
        ("small intracranial hemorrhages", ABDOMEN),
    ],
)
def test_a_taught_finding_passes_in_other_words_orders_and_spellings(text, findings):
    assert strange_words(text, findings) == []
    assert explain_untaught(text, findings) == ""


@pytest.mark.parametrize(
    ("text", "findings", "strange", "near"),
    [
        ("pleural effusion in the left lung", XRAY, ["effusion"], "left lung"),
        ("lung abscess", XRAY, ["abscess"], "infection"),
        ("pneumothorax", XRAY, ["pneumothorax"], None),
        ("liver", ABDOMEN, ["liver"], "liver tumour"),
        ("gallbladder", ABDOMEN, ["gallbladder"], None),
        ("kidney transplant", ABDOMEN, ["transplant"], "kidneys"),
        ("the left side", ABDOMEN, ["the", "left", "side"], None),
    ],
)
def test_a_word_that_was_not_taught_is_named_with_what_is_near(text, findings, strange, near):
    assert strange_words(text, findings) == strange
    explanation = explain_untaught(text, findings, " for ct")
    assert "was not taught for ct" in explanation
    assert "\n" not in explanation
    if near:
        assert nearest(text, findings)[0].name == near
        assert f"nearest: '{near}'" in explanation


def test_typos_do_not_make_a_taught_word_strange():
    rng, words = np.random.default_rng(0), [term for finding in XRAY for term in finding.terms if len(term) >= 5]
    kept = [explain_untaught(mistyped(word, rng), XRAY) == "" for word in words for _ in range(10)]
    assert np.mean(kept) >= 0.8  # a slip every eight letters, so two and more in a long word


@pytest.fixture
def ct():
    voxels = np.random.default_rng(0).integers(-1000, 400, (3, 40, 30)).astype(np.int16)
    return Volume(voxels, np.diag([-1.0, -1.0, 2.0, 1.0]), Modality.CT)


def test_an_untaught_finding_is_left_empty_and_changes_no_other(ct):
    segmenter = Segmenter(tiny_pipeline(), device="cpu")
    alone = segmenter.segment(ct, ["consolidation", "liver"], samples=2)
    result = segmenter.segment(ct, ["consolidation", "gallbladder", "liver"], samples=2)
    empty = result.of("gallbladder")
    assert not empty.probability.any()
    assert not empty.mask.any()
    assert not empty.disagreement.any()
    assert np.isnan(empty.presence).all()
    assert "was not taught for ct" in empty.warnings[0]
    assert empty.warnings[0].endswith("left empty")
    assert "FastTextDiff.Untaught" in segment_tags(empty, result.provenance)
    for name in ("consolidation", "liver"):
        assert np.array_equal(result.probability[name], alone.probability[name])
        assert result.of(name).untaught == ""
        assert "FastTextDiff.Untaught" not in segment_tags(result.of(name), result.provenance)


def test_nothing_is_computed_if_no_finding_was_taught(ct):
    segmenter = Segmenter(tiny_pipeline(), device="cpu")
    segmenter.pipeline.denoiser.unet.conv_in.register_forward_hook(lambda *_: pytest.fail("the denoiser ran"))
    assert not segmenter.segment(ct, ["gallbladder"]).findings[0].mask.any()


def test_it_is_tried_anyway_where_the_user_says_so_and_called_a_guess(ct):
    segmenter = Segmenter(tiny_pipeline(), device="cpu")
    result = segmenter.segment(ct, ["gallbladder"], try_anyway=True)
    assert result.findings[0].probability.any()
    assert "a guess" in result.findings[0].warnings[0]
    assert "was not taught" in segment_tags(result.findings[0], result.provenance)["FastTextDiff.Untaught"]


def test_a_model_that_does_not_say_what_it_was_taught_answers_everything(ct):
    pipeline = tiny_pipeline()
    pipeline.info = type(pipeline.info)("silent")
    result = Segmenter(pipeline, device="cpu").segment(ct, ["gallbladder"])
    assert result.findings[0].probability.any()
    assert result.findings[0].warnings == ()
