"""Keeps lesions of an organ inside it: an opacity of the lung on CT is not marked in the heart or the chest wall.

The model's own outline of the organ decides. Knows findings and the answers for slices; knows nothing about networks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.findings import shortened
from fasttextdiff.contract.segments import is_there
from fasttextdiff.image.assembly import SliceAnswer
from fasttextdiff.image.containment import filled, leave_out_outside
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.info import ModelInfo

ORGANS = {(Modality.CT, name): "lungs" for name in ("infection", "ground-glass opacity", "consolidation")}
"""By kind of image and taught finding: the organ in which the finding lies."""


@dataclass(frozen=True)
class Containment:
    """Findings of a request, some of which lie in an organ.

    Attributes:
        findings: the findings to segment.
        organs: index of a finding to its organ, for those that lie in one.
        threshold: probability above which a pixel belongs to a mask.
        presence_threshold: presence below which a slice is empty.
        changed: number of slices on which parts of a finding were left out, by its index.
    """

    findings: Sequence[str]
    organs: Mapping[int, str]
    threshold: float
    presence_threshold: float
    changed: Counter[int] = field(default_factory=Counter, repr=False)

    @classmethod
    def of(
        cls, info: ModelInfo, modality: Modality, findings: Sequence[str], own: Sequence[str], threshold: float
    ) -> Containment:
        """The organs of findings, as far as the model was taught them.

        Args:
            info: description of the model.
            modality: modality of the image.
            findings: the findings to segment.
            own: those of them that may lie in an organ: the model's own, not those learned here.
            threshold: probability above which a pixel belongs to a mask.
        """
        needed = {n: organ_of(info, modality, finding) for n, finding in enumerate(findings) if finding in own}
        organs = {n: organ for n, organ in needed.items() if organ}
        return cls(findings, organs, threshold, info.presence_threshold)

    def organs_of(self, numbers: Sequence[int]) -> list[str]:
        """The organs that are needed for some of the findings, given by their indices."""
        return sorted({self.organs[number] for number in numbers if number in self.organs})

    def contain(
        self, numbers: Sequence[int], answers: Sequence[SliceAnswer], outlines: Mapping[str, NDArray[np.bool_]]
    ) -> None:
        """Leave out what lies outside its organ on one slice, in place.

        Args:
            numbers: indices of the answered findings.
            answers: their results on the slice, one per noise sample; results of organs may follow.
            outlines: (rows, columns) of each organ on the slice.
        """
        for n, number in enumerate(numbers):
            organ = self.organs.get(number)
            if organ and leave_out_outside([one.probability[n] for one in answers], outlines[organ], self.threshold):
                presence = np.mean([one.presence[n] for one in answers])
                self.changed[number] += int(is_there(presence, self.presence_threshold))

    def outcome(self, number: int) -> tuple[str, str]:
        """For a finding by its index, one line for the segment's tag, and a warning; each may be empty."""
        if number not in self.organs:
            return "", ""
        organ, slices = self.organs[number], self.changed[number]
        done = f"within the {organ}"
        if not slices:
            return done, ""
        where = f"{slices} slice{'s' if slices > 1 else ''}"
        return (
            f"{done}, which changed {where}",
            f"'{shortened(self.findings[number])}': areas outside the {organ} were left out on {where}: "
            "compare with the image; 'each slice on its own' keeps them",
        )


def organ_of(info: ModelInfo, modality: Modality, finding: str) -> str:
    """The organ in which a finding lies; empty if it may lie anywhere, or if the model was not taught the organ."""
    if info.untaught(finding, modality):  # "liver lesion", tried anyway
        return ""
    taught = info.taught_finding(finding, modality)
    organ = ORGANS.get((modality, taught.name), "") if taught else ""
    return organ if organ and info.whole_finding(organ, modality) == organ else ""


def outline(answers: Sequence[SliceAnswer], info: ModelInfo) -> NDArray[np.bool_]:
    """(rows, columns) of an organ on a slice with its holes, at the model's own threshold; empty where it is absent.

    Args:
        answers: results of the organ alone, one per noise sample.
        info: description of the model.
    """
    mask: NDArray[np.bool_] = np.mean([one.probability[0] for one in answers], axis=0) > info.threshold
    mask &= is_there(np.mean([one.presence[0] for one in answers]), info.presence_threshold)
    return filled(mask)
