"""What is written into the index of a trained model: presence threshold and validation Dice."""

import json
from dataclasses import replace

import pytest

from fasttextdiff.contract.answers import TaughtFinding
from fasttextdiff.model.info import INDEX, ModelInfo
from fasttextdiff_lab.finish import mask_threshold, presence_threshold, with_quality, write_into_index
from fasttextdiff_lab.measure import ABNORMAL, MASK_THRESHOLDS, Answer


def answer(presence, *, modality="xray", finding="left lung", there=True, dice=0.9, group="group", best=None):
    curve = () if best is None else tuple(1 - abs(limit - best) for limit in MASK_THRESHOLDS)
    return Answer(group, modality, finding, "image.png", there, dice, 0.1, presence, curve)


def test_the_threshold_is_the_largest_that_keeps_the_present_findings_of_every_modality_alike():
    xrays = [answer(0.9 if n else 0.1) for n in range(100)]  # 1 % are below 0.2
    absent = [answer(0.7, there=False)] * 50
    assert presence_threshold([*xrays, *absent]) == 0.9
    few = [answer(0.42, modality="ct")] * 3
    assert presence_threshold([*xrays, *absent, *few]) == 0.42
    assert presence_threshold([answer(0.001)]) == 0


@pytest.mark.parametrize(("faint", "threshold"), [(5, 0.9), (6, 0.32)])
def test_the_threshold_keeps_the_abnormal_x_rays_whatever_else_is_kept(faint, threshold):
    sick = [answer(0.32 if n < faint else 0.9, group=ABNORMAL) for n in range(100)]
    assert presence_threshold([answer(0.95)] * 300 + sick) == threshold


def test_the_mask_threshold_is_the_best_one_for_all_modalities_alike():
    xrays = [answer(1, best=0.5)] * 100
    assert mask_threshold([*xrays, answer(1, there=False)]) == 0.5
    steep = replace(answer(1, modality="ct"), curve=tuple(1 - 2 * abs(limit - 0.4) for limit in MASK_THRESHOLDS))
    assert mask_threshold([*xrays, *[steep] * 20]) == 0.4
    assert mask_threshold([*xrays, *[steep] * 19]) == 0.5  # too few to count


def test_quality_is_the_mean_dice_of_present_findings_by_modality_and_taught_name():
    left = TaughtFinding("left lung", ("L lung",), dice=0.1, validation_slices=7)
    info = ModelInfo("some", taught={"xray": (left, TaughtFinding("heart", dice=0.3)), "ct": (left,)})
    answers = [
        answer(1, finding="L lung", dice=0.5),
        answer(1, dice=0.8),
        answer(1, there=False, dice=0.0),
        answer(1, finding="unheard of", dice=0.0),
        answer(1, finding="infected left lung", dice=0.0),  # names a finding, but was not taught
    ]
    taught = with_quality(info, answers)
    assert [(f.name, f.dice, f.validation_slices) for f in taught["xray"]] == [
        ("left lung", 0.65, 2),
        ("heart", None, 0),
    ]
    assert taught["ct"] == (replace(left, dice=None, validation_slices=0),)
    not_learned = [answer(1, dice=0.02), answer(1, dice=0.1)]
    assert [finding.name for finding in with_quality(info, not_learned)["xray"]] == ["heart"]


def test_only_the_named_entries_of_an_index_change(model, tmp_path):
    before = json.loads((model / INDEX).read_text())
    (tmp_path / INDEX).write_text((model / INDEX).read_text())
    write_into_index(tmp_path, presence_threshold=0.35, taught={"mr": (TaughtFinding("liver", dice=0.9),)})
    after = json.loads((tmp_path / INDEX).read_text())
    info = after.pop("info")
    assert info == {
        **before.pop("info"),
        "presence_threshold": 0.35,
        "taught": {"mr": [{"name": "liver", "dice": 0.9}]},
    }
    assert after == before
    with pytest.raises(KeyError):
        write_into_index(tmp_path, no_such_entry=1)
