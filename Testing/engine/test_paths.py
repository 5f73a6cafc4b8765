"""All public functions and commands accept paths as text or `os.PathLike`, with `~` as the home folder."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from PIL import Image
from tiny_models import tiny_pipeline

import fasttextdiff
from fasttextdiff import FastTextDiffPipeline, Segmenter, cli, read_volume, write_segmentation
from fasttextdiff.batch.cases import find_cases
from fasttextdiff.batch.plan import CaseOptions
from fasttextdiff.batch.request import BatchRequest
from fasttextdiff.errors import UsageError
from fasttextdiff.io.write import write_uncertainty
from fasttextdiff.paths import as_name, as_path
from fasttextdiff.render.contact_sheet import write_preview
from fasttextdiff.training.config import read_config
from fasttextdiff.training.own_data import read_table

PUBLIC = (
    *(getattr(fasttextdiff, name).__module__ for name in fasttextdiff.__all__ if name != "__version__"),
    *(f"fasttextdiff.{name}" for name in ("evaluation.datasets", "evaluation.metrics", "evaluation.report")),
    *(f"fasttextdiff.{name}" for name in ("render.contact_sheet", "batch.cases")),
    "fasttextdiff_lab.golden",
    *(f"fasttextdiff.model.{name}" for name in ("convert", "info", "text_encoder")),
)
NOT_FOR_USERS = {"decoded_from_memory", "check_not_source"}
"""The name of a volume in memory; files that are known already."""


def functions(module: Any) -> list[tuple[str, Any]]:
    """Public functions and methods that a module defines."""
    found = []
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", "") != module.__name__:
            continue
        if inspect.isfunction(value):
            found.append((name, value))
        elif inspect.isclass(value):
            methods = {key: getattr(value, key) for key in vars(value) if not key.startswith("_")}
            found += [
                (f"{name}.{key}", one)
                for key, one in methods.items()
                if inspect.isfunction(one) or inspect.ismethod(one)
            ]
    return [(name, one) for name, one in found if name not in NOT_FOR_USERS]


PARAMETERS = [
    pytest.param(function, parameter, id=f"{module}:{name}({parameter.name})")
    for module in dict.fromkeys(PUBLIC)
    for name, function in functions(importlib.import_module(module))
    for parameter in inspect.signature(function).parameters.values()
    if "Path" in str(parameter.annotation)
]


def test_the_sweep_finds_the_functions_with_paths():
    swept = {function.__qualname__ for function, _ in (param.values for param in PARAMETERS)}
    wanted = "read_volume write_segmentation write_uncertainty write_preview load_targets find_cases verify_golden"
    loaded = "FastTextDiffPipeline.from_pretrained FastTextDiffPipeline.save_pretrained"
    assert {*wanted.split(), *loaded.split()} <= swept


@pytest.mark.parametrize("value", [b"scan.nii.gz", 3, "", "a\0b"], ids=repr)
@pytest.mark.parametrize(("function", "parameter"), PARAMETERS)
def test_paths_are_typed_as_text_or_pathlike_and_others_are_refused_in_one_line(function, parameter, value):
    assert parameter.annotation.replace("Sequence[PathText]", "PathText") in ("PathText", "PathText | None")
    others = {
        name: MagicMock() if "Path" not in str(other.annotation) else "somewhere.nii.gz"
        for name, other in inspect.signature(function).parameters.items()
        if other.default is inspect.Parameter.empty and other.kind is not inspect.Parameter.VAR_KEYWORD
    }
    given = [value] if "Sequence" in parameter.annotation else value
    with pytest.raises(UsageError, match=r"^a path (is|holds|must be) [^\n]*$"):
        function(**{**others, parameter.name: given})


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.png")
    return tmp_path


def test_the_home_folder_is_found_by_library_table_and_command_line(home, monkeypatch, capsys):
    tiny_pipeline().save_pretrained("~/model")
    assert (home / "model" / "model_index.json").is_file()
    segmenter = Segmenter(FastTextDiffPipeline.from_pretrained("~/model"), "cpu")
    result = segmenter.segment(read_volume("~/x.png", modality="XRAY"), ["left lung"])
    for write, name in ((write_segmentation, "a.seg.nrrd"), (write_preview, "a.png"), (write_uncertainty, "a.nrrd")):
        write(result, f"~/{name}")
        write(result, home / f"path-{name}")
        assert (home / name).is_file()
    (home / "jobs.csv").write_text("path,findings\n~/x.png,left lung\n")
    (case,) = find_cases("~/jobs.csv", [], CaseOptions()).cases
    assert case.path == home / "x.png"
    assert BatchRequest("~/in", "~/out", ("lung",), (".nii.gz",)).output == home / "out"
    arguments = ["segment", "~/x.png", "-f", "left lung", "--output=~/cli.nii.gz", "--model=~/model", "--device=cpu"]
    monkeypatch.setattr(sys, "argv", ["fasttextdiff", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert (stopped.value.code, (home / "cli.nii.gz").is_file()) == (0, True), capsys.readouterr().err


def test_the_home_folder_is_found_in_training_files(home):
    (home / "runs").mkdir()
    (home / "runs" / "run.yaml").write_text(
        "name: x\noutput: ~/out\nstart: ~/model\ndatasets: {mine: ~/data, table: rows.csv}\n"
        "stages: [{steps: 1, size: 32, batch: 1}]\n"
    )
    run = read_config(home / "runs" / "run.yaml")
    assert (run.output, run.start) == (home / "out", home / "model")
    assert run.datasets == {"mine": home / "data", "table": home / "runs" / "rows.csv"}
    (home / "runs" / "rows.csv").write_text("image,mask,text\n~/ct.nii.gz,ct_mask.nii.gz,left lung\n")
    (row,) = read_table(run.datasets["table"])
    assert (row.image, row.mask) == (home / "ct.nii.gz", home / "runs" / "ct_mask.nii.gz")


def test_a_folder_named_like_the_home_folder_is_not_guessed(home):
    assert as_path("~/x") == home / "x"
    assert as_path("~x") == Path("~x")
    assert as_name("./owner/name") == "./owner/name"  # a folder, never a name on the Hugging Face Hub
    assert os.fspath(as_path(Path("a"))) == "a"
    (home / "~").mkdir()
    for path in ("~/x", Path("./~/x")):
        with pytest.raises(UsageError, match="give the whole path"):
            as_path(path)
