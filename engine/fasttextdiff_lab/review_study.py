"""Measures whether the review list leads to the model's errors sooner than scrolling through the slices does.

Asks the model as users do, with consistency across slices. Knows volumes with truth; reports, never chooses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.io.read import read_volume
from fasttextdiff.result import FindingResult
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.teaching.proposals import doubts, proposals
from fasttextdiff.worker.segmented import PROPOSED
from fasttextdiff_lab.volumes import read_truth

LOOKS = (1, 2, 3, 5, 10)
_LUNGS = {"left lung": "10,11", "right lung": "12,13,14"}
_CT = {**_LUNGS, "liver": "5", "left kidney": "3", "right kidney": "2", "aorta": "52", "pancreas": "7"}
_SHORT_CT = {name: _CT[name] for name in (*_LUNGS, "liver", "aorta")}
_MR = {name: _CT[name] for name in ("left kidney", "right kidney")}
_TOTAL = "ct_totalsegmentator"
VOLUMES: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    (f"{_TOTAL}/example_ct_sm.nii.gz", "ct", f"{_TOTAL}/example_seg_fast.nii.gz", _CT),
    (f"{_TOTAL}/example_ct_dicom", "ct", f"{_TOTAL}/example_seg_dicom.nii.gz", _SHORT_CT),
    (f"{_TOTAL}/example_mr_sm.nii.gz", "mr", f"{_TOTAL}/example_seg_mr.nii.gz", _MR),
    ("mr_brain_tumour/brain1_image.nrrd", "mr", "mr_brain_tumour/brain1_label.nrrd", {"brain tumour": "1"}),
    ("mr_brain_tumour/brain2_image.nrrd", "mr", "mr_brain_tumour/brain2_label.nrrd", {"brain tumour": "1"}),
)
"""Image, modality, label map, and the values of each finding in it; findings that the model was taught."""


@dataclass(frozen=True)
class Looked:
    """Share of the wrong pixels that are on the first slices looked at, for one finding of one volume.

    Attributes:
        volume: its name.
        finding: what was asked.
        dice: of the whole volume.
        slices: number of slices of the volume.
        looks: number of slices looked at.
        review: in the order of the review list, then in order of the slices.
        scrolling: from the first slice to the last.
        marked: the slices with a mask in order, then the others.
        random: in any order, on average.
        best: those with the most wrong pixels first, which nobody can know.
    """

    volume: str
    finding: str
    dice: float
    slices: int
    looks: int
    review: float
    scrolling: float
    marked: float
    random: float
    best: float


WAYS = ("review", "scrolling", "marked", "random", "best")


def measured(segmenter: Segmenter, samples: Path) -> Iterator[list[Looked]]:
    """The figures of each volume.

    Args:
        segmenter: the model.
        samples: folder of `VOLUMES`.
    """
    for image, modality, label, values in VOLUMES:
        volume = read_volume(samples / image, modality=modality)
        result = segmenter.segment(volume, list(values))
        found: list[Looked] = []
        for finding in result.findings:
            _, truth = read_truth(f"{finding.finding}={samples / label}:{values[finding.finding]}", volume)
            found += looked(Path(image).name, finding, np.moveaxis(truth, volume.slice_axis, 0), volume.slice_axis)
        yield found


def looked(name: str, found: FindingResult, truth: NDArray[np.bool_], axis: int = 0) -> Iterator[Looked]:
    """How much error is found by looking at slices in each order.

    Args:
        name: of the volume.
        found: the model's result.
        truth: (slices, h, w).
        axis: of the slices in the result.
    """
    mask, probability = np.moveaxis(found.mask, axis, 0), np.moveaxis(found.probability, axis, 0)
    errors = (mask != truth).sum((1, 2))
    count, total = len(errors), max(1, int(errors.sum()))
    listed = [each.slice for each in proposals({found.finding: doubts(probability, mask)}, PROPOSED)]
    there = np.flatnonzero(mask.any((1, 2))).tolist()
    orders = (_completed(listed, count), range(count), _completed(there, count), np.argsort(-errors, kind="stable"))
    dice = float(2 * (mask & truth).sum() / max(1, int(mask.sum() + truth.sum())))
    for looks in (looks for looks in LOOKS if looks < count):
        review, scrolling, marked, best = (float(errors[list(order)[:looks]].sum() / total) for order in orders)
        yield Looked(name, found.finding, dice, count, looks, review, scrolling, marked, looks / count, best)


def _completed(first: Sequence[int], count: int) -> list[int]:
    return [*first, *(number for number in range(count) if number not in first)]


def page(found: Sequence[Looked], command: str, model: str) -> str:
    """The report in Markdown."""
    cases = len({(each.volume, each.finding) for each in found})
    lines = [
        "# Which slices to look at",
        "",
        f"Model `{model}`, {cases} findings in {len({each.volume for each in found})} volumes with truth.",
        "The truth of the brain tumours is manual, that of the organs is TotalSegmentator's.",
        "The figures are shares of the wrong pixels of a finding that are on the first slices looked at. The slices",
        "come in the order of the review list, from the first to the last (*scrolling*), those with a mask first",
        "(*marked*), in any order, or with the most wrong pixels first (*best*). *More often*: for how many findings",
        "the review list finds more than scrolling.",
        "",
        f"    {command}",
        "",
        "| looked at | n | review list | scrolling | marked | any order | best | more often |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for looks in LOOKS:
        those = [one for one in found if one.looks == looks]
        if those:
            shares = " | ".join(f"{np.mean([getattr(one, way) for one in those]):.0%}" for way in WAYS)
            more = sum(one.review > one.scrolling for one in those)
            lines.append(f"| {looks} | {len(those)} | {shares} | {more} of {len(those)} |")
    lines += ["", "## Each finding, five slices looked at", ""]
    lines += ["| volume | finding | Dice | slices | review list | scrolling | marked | any order | best |"]
    lines += ["|---|---|---|---|---|---|---|---|---|"]
    for one in (one for one in found if one.looks == 5):
        shares = " | ".join(f"{getattr(one, way):.0%}" for way in WAYS)
        lines.append(f"| {one.volume} | {one.finding} | {one.dice:.3f} | {one.slices} | {shares} |")
    return "\n".join([*lines, ""])
