"""The groups of training images for a configuration's mixture: research data, the user's own data, a label budget.

Knows which data there are; knows nothing about batches or networks.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from fasttextdiff.contract.answers import TaughtFinding
from fasttextdiff.errors import UsageError
from fasttextdiff.model.taught import Taught
from fasttextdiff.training.config import TrainingConfig
from fasttextdiff.training.negatives import with_negatives
from fasttextdiff.training.own_data import OwnItem, load_dataset
from fasttextdiff.training.samples import Item, Sample, load_samples

LONGEST_TERM = 60
"""Characters; a longer text of the user's data is a sentence, not a term."""
MOST_TERMS = 200

ItemT = TypeVar("ItemT", bound=Item)


@dataclass(frozen=True)
class TrainingData:
    """The training data of a run.

    Attributes:
        groups: training images by group name.
        labelled: with a label budget, the labelled images used of each group; else empty.
        taught: findings by modality; those of the user's data with the most frequent first.
        texts: all texts of the user's data, each once.
    """

    groups: Mapping[str, Sequence[Item]]
    labelled: Mapping[str, Sequence[str]]
    taught: Taught
    texts: Sequence[str]


def load_groups(config: TrainingConfig, note: Callable[[str], None]) -> TrainingData:
    """Load the groups: research data into memory; the user's data are read when drawn.

    Args:
        config: the run.
        note: called with one line for everything that cannot be used.

    Raises:
        UsageError: a dataset has the name of a research group.
        FastTextDiffError: a dataset cannot be used.
    """
    research = {} if config.data is None else load_samples(config.data)
    taken = set(research) & set(config.datasets)
    if taken:
        raise UsageError(
            f"a dataset cannot be called {', '.join(sorted(taken))}: a group of the research data has that name"
        )
    prepared = config.output / "slices"
    own = {name: load_dataset(path, prepared, note) for name, path in config.datasets.items()}
    labelled: dict[str, list[str]] = {}
    if config.labels is not None:
        everything: dict[str, Sequence[Item]] = {**research, **own}
        for name, items in everything.items():
            labelled[name] = label_budget([item.source for item in items], config.labels, name, config.seed)
    research = {name: _only(items, labelled.get(name)) for name, items in research.items()}
    own = {name: _only(items, labelled.get(name)) for name, items in own.items()}
    groups: dict[str, Sequence[Item]] = {**_with_negatives(research, config.seed), **own}
    drawn = [item for items in own.values() for item in items]
    texts = list(dict.fromkeys(text for item in drawn for text in item.findings if text))
    return TrainingData(groups, labelled, _taught(drawn), texts)


def label_budget(sources: Sequence[str], labels: int, group: str, seed: int) -> list[str]:
    """Choose labelled images by the seed; a choice of 5 is part of that of 15, and so on."""
    different = sorted(set(sources))
    order = np.random.default_rng((seed, zlib.crc32(group.encode()))).permutation(len(different))
    return sorted(different[n] for n in order[:labels])


def _only(items: Sequence[ItemT], chosen: Sequence[str] | None) -> list[ItemT]:
    return [item for item in items if chosen is None or item.source in chosen]


def _with_negatives(research: Mapping[str, Sequence[Sample]], seed: int) -> Mapping[str, Sequence[Item]]:
    return with_negatives(research, seed) if research else {}


def _taught(items: Iterable[OwnItem]) -> Taught:
    counts: dict[str, Counter[str]] = {}
    for item in items:
        short = [text for text in item.findings if 0 < len(text) <= LONGEST_TERM]
        counts.setdefault(item.modality.value, Counter()).update(short)
    return {
        kind: tuple(TaughtFinding(term, slices=count) for term, count in found.most_common(MOST_TERMS))
        for kind, found in counts.items()
    }
