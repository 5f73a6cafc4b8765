"""How findings are understood: all spellings of sides are recognised, nothing else changes, nothing is guessed."""

import re
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from spellings import PAIRS

from fasttextdiff.contract.findings import denied, distinct, doubtful, same_key, understood, understood_note, unreadable
from fasttextdiff.errors import UsageError
from fasttextdiff.model.info import require_words


@pytest.mark.parametrize(("text", "plain"), PAIRS)
def test_a_spelling_is_understood_as_the_plain_form(text, plain):
    assert understood(text) == plain
    assert unreadable(text) == doubtful(text) == ""
    is_as_typed = " ".join(text.split()).casefold() == plain.casefold()
    assert understood_note(text) == ("" if is_as_typed else f"understood as: {plain}")


@pytest.mark.parametrize("text", ["Ground-glass opacity", "GROUND-GLASS  opacity", "Left lung"])
def test_capital_letters_alone_give_no_note(text):
    assert understood_note(text) == ""
    assert understood_note(f"{text.upper()}.") != ""


@pytest.mark.parametrize(
    "text",
    [
        "L1 vertebra",
        "L5",
        "L 5 vertebra",
        "R/O pneumonia",
        "r/o mass",
        "T2 lesion",
        "LV",
        "RL",
        "LLQ pain",
        "L-spine",
        "L spine",
        "5 L oxygen",
        "Dr. R. Smith",
        "RT pneumonitis",
        "S/P RT",
        "patient's left lung",
        "opacity on the left",
        "opacity left > right",
        "left hemithorax: opacity",
        "x-ray",
        "left lung (upper)",
        "nodule of approx. 1.5 cm",
        "1.5 cm nodule",
        "3 left nodules",
        "E. coli",
        "no opacity, left",
        "β lung",
        "Bilateral pulmonary infection, two infected areas, all left lung and all right lung",
    ],
)
def test_other_words_are_not_changed(text):
    assert understood(text) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \u00a0", "empty"),
        ("...", "no words"),
        ("\u201c\u201d", "no words"),
        ("\u2318", "no words"),
        ("12.5 %", "Latin"),
        ("\u5de6\u80ba\u306e\u6d78\u6f64\u5f71", "Latin"),
        ("\u043b\u0435\u0432\u043e\u0435", "Latin"),
        ("l\u0435ft lung", "another alphabet"),
        ("left \u043b\u0451\u0433\u043a\u043e\u0435", "another alphabet"),
    ],
)
def test_unreadable_findings_are_refused_in_one_line(text, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        require_words(text)
    assert len(str(caught.value).splitlines()) == 1


def test_an_ambiguous_abbreviation_of_a_side_is_not_silently_expanded():
    assert "'RT'" in doubtful("infection RT pneumonitis")
    assert doubtful("right RT pneumonitis") == doubtful("r/o mass") == ""


@pytest.mark.parametrize("words", ["no infection", "w/o infection", "free of infection", "negative for infection"])
def test_a_denial_is_named_and_keeps_its_side_at_the_end(words):
    assert understood(f"{words}, left").endswith("infection, left")
    assert denied(words).endswith("is not understood: type only what to look for")


@pytest.mark.parametrize("words", ["free fluid", "free air", "nodule"])
def test_a_finding_that_only_sounds_like_a_denial_is_none(words):
    assert understood(f"{words}, left") == f"left {words}"
    assert denied(words) == ""


def test_findings_are_compared_as_understood_ignoring_case():
    typed = ["Right lung", '"right lung"', "R lung", "???", "left lung."]
    assert distinct(typed) == {"Right lung": "Right lung", "???": "???", "left lung": "left lung."}
    assert same_key("RIGHT LUNG.") == same_key("Rt lung")


def test_it_loads_with_python_alone():
    code = "import sys; import fasttextdiff.contract.findings; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert not loaded & {"torch", "numpy", "typer", "transformers"}


# --- properties ---

SIDES = ("left", "right", "L", "R", "Lt.", "rt", "(L)", "left-sided", "LLL", "RUL", "b/l")
WORDS = (
    "lung",
    "opacity",
    "in",
    "the",
    "and",
    "no",
    "upper",
    "lobe",
    "1.",
    "-",
    "(",
    ")",
    '"',
    ",",
    "RT",
    "L5",
    "R/O",
    "'",
    "/",
)
texts = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(SIDES + WORDS), max_size=10).map(" ".join))
FRAMES = ('"{}"', "({})", "1. {}", "- {}", "{}.", "  {} ", "\u201c{}\u201d,", "\u2022 {};", "a) {}?")


@given(texts)
@example("((1. (a) -L-))")
def test_understanding_is_idempotent(text):
    assert understood(understood(text)) == understood(text)


@given(texts)
def test_the_result_is_one_line_without_invisible_characters(text):
    found = understood(text)
    assert found == " ".join(found.split())
    assert not {"Cc", "Cf", "Cs"} & {unicodedata.category(char) for char in found}
    assert not set(found) & set('"\u201c\u201d\u2018\u2019\u2010\u2011\u2013\u2014')


def sides(text):
    return [side.lower() for side in re.findall(r"\b(left|right)\b", text, re.IGNORECASE)]


@given(
    st.lists(st.sampled_from(("left", "right", *WORDS)).filter(lambda word: word != "RT"), max_size=10).map(" ".join)
)
def test_a_named_side_is_neither_lost_nor_swapped(text):
    assert sides(understood(text)) == sides(text)


@given(
    st.sampled_from(("L", "Lt", "Lt.", "(L)", "left-sided", "R", "Rt", "Rt.", "(R)", "right-sided")),
    st.sampled_from(FRAMES),
)
def test_an_abbreviated_side_is_understood_in_every_context(side, frame):
    expected = "left" if side.strip("(").lower().startswith("l") else "right"
    for what in ("lung", "opacity", "lung infection", "costophrenic angle"):
        assert understood(frame.format(f"{side} {what}")) == f"{expected} {what}"
        assert understood(frame.format(f"{what}, {side}")) == f"{expected} {what}"
