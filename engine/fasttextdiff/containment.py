"""Keeps lesions of an organ inside it: an opacity of the lung on CT is not marked in the heart or the chest wall.

The organ is segmented beside the findings that were asked for. Knows findings and the answers for slices; knows nothing
about networks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fasttextdiff.contract.findings import shortened
from fasttextdiff.contract.segments import is_there
from fasttextdiff.image.assembly import SliceAnswer
from fasttextdiff.image.containment import leave_out_outside
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.info import ModelInfo

ORGANS = {(Modality.CT, name): "lungs" for name in ("infection", "ground-glass opacity", "consolidation")}
"""By kind of image and taught finding: the organ in which the finding lies."""


@dataclass(frozen=True)
class Containment:
    """Findings to segment, some of which lie in an organ.

    Attributes:
        asked: the findings that were asked for.
        decoded: these, and the organs that are needed beside them.
        organs: index of a finding to the index of its organ, both among `decoded`.
        threshold: probability above which a pixel belongs to a mask.
        presence_threshold: presence below which a slice is empty.
        changed: number of slices on which parts of a finding were left out, by index.
    """

    asked: Sequence[str]
    decoded: Sequence[str]
    organs: Mapping[int, int]
    threshold: float
    presence_threshold: float
    changed: Counter[int] = field(default_factory=Counter, repr=False)

    @classmethod
    def of(
        cls, info: ModelInfo, modality: Modality, asked: Sequence[str], own: Sequence[str], threshold: float
    ) -> Containment:
        """The organs of findings, as far as the model was taught them.

        Args:
            info: description of the model.
            modality: modality of the image.
            asked: the findings to segment.
            own: those of them that may lie in an organ; the model's own, not those learned here.
            threshold: probability above which a pixel belongs to a mask.
        """
        needed = {n: _organ(info, modality, finding) for n, finding in enumerate(asked) if finding in own}
        decoded = [*asked, *sorted(set(needed.values()) - {"", *asked})]
        organs = {n: decoded.index(organ) for n, organ in needed.items() if organ}
        return cls(list(asked), decoded, organs, threshold, info.presence_threshold)

    def contained(
        self, numbers: Sequence[int], answers: Sequence[SliceAnswer]
    ) -> tuple[Sequence[int], list[SliceAnswer]]:
        """Leave out what lies outside an organ, in place, and drop organs that were not asked for.

        Args:
            numbers: indices of the findings that were decoded in one window, in ascending order.
            answers: their results on one slice, one per noise sample.

        Returns:
            The indices and results of the findings that were asked for.
        """
        for n, number in enumerate(numbers):
            if self.organs.get(number) in numbers:
                self._contain(number, n, numbers.index(self.organs[number]), answers)
        count = sum(number < len(self.asked) for number in numbers)
        return numbers[:count], [SliceAnswer(a.probability[:count], a.presence[:count]) for a in answers]

    def _contain(self, number: int, finding: int, organ: int, answers: Sequence[SliceAnswer]) -> None:
        presence = np.mean([answer.presence for answer in answers], axis=0)
        outline = np.mean([answer.probability[organ] for answer in answers], axis=0) > self.threshold
        outline &= is_there(presence[organ], self.presence_threshold)
        changed = leave_out_outside([answer.probability[finding] for answer in answers], outline, self.threshold)
        self.changed[number] += int(changed and is_there(presence[finding], self.presence_threshold))

    def outcome(self, number: int) -> tuple[str, str]:
        """For a finding by its index, one line for the segment's tag, and a warning; each may be empty."""
        if number not in self.organs:
            return "", ""
        organ, slices = self.decoded[self.organs[number]], self.changed[number]
        done = f"within the {organ}"
        if not slices:
            return done, ""
        where = f"{slices} slice{'s' if slices > 1 else ''}"
        return (
            f"{done}, which changed {where}",
            f"'{shortened(self.asked[number])}': areas outside the {organ} were left out on {where}: "
            "compare with the image, or segment slice by slice",
        )


def _organ(info: ModelInfo, modality: Modality, finding: str) -> str:
    """The organ in which a finding lies; empty if it may lie anywhere, or if the model was not taught the organ."""
    taught = info.taught_finding(finding, modality)
    organ = ORGANS.get((modality, taught.name), "") if taught else ""
    return organ if organ and info.whole_finding(organ, modality) == organ else ""
