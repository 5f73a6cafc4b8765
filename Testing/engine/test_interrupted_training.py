"""Training in real processes: killed, resumed, distributed over two, on a full disk, and with a NaN loss."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from own_folders import picture_folder
from posix_only import on_posix
from tiny_models import one_line, tiny_pipeline

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.training.checkpoints import save_checkpoint
from fasttextdiff.training.config import read_config
from fasttextdiff.training.loop import train

resource = pytest.importorskip("resource", reason="limits of a process are POSIX")
pytestmark = on_posix
STEPS = 8
CONFIG = """\
name: tiny
start: tiny
output: {output}
datasets: {{mine: own}}
stages:
  - {{steps: 6, size: 32, batch: 3}}
  - {{steps: 2, size: 48, batch: 3}}
warmup: 2
checkpoint_every: 2
learning_rate: {rate}
text_learning_rate: 0.0001
"""
# half of the file is on the disk when the process ends
KILLED_WHILE_SAVING = """
import os, signal, sys, torch
from fasttextdiff import cli
save = torch.save
def half(state, file):
    save(state, file)
    file.truncate(file.tell() // 2)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
torch.save = half
cli.main()
"""
# in half precision, batches of two and three round differently, and Adam turns tiny differences into full steps
SINGLE_PRECISION = """
import accelerate
from fasttextdiff import cli
Accelerator = accelerate.Accelerator
accelerate.Accelerator = lambda mixed_precision, **options: Accelerator(mixed_precision="no", **options)
cli.main()
"""
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model to start from, and five labelled pictures."""
    place = tmp_path_factory.mktemp("runs")
    tiny_pipeline().save_pretrained(place / "tiny")
    picture_folder(place / "own")
    return place


def written(folder, output, rate=0.001):
    config = folder / f"{output}.yaml"
    config.write_text(CONFIG.format(output=output, rate=rate))
    return config


def configured(folder, output, rate=0.001):
    return read_config(written(folder, output, rate))


def command(folder, output, launcher=("-m", "fasttextdiff")):
    return [sys.executable, *launcher, "train", str(written(folder, output))]


def run(folder, output, *launcher):
    arguments = command(folder, output, launcher or ("-m", "fasttextdiff"))
    return subprocess.run(arguments, capture_output=True, text=True, env=ONE_THREAD, check=False, timeout=1200)


def checkpoint(folder, output):
    return torch.load(folder / output / "checkpoint.pt", weights_only=True)


def flat(state):
    """All parameters in one vector."""
    names = [name for name, _ in tiny_pipeline().named_parameters()]
    return torch.cat([state[name].flatten() for name in names])


def weights(folder, output):
    return {path.parent.name: path.read_bytes() for path in (folder / output / "model").rglob("*.safetensors")}


@pytest.fixture(scope="module")
def whole(folder):
    """The name of an uninterrupted run."""
    done = run(folder, "whole")
    assert done.returncode == 0, done.stderr
    return "whole"


def test_a_run_killed_at_random_and_while_saving_resumes_to_the_same_bits(folder, whole):
    arguments = command(folder, "killed")
    process = subprocess.Popen(arguments, env=ONE_THREAD, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 1200
        while not (folder / "killed" / "checkpoint.pt").is_file() and time.monotonic() < until:
            time.sleep(0.005)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    before = checkpoint(folder, "killed")["step"]
    assert 0 < before < STEPS

    again = run(folder, "killed", "-c", KILLED_WHILE_SAVING)
    assert again.returncode == -signal.SIGKILL
    assert (folder / "killed" / "checkpoint.tmp").is_file()
    assert checkpoint(folder, "killed")["step"] == before

    last = run(folder, "killed")
    assert last.returncode == 0, last.stderr
    assert not (folder / "killed" / "checkpoint.tmp").exists()
    assert len(weights(folder, whole)) == 3
    assert weights(folder, "killed") == weights(folder, whole)


def test_two_processes_share_every_batch_and_give_the_weights_of_one(folder):
    """Three images per batch: one process has two of them, the other one."""
    script = folder / "single_precision.py"
    script.write_text(SINGLE_PRECISION)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script))
    for name, how in (("alone", [str(script)]), ("shared", launcher)):
        done = run(folder, name, *how)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("wrote") == 1
        assert checkpoint(folder, name)["step"] == STEPS
    start = torch.nn.utils.parameters_to_vector(tiny_pipeline().parameters()).detach()
    alone, shared = (flat(checkpoint(folder, name)["model"]) for name in ("alone", "shared"))
    moved, apart = (alone - start).norm(), (alone - shared).norm()
    print(f"moved {moved:.4f}, apart {apart:.6f}")
    assert moved > 0.1
    assert apart < 0.01 * moved


def test_a_label_budget_is_logged_and_a_run_cannot_resume_with_another(folder):
    config = replace(configured(folder, "budget"), labels=2)
    train(config, lambda *_: None, lambda: True)  # stops after a step
    logged = json.loads((config.output / "log.jsonl").read_text().splitlines()[0])
    assert logged["labels"] == 2
    assert len(logged["images"]["mine"]) == 2
    with pytest.raises(FastTextDiffError) as caught:
        train(replace(config, labels=3), lambda *_: None)
    one_line(caught, "labels was 2 and is 3 now", "output folder")


def test_tensorboard_reads_the_curves_of_losses_dice_and_learning_rates(folder, whole):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / whole / "tensorboard")).Reload()
    assert {"loss", "dice", "segmentation", "denoising", "learning_rate"} <= set(events.Tags()["scalars"])
    rates = events.Scalars("learning_rate")
    assert [event.step for event in rates] == list(range(1, STEPS + 1))
    assert rates[0].value == pytest.approx(0.0005)  # warming up
    assert rates[1].value == pytest.approx(0.001)


def test_a_nan_loss_stops_naming_the_images_and_keeps_the_checkpoint(folder):
    steps = []
    with pytest.raises(FastTextDiffError) as caught:
        train(replace(configured(folder, "lost"), learning_rate=1e36), lambda step, _: steps.append(step))
    one_line(caught, f"step {len(steps) + 1}", "not a finite number", "case")
    assert not (folder / "lost" / "model").exists()
    if len(steps) >= 2:
        assert checkpoint(folder, "lost")["step"] == len(steps) // 2 * 2


def test_a_full_disk_is_reported_in_one_line_and_keeps_the_previous_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})
    kept = path.read_bytes()
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(FastTextDiffError) as caught:
            save_checkpoint(path, {"step": 2, "model": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    one_line(caught, str(path), "the previous one is kept")
    assert path.read_bytes() == kept
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]
