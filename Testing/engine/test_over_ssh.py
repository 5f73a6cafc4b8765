"""An engine on another machine, by a fake `ssh` that runs the far end here: same answers, one line for trouble."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_slice, write_stack
from posix_only import on_posix
from test_dicom_seg import GRIDS, PATIENT, PROJECTION

from fasttextdiff.contract import messages
from fasttextdiff.contract.answers import ArrayFile
from fasttextdiff.contract.requests import (
    CheckEnvironment,
    CheckFindings,
    CloseVolume,
    DescribeModel,
    ListSeries,
    Open,
    OpenVolume,
    Segment,
)
from fasttextdiff.contract.teaching import LearnedFinding, ListLearned
from fasttextdiff.errors import UsageError
from fasttextdiff.worker.over_ssh import command_of, environment_before_slicer, told_of_file

pytestmark = on_posix
SSH = """#!/bin/sh
echo "$@" >> "$FAKE_SSH_LOG"
for last; do :; done
case "$FAKE_SSH" in
  password) read -r asked; echo "doctor@gpu: Permission denied (publickey,password)." >&2; exit 255 ;;
  hang) exec sleep 60 ;;
  break) echo "$FAKE_SSH_HELLO"; read -r asked; exit 255 ;;
  absent) read -r asked; echo "python9: command not found" >&2; exit 127 ;;
  *) echo "Welcome to this machine!"; eval "exec $last" ;;
esac
"""


@pytest.fixture
def connect(tmp_path, monkeypatch):
    """Starts the near end with a fake ssh; returns a function that asks it."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(SSH)
    ssh.chmod(ssh.stat().st_mode | stat.S_IEXEC)
    folder = tmp_path / "temporary"
    folder.mkdir()
    started = []

    def start(trouble="", patience="120", host="doctor@gpu"):
        environment = {**os.environ, "PATH": f"{ssh.parent}:{os.environ['PATH']}", "FAKE_SSH": trouble}
        hello = messages.event_fields(None, messages.Hello(messages.PROTOCOL, "1"))
        environment |= {"FAKE_SSH_LOG": str(tmp_path / "log"), "TMPDIR": str(folder)}
        environment["FAKE_SSH_HELLO"] = json.dumps({"message": hello, "files": []})
        command = [sys.executable, "-m", "fasttextdiff", "over-ssh", host, sys.executable, patience]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=folder)
        started.append(process)
        messages.require_hello(json.loads(process.stdout.readline()))
        return process

    yield start
    for process in started:
        process.stdin.close()
        process.wait(120)
        process.stdout.close()
    assert list(folder.iterdir()) == []  # nothing of the patient is left on either side


def ask(process, number, request):
    process.stdin.write(json.dumps(messages.request_fields(number, request)).encode() + b"\n")
    process.stdin.flush()
    while True:
        content = json.loads(process.stdout.readline())
        if content["id"] == number and content["event"] != "progress":
            return messages.event_of(content, request)


def opened(folder, volume, model, path=None):
    voxels = folder / "voxels.raw"
    volume.tofile(voxels)
    array = ArrayFile(voxels, volume.dtype.name, volume.shape)
    matrix = tuple(GRIDS["axial"].ravel().tolist())
    return Open(str(model), "cpu"), OpenVolume("v", array, matrix, name="Müller", path=path, modality="ct")


def test_the_answers_are_those_of_a_worker_here(connect, model, tmp_path):
    from fasttextdiff.worker.jobs import Jobs

    volume = np.random.default_rng(0).integers(-1000, 300, (2, 40, 50)).astype(np.int16)
    process, here = connect(), Jobs()
    answers, own = [], []
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    for number, request in enumerate(opened(tmp_path, volume, model), start=1):
        answers.append(ask(process, number, request))
        own.append(here.do(request, lambda done, total: True))
    assert answers[1].modality == own[1].modality == "ct"
    segment = Segment("v", ("left lung",), tmp_path / "there", try_anyway=True, library=tmp_path)
    there = ask(process, 3, segment)
    mine = here.do(Segment("v", ("left lung",), tmp_path / "here", try_anyway=True), lambda done, total: True)
    assert there.notes == ("findings learned on this computer were not used",)
    for one, other in zip(there.findings, mine.findings, strict=True):
        assert one.presence == other.presence
        assert Path(one.probability.file).parent == tmp_path / "there"
        assert Path(one.probability.file).read_bytes() == Path(other.probability.file).read_bytes()
    log = (tmp_path / "log").read_text()
    assert "-oBatchMode=yes" in log
    assert "Müller" not in log
    candidate = Segment("v", ("left lung",), tmp_path / "there", candidate=tmp_path / "learned.safetensors")
    for number, request in enumerate((ListLearned(tmp_path), candidate), start=6):
        assert ask(process, number, request).message.startswith("findings are learned and kept only on this")
    assert ask(process, 5, DescribeModel(None)).name.startswith("compact")
    learned = LearnedFinding("gallbladder", ("gb",), "ct", 5, None, "m", 1, True, tmp_path / "gb.safetensors", "0")
    (checked,) = ask(process, 8, CheckFindings(None, ("gb",), "ct", (learned,))).findings
    assert checked.learned == ""


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("password", "doctor@gpu: it asks for a password: set up a key with 'ssh-copy-id doctor@gpu'"),
        ("absent", "the engine is not installed there"),
        ("hang", "doctor@gpu: no answer within 2 s"),
        ("break", "doctor@gpu: the connection broke off"),
    ],
)
def test_trouble_is_one_line_that_names_the_host(connect, trouble, words):
    process = connect(trouble, "2" if trouble == "hang" else "120")
    answer = ask(process, 1, CheckEnvironment())
    assert isinstance(answer, messages.Error)
    assert answer.kind == messages.LOST
    assert words in answer.message
    assert "\n" not in answer.message
    assert process.wait(120) == 1


def test_an_image_that_is_gone_before_it_is_sent_is_refused_and_the_next_request_is_answered(connect, tmp_path):
    process = connect()
    _, request = opened(tmp_path, np.zeros((2, 4, 5), np.int16), "any")
    request.voxels.file.unlink()
    answer = ask(process, 1, request)
    assert isinstance(answer, messages.Error)
    assert "voxels.raw cannot be read" in answer.message
    assert ask(process, 2, DescribeModel(None)).name.startswith("compact")


def test_the_other_machine_keeps_one_copy_of_an_image_until_it_is_closed(connect, tmp_path):
    process = connect()
    _, request = opened(tmp_path, np.zeros((2, 4, 5), np.int16), "any")
    for number in (1, 2):
        assert isinstance(ask(process, number, request), messages.Error)  # refused: no model is loaded
        assert len(list((tmp_path / "temporary").rglob("*-far-*/**/*voxels.raw"))) == 1
    ask(process, 3, CloseVolume("v"))
    assert not list((tmp_path / "temporary").rglob("*voxels.raw"))


def test_headers_and_names_stay_here_and_a_projection_is_refused(tmp_path):
    shape = {"voxels": {"file": "x", "dtype": "int16", "shape": [1, 6, 7]}, "dicom_modality": None}
    folder = write_stack(tmp_path / "ct", np.zeros((1, 6, 7), np.int16), GRIDS["axial"], **PATIENT)
    slice_ = next(path for path in folder.rglob("*") if path.is_file())
    assert told_of_file({**shape, "path": str(slice_)}) == (None, "CT")
    assert told_of_file({**shape, "path": str(tmp_path / "patient Müller.png")}) == ("picture.png", None)
    assert told_of_file({**shape, "path": None}) == (None, None)
    film = write_slice(tmp_path / "film.dcm", np.zeros((6, 7), np.uint16), **{**PROJECTION, "Modality": "CR"})
    with pytest.raises(UsageError, match="which stays here"):
        told_of_file({**shape, "path": str(film)})


def test_series_are_listed_here(connect, tmp_path):
    folder = write_stack(tmp_path / "ct", np.zeros((3, 6, 7), np.int16), GRIDS["axial"], **PATIENT)
    assert len(ask(connect(), 1, ListSeries(folder, None)).files) == 3


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "a b", "", "gpu;reboot", "$(reboot)"])
def test_a_host_is_a_name_and_nothing_else(host):
    with pytest.raises(UsageError, match="not the name of a computer"):
        command_of(host, "python3")


def test_the_remote_command_is_quoted():
    assert command_of("gpu", "/opt/my env/python")[-1] == "'/opt/my env/python' -m fasttextdiff far-worker"
    assert command_of("gpu", "~/my env/python")[-1] == "~/'my env/python' -m fasttextdiff far-worker"


def test_ssh_runs_without_the_libraries_of_slicer():
    kept = {"APPLAUNCHER_0_PATH": "/usr/bin", "APPLAUNCHER_0_HOME": "/home/doctor", "APPLAUNCHER_LEVEL": "1"}
    slicers = {"PATH": "/slicer/bin", "LD_LIBRARY_PATH": "/slicer/lib", "HOME": "/home/doctor"}
    assert environment_before_slicer({**slicers, **kept}) == {"PATH": "/usr/bin", "HOME": "/home/doctor"}
    assert environment_before_slicer(slicers) == slicers
