"""What a model says it was taught: the list in its index, which entry a text names, how well that is known."""

from dataclasses import replace

import pytest

from fasttextdiff.contract.answers import TaughtFinding
from fasttextdiff.contract.fields import ContractError
from fasttextdiff.contract.requests import CheckFindings, DescribeModel
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.info import ModelInfo
from fasttextdiff.model.naming import named_in
from fasttextdiff.model.taught import joined, listed, quality_line, taught_from, taught_to
from fasttextdiff.worker.questions import QUESTIONS

LIVER = TaughtFinding("liver", ("hepar",), (60.0, 400.0), 40, 12, 0.914, 8)
TUMOUR = TaughtFinding("liver tumour", ("HCC",), slices=9, patients=3)
LUNG = TaughtFinding("left lung")
TAUGHT = {"ct": (LIVER, TUMOUR, LUNG), "mr": (TaughtFinding("liver", dice=0.4, validation_slices=5),)}


def test_the_list_is_written_as_short_as_it_can_be_and_read_back():
    index = taught_to(TAUGHT)
    assert index["ct"][1:] == [
        {"name": "liver tumour", "synonyms": ["HCC"], "slices": 9, "patients": 3},
        "left lung",
    ]
    assert taught_from(index) == TAUGHT
    for damaged in (7, ["liver"], {"name": "liver", "window": [1.0]}, {"synonyms": []}, {"name": "liver", "colour": 1}):
        with pytest.raises(ContractError):
            taught_from({"ct": [damaged]})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the HEPAR, please", LIVER),
        ("tumour in the liver", TUMOUR),
        ("a liver tumour", TUMOUR),
        ("hcc", TUMOUR),
        ("liverwort", None),
        ("lft lung", LUNG),
        ("  patient's left lung ", LUNG),
    ],
)
def test_an_abnormality_or_the_longest_term_says_which_finding_is_meant(text, expected):
    assert named_in(text, TAUGHT["ct"]) == expected


def test_quality_is_one_line_and_few_images_or_a_low_dice_are_called_weak():
    assert quality_line(LIVER, "ct") == "liver on ct: Dice 0.91 (n 8), 40 training slices of 12 patients"
    assert quality_line(TUMOUR, "ct") == "liver tumour on ct: 9 training slices of 3 patients; weak"
    assert quality_line(TAUGHT["mr"][0], "mr") == "liver on mr: Dice 0.40 (n 5); weak"
    assert quality_line(LUNG, "ct") == ""


def test_of_two_lists_the_later_one_describes_what_both_name():
    both = joined(TAUGHT, {"ct": (TaughtFinding("liver", slices=50),), "xray": (LUNG,)})
    assert [finding.slices for finding in both["ct"]] == [50, 9, None]
    assert (both["mr"], both["xray"]) == (TAUGHT["mr"], (LUNG,))


def test_a_bare_term_is_not_listed_beside_the_finding_whose_synonym_it_is():
    flat = {"xray": (TaughtFinding("lungs"), TaughtFinding("lung fields"), TaughtFinding("heart"))}
    full = {"xray": (TaughtFinding("lungs", ("lung fields",), slices=9),)}
    assert [finding.name for finding in joined(flat, full)["xray"]] == ["lungs", "heart"]


def test_a_model_knows_its_findings_by_modality_and_their_windows():
    info = ModelInfo("m", taught=TAUGHT)
    assert info.window("hepar", Modality.CT) == (60.0, 400.0)
    assert info.window("left lung", Modality.CT) is None
    assert info.window("hepar", Modality.MR) is None
    assert info.knows("liver", None)
    assert not info.knows("left lung", Modality.MR)
    assert "was not taught for mr" in info.warning("left lung", Modality.MR)
    assert info.untaught("liver", Modality.XRAY) == "the model was not trained on xray images, only on ct, mr"
    assert "give it if the image is one of ct, mr" in info.untaught("liver", Modality.OTHER)


def test_the_module_hears_how_well_each_finding_is_known(tmp_path):
    from tiny_models import tiny_pipeline

    pipeline = tiny_pipeline()
    pipeline.info = replace(pipeline.info, threshold=0.3)
    pipeline.save_pretrained(tmp_path)
    described = QUESTIONS[DescribeModel](DescribeModel(tmp_path))
    assert described.threshold == 0.3
    assert [finding.name for finding in described.taught["ct"]] == [
        *("ground-glass opacity", "consolidation", "left lung", "infection", "liver"),
    ]
    checked = QUESTIONS[CheckFindings](CheckFindings(tmp_path, ("the hepar", "consolidation", "spleen"), "ct")).findings
    assert [found.quality for found in checked[1:]] == ["", ""]
    assert checked[0].quality == "liver on ct: Dice 0.80 (n 4), 9 training slices of 2 patients; weak"
    assert [found.weak for found in checked] == [True, False, False]
    assert [bool(found.warning) for found in checked] == [False, False, True]


def test_info_lists_each_finding_with_its_quality_and_synonyms():
    lines = listed([LIVER, LUNG], "ct").splitlines()
    assert lines == ["liver on ct: Dice 0.91 (n 8), 40 training slices of 12 patients (hepar)", "left lung"]
