"""The contract between the engine and the Slicer module: its rules, and that it is light enough for both processes."""

import math
import subprocess
import sys
from dataclasses import fields
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fasttextdiff.contract import colors, images, segments
from fasttextdiff.result import Provenance
from fasttextdiff.segments.terminology import CodedFinding, assign_colors

CONTRACT = Path(colors.__file__).parent


def test_importing_the_contract_loads_nothing_but_python_itself():
    names = [f"fasttextdiff.contract.{path.stem}" for path in CONTRACT.glob("[!_]*.py")]
    loads = f"import sys, importlib; [importlib.import_module(name) for name in {names}]"
    code = f"{loads}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    before = set(subprocess.check_output([sys.executable, "-c", "import sys; print(*sys.modules)"], text=True).split())
    assert loaded - before - sys.stdlib_module_names == {"fasttextdiff"}


# --- segments --------------------------------------------------------------------------------------------------------


def test_a_finding_is_there_at_the_threshold_and_not_where_it_was_not_asked_for():
    presence = [0.49, 0.5, 0.51, math.nan]
    assert [segments.is_there(value, 0.5) for value in presence] == [False, True, True, False]
    assert segments.is_there(np.float32(presence), 0.5).tolist() == [False, True, True, False]
    assert segments.is_there(np.float32([0.0, math.nan]), 0.0).tolist() == [True, False]


@given(st.lists(st.text(max_size=80), max_size=6))
def test_names_of_segments_are_plain_lines_of_at_most_64_bytes_and_never_alike(texts):
    names: list[str] = []
    for text in texts:
        names.append(segments.free_name(text, names))
    assert len(set(names)) == len(names)
    assert all(0 < len(name.encode("utf-8")) <= 64 for name in names)
    assert all(name == segments.plain_line(name) for name in names)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_tag_comes_back_and_never_ends_early(text):
    assert segments.unescape_tag(segments.escape_tag(text)) == text
    assert not set("|\n\r") & set(segments.escape_tag(text))


def test_the_tags_of_a_segment_are_those_of_its_provenance():
    assert {field.name for field in fields(Provenance)} == set(segments.PROVENANCE_FIELDS)
    assert len(set(segments.TAG_NAMES)) == len(segments.TAG_NAMES)
    assert CodedFinding().slicer_entry == segments.LESION_ENTRY


@pytest.mark.parametrize(("count", "bits"), [(1, 8), (255, 8), (256, 16)])
def test_a_label_map_holds_all_its_labels(count, bits):
    assert segments.label_bits(count) == bits


# --- images ----------------------------------------------------------------------------------------------------------


@given(st.floats(0, 1, width=32))
def test_the_entropy_of_a_number_is_that_of_an_array(probability):
    bits = images.entropy(probability, math.log2)
    assert bits == pytest.approx(images.entropy(np.float32([probability]), np.log2)[0], abs=1e-6)
    assert 0 <= bits <= 1
    assert bits == pytest.approx(images.entropy(1 - probability, math.log2), abs=1e-6)


# --- colours ---------------------------------------------------------------------------------------------------------


def test_colours_of_a_run_and_of_a_segmentation_come_from_one_palette():
    assert len(set(colors.PALETTE)) == len(colors.PALETTE) == 12
    assert assign_colors([f"finding {n}" for n in range(12)]) == list(colors.PALETTE)
    assert colors.distinct_color(colors.PALETTE[:1], colors.PALETTE[1]) == colors.PALETTE[1]
    taken = [colors.SKY_BLUE]
    for _ in range(3):
        taken.append(colors.distinct_color(taken, colors.SKY_BLUE))
    assert all(colors.color_distance(*pair) > colors.ALIKE for pair in combinations(taken, 2))
