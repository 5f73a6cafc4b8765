"""Prompts for the user's own data: the texts as written, each with its mask.

Other contents of the image are unknown, so no other wordings or sides are used. Only prompts for what this modality can
never show have an empty mask. Knows wording; knows nothing about files, augmentation or networks.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from fasttextdiff.image.volume import Modality
from fasttextdiff.training.prompts import CONSOLIDATION_WORDS, GROUND_GLASS_WORDS, HEART_WORDS, Prompt
from fasttextdiff.training.samples import Sample

FOREIGN_SHARE = 0.25
"""Share of second prompts that ask for something that the modality never shows."""
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
    """One text of the image with its mask; then another of its texts, if it has several, or a foreign word."""
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
    """Words for what the image cannot show and none of its texts mentions."""
    texts = " ".join(sample.findings).lower()
    return [word for word in FOREIGN[sample.modality] if not any(part in texts for part in _stems(word))]


def _stems(text: str) -> list[str]:
    """The first four letters of every longer word, so that "nuclear" matches "nuclei"."""
    return [word[:4] for word in text.lower().split() if len(word) > 3]
