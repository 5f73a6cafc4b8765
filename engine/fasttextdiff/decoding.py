"""Decodes findings slice by slice: from the cached maps of each slice to the results of the whole request.

Knows findings, windows, tiles and the cache; `model.runtime` runs the networks.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.containment import Containment, outline
from fasttextdiff.errors import Cancelled
from fasttextdiff.image.assembly import SliceAnswer, SliceStack, TileBlend
from fasttextdiff.image.preprocessing import Fit, Window
from fasttextdiff.image.slices import PreparedImage, View
from fasttextdiff.model.feature_cache import FeatureCache, Maps
from fasttextdiff.model.runtime import EncodedFindings, Runtime, batched
from fasttextdiff.outcomes import window_of
from fasttextdiff.progress import Progress
from fasttextdiff.teaching.in_use import LearnedFindings

_Slices = Sequence[Sequence[View]]
"""The views of each slice of a group."""


@dataclass(frozen=True)
class _Asked:
    """What is decoded together in one window.

    Attributes:
        findings: the findings, which learned ones may answer.
        text: their encoded texts.
        organs: organs to outline, by the model's own answer.
        organ_text: their encoded texts; None without any.
    """

    findings: Sequence[str]
    text: EncodedFindings
    organs: Sequence[str] = ()
    organ_text: EncodedFindings | None = None

    @property
    def count(self) -> int:
        return len(self.findings) + len(self.organs)


class SliceDecoder:
    """Decodes findings on the slices of a request.

    Args:
        runtime: what runs the networks.
        cache: keeps the maps of slices, and outlines of organs with them.
        learned: the findings that were learned here.
    """

    def __init__(self, runtime: Runtime, cache: FeatureCache, learned: LearnedFindings) -> None:
        self.runtime, self.cache, self.learned = runtime, cache, learned
        self.info = runtime.settings.info

    def windows(self, image: PreparedImage, findings: Sequence[str]) -> list[tuple[PreparedImage, list[int]]]:
        """The image in every window of the findings, with the indices of these findings."""
        numbers: dict[Window | None, list[int]] = {}
        for n, finding in enumerate(findings):
            is_learned = self.learned.about(finding, image.volume.modality) is not None
            window = window_of(self.info, image, finding, is_learned=is_learned)
            numbers.setdefault(window, []).append(n)
        return [(replace(image, window=window), those) for window, those in numbers.items()]

    def groups(self, image: PreparedImage) -> Iterator[range]:
        """Groups of slices that fill one batch, in one pass over the request."""
        self.cache.start_pass()
        together = max(1, self.runtime.batch // len(image.tiles))
        yield from (image.slices[start : start + together] for start in range(0, len(image.slices), together))

    def maps(self, image: PreparedImage, views: Sequence[View], seed: int) -> list[Maps]:
        """Maps of each view, from the cache or computed in one batch; rounded in both cases."""
        keys = [self._key(view, image.fit, seed) for view in views]
        found = {n: entry for n, key in enumerate(keys) if (entry := self.cache.get(key)) is not None}
        missing = [n for n in range(len(views)) if n not in found]
        if missing:
            computed = self.runtime.maps([views[n].pixels() for n in missing], image.fit, seed)
            for n, maps in zip(missing, computed, strict=True):
                found[n] = maps
                self.cache.put(keys[n], maps)
        return [found[n] for n in range(len(views))]

    def _key(self, view: View, fit: Fit, seed: int) -> Hashable:
        return view.key, fit, seed, self.info.weights_sha256

    def stack(self, image: PreparedImage, containment: Containment, progress: Progress | None) -> SliceStack:
        """Results of the findings on all requested slices.

        Args:
            image: with the request.
            containment: the findings, and the organs in which some of them lie; counts what is left out.
            progress: called after every slice.

        Raises:
            Cancelled: `progress` returned False.
            DeviceMemoryError: the device's memory is too small.
        """
        findings = containment.findings
        stack, shown = SliceStack.empty(len(findings), image), self.windows(image, findings)
        if not findings:
            return stack
        text = self.runtime.text([self.info.respelled(finding, image.volume.modality) for finding in findings])
        for group in self.groups(image):
            for one, numbers in shown:
                asked = _Asked([findings[n] for n in numbers], text if len(shown) == 1 else text.of(numbers))
                slices = [one.views(index) for index in group]
                answers, outlines = self._with_outlines(one, slices, asked, containment.organs_of(numbers))
                for index, answer, masks in zip(group, answers, outlines, strict=True):
                    containment.contain(numbers, answer, masks)
                    stack.store(image.slices.index(index), numbers, answer)
            report(progress, image.slices.index(group[-1]) + 1, len(image.slices))
        return stack

    def _with_outlines(
        self, image: PreparedImage, slices: _Slices, asked: _Asked, organs: Sequence[str]
    ) -> tuple[list[list[SliceAnswer]], list[dict[str, NDArray[np.bool_]]]]:
        """Results for each slice of a group, and the outlines of organs; those that are not cached are decoded too."""
        if not organs:
            return self._group(image, slices, asked), [{} for _ in slices]
        names = {organ: _outline_name(image, organ) for organ in organs}
        # outlines are attached to the maps of a slice's first tile and noise sample
        keys = [self._key(views[0], image.fit, image.seed) for views in slices]
        outlines = [
            {organ: mask for organ, name in names.items() if (mask := self.cache.attached(key, name)) is not None}
            for key in keys
        ]
        new = [organ for organ in organs if any(organ not in masks for masks in outlines)]
        if new:
            asked = replace(asked, organs=new, organ_text=self.runtime.text(new))
        answers = self._group(image, slices, asked)
        for key, samples, masks in zip(keys, answers, outlines, strict=True):
            for n, organ in enumerate(new, start=len(asked.findings)):
                masks[organ] = outline([one.of(n) for one in samples], self.info)
                self.cache.attach(key, names[organ], masks[organ])
        return answers, outlines

    def _group(self, image: PreparedImage, slices: _Slices, asked: _Asked) -> list[list[SliceAnswer]]:
        """Results for each slice of a group, one per noise sample."""
        seeds = range(image.seed, image.seed + image.samples)
        return [list(answers) for answers in zip(*(self._sample(image, slices, asked, s) for s in seeds), strict=True)]

    def _sample(self, image: PreparedImage, slices: _Slices, asked: _Asked, seed: int) -> list[SliceAnswer]:
        """Results of one noise sample for each slice of a group: the findings, then the organs."""
        blends = [TileBlend.empty(asked.count, image) for _ in slices]
        work = [
            (blend, tile, view)
            for blend, views in zip(blends, slices, strict=True)
            for tile, view in zip(image.tiles, views, strict=True)
        ]
        for batch in batched(work, self.runtime.batch):
            answers = self._answers(image, [view for _, _, view in batch], asked, seed)
            for (blend, tile, _), logits, presence in zip(batch, *answers, strict=True):
                blend.add(tile, logits, presence)
        return [blend.answer() for blend in blends]

    def _answers(
        self, image: PreparedImage, views: Sequence[View], asked: _Asked, seed: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log-odds (B, F, h, w) and presence (B, F).

        Findings and organs are computed apart, so that a cached outline leaves the bits of the findings as they are.
        """
        maps = self.maps(image, views, seed)
        found = self.runtime.answers(maps, image.fit, asked.text)
        found = self.learned.answer(found, asked.findings, views, maps, image)
        if asked.organ_text is None:
            return found
        organs = self.runtime.answers(maps, image.fit, asked.organ_text)
        return np.concatenate([found[0], organs[0]], axis=1), np.concatenate([found[1], organs[1]], axis=1)


def _outline_name(image: PreparedImage, organ: str) -> Hashable:
    """The name of an outline next to its maps; the same view may be at another place of a larger slice."""
    return organ, image.display.display_shape[1:], image.tiles, image.samples


def report(progress: Progress | None, done: int, total: int) -> None:
    """Tell how many slices are done.

    Raises:
        Cancelled: `progress` returned False.
    """
    if progress is not None and not progress(done, total):
        raise Cancelled(f"cancelled after {done} of {total} slices; nothing was changed")
