"""Measures whether correcting the proposed slices helps more than random slices or every n-th.

Knows volumes with truth; a corrected slice gets its true mask. Learns each finding from three of its slices, so that
there is something to correct.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.io.read import read_volume
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.teaching.answers import adapted
from fasttextdiff.teaching.examples import examples_of
from fasttextdiff.teaching.proposals import propose
from fasttextdiff_lab.volumes import read_truth

COUNTS = (1, 2, 3, 5)
DRAWS = 200


@dataclass(frozen=True)
class Gain:
    """Dice of one volume after some slices are corrected.

    Attributes:
        volume: name of volume and finding.
        slices: number of its slices.
        corrected: number of corrected slices.
        before: Dice before.
        proposed: after correcting the proposed slices.
        random: mean over random choices.
        every: after correcting every n-th slice.
        best: after correcting the slices with the most errors, which nobody can know.
    """

    volume: str
    slices: int
    corrected: int
    before: float
    proposed: float
    random: float
    every: float
    best: float


def answers(
    segmenter: Segmenter, samples: Path, only: Collection[str] = ()
) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.bool_], list[int]]]:
    """Name, probability and truth (slices, h, w) of volumes kept out of all training, and the slices learned from.

    Args:
        segmenter: the model, with torch.
        samples: folder of the volumes.
        only: names of volumes; all if empty.
    """
    for name, volume, finding, truth in _volumes(samples):
        if not only or name in only:
            yield f"{name}: {finding}", *_answer(segmenter, volume, finding, truth)


def compare(
    name: str, probability: NDArray[np.float32], truth: NDArray[np.bool_], taught: Sequence[int] = ()
) -> Iterator[Gain]:
    """Dice after correcting slices chosen in each way.

    The user has drawn the slices that the finding was learned from, so these are right and nobody chooses them.

    Args:
        name: of the volume.
        probability: (slices, h, w).
        truth: (slices, h, w).
        taught: slices that the finding was learned from.
    """
    mask, rng = probability > 0.5, np.random.default_rng(0)
    mask[list(taught)] = truth[list(taught)]
    errors = (mask != truth).sum((1, 2))
    free = np.setdiff1d(np.arange(len(mask)), taught)
    for count in (count for count in COUNTS if count < len(free)):
        every = free[np.linspace(0, len(free) - 1, count + 2)[1:-1].round().astype(int)]
        drawn = [_dice(mask, truth, rng.choice(free, count, replace=False)) for _ in range(DRAWS)]
        yield Gain(
            name,
            len(mask),
            count,
            _dice(mask, truth, []),
            _dice(mask, truth, propose(probability, count, done=taught)),
            float(np.mean(drawn)),
            _dice(mask, truth, every),
            _dice(mask, truth, np.argsort(errors)[-count:]),
        )


def page(found: Sequence[Gain], command: str) -> str:
    """The report in Markdown."""
    lines = [
        "# Which slices to correct",
        "",
        "Dice of a volume after some of its slices got their true mask. Each finding was learned from three slices of",
        "the volume, which have it from the start. *Best*: the slices with the most wrong pixels.",
        "",
        f"    {command}",
        "",
        "| volume | slices | corrected | before | proposed | random | every n-th | best |",
        "|---|---|---|---|---|---|---|---|",
    ]
    names = ("before", "proposed", "random", "every", "best")
    for g in found:
        dice = " | ".join(f"{getattr(g, name):.3f}" for name in names)
        lines.append(f"| {g.volume} | {g.slices} | {g.corrected} | {dice} |")
    for count in COUNTS:
        those = [g for g in found if g.corrected == count]
        if those:
            dice = " | ".join(f"{np.mean([getattr(g, name) for g in those]):.3f}" for name in names)
            lines.append(f"| mean of {len(those)} | | {count} | {dice} |")
    return "\n".join([*lines, ""])


def _dice(mask: NDArray[np.bool_], truth: NDArray[np.bool_], corrected: Sequence[int] | NDArray[np.int_]) -> float:
    fixed = mask.copy()
    fixed[corrected] = truth[corrected]
    return float(2 * (fixed & truth).sum() / max(1, int(fixed.sum() + truth.sum())))


def _volumes(samples: Path) -> Iterator[tuple[str, Volume, str, NDArray[np.bool_]]]:
    for name in ("brain1", "brain2"):
        folder = samples / "mr_brain_tumour"
        label = np.asarray(read_volume(folder / f"{name}_label.nrrd").array, int) > 0
        yield name, read_volume(folder / f"{name}_image.nrrd", modality=Modality.MR), "brain tumour", label
    folder = samples / "ct_totalsegmentator"
    chest = read_volume(folder / "chest_ct_cropped.nii.gz", modality=Modality.CT)
    _, heart = read_truth(f"heart={folder / 'chest_ct_cropped_heart.nii.gz'}", chest)
    yield "chest CT", chest, "heart", heart


def _answer(
    segmenter: Segmenter, volume: Volume, finding: str, truth: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[int]]:
    """Probability and truth (slices, h, w) in display order, from the first to the last slice with truth.

    Also the slices of these that the finding was learned from.
    """
    image = segmenter.prepare(volume)
    shown = image.display.to_display(truth)
    there = np.nonzero(shown.any((1, 2)))[0]
    inside = range(max(0, there[0] - 2), min(len(shown), there[-1] + 3))
    taught = [int(n) for n in np.linspace(there[0], there[-1], 5)[1:-1]]
    examples = [example for n in taught for example in examples_of(image, n, truth)]
    adapter = segmenter.adapt(examples, finding=finding)
    probability = np.zeros((len(inside), *shown.shape[1:]), np.float32)
    for row, index in enumerate(inside):
        (tile,), (view,) = image.tiles, image.views(index)
        maps = segmenter.runtime.maps([view.pixels()], image.fit, 0)[0]
        odds, _ = adapted(adapter, segmenter.pipeline, view.pixels(), maps, image.fit)
        probability[(row, *tile.slices)] = 1 / (1 + np.exp(-odds))
    return probability, shown[inside.start : inside.stop], [n - inside.start for n in taught]
