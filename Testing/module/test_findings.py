"""Lines, completion and pasted reports: typed text is kept, denials in reports are recognised."""

import csv
from pathlib import Path

import pytest

from FastTextDiffSegmentLib.Findings import Sentence, completions, findingLines, looksLikeReport, reportSentences

REPORTS = Path(__file__).resolve().parents[3] / "shared" / "text" / "indiana_reports.csv"

DENIED = [
    "No pleural effusion",
    "There is no focal consolidation",
    "There are no acute bony abnormalities",
    "Without evidence of pneumothorax",
    "No evidence of acute cardiopulmonary disease",
    "A nodule is not seen",
    "Pneumothorax is not identified",
    "Negative for pneumonia",
    "Absence of pleural fluid",
    "The lungs are free of focal airspace disease",
    "The lungs are clear without focal consolidation",
    "The left lung shows no consolidation",
    "Pleura: no effusion",
    "Neither lung contains a nodule",
    "The heart is not enlarged",
    "The previously seen effusion is no longer visible",
    "Pneumonia has been ruled out",
    "No effusion, but also no pneumothorax",
    "There isn\u2019t any effusion",
    "The right effusion has resolved",
    "Pneumonia ruled out",
    "Pneumothorax absent",
    "Effusion: none",
    "Infection: negative",
    "Lungs free of consolidation",
    "Patient denies cough",
    "W/o effusion",
    "CT negative for pneumonia",
]
STATED = [
    "No change in the right lower lobe opacity",
    "No significant interval change in the left pleural effusion",
    "No improvement in the bibasal consolidation",
    "Not only the left but also the right lung is affected",
    "Pneumonia cannot be excluded",
    "A small pneumothorax is not entirely excluded",
    "Consolidation in the left lower lobe without effusion",
    "Opacity in the left lung with no effusion",
    "No effusion, but there is consolidation in the left lower lobe",
    "No abnormality other than a small nodule in the right apex",
    "Unchanged ground-glass opacity in the left lung",
    "The consolidation has not significantly changed",
    "The effusion has not resolved",
    "Nodule in the left upper lobe",
    "Abnormal notching of the ribs",
    "Small nodules not seen on the previous exam",
    "The left costophrenic angle is not well seen",
]


@pytest.mark.parametrize("text", DENIED)
def test_a_denial_is_recognised(text):
    assert reportSentences(text + ".") == [Sentence(text, True)]


@pytest.mark.parametrize("text", STATED)
def test_statements_and_doubts_are_not_denials(text):
    assert reportSentences(text + ".") == [Sentence(text, False)]


def texts(report):
    return [sentence.text for sentence in reportSentences(report)]


def test_a_report_is_split_only_at_sentences():
    report = (
        "FINDINGS: Ground-glass opacity, approx. 1.5 cm, e.g. in the left lung. Seen by Dr. Smith at 3 p.m. today; "
        "no effusion. The nodule measures 2.5 x 3 cm. Is it new? Stable vs. prior.There is edema etc."
    )
    assert texts(report) == [
        "Ground-glass opacity, approx. 1.5 cm, e.g. in the left lung",
        "Seen by Dr. Smith at 3 p.m. today",
        "no effusion",
        "The nodule measures 2.5 x 3 cm",
        "Is it new?",
        "Stable vs. prior",
        "There is edema etc.",
    ]


def test_numbers_bullets_and_headings_are_removed_and_sections_are_known():
    report = """INDICATION: Cough.

Findings:
- Consolidation in the left
  lower lobe.
\u2022 No effusion
IMPRESSION: 1. Pneumonia. 2. Small nodule in segment
   6 of the right lung
3) Cardiomegaly"""
    sentences = reportSentences(report)
    assert [(each.section, each.text) for each in sentences] == [
        ("indication", "Cough"),
        ("findings", "Consolidation in the left lower lobe"),
        ("findings", "No effusion"),
        ("impression", "Pneumonia"),
        ("impression", "Small nodule in segment"),
        ("impression", "6 of the right lung"),
        ("impression", "Cardiomegaly"),
    ]
    assert [each.isFinding for each in sentences[:3]] == [False, True, False]


def test_headings_within_a_line_start_a_section():
    report = "Exam: Chest CT History: Cough FINDINGS: Edema. IMPRESSION: Exam: limited. CHEST: No effusion"
    assert [(each.section, each.text) for each in reportSentences(report)] == [
        ("exam", "Chest CT History: Cough"),
        ("findings", "Edema"),
        ("exam", "limited"),
        ("chest", "No effusion"),
    ]


def test_reports_are_distinguished_from_lists_of_findings():
    assert looksLikeReport("There is consolidation. No effusion.")
    assert looksLikeReport("lungs\nIMPRESSION:\nclear")
    assert not looksLikeReport("ground-glass opacity in the left lung\nnodule of approx. 1.5 cm\nconsolidation.")
    assert not looksLikeReport("")


@pytest.mark.skipif(not REPORTS.is_file(), reason="needs the research data next to the checkout")
@pytest.mark.shared
def test_no_word_of_real_reports_is_lost_or_added():
    with REPORTS.open(encoding="utf-8") as file:
        reports = [row[column] for row in csv.DictReader(file) for column in ("findings", "impression")]
    sentences = 0
    for report in reports:
        found = reportSentences(report)
        sentences += len(found)
        # list marks and headings are removed, everything else keeps its order
        if not any(each.section for each in found):
            assert letters(" ".join(each.text for each in found)) == letters(report), report
        for each in found:
            assert each.text == " ".join(each.text.split())
            again = reportSentences(each.text)
            assert again == [Sentence(each.text, each.negated)], each
    assert sentences > 2 * len(reports)


def letters(text):
    return "".join(char for char in text if char.isalpha())


def test_findings_are_one_per_line_cleaned_up_and_unique():
    text = "  ground-glass   opacity \n\n\tNodule\nground-glass opacity\nnodule\u00a0\nconsolidation"
    assert findingLines(text) == ["ground-glass opacity", "Nodule", "consolidation"]
    assert findingLines(" \n\t") == []
    assert findingLines("\u201cright lung\u201d\n2. R lung\nRIGHT LUNG.\n???") == ["right lung", "???"]


def test_completions_match_word_starts_and_terms_that_start_so_come_first():
    terms = ["left lung", "opacity in the left lung", "Lung", "clubbing", "ground-glass opacity", "lung"]
    assert completions("lu", terms) == ["Lung", "lung", "left lung", "opacity in the left lung"]
    assert completions("Left  LU", terms) == ["left lung", "opacity in the left lung"]
    assert completions("glass", terms) == ["ground-glass opacity"]
    assert completions("left lung", terms) == ["opacity in the left lung"]
    assert completions(" ", terms) == completions("x(", terms) == []
    assert len(completions("t", [f"term {number}" for number in range(20)])) == 8
