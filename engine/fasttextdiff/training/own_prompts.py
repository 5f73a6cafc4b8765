"""Prompts for one's own data: the texts as they were written, each with its own mask, and nothing that was made up.

Knows wording; knows nothing about files, augmentation or networks. What a user's own image shows besides what its
rows say is not known, so no other wording and no other side is asked for. Only words for what this kind of image can
never show are answered with nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from fasttextdiff.image.volume import Modality
from fasttextdiff.training.prompts import CONSOLIDATION_WORDS, GROUND_GLASS_WORDS, HEART_WORDS, Prompt
from fasttextdiff.training.samples import Sample

FOREIGN_SHARE = 0.25
"""Of the second prompts of an image: what its kind never shows."""
_CELLS = ("cell nuclei", "stained nuclei", "nuclei of the cells")
_RADIOLOGICAL = ("left lung", "right lung", *HEART_WORDS, *GROUND_GLASS_WORDS, *CONSOLIDATION_WORDS)
FOREIGN = {
    Modality.XRAY: _CELLS,
    Modality.CT: _CELLS,
    Modality.MR: _CELLS,
    Modality.HISTOLOGY: _RADIOLOGICAL,
    Modality.OTHER: (),
}


def own_prompts(sample: Sample, rng: Generator) -> tuple[Prompt, Prompt]:
    """One of the image's texts with its mask; then another of its texts if it has several, or a foreign word."""
    order = rng.permutation(len(sample.findings))
    words = _foreign_words(sample)
    if words and rng.random() < FOREIGN_SHARE:
        second = Prompt(words[rng.integers(len(words))], np.zeros(sample.regions.shape, bool))
    else:
        second = _row(sample, int(order[-1]))
    return _row(sample, int(order[0])), second


def _row(sample: Sample, index: int) -> Prompt:
    assert sample.masks is not None
    return Prompt(sample.findings[index], sample.masks[index] > 0)


def _foreign_words(sample: Sample) -> list[str]:
    """Words for what the image cannot show, and that none of its texts mentions."""
    texts = " ".join(sample.findings).lower()
    return [word for word in FOREIGN[sample.modality] if not any(part in texts for part in _stems(word))]


def _stems(text: str) -> list[str]:
    """The first four letters of every longer word, so that "nuclear" is a mention of nuclei."""
    return [word[:4] for word in text.lower().split() if len(word) > 3]
