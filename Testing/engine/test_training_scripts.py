"""The scripts that measure training, run as in their docstrings on a few small pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from own_folders import picture_folder, text_table
from safetensors.torch import load_file
from test_interrupted_training import ONE_THREAD
from tiny_models import tiny_pipeline

SCRIPTS = Path(__file__).resolve().parents[1] / "benchmarks"
TILES = 4
NAMES = [f"case{n}.png" for n in range(TILES)]
FOLDS = """\
name: folds
licence: CC0-1.0
data: data
text: text
output: unused
stages: [{steps: 2, size: 32, batch: 2}]
mixture: {monuseg: 1.0}
model:
  {vocabulary: 300, text_dim: 32, text_layers: 1, text_heads: 1, channels: [16, 32], blocks: [1, 3], fusion_width: 32,
   fusion_heads: 1, decoder_channels: [16, 16]}
"""
FROZEN = """\
name: frozen
start: tiny
output: unused
datasets: {mine: data/monuseg_2}
stages: [{steps: 2, size: 32, batch: 2}]
"""


@pytest.fixture
def place(tmp_path):
    """`data/monuseg_2` with two tiles to learn from and two to validate on, and text for a tokenizer."""
    tiles = picture_folder(tmp_path / "data" / "monuseg_2", TILES, modality="histology")
    learned, validation = tiles / "Train_Folder", tiles / "Val_Folder"
    for part in ("img", "labelcol"):
        (validation / part).mkdir(parents=True)
        for name in NAMES[2:]:
            (learned / part / name).rename(validation / part / name)
    for split, names in (("Train", NAMES[:2]), ("Val", NAMES[2:])):
        text_table(tiles / f"{split}_text.xlsx", [(name, "Nuclei.") for name in names])
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "words.txt").write_text("a nodule in the left lung\nnuclei in the right lung\n" * 3)
    return tmp_path


def run(place, script, config, *arguments):
    """The script's JSON."""
    (place / "config.yaml").write_text(config)
    command = [sys.executable, SCRIPTS / script, "config.yaml", *arguments, "-o", "out"]
    process = subprocess.run(
        command, cwd=place, env=ONE_THREAD, capture_output=True, text=True, timeout=240, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return json.loads((place / "out" / script).with_suffix(".json").read_text())


def test_every_tile_is_scored_once_by_a_model_that_never_saw_it(place):
    found = run(place, "cross_validation.py", FOLDS, "data/monuseg_2", "--folds", "2")
    assert [found[protocol]["n"] for protocol in ("native", "published")] == [TILES, TILES]
    validated = []
    for fold in range(2):
        tiles = place / "out" / f"fold-{fold}" / "data" / "monuseg_2"
        learned, held_out = (
            {path.resolve() for path in (tiles / split / "img").iterdir()} for split in ("Train_Folder", "Val_Folder")
        )
        assert not learned & held_out
        assert len(learned | held_out) == TILES
        validated += held_out
    assert len(validated) == len(set(validated)) == TILES


def test_of_two_runs_with_equal_start_only_one_trains_the_denoiser(place):
    tiny_pipeline().save_pretrained(place / "tiny")
    found = run(place, "frozen_denoiser.py", FROZEN, "data/monuseg_2")
    weights = Path("unet", "diffusion_pytorch_model.safetensors")
    start = load_file(place / "tiny" / weights)
    for name, stays in (("frozen", True), ("joint", False)):
        assert found[name]["steps"] == 2
        assert {found[name][f"monuseg_2, text {text}"]["n"] for text in ("true", "none")} == {2}
        end = load_file(place / "out" / name / "model" / weights)
        assert all(end[n].equal(start[n].half()) for n in start) is stays
