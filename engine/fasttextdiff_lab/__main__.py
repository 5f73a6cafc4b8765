"""`python -m fasttextdiff_lab train CONFIG`: train the bundled model by its recipe."""

from __future__ import annotations

import argparse
from pathlib import Path

from fasttextdiff.pipeline import quiet_libraries
from fasttextdiff.training.config import read_config
from fasttextdiff.training.progress import TrainingProgress


def main() -> None:
    """Parse the command line and train, or resume."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("train",))
    parser.add_argument("config", type=Path, help="YAML file, see fasttextdiff_lab/configs")
    parser.add_argument("--output", type=Path, help="folder of checkpoints and model, in place of the configured one")
    options = parser.parse_args()
    from dataclasses import replace

    from fasttextdiff_lab.recipe import train_recipe

    config = read_config(options.config)
    if options.output:
        config = replace(config, output=options.output.resolve())
    quiet_libraries()
    with TrainingProgress(config.name, config.total_steps, config.output) as progress:
        train_recipe(config, progress.report, progress.stopped, progress.note)


if __name__ == "__main__":
    main()
