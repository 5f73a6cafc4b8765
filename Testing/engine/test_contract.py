"""The contract between engine and Slicer module: its rules, and that importing it is cheap."""

import json
import math
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import typer
from contract_messages import KINDS, messages_of
from hypothesis import given, settings
from hypothesis import strategies as st

from fasttextdiff.cli import app
from fasttextdiff.contract import batch, colors, images, messages, requests, segments
from fasttextdiff.contract.fields import ContractError, from_fields, to_fields
from fasttextdiff.image.volume import Modality
from fasttextdiff.result import Provenance
from fasttextdiff.segments.anatomy import Code
from fasttextdiff.segments.terminology import CodedFinding, assign_colors, coded_entry
from protocol_page import PAGE, protocol_page

CONTRACT = Path(colors.__file__).parent


def test_importing_the_contract_loads_only_the_standard_library():
    names = [f"fasttextdiff.contract.{path.stem}" for path in CONTRACT.glob("[!_]*.py")]
    loads = f"import sys, importlib; [importlib.import_module(name) for name in {names}]"
    code = f"{loads}; print(*{{name.split('.')[0] for name in sys.modules}})"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    before = set(subprocess.check_output([sys.executable, "-c", "import sys; print(*sys.modules)"], text=True).split())
    assert loaded - before - sys.stdlib_module_names == {"fasttextdiff"}


def test_the_kinds_of_image_are_the_same_on_both_sides():
    assert tuple(modality.value for modality in Modality) == images.MODALITIES


# --- segments --------------------------------------------------------------------------------------------------------


CATEGORY, KIND = Code("1", "SCT", "Category"), Code("2", "SCT", "Type")


@pytest.mark.parametrize(
    ("category", "kind", "modifier", "expected"),
    [
        (f"{CATEGORY}", f"{KIND}", "^^", CodedFinding(CATEGORY, KIND)),
        (f"{CATEGORY}", f"SCT^2^{'x' * 70}", "^^", CodedFinding(CATEGORY, Code("2", "SCT", "x" * 64))),
        (f"{CATEGORY}", f"{KIND}", f"SCT^{'3' * 17}^Side", CodedFinding(CATEGORY, KIND)),
        (f"{CATEGORY}", f"SCT^{'2' * 17}^Type", "^^", None),
        (f"{CATEGORY}", "SCT^2", "^^", None),
        ("^^", f"{KIND}", "^^", None),
    ],
)
def test_a_terminology_entry_is_read_as_dicom_can_hold_it(category, kind, modifier, expected):
    entry = "~".join(["context", category, kind, modifier, "regions", "^^", "^^"])
    assert coded_entry(entry) == expected
    assert (segments.entry_codes(entry) is None) == (expected is None)
    assert segments.entry_codes(f"{entry}~") is None


def test_a_finding_is_present_at_the_threshold_and_absent_on_other_slices():
    presence = [0.49, 0.5, 0.51, math.nan]
    assert [segments.is_there(value, 0.5) for value in presence] == [False, True, True, False]
    assert segments.is_there(np.float32(presence), 0.5).tolist() == [False, True, True, False]
    assert segments.is_there(np.float32([0.0, math.nan]), 0.0).tolist() == [True, False]


@given(st.lists(st.text(max_size=80), max_size=6))
def test_segment_names_are_unique_single_lines_of_at_most_64_bytes(texts):
    names: list[str] = []
    for text in texts:
        names.append(segments.free_name(text, names))
    assert len(set(names)) == len(names)
    assert all(0 < len(name.encode("utf-8")) <= 64 for name in names)
    assert all(name == segments.plain_line(name) for name in names)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_tag_survives_a_round_trip_and_never_ends_early(text):
    assert segments.unescape_tag(segments.escape_tag(text)) == text
    assert not set("|\n\r") & set(segments.escape_tag(text))


def test_the_tags_of_a_segment_match_its_provenance():
    assert {field.name for field in fields(Provenance)} == set(segments.PROVENANCE_FIELDS)
    assert len(set(segments.TAG_NAMES)) == len(segments.TAG_NAMES)
    assert CodedFinding().slicer_entry == segments.LESION_ENTRY


@pytest.mark.parametrize(("count", "bits"), [(1, 8), (255, 8), (256, 16)])
def test_a_label_map_holds_all_its_labels(count, bits):
    assert segments.label_bits(count) == bits


# --- images ----------------------------------------------------------------------------------------------------------


@given(st.floats(0, 1, width=32))
def test_the_entropy_of_a_number_equals_that_of_an_array(probability):
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


# --- messages --------------------------------------------------------------------------------------------------------


FEW = settings(max_examples=10, deadline=None)


def through_json(content):
    return json.loads(json.dumps(content, allow_nan=False))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@FEW
@given(st.data())
def test_every_message_survives_json(kind, data):
    message = data.draw(messages_of(kind))
    assert from_fields(kind, through_json(to_fields(message))) == message


@pytest.mark.parametrize("op", requests.REQUESTS)
@FEW
@given(st.data())
def test_requests_answers_and_events_survive_json(op, data):
    request = data.draw(messages_of(requests.REQUESTS[op]))
    assert messages.request_of(through_json(messages.request_fields(7, request))) == request
    for kind in (request.answer, *messages.EVENTS.values()):
        event = data.draw(messages_of(kind))
        assert messages.event_of(through_json(messages.event_fields(7, event)), request) == event


@pytest.mark.parametrize("kind", [kind for kind in KINDS if fields(kind)], ids=lambda kind: kind.__name__)
@FEW
@given(st.data())
def test_missing_unknown_and_mistyped_fields_are_named_in_one_line(kind, data):
    content = through_json(to_fields(data.draw(messages_of(kind))))
    field = data.draw(st.sampled_from(fields(kind)))
    wrong = [{**content, "surplus": 1}, {**content, field.name: [[]]}]
    if field.default is MISSING:
        wrong.append({name: value for name, value in content.items() if name != field.name})
    for each, name in zip(wrong, ("surplus", field.name, field.name), strict=False):
        with pytest.raises(ContractError, match=name) as refused:
            from_fields(kind, each)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": True}, "'seed' must be a whole number"),
        ({"seed": 2**63}, "'seed' must be a whole number"),
        ({"threshold": float("nan")}, "'threshold' must be a finite number"),
        ({"threshold": 10**400}, "'threshold' must be a finite number"),
        ({"slices": [0, 1, 2]}, "'slices' must be a list of 2"),
        ({"findings": "left lung"}, "'findings' must be a list"),
        ({"output": ""}, "'output' must be a path"),
        ({"output": "a\0b"}, "'output' must be a path"),
    ],
)
def test_json_values_that_the_contract_excludes_are_refused(change, words):
    content = {"op": "segment", "volume": "v", "findings": ["lung"], "output": "/tmp", **change}
    with pytest.raises(ContractError, match=re.escape(f"segment: {words}")):
        messages.request_of(content)


@pytest.mark.parametrize("kind", batch.EVENTS.values(), ids=lambda kind: kind.__name__)
@FEW
@given(st.data())
def test_batch_events_survive_json(kind, data):
    event = data.draw(messages_of(kind))
    assert batch.event_of(through_json(batch.event_fields(event))) == event


def test_unknown_batch_events_are_refused_in_one_line():
    for content in ({}, {"event": "case", "case": "a"}, {"event": "looking", "done": 1}, {"event": ["case"]}):
        with pytest.raises(ContractError, match="of a batch"):
            batch.event_of(content)


DEFAULT = batch.BatchOptions(Path("/in"), Path("/out"), ("left lung",))
OTHER = batch.BatchOptions(
    *(Path("/studies"), Path("/results"), ("left lung", "opacity; any"), (".png", ".dcm"), True, "ct", "chest", True),
    *("axial", 3, 7, 0.25, "folder", "cpu", "float32", 2, "tls://host:1", "ca.pem", "cert.pem", "key.pem"),
    *(True, True, True, "torch", ("disc.safetensors",)),
)


@pytest.mark.parametrize("options", [DEFAULT, OTHER], ids=["default", "other"])
def test_the_command_line_of_a_batch_has_exactly_its_options(options):
    command = typer.main.get_command(app).commands["batch"]
    parsed = command.make_context("batch", list(batch.command_line(options))).params
    parsed["findings"] = parsed.pop("finding")
    for option in fields(options):
        value = parsed.pop(option.name)
        assert (tuple(value) if isinstance(value, list) else value) == getattr(options, option.name), option.name
    assert set(parsed) == {"dry_run", "shard", "retry_failed", "json_lines", "until_eof", "verbose"}  # of a single run


def test_the_example_options_all_differ_from_the_default():
    assert all(getattr(OTHER, option.name) != getattr(DEFAULT, option.name) for option in fields(OTHER))


def test_field_names_have_one_casing_and_do_not_clash_with_the_envelope():
    names = {field.name for kind in KINDS for field in fields(kind)} | set(requests.REQUESTS) | set(messages.EVENTS)
    assert all(re.fullmatch("[a-z]+(_[a-z]+)*", name) for name in names)
    travelling = [*requests.REQUESTS.values(), *messages.EVENTS.values()]
    travelling += [kind.answer for kind in requests.REQUESTS.values()]
    assert not {"id", "op", "event"} & {field.name for kind in travelling for field in fields(kind)}


def test_the_page_about_the_protocol_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == protocol_page(), "run scripts/protocol_page.py"
