"""Random views of training images with their prompts, for the bundled model's recipe.

Knows samples, wording and anatomy; knows nothing about files or networks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from fasttextdiff.image.volume import Modality
from fasttextdiff.training.augment import augment
from fasttextdiff.training.prompts import (
    ABSENT_BELOW,
    NEGATED,
    ON_SIDE,
    Prompt,
    steered_prompt,
    whole_prompt,
)
from fasttextdiff.training.samples import Sample
from fasttextdiff_lab.anatomy import SHOWN, SHOWN_XRAY, TRUNK, Area
from fasttextdiff_lab.appearance import Levels, altered
from fasttextdiff_lab.atlas import source_of
from fasttextdiff_lab.vocabulary import STRUCTURES

PHRASES = (
    "{finding}", "{finding}", "{finding}", "the {finding}", "segment the {finding}", "segment {finding}",
    "outline the {finding}", "show the {finding}", "mark the {finding}", "find the {finding}",
    "where is the {finding}?", "{finding} on this image", "{finding} on this slice", "contour of the {finding}",
    "please outline the {finding}", "all of the {finding}", "visible {finding}",
)  # fmt: skip
"""Templates for a structure; the bare word is the most frequent one."""
NAMED = 0.7
"""Share of prompts for a named structure on images that also have lungs or lesions; higher with more structures."""
ELSEWHERE = 0.08
"""Share of second prompts for a structure elsewhere in the body, on images of chests and tissue."""
ABSENT, DENIED = 0.4, 0.08
"""The same, and negations, on images of the CT and MR atlas. Images without a second structure get more of these."""


class AtlasViews:
    """Makes views for `fasttextdiff.training.batches`.

    Args:
        references: histograms of X-rays, see :func:`fasttextdiff_lab.appearance.altered`.
    """

    def __init__(self, references: Sequence[Levels]) -> None:
        self.references = references

    def __call__(self, sample: Sample, size: int, count: int, rng: Generator) -> tuple[Sample, tuple[Prompt, ...]]:
        """A view of `size` pixels and `count` prompts."""
        view = augment(altered(sample, self.references, rng), size, rng)
        return view, (*prompts_of(view, rng), *(_further(view, rng) for _ in range(count - 2)))


def prompts_of(view: Sample, rng: Generator) -> tuple[Prompt, Prompt]:
    """Two prompts: one for the structure that the image was drawn for, and one where words matter."""
    if not view.findings:
        second = elsewhere(view, rng) if rng.random() < ELSEWHERE else steered_prompt(view, rng)
        return whole_prompt(view, rng), second
    if view.annotated:
        return _mixed(view, rng)
    asked = _named(view, 0, rng) or elsewhere(view, rng)
    return asked, _second(view, rng)


def _further(view: Sample, rng: Generator) -> Prompt:
    """One more prompt, where words matter."""
    if view.findings and not view.annotated:
        return _second(view, rng)
    return prompts_of(view, rng)[int(rng.integers(2)) if view.findings else 1]


def _mixed(view: Sample, rng: Generator) -> tuple[Prompt, Prompt]:
    """Prompts for an X-ray that has lungs or is known to be normal, and has named structures."""
    order = rng.permutation(len(view.findings))
    named = [_named(view, int(n), rng) for n in order[:2]]
    share = NAMED * len(view.findings) / (len(view.findings) + 2)
    first = named[0] if rng.random() < share else None
    second = named[-1] if rng.random() < share else None
    return first or whole_prompt(view, rng), second or steered_prompt(view, rng)


def _second(view: Sample, rng: Generator) -> Prompt:
    """Another structure of the image, one from elsewhere, or a negation."""
    if rng.random() < DENIED:
        return _denied(view, rng)
    others = range(1, len(view.findings))
    if others and rng.random() >= ABSENT:
        found = _named(view, int(rng.choice(others)), rng)
        if found:
            return found
    return elsewhere(view, rng)


def _named(view: Sample, index: int, rng: Generator) -> Prompt | None:
    """A structure with its mask; None if the view shows only a tiny part of it."""
    assert view.masks is not None
    mask = view.masks[index] > 0
    if 0 < mask.mean() < ABSENT_BELOW / 5:
        return None
    return Prompt(_asked(view.findings[index], rng), mask)


def _asked(name: str, rng: Generator) -> str:
    words = STRUCTURES[name].words
    # the name and common words come first; half of the prompts use one of the first three
    word = words[int(rng.integers(min(3, len(words))))] if rng.random() < 0.5 else words[int(rng.integers(len(words)))]
    if name == "covid_lesion" and rng.random() < 0.4:
        return ON_SIDE[int(rng.integers(len(ON_SIDE)))].format(
            finding=word, side=("left", "right")[int(rng.integers(2))]
        )
    return PHRASES[int(rng.integers(len(PHRASES)))].format(finding=word)


def _denied(view: Sample, rng: Generator) -> Prompt:
    word = STRUCTURES[view.findings[0]].words[0]
    text = NEGATED[int(rng.integers(len(NEGATED)))].format(finding=word)
    return Prompt(text, np.zeros(view.regions.shape, bool))


def elsewhere(view: Sample, rng: Generator) -> Prompt:
    """A structure in a body part that the image does not show."""
    shown = shown_areas(view)
    absent = [name for name, structure in STRUCTURES.items() if not structure.areas & shown]
    if not absent or (rng.random() < 0.1 and not shown & Area.CELLS):
        text = ("nuclei", "cell nuclei", "stained nuclei")[int(rng.integers(3))]
    else:
        text = _asked(absent[int(rng.integers(len(absent)))], rng)
    return Prompt(text, np.zeros(view.regions.shape, bool))


def shown_areas(view: Sample) -> Area:
    """The parts of the body that an image may show; generous."""
    if view.modality is Modality.HISTOLOGY:
        return Area.CELLS
    if view.modality is Modality.XRAY:
        return SHOWN_XRAY
    return SHOWN.get(source_of(view), TRUNK)
