"""Cross-validation over all labelled tiles of a histology data set: each is scored by a model that never saw it.

    python Testing/benchmarks/cross_validation.py CONFIG.yaml DATASET_DIR -o FOLDER

trains the configuration once per fold, on the images of the other folds of DATASET_DIR (training and validation split
together) and the other groups of its mixture, and scores the fold. The configuration must not start from a model that
has seen the images. A stopped run resumes from its checkpoints.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from openpyxl import Workbook
from training_runs import train_to_end

from fasttextdiff import Segmenter
from fasttextdiff.evaluation.datasets import Row, load_targets, read_split
from fasttextdiff.evaluation.metrics import PROTOCOLS, Score, evaluate, protocol_i
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.pipeline import quiet_libraries
from fasttextdiff.training.config import read_config

SPLITS = ("train", "val")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=5)
    options = parser.parse_args()
    quiet_libraries()
    config, dataset = read_config(options.config), options.dataset.resolve()
    if config.data is None or config.start is not None:
        parser.error("the configuration needs 'data', and no 'start', which may have seen the images")
    rows = [row for split in SPLITS for row in read_split(dataset, split).rows]
    if any(row.modality is not Modality.HISTOLOGY for row in rows):
        parser.error("histology only: the sides in other tables would be translated twice")
    if len({row.name for row in rows}) < len(rows):
        parser.error("images of both splits have the same name")
    order = np.random.default_rng(config.seed).permutation(len(rows))
    scores: dict[str, list[Score]] = {protocol: [] for protocol in PROTOCOLS}
    for fold in range(options.folds):
        held_out = set(order[fold :: options.folds].tolist())
        place = options.output / f"fold-{fold}"
        data = place / "data"
        lay_out(data, config.data, dataset, rows, held_out)
        run = replace(config, name=f"{config.name}-{fold}", output=place / "run", data=data)
        train_to_end(run)
        for protocol in PROTOCOLS:
            scores[protocol] += scored(run.output / "model", data / dataset.name, protocol)
        print(json.dumps({"folds": fold + 1, **summary(scores)}), flush=True)
    (options.output / "cross_validation.json").write_text(json.dumps(summary(scores), indent=1) + "\n")


def lay_out(data: Path, research: Path, dataset: Path, rows: Sequence[Row], held_out: set[int]) -> None:
    """Make a data folder of links: the data set with the fold as its validation split, all other data unchanged."""
    for split in SPLITS:
        chosen = [row for n, row in enumerate(rows) if (n in held_out) == (split == "val")]
        folder = data / dataset.name / f"{split.capitalize()}_Folder"
        table = Workbook()
        table.active.append(["Image", "Description"])
        for row in chosen:
            assert row.image is not None
            assert row.mask is not None
            for kind, file in (("img", row.image), ("labelcol", row.mask)):
                _link(folder / kind / file.name, file)
            table.active.append([row.mask.name, row.text])
        table.save(folder / f"{split.capitalize()}_text.xlsx")
    _link(data / dataset.name / "dataset.json", dataset / "dataset.json")
    for other in research.iterdir():
        if other.name != dataset.name:
            _link(data / other.name, other)


def _link(link: Path, file: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(file.resolve())


def scored(model: Path, dataset: Path, protocol: str) -> list[Score]:
    """Scores of the validation split with its own texts."""
    segmenter = Segmenter(model)
    targets = load_targets(dataset, "val")
    return list(evaluate(segmenter, targets, texts=[target.text for target in targets], protocol=protocol))


def summary(scores: dict[str, list[Score]]) -> dict[str, dict[str, float]]:
    """Dice and IoU (protocol I) by resolution, with the number of images."""
    return {name: {"n": len(done), **protocol_i(done)} for name, done in scores.items()}


if __name__ == "__main__":
    main()
