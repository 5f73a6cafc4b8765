"""An unusable option value is refused in one line before any work, in every interface."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from tiny_models import tiny_pipeline

from fasttextdiff import cli, measure, write_segmentation
from fasttextdiff.batch.cases import find_cases
from fasttextdiff.batch.plan import CaseOptions
from fasttextdiff.batch.request import BatchRequest
from fasttextdiff.errors import UsageError
from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.io.write import write_uncertainty
from fasttextdiff.option_rules import check_options, check_training
from fasttextdiff.render.contact_sheet import write_preview
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.training.config import Stage, TrainingConfig
from fasttextdiff_lab import commands as lab

NO_NUMBERS = ("nan", "inf", "-inf", "1e999")
OUT_OF_RANGE = {"threshold": ("0", "1", "-0.5", "2"), "share": ("-0.5", "2")}
"""Bad values by option; a new option must be added here."""
NO_LARGEST = ("every", "labels")
"""Options for which a very large number is valid."""
ABSURD = "100000000000000000000000"


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(tiny_pipeline(), device="cpu")


@pytest.fixture
def ct_volume():
    voxels = np.random.default_rng(0).integers(-1000, 400, (3, 40, 30)).astype(np.int16)
    return Volume(voxels, np.eye(4), Modality.CT)


def commands() -> dict[str, tuple[Callable[..., Any], Callable[[], Any]]]:
    """Function of every command and how to run it; the laboratory's if the product has none of that name."""
    return {
        command.name or command.callback.__name__: (command.callback, run)
        for app, run in ((lab.app, lab.main), (cli.app, cli.main))
        for command in app.registered_commands
        if command.callback is not None and not command.hidden
    }


def parameters() -> list[tuple[str, str, Any, Any]]:
    """(command, parameter, type, its typer settings) of all commands."""
    found = []
    for command, (function, _) in commands().items():
        kinds = get_type_hints(function, include_extras=True)
        for name in inspect.signature(function).parameters:
            kind, settings = get_args(kinds[name])[:2]
            found.append((command, name, kind, settings))
    return found


def flag_of(name: str, settings: Any) -> str:
    return next((one for one in settings.param_decls or () if one.startswith("--")), f"--{name.replace('_', '-')}")


def is_a(kind: Any, wanted: type) -> bool:
    return wanted in (kind, *get_args(kind))


def bad_values(name: str, kind: Any, settings: Any) -> tuple[str, ...]:
    if is_a(kind, float):
        return (*NO_NUMBERS, *OUT_OF_RANGE[name])
    if is_a(kind, int):
        if settings.min is None:
            return ("a whole number without a lower limit",)
        return ("-1", "1.5", *NO_NUMBERS, *(() if name in NO_LARGEST else (ABSURD,)))
    pair = re.fullmatch(r"[A-Z]+([:,/])[A-Z]+", getattr(settings, "metavar", None) or "")
    return tuple(f"1{pair[1]}{value}" for value in (*NO_NUMBERS, "-1", "0")) if pair else ()


CASES = [
    (command, flag_of(name, settings), value)
    for command, name, kind, settings in parameters()
    for value in bad_values(name, kind, settings)
]


def required_values(command: str) -> list[str]:
    """Values for all required arguments and options; none of the files exist."""
    signature = inspect.signature(commands()[command][0]).parameters
    values = []
    for owner, name, kind, settings in parameters():
        if owner == command and signature[name].default is inspect.Parameter.empty:
            value = "none.nii.gz" if is_a(kind, Path) else "left lung"
            is_option = type(settings).__name__ == "OptionInfo"
            values += [flag_of(name, settings), value] if is_option else [value]
    return values


def test_the_sweep_finds_the_numeric_options():
    swept = {(command, flag) for command, flag, _ in CASES}
    assert {("segment", "--threshold"), ("segment", "--window"), ("segment", "--slices"), ("batch", "--threshold"),
            ("batch", "--shard"), ("evaluate", "--threshold"), ("evaluate-control", "--threshold"),
            ("pretrain-text", "--seed"), ("benchmark", "--repeats")} <= swept  # fmt: skip


@pytest.mark.parametrize(("command", "flag", "value"), CASES)
def test_no_command_accepts_a_bad_number(command, flag, value, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fasttextdiff", command, *required_values(command), f"{flag}={value}"])
    with pytest.raises(SystemExit) as stopped:
        commands()[command][1]()
    said = capsys.readouterr().err.strip()
    assert stopped.value.code == 2
    assert "\n" not in said
    assert flag.strip("-") in said  # not that the input does not exist: it was not read
    assert not list(tmp_path.iterdir())


BAD_OPTIONS = [
    *({"threshold": value} for value in (float("nan"), float("inf"), 0, 1, -0.5, "0.5", True, np.float32("nan"))),
    *({"window": value} for value in ((float("nan"), 1.0), (0.0, float("inf")), (0.0, 0.0), (0, -1), (1,), 3, "12")),
    *({"window": (1e308, 1e308)}, {"window": (0.0, 1e-300)}),
    *({"slice_by_slice": value} for value in ("yes", 1, 0.0)),
    *({"try_anyway": value} for value in ("yes", 1)),
    *({"samples": value} for value in (0, -1, 1.5, float("nan"), "2", True, 1001, 10**30)),
    *({"seed": value} for value in (-1, 1.5, 2**63, float("inf"))),
    *({"slices": value} for value in ((0, 0), (3, 2), (-1, 2), (0.5, 2), (0,), (0, float("nan")))),
    {"plane": "oblique"},
]


def written_out(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else float(value) if isinstance(value, np.floating) else value


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=str)
def test_library_batch_and_job_table_accept_the_same_values_as_the_command_line(
    options, tmp_path, segmenter, ct_volume
):
    (name,) = options
    with pytest.raises(UsageError, match=name):
        segmenter.segment(ct_volume, ["left lung"], **options)
    with pytest.raises(UsageError, match=name):
        CaseOptions(**options)
    table = tmp_path / "jobs.json"
    table.write_text(json.dumps([{"path": "none.nii.gz", "findings": ["lung"], name: written_out(options[name])}]))
    with pytest.raises(UsageError, match=rf"row 1: (unknown column )?'{name}\b"):
        find_cases(table, [], CaseOptions())


@pytest.mark.parametrize("workers", [0, 257, 10**30, 1.5, float("nan")])
def test_a_batch_accepts_no_absurd_number_of_workers(workers, tmp_path):
    with pytest.raises(UsageError, match="'workers' must be a whole number from 1 to 256"):
        BatchRequest(tmp_path, tmp_path / "out", ("left lung",), (".nii.gz",), workers=workers)


def test_numpy_numbers_are_accepted(segmenter, ct_volume):
    asked = {"threshold": np.float32(0.5), "samples": np.int64(1), "seed": np.int32(3), "window": (np.int16(0), 400)}
    made = segmenter.segment(ct_volume, ["left lung"], slices=(np.int64(0), 1), **asked).provenance
    json.dumps([made.threshold, made.samples, made.seed, made.window, made.slices])
    check_options(threshold=None, window=None, slices=None)


RUN = TrainingConfig("tiny", Path("out"), (Stage(1, 32, 1),), datasets={"mine": Path("data")}, start=Path("model"))
NUMBERS = [field.name for field in fields(RUN) if field.type in ("int", "float")]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -1, "fast", True])
@pytest.mark.parametrize("name", NUMBERS)
def test_training_refuses_useless_numbers(name, value):
    check_training(RUN, "run.yaml")
    with pytest.raises(UsageError, match=f"run.yaml: '{name}' must be"):
        check_training(replace(RUN, **{name: value}), "run.yaml")


@pytest.mark.parametrize(
    "change",
    [
        *({"stages": (Stage(*numbers),)} for numbers in ((1, 32, 0), (10**30, 32, 1), (1, 10**6, 1), (1, 32, 10**9))),
        *(
            {"mixture": {"mine": float("nan")}},
            {"ema": 1.0},
            {"optimizer": "sgd"},
            {"labels": 1.5},
            {"presence_batches": 10**12},
        ),
    ],
)
def test_training_refuses_useless_stages_and_shares(change):
    with pytest.raises(UsageError, match=r"run.yaml: '.*' must be"):
        check_training(replace(RUN, **change), "run.yaml")


def test_a_training_file_is_refused_before_its_data_are_read(tmp_path, monkeypatch, capsys):
    (tmp_path / "run.yaml").write_text(
        "name: x\noutput: out\nstart: bundled\ndatasets: {mine: none}\nlearning_rate: .nan\n"
        "stages: [{steps: 1, size: 32, batch: 1}]\n"
    )
    monkeypatch.setattr(sys, "argv", ["fasttextdiff", "train", str(tmp_path / "run.yaml")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "'learning_rate' must be above 0" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


OF_ANOTHER_TYPE = {
    "'volume' must be of type Volume, not str: use read_volume": lambda s, _: s.segment("ct.nii.gz", ["left lung"]),
    "findings must be a list of texts, for example ['left lung'], not None": lambda s, v: s.segment(v, None),
    "'samples' must be a whole number, not None": lambda s, v: s.segment(v, ["left lung"], samples=None),
    "'model' must be a FastTextDiffPipeline, a folder or a hub id, not int": lambda s, v: Segmenter(5),
    "'5' is not a device: use auto, cpu, cuda, cuda:1 or mps; gpu or npu with OpenVINO": lambda s, v: Segmenter(
        device=5
    ),
    "'result' must be of type SegmentationResult, not Volume: use Segmenter.segment": lambda s, v: measure(v),
    "'adapters' must be of type Sequence, not int: give a list": lambda s, v: s.use(5),
    "'adapter' must be of type Adapter, not str: use Adapter.load": lambda s, v: s.use(["blob.safetensors"]),
    "'examples' must be of type list or tuple, not int": lambda s, v: s.adapt(5, finding="blob"),
    "'synonyms' must be of type list or tuple, not str": lambda s, v: s.adapt([], finding="blob", synonyms="disc"),
}


@pytest.mark.parametrize(("said", "call"), OF_ANOTHER_TYPE.items(), ids=lambda value: str(value)[:20])
def test_arguments_of_another_type_are_refused_in_one_line(segmenter, ct_volume, said, call):
    with pytest.raises(UsageError) as caught:
        call(segmenter, ct_volume)
    assert str(caught.value) == said


@pytest.mark.parametrize("write", [write_segmentation, write_uncertainty, write_preview])
def test_what_is_no_result_is_not_written(tmp_path, write):
    with pytest.raises(UsageError, match=r"^'result' must be of type SegmentationResult, not NoneType: [^\n]*$"):
        write(None, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"array": [[[1]]]}, "array must be a numpy array of numbers, not list"),
        ({"array": np.zeros((1, 2, 2), object)}, "array must be a numpy array of numbers, not an array of object"),
        ({"ijk_to_ras": np.eye(4).tolist()}, "ijk_to_ras must be a numpy array of numbers, not list"),
        ({"modality": "ct"}, "modality must be a Modality, such as Modality.CT, not 'ct'"),
    ],
)
def test_a_volume_of_other_values_is_refused_in_one_line(ct_volume, wrong, said):
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        replace(ct_volume, **wrong)


def test_a_model_is_not_saved_over_a_file(tmp_path):
    (tmp_path / "model").write_text("mine")
    with pytest.raises(UsageError, match=r"^cannot make the model folder .*model: [^\n]*; choose another one$"):
        tiny_pipeline().save_pretrained(tmp_path / "model")
    assert (tmp_path / "model").read_text() == "mine"
