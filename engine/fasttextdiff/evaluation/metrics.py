"""Scores a model on a labelled folder, with the two Dice protocols that are often confused in the literature.

Knows metrics and protocols; uses the model only to get masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import UsageError
from fasttextdiff.evaluation.datasets import Target
from fasttextdiff.image.resampling import resampled
from fasttextdiff.image.volume import Modality, Source, Volume
from fasttextdiff.paths import PathText, as_path
from fasttextdiff.segmenter import Segmenter

PROTOCOLS = ("native", "published")
PUBLISHED_SIDE = 256
"""Side of images and masks in pixels in the published protocol."""
EPSILON = 1e-5


@dataclass(frozen=True)
class Score:
    """The score of one target.

    Attributes:
        image: file name of the image.
        text: the text given to the model.
        dice: 2 IoU / (1 + IoU).
        iou: (intersection + 1e-5) / (union + 1e-5).
        truth_px: pixels of the true mask.
        mask_px: pixels of the model's mask.
        overlap_px: pixels of both.
    """

    image: str
    text: str
    dice: float
    iou: float
    truth_px: int
    mask_px: int
    overlap_px: int


def score(image: str, text: str, mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Score:
    """Compare two masks (h, w). With an empty truth, an empty mask scores 1 and any other 0."""
    overlap, union = int((mask & truth).sum()), int((mask | truth).sum())
    iou = (overlap + EPSILON) / (union + EPSILON)
    if not truth.any():
        iou = float(not mask.any())
    return Score(image, text, 2 * iou / (1 + iou), iou, int(truth.sum()), int(mask.sum()), overlap)


def protocol_i(scores: Sequence[Score]) -> dict[str, float]:
    """Dice and IoU as means over images (LViT, TextDiff, FastTextDiff)."""
    return {"dice": float(np.mean([s.dice for s in scores])), "iou": float(np.mean([s.iou for s in scores]))}


def protocol_p(scores: Sequence[Score]) -> dict[str, float]:
    """Dice and IoU over all pixels of the split together (Ariadne's Thread, MMI-UNet), which are higher."""
    overlap = sum(s.overlap_px for s in scores)
    truth, mask = sum(s.truth_px for s in scores), sum(s.mask_px for s in scores)
    union = truth + mask - overlap
    if union == 0:
        return {"dice": 1.0, "iou": 1.0}
    return {"dice": 2 * overlap / (truth + mask), "iou": overlap / union}


def evaluate(
    segmenter: Segmenter,
    targets: Sequence[Target],
    *,
    texts: Sequence[str],
    protocol: str = "native",
    threshold: float | None = None,
    keep: Callable[[Target, NDArray[np.bool_]], None] | None = None,
) -> Iterator[Score]:
    """Segment each target and score it.

    Args:
        segmenter: the model.
        targets: the split.
        texts: one text per target; the empty text asks for everything that the model finds.
        protocol: "native" compares at the resolution of the true mask. "published" is that of the published work:
            image and mask are resized to 256 px, the mask bilinearly and then > 0, which dilates it; the model sees
            only the small image.
        threshold: probability above which a pixel belongs to the mask; the model's own if None.
        keep: called with each target and its predicted mask.
    """
    for target, text in zip(targets, texts, strict=True):
        volume, truth = shown(target, protocol)
        found = segmenter.decode(segmenter.prepare(volume), [text], threshold=threshold, try_anyway=True).findings[0]
        mask = found.mask[0]
        if keep is not None:
            keep(target, mask)
        yield score(target.image.name, text, mask, truth)


def shown(target: Target, protocol: str = "native") -> tuple[Volume, NDArray[np.bool_]]:
    """The model's input in a protocol, and the true mask (h, w) to compare with.

    Raises:
        FastTextDiffError: the image or mask cannot be read.
        UsageError: they differ in size.
    """
    image, truth = target.load_image(), target.load_mask()
    if image.shape[:2] != truth.shape:
        raise UsageError(f"{target.mask} has {truth.shape} pixels, but its image has {image.shape[:2]}")
    if protocol == "published":
        image, truth = _published_image(image), _published_mask(truth)
    return picture_volume(image, target.modality, str(target.image)), truth


def report(scores: Sequence[Score], **run: Any) -> dict[str, Any]:
    """The JSON content: the run, both protocols, each image, and each text if targets are single findings."""
    return {
        **run,
        "n": len(scores),
        "n_empty": sum(s.truth_px == 0 for s in scores),
        "protocol_i": protocol_i(scores),
        "protocol_p": protocol_p(scores),
        "images": [
            {
                "image": s.image,
                "text": s.text,
                "dice": s.dice,
                "iou": s.iou,
                "truth_px": s.truth_px,
                "mask_px": s.mask_px,
            }
            for s in scores
        ],
    }


def by_text(scores: Sequence[Score], targets: Sequence[Target]) -> dict[str, dict[str, float]]:
    """Protocol I and n of each true text; empty if every image has its own sentence."""
    return {text: {"n": len(group), **protocol_i(group)} for text, group in groups_by_text(scores, targets).items()}


def groups_by_text(scores: Sequence[Score], targets: Sequence[Target]) -> dict[str, list[Score]]:
    """Scores by true text; empty if there are too many texts for a table, e.g. one sentence per image."""
    groups: dict[str, list[Score]] = {}
    for result, target in zip(scores, targets, strict=True):
        groups.setdefault(target.text, []).append(result)
    return groups if len(groups) <= 12 else {}


def picture_volume(image: NDArray[np.uint8], modality: Modality, path: str = "") -> Volume:
    """A picture (h, w[, 3]) as a one-slice volume."""
    return Volume(image[None], np.diag([-1.0, -1.0, 1.0, 1.0]), modality, is_planar=True, source=Source(path=path))


def _published_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    side = (PUBLISHED_SIDE, PUBLISHED_SIDE)
    return np.asarray(Image.fromarray(image).resize(side, Image.Resampling.BILINEAR))


def _published_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Resize bilinearly without anti-aliasing, as OpenCV does, then take everything above 0."""
    return resampled(mask.astype(np.float32), (PUBLISHED_SIDE, PUBLISHED_SIDE), antialias=False) > 0


def mask_path(folder: PathText, target: Target) -> Path:
    """The path that :func:`save_mask` writes to."""
    folder = as_path(folder)
    path = folder / (target.mask.parent.name if target.of_finding else "") / target.mask.name
    return path.with_suffix(".png")


def save_mask(folder: PathText, target: Target, mask: NDArray[np.bool_]) -> None:
    """Write a predicted mask, 0 or 255, under the true mask's file name; targets by finding keep their subfolder."""
    from PIL import Image

    path = mask_path(folder, target)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
