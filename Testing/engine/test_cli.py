"""The command line as users see it: real files, one line for every mistake, complete outputs or none."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from command_line import error_line
from dicom_files import write_stack
from PIL import Image
from tiny_models import save_text_encoder

from fasttextdiff import cli
from fasttextdiff.version import __version__
from fasttextdiff_lab import commands as lab


@pytest.fixture
def volume(tmp_path):
    voxels = np.random.default_rng(0).integers(-1000, 300, (30, 40, 6)).astype(np.int16)
    path = tmp_path / "chest.nii.gz"
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1, -1, 2.5, 1])), path)
    return path


def test_a_volume_is_segmented_into_every_output(run, volume, tmp_path):
    import SimpleITK

    outputs = [tmp_path / name for name in ("out.seg.nrrd", "out.png", "out.nrrd")]
    code, out, _ = run(
        "segment", volume, "-f", "left lung", "-f", "no such thing", "-o", outputs[0], "--preview", outputs[1],
        "--uncertainty", outputs[2], "--samples", 2, "--slices", "1:4", "--plane", "axial", "--window", "-500,1400",
    )  # fmt: skip
    assert code == 0
    assert all(path.is_file() for path in outputs)
    assert "Research use only" in out
    unsure = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(outputs[2])))
    assert unsure.max() > 0.1
    assert not unsure[[0, 4]].any()  # slices that were not requested
    with Image.open(outputs[1]) as picture:
        assert picture.size[0] > 300


def test_nifti_and_seg_nrrd_hold_the_same_masks(run, volume, tmp_path):
    import SimpleITK

    for name in ("a.nii.gz", "a.seg.nrrd"):
        assert run("segment", volume, "-f", "left lung", "-o", tmp_path / name)[0] == 0
    nifti = np.asarray(nibabel.load(tmp_path / "a.nii.gz").dataobj).transpose(2, 1, 0)
    segmentation = SimpleITK.ReadImage(str(tmp_path / "a.seg.nrrd"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(segmentation) > 0, nifti > 0)
    record = json.loads((tmp_path / "a.json").read_text())
    assert "left lung" in json.dumps(record)


BAD_OPTIONS = {
    "empty finding": (["-f", "   "], "finding is empty"),
    "other script": (["-f", "磨玻璃影"], "no Latin letters"),
    "emoji": (["-f", "🫁🫁"], "has no words"),
    "endless finding": (["-f", "opacity " * 1250], "shorten it"),
    "slices": (["-f", "lung", "--slices", "4"], "--slices"),
    "slices beyond": (["-f", "lung", "--slices", "0:99"], "0:99"),
    "window": (["-f", "lung", "--window", "wide"], "--window"),
    "plane": (["-f", "lung", "--plane", "oblique"], "oblique"),
    "device": (["-f", "lung", "--device", "cuda:7"], "cuda:7"),
    "unknown option": (["-f", "lung", "--colour", "red"], "--colour"),
    "probabilities in a label map": (["-f", "lung", "--fractional"], "DICOM SEG"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_a_wrong_option_is_reported_in_one_line_and_leaves_no_file(run, volume, tmp_path, case):
    options, words = BAD_OPTIONS[case]
    if case == "device" and torch.cuda.device_count() > 7:
        pytest.skip("this machine has that device")
    out = tmp_path / "results"
    out.mkdir()
    code, _, err = run("segment", volume, "-o", out / "a.nii.gz", *options, with_model="--device" not in options)
    assert code == 2
    assert words in error_line(err)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_a_dicom_series_is_segmented_into_a_dicom_segmentation(run, tmp_path, kind):
    pytest.importorskip("highdicom")
    voxels = np.random.default_rng(0).integers(-1000, 300, (3, 30, 40)).astype(np.int16)
    write_stack(tmp_path / "series", voxels, np.diag([-1.0, -1.0, 2.5, 1.0]))
    out = tmp_path / "result.dcm"
    options = ["--threshold", 0.2, *(["--fractional"] if kind == "FRACTIONAL" else [])]
    code, printed, err = run("segment", tmp_path / "series", "-f", "left lung", "-f", "heart", "-o", out, *options)
    assert code == 0, err
    assert f"wrote {out}" in printed
    dataset = pydicom.dcmread(out)
    assert (dataset.SegmentationType, dataset.Rows, dataset.Columns) == (kind, 30, 40)
    assert [segment.SegmentLabel for segment in dataset.SegmentSequence] == ["left lung", "heart"]


def test_a_dicom_segmentation_of_another_format_is_refused_in_one_line(run, volume, tmp_path):
    pytest.importorskip("highdicom")
    code, _, err = run("segment", volume, "-f", "lung", "-o", tmp_path / "result.dcm")
    assert code == 2
    assert "this is not one" in error_line(err)
    assert not (tmp_path / "result.dcm").exists()


def bad_inputs(folder):
    """(path, words of the error) by name of a bad image."""
    for name, content in {"empty.nii.gz": b"", "text.png": b"no picture", "cut.nii.gz": b"\x1f\x8b\x08\x00abc"}.items():
        (folder / name).write_bytes(content)
    save = lambda name, array: nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / name)  # noqa: E731
    save("four.nii.gz", np.zeros((9, 9, 9, 3), np.int16))
    save("nan.nii.gz", np.full((9, 9, 9), np.nan, np.float32))
    save("constant.nii.gz", np.zeros((9, 9, 9), np.int16))
    Image.new("L", (1, 1)).save(folder / "pixel.png")
    (folder / "nothing").mkdir()
    return {
        "missing.nii.gz": "missing.nii.gz", "empty.nii.gz": "empty", "text.png": "text.png", "cut.nii.gz": "cut.nii.gz",
        "four.nii.gz": "time", "nan.nii.gz": "NaN", "constant.nii.gz": "nothing to segment", "pixel.png": "too small",
        "nothing": "nothing",
    }  # fmt: skip


def test_every_bad_image_is_reported_in_one_line_and_leaves_no_file(run, tmp_path):
    out = tmp_path / "results"
    out.mkdir()
    for name, words in bad_inputs(tmp_path).items():
        code, _, err = run("segment", tmp_path / name, "-f", "lung", "-o", out / "a.seg.nrrd")
        assert code in (1, 2), name
        assert words in error_line(err), name
        assert list(out.iterdir()) == [], name


def test_impossible_outputs_are_refused_before_anything_is_read(run, tmp_path):
    for output, words in ((tmp_path / "no" / "a.nii.gz", "does not exist"), (tmp_path / "a.obj", ".seg.nrrd")):
        code, _, err = run("segment", tmp_path / "missing.nii.gz", "-f", "lung", "-o", output)
        assert code == 2
        assert words in error_line(err)


def broken_models(folder, model):
    """A word of the error by name of a broken model folder."""
    for name in ("incomplete", "shapes", "pickled"):
        shutil.copytree(model, folder / name)
    shutil.rmtree(folder / "incomplete" / "unet")
    config = folder / "shapes" / "fusion" / "config.json"
    config.write_text(config.read_text().replace('"width": 32', '"width": 48'))
    weights = folder / "pickled" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    weights.with_suffix(".bin").write_bytes(pickle.dumps({"weight": 1}))
    (folder / "no_model").mkdir()
    for name, value in {"threshold": "NaN", "presence_threshold": "2"}.items():
        shutil.copytree(model, folder / name)
        index = folder / name / "model_index.json"
        index.write_text(re.sub(rf'"{name}": [0-9.]+', f'"{name}": {value}', index.read_text()))
    return {
        "threshold": "'threshold' must be",
        "presence_threshold": "'presence_threshold' must be",
        "incomplete": "unet",
        "shapes": "do not fit",
        "pickled": "pickled",
        "no_model": "model_index.json",
    }


def test_broken_model_folders_are_reported_in_one_line(run, volume, tmp_path, model):
    words = broken_models(tmp_path, model) | {"not_there": "no model folder"}
    for name, word in words.items():
        arguments = ("segment", volume, "-f", "lung", "-o", tmp_path / "a.nii.gz", "--model", tmp_path / name)
        code, _, err = run(*arguments, with_model=False)
        assert code in (1, 2), name
        assert word in error_line(err), name
    assert not (tmp_path / "a.nii.gz").exists()


def test_verbose_shows_the_traceback(run, tmp_path):
    _, _, err = run("segment", tmp_path / "missing.png", "-f", "lung", "-o", tmp_path / "a.nii.gz", "-v")
    assert "Traceback" in err
    cli.state["verbose"] = False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopping_a_run_leaves_no_file(model, tmp_path, how):
    voxels = np.random.default_rng(0).integers(-1000, 300, (64, 64, 4000)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "long.nii")
    out = tmp_path / "results"
    out.mkdir()
    command = [sys.executable, "-m", "fasttextdiff", "segment", str(tmp_path / "long.nii"), "-f", "left lung"]
    command += ["-o", str(out / "a.seg.nrrd"), "--model", str(model), "--samples", "8", "--device", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    maps, deadline = Path(f"/proc/{process.pid}/maps"), time.monotonic() + 120
    while (
        "openvino_intel_cpu" not in maps.read_text() and time.monotonic() < deadline
    ):  # a busy machine takes long to reach this point
        time.sleep(0.2)
    time.sleep(8)
    assert process.poll() is None, process.stderr.read()
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error_line(err).startswith("error: stopped")
    assert list(out.iterdir()) == []


def test_evaluate_writes_numbers_and_masks(run, tmp_path):
    split = tmp_path / "set" / "val"
    (split / "img").mkdir(parents=True)
    (split / "targets" / "heart").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (50, 60)).astype(np.uint8)
    rows = ["Image,Mask,PromptAnatomical"]
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels).save(split / "img" / name)
        Image.fromarray((pixels > 128).astype(np.uint8) * 255).save(split / "targets" / "heart" / name)
        rows.append(f"{name},targets/heart/{name},heart")
    (split / "targets.csv").write_text("\n".join(rows) + "\n")
    report, masks = tmp_path / "report.json", tmp_path / "masks"
    code, _, _ = run("evaluate", tmp_path / "set", "--split", "val", "--json", report, "--masks", masks)
    assert code == 0
    content = json.loads(report.read_text())
    assert content["n"] == 2
    assert content["protocol"] == "native"
    assert [i["image"] for i in content["images"]] == ["a.png", "b.png"]
    with Image.open(masks / "heart" / "a.png") as mask:
        assert mask.size == (60, 50)
    code, _, _ = run("evaluate", tmp_path / "set", "--every", 2, "--json", report)
    assert [i["image"] for i in json.loads(report.read_text())["images"]] == ["a.png"]
    code, _, err = run("evaluate", tmp_path / "set", "--split", "test")
    assert code == 2
    assert "test" in error_line(err)


def test_control_prompts_are_scored_into_a_file(run, tmp_path):
    split = tmp_path / "set" / "val"
    (split / "img").mkdir(parents=True)
    (split / "targets" / "lesion").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (50, 60)).astype(np.uint8)
    Image.fromarray(pixels).save(split / "img" / "a.png")
    Image.fromarray(np.full((50, 60), 255, np.uint8)).save(split / "targets" / "lesion" / "a.png")
    (split / "targets.csv").write_text("Image,Mask,PromptAnatomical\na.png,targets/lesion/a.png,infection\n")
    code, out, _ = run("evaluate-control", tmp_path / "set", "--json", tmp_path / "control.json")
    assert code == 0
    assert "wrong_side" in out
    content = json.loads((tmp_path / "control.json").read_text())
    assert content["n_there"] == len(content["answers"]) == 2


def test_a_text_encoder_is_pretrained_from_the_command_line(run, model, tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("\n".join(f"the left lung is clear {n}" for n in range(60)))
    code, _, _ = run(
        "pretrain-text", tmp_path / "text", "-o", tmp_path / "out", "--start", model, "--steps", 1, with_model=False
    )
    assert code == 0
    assert (tmp_path / "out" / "text_encoder" / "model.safetensors").is_file()
    code, _, err = run("pretrain-text", tmp_path / "none", "-o", tmp_path / "new", with_model=False)
    assert code == 2
    assert "none" in error_line(err)
    code, _, err = run("pretrain-text", tmp_path, "-o", tmp_path / "new", "--start", tmp_path, with_model=False)
    assert code == 2
    assert "not a model folder" in error_line(err)


def test_a_text_encoder_is_distilled_from_the_command_line(run, model, tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("\n".join(f"the left lung is clear {n}" for n in range(60)))
    save_text_encoder(tmp_path / "teacher", dim=64)
    places = "--start", model, "-o", tmp_path / "out"
    teach = "distil-text", tmp_path / "text", "--steps", 1, "--teacher"
    assert run(*teach, tmp_path / "teacher", *places, with_model=False)[0] == 0
    assert (tmp_path / "out" / "text_encoder" / "model.safetensors").is_file()
    code, _, err = run(*teach, tmp_path / "none", *places, with_model=False)
    assert code == 1
    assert "none" in error_line(err)


def test_a_denoiser_is_pretrained_from_the_command_line_despite_a_damaged_file(run, model, tmp_path):
    (tmp_path / "images" / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for n in range(21):
        Image.fromarray(rng.integers(0, 255, (40, 40)).astype(np.uint8)).save(tmp_path / "images" / f"{n}.png")
    (tmp_path / "images" / "deep" / "broken.jpg").write_bytes(b"no picture")
    train = "pretrain-denoiser", tmp_path / "images", "--steps", 1, "--batch", 2, "--size", 32, "--start", model
    code, _, err = run(*train, "-o", tmp_path / "out", with_model=False)
    assert code == 0
    assert "broken.jpg" in err
    assert "1 of 22 files skipped" in err
    assert (tmp_path / "out" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    code, _, err = run("pretrain-denoiser", tmp_path / "none", "-o", tmp_path / "new", with_model=False)
    assert code == 2
    assert "none" in error_line(err)


def test_the_version_is_shown_without_a_command(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fasttextdiff", "--version"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, err = capsys.readouterr()
    assert (stopped.value.code, out, err) == (0, f"fasttextdiff {__version__}\n", "")


@pytest.mark.parametrize(("app", "main"), [(cli.app, cli.main), (lab.app, lab.main)], ids=["product", "laboratory"])
def test_every_command_has_help(run, app, main):
    code, out, _ = run("--help", with_model=False, main=main)
    assert code == 0
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        assert (name in out) != command.hidden
        if not command.hidden:
            assert run(name, "--help", with_model=False, main=main)[0] == 0


def test_commands_that_moved_to_the_laboratory_are_run_there_with_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fasttextdiff", "verify-golden", tmp_path], capture_output=True, text=True, check=False
    )
    note, error = done.stderr.splitlines()
    assert note == "note: `fasttextdiff verify-golden` is now `fasttextdiff-lab verify-golden`"
    assert error.startswith("error: ")
    assert "cases.json" in error
    assert done.returncode in (1, 2)


def test_info_names_the_model_and_its_taught_terms(run, model):
    code, out, _ = run("info", "--model", model, with_model=False)
    assert code == 0
    assert "tiny" in out
    assert "consolidation" in out
