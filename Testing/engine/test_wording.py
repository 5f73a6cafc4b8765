"""Which learned finding answers a text: its own words, also misspelt; never what the model was taught."""

from dataclasses import dataclass

import pytest

from fasttextdiff.contract.requests import CheckFindings
from fasttextdiff.contract.teaching import LearnedFinding
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.info import BUNDLED_MODEL, ModelInfo, read_info
from fasttextdiff.teaching.wording import answering
from fasttextdiff.worker.questions import QUESTIONS

BUNDLED = read_info(BUNDLED_MODEL)
CT, MR, HISTOLOGY = Modality.CT, Modality.MR, Modality.HISTOLOGY


@dataclass(frozen=True)
class Learned:
    words: tuple[str, ...]
    modality: str = "ct"


GALLBLADDER = Learned(("gallbladder", "gall bladder"))
GLAND = Learned(("left adrenal gland",))
LESION = Learned(("hyperdense plaque",))
ILEUM = Learned(("ileum",))
LIVER = Learned(("liver",))
DISCS = Learned(("spinal canal",), "mr")
ALL = (GALLBLADDER, GLAND, LESION, ILEUM, LIVER, DISCS)


@pytest.mark.parametrize(
    ("text", "modality", "word"),
    [
        ("Gallbladder", CT, "gallbladder"),
        ("GALL BLADDER.", CT, "gall bladder"),
        ("galbladder", CT, "gallbladder"),
        ("gallbladdre", CT, "gallbladder"),
        ("gallbladders", CT, "gallbladder"),
        ("L adrenal gland", CT, "left adrenal gland"),
        ("adrenal glands, left", CT, "left adrenal gland"),
        ("letf adrenal gland", CT, "left adrenal gland"),
        ("left adrenl gland", CT, "left adrenal gland"),
        ("livre", CT, "liver"),  # the model knows the liver, and reads this as it
        ("livers", CT, "liver"),
        ("spinal cannal", MR, "spinal canal"),
        ("spinal canals", CT, "spinal canal"),  # so that the user is told that it was learned on MR
    ],
)
def test_a_word_of_a_learned_finding_is_found_in_any_spelling(text, modality, word):
    _, found = answering(text, ALL, BUNDLED, modality)
    assert found == word


@pytest.mark.parametrize(
    ("text", "modality"),
    [
        ("right adrenal gland", CT),
        ("adrenal gland", CT),
        ("left adrenal", CT),
        ("bladder", MR),
        ("left gallbladder", CT),
        ("gallbladder wall", CT),
        ("wallbladder", CT),
        ("hypodense plaque", CT),
        ("ilium", CT),
        ("hepar", CT),  # a synonym that the model was taught, and this finding was not
        ("liver tumour", CT),
        ("left kidney", CT),
        ("left kidny", CT),
        ("nuclei", HISTOLOGY),
        ("", CT),
    ],
)
def test_any_other_text_is_the_models(text, modality):
    assert answering(text, ALL, BUNDLED, modality) is None


def test_a_misspelt_taught_finding_is_never_a_learned_one_with_a_similar_name():
    """As many letters are wrong from both."""
    learned = [Learned(("left kidneyx",)), Learned(("pancreaz",)), Learned(("aortal",)), Learned(("infektion",))]
    for text in ("left kidneyy", "pancreax", "pancreas", "aortas", "infexion", "infection"):
        assert BUNDLED.knows(text, CT), text
        assert answering(text, learned, BUNDLED, CT) is None, text


def test_a_text_between_two_learned_findings_is_of_neither():
    learned = [Learned(("saccular",)), Learned(("sacculer",))]
    assert answering("sacculur", learned, BUNDLED, CT) is None
    assert answering("sacculer", learned, BUNDLED, CT)[0] is learned[1]


def test_a_model_without_a_list_keeps_every_text_but_the_words_themselves():
    anything = ModelInfo("other")
    assert answering("Gallbladder", ALL, anything, CT) == (GALLBLADDER, "gallbladder")
    assert answering("galbladder", ALL, anything, CT) is None


def test_the_check_of_a_finding_says_what_answers(tmp_path):
    learned = LearnedFinding("gallbladder", ("GB",), "ct", 5, None, "m", 1, True, tmp_path / "a.safetensors", "0")
    texts = ("gb", "galbladder", "liver", "spleen")

    def checked(modality):
        return QUESTIONS[CheckFindings](CheckFindings(None, texts, modality, (learned,))).findings

    assert [one.learned for one in checked("ct")] == ["gallbladder", "gallbladder", "", ""]
    assert [bool(one.warning) for one in checked("ct")] == [False, False, False, True]
    assert checked("mr")[1].warning == "'galbladder' was learned on ct, and this image is mr"
