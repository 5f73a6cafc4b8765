"""Compares a frozen denoiser, as published, with a jointly trained one: equal numbers of steps, equal starts.

    python Testing/benchmarks/frozen_denoiser.py CONFIG.yaml DATASET_DIR... -o FOLDER

trains the configuration twice, with and without the denoiser among its `frozen` parts, and scores both on the
validation splits. A stopped run resumes from its checkpoints. Frozen steps are cheaper, so the seconds per step are
reported with the scores. Give the configuration a `denoiser:` made by `pretrain-denoiser`: frozen untrained features
would prove nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from training_runs import train_to_end

from fasttextdiff import Segmenter
from fasttextdiff.evaluation.datasets import load_targets
from fasttextdiff.evaluation.metrics import evaluate, protocol_i
from fasttextdiff.evaluation.texts import choose_texts
from fasttextdiff.model.pipeline import quiet_libraries
from fasttextdiff.training.config import TrainingConfig, read_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--most", type=int, default=100, help="targets of a data set that are scored, evenly spread")
    options = parser.parse_args()
    quiet_libraries()
    config = read_config(options.config)
    if config.denoiser is None and config.start is None:
        parser.error("the configuration has neither denoiser nor start: a frozen denoiser would be random")
    results = {}
    for name, parts in (("frozen", ("denoiser",)), ("joint", ())):
        run = replace(config, name=f"{config.name}-{name}", output=options.output / name, frozen=config.frozen + parts)
        results[name] = trained(run) | scores(run.output / "model", options.datasets, options.most)
        (options.output / "frozen_denoiser.json").write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


def trained(run: TrainingConfig) -> dict[str, float]:
    """Train, and measure the time per step, including reading the data."""
    started = time.perf_counter()
    done = train_to_end(run)
    seconds = (time.perf_counter() - started) / done if done else float("nan")
    return {"steps": run.total_steps, "seconds_a_step": round(seconds, 3)}


def scores(model: Path, datasets: list[Path], most: int) -> dict[str, dict[str, float]]:
    """Dice and IoU of the validation splits (protocol I, native resolution), with and without the data's texts."""
    segmenter = Segmenter(model)
    found = {}
    for dataset in datasets:
        targets = load_targets(dataset, "val")
        targets = targets[:: -(-len(targets) // most)]
        for text in ("true", "none"):
            texts = choose_texts([target.text for target in targets], text)
            done = list(evaluate(segmenter, targets, texts=texts))
            found[f"{dataset.name}, text {text}"] = {"n": len(done), **protocol_i(done)}
    return found


if __name__ == "__main__":
    main()
