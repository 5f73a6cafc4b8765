"""The bundled model's recipe: what a table marks as present, absent or unknown, and the prompts for an image."""

import ast
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fasttextdiff.image.volume import Modality
from fasttextdiff.model.info import ModelInfo
from fasttextdiff.model.naming import named_in
from fasttextdiff.model.untaught import explain_untaught, unlearned_part
from fasttextdiff.training.config import read_config
from fasttextdiff.training.negatives import with_negatives
from fasttextdiff.training.prompts import NEVER_TAUGHT, TAUGHT
from fasttextdiff.training.samples import LUNGS, PULMONARY, Region, Sample
from fasttextdiff_lab.anatomy import SHOWN
from fasttextdiff_lab.appearance import altered, cut_to_body, grey_levels
from fasttextdiff_lab.atlas import ct_mr_items, with_qata_lungs, xray_groups
from fasttextdiff_lab.taught import finding_of
from fasttextdiff_lab.views import AtlasViews, elsewhere, prompts_of
from fasttextdiff_lab.vocabulary import STRUCTURES
from fasttextdiff_lab.wordings import shares_right

ON_CT = (
    "liver", "kidney_tumour", "kidney_stone", "pancreas", "aorta", "left_atrium", "right_atrium",
    "left_ventricle", "right_ventricle", "trachea", "left_ventricular_myocardium", "pulmonary_artery",
    "pulmonary_embolism", "lung_tumour", "lung_nodule", "intracranial_haemorrhage", "kidneys",
    "intraventricular_haemorrhage", "ischaemic_stroke_lesion", "soft_tissue_sarcoma",
)  # fmt: skip
ON_MR = (
    "brain_tumour", "ms_lesions", "hippocampus", "amygdala", "left_ventricle", "right_ventricle", "left_atrium",
    "left_ventricular_myocardium", "kidneys", "pancreas", "bladder", "bladder_tumour", "prostate",
    "prostate_central_gland", "prostate_tumour", "vertebrae", "intervertebral_discs", "bowel", "stomach",
    "grey_matter", "white_matter", "cerebrospinal_fluid", "skull", "breast_tumour", "nasopharyngeal_tumour",
    "soft_tissue_sarcoma", "vertebra_l1", "vertebra_l2", "vertebra_l3", "vertebra_l4", "vertebra_l5",
)  # fmt: skip
ENGINE = Path(__file__).resolve().parents[2] / "engine"
CHAIN = ("base", "1_wide", "1_fine", "1_retold", "1_atlas", "1_muon", "1_xray")  # compact_*.yaml
HEADER = "Image,Mask,Structure,Modality,Window,Plane,Source,Patient,Split,Annotation\n"


def picture(path, mask=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    Image.fromarray(grey if mask is None else mask.astype(np.uint8) * 255).save(path)


def square(column):
    mask = np.zeros((64, 64), bool)
    mask[20:40, column : column + 20] = True
    return mask


@pytest.fixture
def atlas(tmp_path):
    """Liver and kidneys of three patients; 16 masks of the liver, one of the spleen, kidneys absent on some slices."""
    lines = []
    for n in range(16):
        picture(tmp_path / f"img/{n}.png")
        picture(tmp_path / f"mask/liver{n}.png", square(5))
        row = f"img/{n}.png,{{}},{{}},ct,soft_tissue,axial,curvas,p{n % 3},train,source\n"
        lines.append(row.format(f"mask/liver{n}.png", "liver"))
        lines.append(row.format("mask/liver0.png" if n else "EMPTY", "left_kidney"))
    lines.append(row.format("mask/liver0.png", "spleen"))
    (tmp_path / "targets.csv").write_text(HEADER + "".join(lines))
    return tmp_path


def test_structures_with_too_few_masks_are_not_asked_for_and_missing_rows_are_unknown(atlas):
    items = ct_mr_items(atlas)
    assert {row["Structure"] for item in items for row in item.rows} == {"liver", "left_kidney"}
    absent = next(item for item in items if item.rows[0]["Mask"] == "EMPTY").load()
    assert absent.findings[0] == "left kidney"
    assert not absent.masks[0].any()
    assert absent.masks[1].any()


def test_every_patient_is_drawn_equally_often(atlas):
    drawn = [i.rows[0]["Patient"] for i in ct_mr_items(atlas) if i.rows[0]["Structure"] == "liver"]
    counts = [drawn.count(patient) for patient in ("p0", "p1", "p2")]
    assert max(counts) - min(counts) <= 1


def test_prompts_ask_for_what_is_known_and_for_what_the_image_cannot_show(atlas):
    rng = np.random.default_rng(0)
    liver, texts = set(STRUCTURES["liver"].words), set()
    for item in ct_mr_items(atlas):
        for prompt in prompts_of(item.load(), rng):
            named = any(word in prompt.text for word in liver | set(STRUCTURES["left kidney"].words))
            assert not prompt.mask.any() or named, prompt.text
            texts.add(prompt.text)
    assert texts & liver


def test_structures_elsewhere_in_the_body_are_absent_and_possible_ones_are_not_asked_for(atlas):
    rng, sample = np.random.default_rng(0), ct_mr_items(atlas)[0].load()
    shown = SHOWN["curvas"]
    possible = {word for s in STRUCTURES.values() if s.areas & shown for word in s.words}
    prompts = [elsewhere(sample, rng) for _ in range(300)]
    assert not any(prompt.mask.any() for prompt in prompts)
    assert not {prompt.text for prompt in prompts} & possible


def test_a_mirrored_image_changes_sides_but_heart_chambers_are_never_mirrored(atlas):
    table = (atlas / "targets.csv").read_text().replace("left_kidney", "left_ventricle").replace("curvas", "acdc")
    (atlas / "targets.csv").write_text(table)
    assert not any(item.load().mirrored for item in ct_mr_items(atlas))


@pytest.fixture
def xrays(tmp_path):
    folder = tmp_path / "xray_atlas"
    for name in ("left", "right", "nodule"):
        picture(folder / f"masks/{name}.png", square(40 if name == "left" else 5))
    rows = ["n.jpg,EMPTY,lesion,psnormal,train,normal", "n.jpg,masks/left.png,left_lung,psnormal,train,normal"]
    rows += [
        "n.jpg,masks/right.png,right_lung,psnormal,train,normal",
        "p.jpg,masks/left.png,left_lung,shenzhen,train,tb",
        "ap.jpg,EMPTY,lesion,nih,train,normal",
    ]
    rows += [
        "faint.jpg,masks/nodule.png,nodule,jsrt,train,nodule",
        "clear.jpg,masks/nodule.png,nodule,jsrt,train,nodule",
    ]
    rows += ["clear.jpg,masks/left.png,heart,jsrt,train,nodule", "faint.jpg,masks/left.png,heart,jsrt,train,nodule"]
    rows += [f"bones.jpg,masks/{side}.png,{side}_clavicle,jsrt,train,nodule" for side in ("left", "right")]
    for row in rows:
        picture(folder / "img" / row.split(",")[0])
    (folder / "targets.csv").write_text("Image,Mask,Structure,Source,Split,Kind\n" + "\n".join(rows))
    (folder / "jsrt_nodules.csv").write_text("Image,Subtlety1to5\nfaint.jpg,2\nclear.jpg,4\n")
    return folder


def test_normal_xrays_are_known_to_have_no_lesion_and_those_without_a_row_are_not(xrays):
    groups = xray_groups(xrays)
    normal, sick = groups["normal"][0], groups["lungs"][0]
    assert normal.annotated == PULMONARY | LUNGS
    assert not (normal.regions & np.uint8(Region.LESION)).any()
    assert not sick.annotated & PULMONARY
    assert not sick.annotated & LUNGS
    assert [sample.name for sample in groups["portable"]] == ["nih/ap.jpg"]
    assert groups["portable"][0].annotated == PULMONARY


def test_both_clavicles_are_taught_where_each_is_drawn(xrays):
    (bones,) = (sample for sample in xray_groups(xrays)["jsrt"] if "bones" in sample.name)
    assert bones.findings == ("left clavicle", "right clavicle", "clavicles")
    left, right, both = bones.masks
    assert left.any()
    assert right.any()
    np.testing.assert_array_equal(both, left | right)


def test_barely_visible_nodules_are_not_taught(xrays):
    taught = {sample.name: sample.findings for sample in xray_groups(xrays)["jsrt"] if "bones" not in sample.name}
    assert taught == {"jsrt/clear.jpg": ("heart", "nodule"), "jsrt/faint.jpg": ("heart",)}


def test_images_of_evaluation_sets_are_excluded(xrays, tmp_path):
    (tmp_path / "exclude_from_training.txt").write_text("b.jpg\n")
    lungs = xrays / "qata_lungs"
    picture(lungs / "l.png", square(40))
    rows = "a.jpg,l.png,left_lung,q,train,c\na.jpg,l.png,right_lung,q,train,c\nc.jpg,l.png,left_lung,q,val,c\n"
    (lungs / "targets.csv").write_text("Image,Mask,Structure,Source,Split,Kind\n" + rows)
    blank = np.zeros((64, 64), np.uint8)
    samples = [Sample(blank, blank, Modality.XRAY, Region.LESION, name=f"{stem}.png") for stem in "abcd"]
    kept = with_qata_lungs(samples, tmp_path, xrays)
    assert [(sample.name, bool(LUNGS & sample.annotated)) for sample in kept] == [("a.png", True), ("d.png", False)]


def test_appearance_changes_but_nothing_moves(xrays):
    sample = xray_groups(xrays)["normal"][0]
    references = [grey_levels(np.full((4, 4), 200, np.uint8))]
    changed = [altered(sample, references, np.random.default_rng(seed)) for seed in range(12)]
    assert any((other.image != sample.image).any() for other in changed)
    assert all((other.regions == sample.regions).all() for other in changed)


def test_image_and_masks_are_cropped_to_the_body():
    image = np.zeros((100, 100), np.uint8)
    image[20:80, 30:56] = image[22:78, 62:90] = 120  # two legs
    regions, masks = (image > 0).astype(np.uint8), (image > 0)[None].astype(np.uint8)
    cut = cut_to_body(Sample(image, regions, Modality.CT, Region(0), masks=masks))
    assert cut.image.shape == cut.regions.shape == cut.masks.shape[1:] == (60, 60)
    assert cut.masks.sum() == masks.sum()


def test_a_view_depends_only_on_the_seed(atlas):
    sample = ct_mr_items(atlas)[0].load()
    views = [AtlasViews([])(sample, 32, 2, np.random.default_rng(5)) for _ in range(2)]
    assert (views[0][0].image == views[1][0].image).all()
    assert [p.text for p in views[0][1]] == [p.text for p in views[1][1]]


def test_more_prompts_are_added_to_the_first_two(atlas):
    for item in ct_mr_items(atlas):
        two, six = (AtlasViews([])(item.load(), 32, count, np.random.default_rng(5))[1] for count in (2, 6))
        assert len(six) == 6
        assert [prompt.text for prompt in six[:2]] == [prompt.text for prompt in two]
        assert all(prompt.mask.shape == (32, 32) for prompt in six)


def test_the_bundled_model_is_made_from_nothing_by_a_chain_of_configurations():
    chain = [read_config(ENGINE / "fasttextdiff_lab" / "configs" / f"compact_{name}.yaml") for name in CHAIN]
    base = chain[0]
    assert base.start is None
    assert base.text is not None
    starts = [run.output / "model" for run in chain[:3]]
    # means of the two models before, by `fasttextdiff-lab average`
    means = [chain[0].output.parent / name for name in ("compact-1-mean", "compact-1-mean-2", "compact-1-mean-3")]
    assert [run.start for run in chain[1:]] == [*starts, *means]
    own = {"qata", "structures", "monuseg", "stained", "ct_lesions", "ct_lungs", "lung_bases"}
    groups = {*with_negatives(dict.fromkeys(own, ()), 0)}
    assert set(base.mixture) <= groups
    groups |= {"nuclei_extra", "ct_mr_atlas", "xray_normal", "xray_portable", "xray_lungs", "xray_jsrt"}
    for run in chain:
        assert set(run.mixture) <= groups
        assert sum(run.mixture.values()) == pytest.approx(1, abs=0.01)  # training divides by the sum
        assert all(stage.size % 16 == 0 for stage in run.stages)


def test_the_product_does_not_know_the_laboratory():
    for path in (ENGINE / "fasttextdiff").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.startswith("fasttextdiff_lab") for name in names), path


def test_no_word_is_both_taught_and_used_as_one_that_never_is():
    words = {word.lower() for structure in STRUCTURES.values() for word in structure.words}
    assert not words & {word.lower() for word in NEVER_TAUGHT}


@pytest.fixture(scope="module")
def taught():
    """What the recipe teaches, by modality."""
    taught = {kind: tuple(findings) for kind, findings in TAUGHT.items()}
    on_xray = ("left lung", "right lung", "heart", "left clavicle", "right clavicle", "clavicles", "nodule")
    for modality, names in {"xray": on_xray, "ct": ON_CT, "mr": ON_MR, "other": ("breast_tumour",)}.items():
        taught[modality] = (*taught.get(modality, ()), *map(finding_of, names))
    return taught


def test_wordings_of_taught_findings_pass_and_others_are_refused(taught):
    passed, refused = shares_right(taught)
    assert passed >= 0.97
    assert refused >= 0.95


@pytest.mark.parametrize(
    ("modality", "text"),
    [
        ("ct", "liver tumour"), ("ct", "liver cancer"), ("ct", "cancerous liver"), ("ct", "liver haemorrhage"),
        ("ct", "haemorrhagic kidney"), ("ct", "infected kidney"), ("ct", "liver lesion"), ("ct", "renal lesion"),
        ("ct", "hepatic nodule"), ("ct", "adrenal nodule"), ("ct", "splenic infarct"), ("ct", "myocardial infarct"),
        ("ct", "brain infection"), ("ct", "left lateral ventricle"), ("mr", "third ventricle"), ("mr", "T1 vertebra"),
        ("mr", "kidney tumour"), ("mr", "bowel obstruction"), ("mr", "bladder wall thickening"),
        ("xray", "lung cancer"), ("xray", "heart tumour"), ("xray", "stroke"), ("xray", "heart infection"),
        ("histology", "unclear"),
    ],
)  # fmt: skip
def test_an_organ_and_a_disease_that_were_not_taught_together_are_refused(taught, modality, text):
    assert explain_untaught(text, taught[modality])


@pytest.mark.parametrize(
    ("modality", "text", "about", "part"),
    [
        ("ct", "tumour in the left lung", "lung tumour", ""),
        ("ct", "emboli in the pulmonary arteries", "pulmonary embolism", ""),
        ("ct", "bleed in the brain", "intracranial haemorrhage", ""),
        ("ct", "nodule next to the aorta", "lung nodule", ""),
        ("ct", "left renal calculi", "kidney stone", "left"),
        ("ct", "livr", "liver", ""),
        ("ct", "liver segment 4", "liver", "segment"),
        ("mr", "mass in the urinary bladder", "bladder tumour", ""),
        ("mr", "left hippocampus", "hippocampus", "left"),
        ("mr", "peripheral zone of the prostate", "prostate", "peripheral"),
        ("xray", "opacity behind the heart", "infection", ""),
        ("xray", "infection in the upper left lung", "infection", ""),
    ],
)
def test_a_wording_is_taken_for_what_it_is_about(taught, modality, text, about, part):
    assert explain_untaught(text, taught[modality]) == ""
    assert named_in(text, taught[modality]).name == about
    assert unlearned_part(text, taught[modality]).startswith(f"'{part}' was not taught" if part else "")
    assert bool(unlearned_part(text, taught[modality])) == bool(part)


def test_a_pair_that_was_taught_by_side_is_refused_with_both_names(taught):
    by_side = [finding for finding in taught["xray"] if finding.name != "clavicles"]
    assert "ask for 'left clavicle' and 'right clavicle'" in explain_untaught("both clavicles", by_side)
    assert explain_untaught("both clavicles", taught["xray"]) == ""


def test_what_is_unknown_about_an_image_is_asked_for(taught):
    info = ModelInfo("model", taught=taught)
    assert info.untaught("hippocampus", Modality.OTHER).startswith("the modality is not known: give it")
    assert "mr, for which 'hippocampus'" in info.untaught("hippocampus", Modality.OTHER)
    assert info.untaught("breast tumour", Modality.XRAY).endswith("taught for mr and ultrasound images")
    assert info.untaught("breast tumour", Modality.OTHER) == ""
    assert "type only what to look for" in info.warning("no liver", Modality.CT)
