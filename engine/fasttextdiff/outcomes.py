"""Turns the model's probabilities into results: masks, warnings, and empty results for untaught findings.

Knows findings and arrays; knows nothing about networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

import numpy as np

from fasttextdiff.containment import Containment
from fasttextdiff.contract.findings import same_key, understood_note
from fasttextdiff.contract.segments import SLICE_BY_SLICE, is_there
from fasttextdiff.image.assembly import SliceStack
from fasttextdiff.image.consistency import SliceGrid
from fasttextdiff.image.preprocessing import Window
from fasttextdiff.image.slices import PreparedImage
from fasttextdiff.model.info import ModelInfo
from fasttextdiff.model.kinds import KindHead
from fasttextdiff.model.recognition import recognised_as
from fasttextdiff.model.runtime import Runtime
from fasttextdiff.result import FindingResult, Learned, Provenance
from fasttextdiff.segments.consistency_rules import hold_together
from fasttextdiff.version import __version__

LEFT_EMPTY = "left empty"
A_GUESS = "tried anyway, so the mask is a guess"


def window_of(info: ModelInfo, image: PreparedImage, finding: str, *, is_learned: bool) -> Window | None:
    """The window in which a finding is segmented.

    It is the one of its training, unless the image's own window is used for all findings. A learned finding is always
    seen in the image's own, in which its examples were, even if its name contains that of a taught finding.
    """
    taught = info.window(finding, image.volume.modality) if image.by_finding and not is_learned else None
    return taught or image.window


@dataclass(frozen=True)
class Outcomes:
    """Makes the results of one request.

    Attributes:
        info: description of the model.
        image: the requested slices.
        threshold: probability above which a voxel belongs to a mask.
        slice_by_slice: whether to keep the result of every slice as the model gives it.
        try_anyway: whether to segment findings that the model was not taught.
        learned: findings that were learned here, which the model need not know.
        kinds: knows which findings an image may show; None if the model has nothing for that.
    """

    info: ModelInfo
    image: PreparedImage
    threshold: float
    slice_by_slice: bool
    try_anyway: bool
    learned: Mapping[str, Learned] = field(default_factory=dict)
    kinds: KindHead | None = None
    _reasons: dict[str, str] = field(default_factory=dict, repr=False)

    def asked(self, findings: Sequence[str]) -> list[str]:
        """The findings that the model segments."""
        return [finding for finding in findings if self.try_anyway or not self._untaught(finding)]

    def containment(self, findings: Sequence[str]) -> Containment:
        """The findings that the model segments, some of which lie in an organ."""
        asked = self.asked(findings)
        own = [] if self.slice_by_slice else [finding for finding in asked if finding not in self.learned]
        return Containment.of(self.info, self.image.volume.modality, asked, own, self.threshold)

    @property
    def is_apart(self) -> bool:
        """Whether slices do not influence each other."""
        return self.slice_by_slice or len(self.image.slices) == 1

    def results(
        self, typed: Mapping[str, str], stack: SliceStack, containment: Containment
    ) -> tuple[FindingResult, ...]:
        """All findings in the order typed.

        Args:
            typed: finding to the text as typed.
            stack: the model's results for the findings of :meth:`containment`; changed in place.
            containment: what it left out of them.
        """
        asked = containment.findings
        held = {} if self.is_apart else self._held_together(asked, stack)
        numbers = {finding: n for n, finding in enumerate(asked)}
        done = {
            finding: _joined(containment.outcome(n), held.get(finding, (SLICE_BY_SLICE, "")))
            for finding, n in numbers.items()
        }
        return tuple(
            self._found(finding, text, stack, numbers[finding], *done[finding])
            if finding in numbers
            else self._left_empty(finding, text, stack)
            for finding, text in typed.items()
        )

    def _held_together(self, asked: Sequence[str], stack: SliceStack) -> Mapping[str, tuple[str, str]]:
        image = self.image
        names = {finding: self.info.whole_finding(finding, image.volume.modality) for finding in asked}
        return hold_together(
            names,
            stack.probability,
            stack.presence,
            SliceGrid.of(image.volume, image.display.axes[0]),
            padding=None if image.volume.padding is None else image.volume.padding[image.requested()],
            threshold=self.threshold,
            presence_threshold=self.info.presence_threshold,
        )

    def _found(
        self, finding: str, text: str, stack: SliceStack, number: int, consistency: str, doubts: tuple[str, ...]
    ) -> FindingResult:
        """The result with the mask of voxels above the threshold on slices where the finding is present."""
        along_slices = [-1 if axis == self.image.display.axes[0] else 1 for axis in range(3)]
        there = is_there(stack.presence[number], self.info.presence_threshold)
        untaught = self._untaught(finding)
        learned = self.learned.get(finding)
        warning = f"{untaught}: {A_GUESS}" if untaught else "" if learned else self._warning(finding)
        note = understood_note(text)
        spelt = self._spelt(finding)
        mask = stack.probability[number] > self.threshold
        mask &= there.reshape(along_slices)
        return FindingResult(
            finding=finding,
            probability=stack.probability[number],
            mask=mask,
            disagreement=None if stack.disagreement is None else stack.disagreement[number],
            presence=stack.presence[number],
            warnings=tuple(filter(None, (note, spelt, warning, *doubts, self._across()))),
            typed=text if note else "",
            window=window_of(self.info, self.image, finding, is_learned=learned is not None),
            consistency=consistency,
            untaught=untaught,
            adapter=learned.source if learned else "",
        )

    def provenance(self, runtime: Runtime, window: Window | None) -> Provenance:
        """How the results were made; `window` is that of the first finding."""
        image = self.image
        return Provenance(
            model=self.info.name,
            weights_sha256=self.info.weights_sha256,
            software=f"fasttextdiff {__version__}",
            seed=image.seed,
            samples=image.samples,
            timesteps=runtime.settings.plan.timesteps,
            plane=image.display.plane,
            slices=(image.slices.start, image.slices.stop),
            window=window,
            threshold=self.threshold,
            device=runtime.device,
            dtype=runtime.dtype,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            slice_by_slice=self.is_apart,
            runtime=runtime.version,
            kind=recognised_as(image.volume, self.kinds),
        )

    def _spelt(self, finding: str) -> str:
        """A note if misspelt words were corrected; empty if not."""
        learned = self.learned.get(finding)
        read = learned.word if learned else self.info.respelled(finding, self.image.volume.modality)
        is_same = same_key(read) == same_key(finding) if learned else read == finding
        return "" if is_same else f"spelling corrected: {read}"

    def _across(self) -> str:
        """A warning about slices that were not acquired as such; empty for those that were."""
        display, acquired = self.image.display, self.image.volume.slice_axis
        if self.image.volume.is_planar or display.axes[0] == acquired:
            return ""
        return (
            f"{display.plane} slices cut across those that were acquired: the model is measured on acquired ones only"
        )

    def _warning(self, finding: str) -> str:
        return self.info.warning(finding, self.image.volume.modality) or self._misfit(finding)

    def _left_empty(self, finding: str, text: str, stack: SliceStack) -> FindingResult:
        untaught, note = self._untaught(finding), understood_note(text)
        shape = stack.display.shape
        return FindingResult(
            finding=finding,
            probability=np.zeros(shape, np.float32),
            mask=np.zeros(shape, bool),
            disagreement=None if stack.disagreement is None else np.zeros(shape, np.float32),
            presence=np.full(len(self.image.slices), np.nan, np.float32),
            warnings=tuple(filter(None, (note, f"{untaught}: {LEFT_EMPTY}"))),
            typed=text if note else "",
            window=self.image.window,
            untaught=untaught,
        )

    def _misfit(self, finding: str) -> str:
        """Why a taught finding is not expected in this image; empty if it is."""
        taught = self.info.taught_finding(finding, self.image.volume.modality)
        return "" if taught is None or self.kinds is None else self.kinds.misfit(taught.name, self.image.volume.kinds)

    def _untaught(self, finding: str) -> str:
        """Why a finding counts as untaught; empty if it was taught or learned, and for the empty text."""
        if finding in self.learned:
            return self.learned[finding].problem
        if finding not in self._reasons:
            self._reasons[finding] = self.info.untaught(finding, self.image.volume.modality) if finding.strip() else ""
        return self._reasons[finding]


def _joined(contained: tuple[str, str], held: tuple[str, str]) -> tuple[str, tuple[str, ...]]:
    """What was done with a finding, in one line, and the warnings about it."""
    return "; ".join(filter(None, (contained[0], held[0]))), tuple(filter(None, (contained[1], held[1])))
