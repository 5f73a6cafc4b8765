"""The output folder of a batch: shards that start together, and files that another program has open."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from fasttextdiff.batch import folder as batch_folder
from fasttextdiff.batch import runner
from fasttextdiff.batch.cases import CaseOptions, find_cases
from fasttextdiff.batch.folder import BatchFolder, Run, system_errors
from fasttextdiff.batch.work import request_of
from fasttextdiff.errors import FastTextDiffError, UsageError

RUN = Run("", "0" * 64, (".nii.gz",), "cpu", "auto", False, "2023-11-14T22:13:20+00:00")
LATER = replace(RUN, started="2023-11-14T22:13:21+00:00")


def beside(monkeypatch, module, name, work):
    """Let a second shard do `work` while the first is at the function `name`; it may be made to wait there."""
    real, second = getattr(module, name), threading.Thread(target=work)

    def at_the_same_time(*arguments):
        if second.ident is None:
            second.start()
            second.join(1)  # long enough for a shard that does not wait
        return real(*arguments)

    monkeypatch.setattr(module, name, at_the_same_time)
    return second


@pytest.mark.parametrize("name", ["whole_files", "check_writable"])
def test_shards_that_start_together_get_the_same_settings(tmp_path, monkeypatch, name):
    begun = []
    second = beside(monkeypatch, batch_folder, name, lambda: begun.append(BatchFolder(tmp_path).begin(LATER)))
    begun.append(BatchFolder(tmp_path).begin(RUN))
    second.join()
    stored = json.loads((tmp_path / "batch.json").read_text())["started"]
    assert [one.started for one in begun] == [stored, stored]
    assert BatchFolder(tmp_path).begin(replace(RUN, started="later")).started == stored


def test_of_shards_that_end_together_the_last_summary_has_the_cases_of_both(tmp_path, monkeypatch):
    for n in range(2):
        Image.new("L", (8, 8), n).save(tmp_path / f"{n}.png")
    plan, outputs = find_cases(tmp_path, ["left lung"], CaseOptions()), BatchFolder(tmp_path / "out")

    def end_of(case):
        outputs.case_folder(case.name).mkdir()
        outputs.finish(case.name, {"request": request_of(case), "findings": [], "notes": []})
        outputs.fail(case.name, f"failed {case.name}", "")
        runner.write_summary(plan, outputs, RUN)

    second = beside(monkeypatch, runner, "whole_files", lambda: end_of(plan.cases[1]))
    end_of(plan.cases[0])
    second.join()
    rows = json.loads((outputs.path / "summary.json").read_text())["cases"]
    assert [row["state"] for row in rows] == ["failed", "failed"]


def test_a_case_whose_outputs_were_lost_is_run_again(run, tmp_path):
    for n in range(3):
        Image.effect_noise((40, 48), 20 + n).save(tmp_path / f"{n}.png")
    job = ("batch", tmp_path, "-o", tmp_path.parent / f"{tmp_path.name}-out", "-f", "left lung", "--format", ".png")
    assert run(*job, "--format", ".nii.gz")[0] == 0
    whole = sorted(job[3].glob("*/image-*"))
    contents = [path.read_bytes() for path in whole]
    whole[0].write_bytes(b"")  # as after a power cut
    whole[2].unlink()
    code, _, err = run(*job, "--format", ".nii.gz")
    assert code == 0, err
    assert err.startswith("2 of 3 cases, 0 failed")  # the first line is about the case that ends first
    assert [path.read_bytes() for path in whole] == contents


def test_outputs_are_on_the_disk_before_their_case_is_done(tmp_path, monkeypatch):
    outputs, flushed, real = BatchFolder(tmp_path), set(), os.fsync

    def flush(descriptor):
        real(descriptor)
        if not (tmp_path / "ct-1" / "case.json").exists():
            flushed.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", flush)
    place = outputs.clean("ct-1")
    (place / "ct-1.png").write_bytes(b"picture")
    outputs.finish("ct-1", {"request": {}, "outputs": {"ct-1.png": ""}})
    for path in (place, *place.iterdir()) if os.name == "posix" else place.iterdir():
        assert path.stat().st_ino in flushed, path.name


def write_all(plan, outputs):
    with system_errors(outputs.path):
        runner.write_names(plan, outputs)
        runner.write_summary(plan, outputs, RUN)
        runner.add_timing(outputs.path / "timings-1-of-1.csv", runner.Outcome("case"))


@pytest.mark.parametrize("name", ["names.local.csv", "summary.csv", "timings-1-of-1.csv"])
def test_a_file_that_is_open_elsewhere_is_named_with_what_to_do(tmp_path, monkeypatch, name):
    (tmp_path / name).write_text("open in a spreadsheet")
    places = {real.__name__: real for real in (Path.rename, Path.replace, Path.open)}

    def refused(real):
        is_replace = real is Path.replace

        def call(path, *arguments, **more):
            target = arguments[0] if is_replace else path
            if target.name == name:
                raise PermissionError(13, "Permission denied", str(path), None, str(target))
            return real(path, *arguments, **more)

        return call

    for called, real in places.items():
        monkeypatch.setattr(Path, called, refused(real))
    Image.new("L", (8, 8)).save(tmp_path.parent / f"{tmp_path.name}.png")
    plan = find_cases(tmp_path.parent / f"{tmp_path.name}.png", ["left lung"], CaseOptions())
    with pytest.raises(FastTextDiffError) as failed:
        write_all(plan, BatchFolder(tmp_path))
    assert not isinstance(failed.value, UsageError)
    assert str(failed.value) == (
        f"cannot write {tmp_path / name}: permission denied; if another program has it open, close it, then rerun the "
        "same command to resume"
    )
