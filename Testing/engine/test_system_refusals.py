"""Refusals of the operating system and garbled input are one line for the user, never an internal error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from own_folders import picture_folder
from PIL import Image
from posix_only import on_posix

from fasttextdiff import cli as commands
from fasttextdiff.errors import UsageError
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.read import read_volume
from fasttextdiff_lab import commands as laboratory


def cli(
    *arguments: object, stdout: object = subprocess.PIPE, cwd: Path | None = None, **environment: str
) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "fasttextdiff", *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        cwd=cwd,
        check=False,
    )
    return done.returncode, done.stderr.decode("utf-8", "replace")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "x.png")
    return tmp_path / "x.png"


def test_a_name_that_is_too_long_is_refused_as_input_and_as_output(picture):
    long = picture.with_name("n" * 250 + ".seg.nrrd")
    code, said = cli("segment", picture, "-f", "left lung", "-o", long)
    assert code == 2
    assert "255 bytes" in said
    with pytest.raises(UsageError, match="the file name is too long"):
        read_volume(long)


DEEP = {
    "job table": ("deep.json", ("batch", "deep.json", "-f", "left lung", "-o", "out", "--dry-run")),
    "batch": ("out/batch.json", ("batch", "x.png", "-f", "left lung", "-o", "out")),
    "model": ("model/model_index.json", ("segment", "x.png", "-f", "left lung", "-o", "o.nii", "--model", "model")),
    "data set": ("data/dataset.json", ("evaluate", "data")),
    "golden": ("golden/cases.json", ("verify-golden", "golden")),  # under its former name
}


@pytest.mark.parametrize("name", DEEP)
def test_too_deeply_nested_json_is_one_line_wherever_it_is_read(picture, name):
    file, arguments = DEEP[name]
    (picture.parent / file).parent.mkdir(exist_ok=True)
    (picture.parent / "data/Val_Folder/img").mkdir(parents=True)
    (picture.parent / file).write_text("[" * 100_000)
    code, said = cli(*arguments, cwd=picture.parent)
    assert code in (1, 2)
    errors = [line for line in said.splitlines() if not line.startswith("note: ")]
    assert len(errors) == 1
    assert "internal error" not in said
    assert Path(file).name in errors[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_standard_output_is_one_line():
    for arguments in (["--help"], ["--version"], ["info"], ["train", "--help"]):
        with Path("/dev/full").open("wb") as full:
            code, said = cli(*arguments, stdout=full)
        assert code == 1, arguments
        assert said.strip() == "error: cannot use the standard output: no space left on device"


PRINTING = {
    "batch": ("batch", "x.png", "-f", "left lung", "-o", "out", "--dry-run"),
    "train": ("train", "run.yaml", "--check"),
    "evaluate": ("evaluate", "data", "--split", "train", "--model", "model", "--json", "numbers.json"),
    "evaluate-control": ("evaluate-control", "data", "--split", "train", "--model", "model", "--json", "numbers.json"),
    "verify-golden": ("verify-golden", "golden"),
    "benchmark": ("benchmark", "--suite", "text", "--repeats", "1", "--model", "model"),
    "info": ("info", "--model", "model"),
    "segment": ("segment", "x.png", "-f", "left lung", "-o", "o.nii.gz", "--model", "model"),
    "pretrain-text": ("pretrain-text", "texts", "-o", "words", "--start", "model", "--steps", "1"),
    "pretrain-denoiser": ("pretrain-denoiser", "data", "-o", "pixels", "--start", "model", "--steps", "1",
                          "--batch", "1", "--size", "16"),
}  # fmt: skip
"""What prints in each command; distil-text and convert end like the ones before, and worker talks to a program."""


RUN_BY = {
    one.name or one.callback.__name__: main
    for app, main in ((laboratory.app, laboratory.main), (commands.app, commands.main))
    for one in app.registered_commands
    if not one.hidden
}
"""Every command with its program; the product's if both have one of that name."""


@pytest.fixture
def printable(picture, model, monkeypatch):
    """The inputs of the commands, in the current folder."""
    monkeypatch.chdir(folder := picture.parent)
    picture_folder(folder / "data", 2)
    (folder / "model").symlink_to(model)
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("\n".join(f"the left lung is clear {n}" for n in range(60)))
    (folder / "run.yaml").write_text(
        "name: x\noutput: run\nstart: model\ndatasets: {mine: data}\nstages: [{steps: 1, size: 32, batch: 1}]\n"
    )
    (folder / "golden").symlink_to(Path(__file__).parent / "golden")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("command", RUN_BY)
def test_a_full_standard_output_is_one_line_in_every_command(printable, command, monkeypatch, capsys):
    for arguments in ((command, "--help"), PRINTING.get(command, (command, "--help"))):
        monkeypatch.setattr(sys, "argv", ["fasttextdiff", *arguments])
        with Path("/dev/full").open("w") as full:
            monkeypatch.setattr(sys, "stdout", full)
            with pytest.raises(SystemExit) as stopped:
                RUN_BY[command]()
        said = capsys.readouterr().err.splitlines()
        assert (stopped.value.code, said[-1]) == (1, "error: cannot use the standard output: no space left on device")
        assert [line for line in said[:-1] if line.startswith("error")] == []
    assert Path("numbers.json").is_file() == ("--json" in PRINTING.get(command, ()))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_standard_output_after_a_run_is_one_line_and_keeps_the_results(picture):
    with Path("/dev/full").open("wb") as full:
        code, said = cli("segment", picture, "-f", "lung", "-o", picture.with_name("o.nii.gz"), stdout=full)
    assert code == 1
    assert said.splitlines()[-1] == "error: cannot use the standard output: no space left on device"
    assert picture.with_name("o.nii.gz").is_file()


C_LOCALE = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@on_posix
def test_umlauts_are_read_and_written_in_the_c_locale(picture):
    folder = picture.parent / "Müller" / "Größe"
    folder.mkdir(parents=True)
    (image := folder / "ü.png").write_bytes(picture.read_bytes())
    outputs = [folder / name for name in ("ö.seg.nrrd", "ö.png", "ö.nrrd")]
    code, said = cli(
        "segment", image, "-f", "Drüse", "-o", outputs[0], "--preview", outputs[1], "--uncertainty", outputs[2],
        **C_LOCALE,
    )  # fmt: skip
    assert code == 0, said
    assert all(path.is_file() for path in outputs)
    assert "'Drüse' was not taught" in said
    (table := folder / "Fälle.csv").write_text("path,findings\nü.png,Drüse\n", encoding="utf-8")
    code, said = cli("batch", table, "-o", folder / "Ergebnis", **C_LOCALE)
    assert code == 0, said
    for arguments in (["info", "-m", folder], ["batch", folder / "nö", "-f", "x", "-o", folder / "aus"]):
        code, said = cli(*arguments, **C_LOCALE)
        assert code in (1, 2)
        (line,) = said.strip().splitlines()
        assert line.startswith("error: ")
        assert "Größe" in line


@on_posix
def test_a_name_that_is_not_utf_8_is_refused_and_skipped_in_a_batch(picture):
    folder = picture.parent / "studies"
    folder.mkdir()
    (folder / "good.png").write_bytes(picture.read_bytes())
    (bad := folder / os.fsdecode(b"M\xfcller.png")).write_bytes(picture.read_bytes())
    (folder / os.fsdecode(b"M\xfcller.nrrd")).write_bytes(b"NRRD0004\n")
    code, said = cli("segment", bad, "-f", "lung", "-o", picture.with_name("o.nii.gz"))
    assert (code, len(said.strip().splitlines())) == (2, 1), said
    assert "not: rename it" in said
    with pytest.raises(UsageError, match="UTF-8"):
        read_volume(bad)
    code, said = cli("batch", folder, "-f", "lung", "-o", picture.with_name("out"))
    assert code == 0, said
    summary = (picture.with_name("out") / "names.local.csv").read_text(encoding="utf-8", errors="replace")
    assert summary.count("the name is not in UTF-8") == 2


def test_a_modality_is_taken_by_its_name_or_refused_at_once(picture):
    assert read_volume(str(picture), modality="xray").modality is Modality.XRAY
    with pytest.raises(UsageError, match="use ct, mr"):
        read_volume(picture, modality="pet")
