"""Gathers all training images of the bundled model and trains it. Knows the folders; makes no decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fasttextdiff.model.taught import Taught
from fasttextdiff.training.config import TrainingConfig
from fasttextdiff.training.groups import TrainingData
from fasttextdiff.training.loop import Note, Report, train
from fasttextdiff.training.negatives import with_negatives
from fasttextdiff.training.samples import Item, Sample, load_samples
from fasttextdiff_lab.appearance import Levels, grey_levels
from fasttextdiff_lab.atlas import (
    ct_mr_items,
    nuclei_extra,
    require_known,
    with_qata_lungs,
    xray_groups,
)
from fasttextdiff_lab.taught import taught_findings
from fasttextdiff_lab.views import AtlasViews

REFERENCES = 60
"""Number of X-rays of each group whose histograms are used as references."""


def load_recipe(data: Path, seed: int) -> tuple[dict[str, Sequence[Item]], Taught]:
    """All groups of training images, and their taught findings by modality.

    Args:
        data: folder of the research data.
        seed: seed of images that are made from others.
    """
    samples = load_samples(data)
    atlas = data / "xray_atlas"
    samples["qata"] = with_qata_lungs(samples["qata"], data / "qata_cov19_v2_2", atlas)
    samples["structures"] = [s for s in samples["structures"] if s.source not in _v7_names(data)]
    groups: dict[str, Sequence[Item]] = {**with_negatives(samples, seed)}
    groups |= {f"xray_{name}": found for name, found in xray_groups(atlas).items()}
    groups["nuclei_extra"] = list(nuclei_extra(data / "nuclei_extra"))
    items = ct_mr_items(data / "ct_mr_atlas")
    require_known(items)
    groups["ct_mr_atlas"] = items
    return groups, taught_findings(data, groups)


def _v7_names(data: Path) -> set[str]:
    """Pictures whose lungs are drawn by another convention, including heart and diaphragm."""
    return {path.name for path in (data / "cxr_lungs_v7" / "img").iterdir()}


def references_of(groups: dict[str, Sequence[Item]], seed: int) -> list[Levels]:
    """Histograms of X-rays of all sources, drawn evenly from their groups."""
    rng = np.random.default_rng(seed)
    found = []
    for name in ("qata", "xray_normal", "xray_lungs", "xray_jsrt", "structures"):
        pool = groups[name]
        for index in rng.choice(len(pool), min(REFERENCES, len(pool)), replace=False):
            sample: Sample = pool[int(index)].load()
            grey = sample.image if sample.image.ndim == 2 else sample.image[..., 0]
            found.append(grey_levels(grey))
    return found


def train_recipe(config: TrainingConfig, report: Report, stop: Callable[[], bool], note: Note) -> Path:
    """Train the bundled model; arguments as for :func:`fasttextdiff.training.loop.train`."""
    assert config.data is not None
    groups, taught = load_recipe(config.data, config.seed)
    data = TrainingData(groups, {}, taught, ())
    views = AtlasViews(references_of(groups, config.seed))
    return train(config, report, stop, note, load=lambda _, __: data, make_view=views)
