"""Tells what kind of image a slice is ("head CT", "stained histology") from the maps that a model computes for it.

A linear classifier on statistics of maps and pixels, in a small file next to the weights. Knows numbers and names;
knows nothing about volumes or image files, and loads no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import ModelError, one_line
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.feature_cache import Maps
from fasttextdiff.model.xray_states import XrayHead, softmax

KINDS_FILE = "kinds.safetensors"
"""In the folder of the model. Not part of the hash of its weights: these are the same with and without it."""
_CELLS, _SMALL = 4, 32
_FARTHEST = 4.0
"""Standard deviations; statistics farther from their mean in training are clipped, so that none decides alone."""


@dataclass(frozen=True)
class Kind:
    """A kind of image.

    Attributes:
        name: as shown to users.
        modality: its modality; `Modality.OTHER` for those that no model has settings for.
    """

    name: str
    modality: Modality


NONE_OF_THESE = Kind("none of these", Modality.OTHER)
KINDS = (
    Kind("chest X-ray", Modality.XRAY),
    Kind("chest CT", Modality.CT),
    Kind("CT of abdomen or pelvis", Modality.CT),
    Kind("head CT", Modality.CT),
    Kind("limb CT", Modality.CT),
    Kind("head MR", Modality.MR),
    Kind("heart MR", Modality.MR),
    Kind("abdominal MR", Modality.MR),
    Kind("spine MR", Modality.MR),
    Kind("pelvic MR", Modality.MR),
    Kind("limb MR", Modality.MR),
    Kind("breast MR", Modality.MR),
    Kind("breast ultrasound", Modality.OTHER),
    Kind("stained histology", Modality.HISTOLOGY),
    NONE_OF_THESE,
)
KIND_NAMED: Mapping[str, Kind] = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True)
class KindHead:
    """A linear softmax classifier.

    Attributes:
        kinds: what it distinguishes.
        mean: (D,) of the statistics in training.
        scale: (D,), their standard deviation.
        weight: (K, D).
        bias: (K,).
        size: pixels of the longer side of the images that it was fitted on.
        surest: an answer with a lower probability is "none of these".
        made_for: hash of the model's weights.
        expected: kinds on which a taught finding may be seen, by its name; all kinds if it is not listed.
        xray: tells whether a chest X-ray was turned or inverted, from the same statistics; None if that is not known.
        sha256: hash of its file, first 8 hex digits; empty before it is saved.
    """

    kinds: tuple[Kind, ...]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    size: int
    surest: float
    made_for: str
    expected: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    xray: XrayHead | None = None
    sha256: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together."""
        count, length = len(self.kinds), len(self.mean)
        shapes = [a.shape for a in (self.mean, self.scale, self.weight, self.bias)]
        fits = self.xray is None or self.xray.weight.shape[1] == length
        if not fits or shapes != [(length,), (length,), (count, length), (count,)] or NONE_OF_THESE not in self.kinds:
            raise ValueError(f"arrays of shapes {shapes} do not distinguish {count} kinds")

    def standard(self, statistics: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, D) statistics as deviations from their mean in training."""
        return np.clip((statistics - self.mean) / self.scale, -_FARTHEST, _FARTHEST)

    def probabilities(self, statistics: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N, D) statistics of N images to (N, K)."""
        return softmax(self.standard(statistics) @ self.weight.T + self.bias)

    def xray_doubt(self, statistics: NDArray[np.float32]) -> str:
        """Why the result for a chest X-ray with statistics (D,) cannot be relied on, in one line; empty if it can."""
        return "" if self.xray is None else self.xray.doubt(self.standard(statistics))

    def share_of(self, probabilities: NDArray[np.float64], modality: Modality) -> float:
        """Mean probability (N, K) that N slices are of a modality."""
        return float(probabilities[:, [kind.modality is modality for kind in self.kinds]].sum(axis=1).mean())

    def decide(self, probabilities: NDArray[np.float64], modalities: Collection[Modality] = tuple(Modality)) -> Kind:
        """The kind of an image.

        Args:
            probabilities: (K,).
            modalities: those that it may have: only kinds of these count.
        """
        possible = [kind.modality in modalities or kind is NONE_OF_THESE for kind in self.kinds]
        shares = np.where(possible, probabilities, 0.0)
        best = int(np.argmax(shares))
        return self.kinds[best] if shares[best] >= self.surest * shares.sum() else NONE_OF_THESE

    def misfit(self, finding: str, seen: Sequence[str]) -> str:
        """Why a taught finding is not expected in an image, in one line; empty if it is, or if that is not known.

        Args:
            finding: its name in the model's list.
            seen: kinds of the image's slices, the kind of the whole image first.
        """
        places = self.expected.get(finding)
        if not seen or places is None or {*places, NONE_OF_THESE.name} & set(seen):
            return ""
        return f"'{finding}' is not expected here: judging by its content, the image is {_a(seen[0])}"


def statistics_of(maps: Maps, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the classifier looks at (D,).

    Args:
        maps: of an image.
        pixels: the image (h, w) or (h, w, 3) in [0, 1].
    """
    return np.concatenate([*map(_statistics_of_scale, maps), _statistics_of_pixels(pixels)]).astype(np.float32)


def _statistics_of_scale(scale: NDArray[np.float16]) -> NDArray[np.float32]:
    """Of each channel: mean and deviation, of all and of the middle; top against bottom, one side against the other.

    Which side is which does not count, because a picture may be mirrored.
    """
    return _statistics_of_cells(*_in_cells(scale.astype(np.float32)))


def _statistics_of_cells(means: NDArray[np.float32], squares: NDArray[np.float32]) -> NDArray[np.float32]:
    mean, inner = means.mean(axis=(1, 2)), slice(_CELLS // 4, -(_CELLS // 4))
    deviation = np.sqrt(np.maximum(squares.mean(axis=(1, 2)) - mean**2, 0))
    deviations = np.sqrt(np.maximum(squares - means**2, 0))
    half = _CELLS // 2
    return np.concatenate(
        [
            mean,
            deviation,
            means[:, inner, inner].mean(axis=(1, 2)) - mean,
            means[:, :half].mean(axis=(1, 2)) - means[:, half:].mean(axis=(1, 2)),
            np.abs(means[:, :, :half].mean(axis=(1, 2)) - means[:, :, half:].mean(axis=(1, 2))),
            deviations[:, inner, inner].mean(axis=(1, 2)),
        ]
    )


def _in_cells(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of values and of their squares in a grid of cells (2, C, rows, columns)."""
    rows, columns = (np.linspace(0, side, _CELLS + 1).astype(int) for side in scale.shape[1:])
    result = np.zeros((2, len(scale), _CELLS, _CELLS), np.float32)
    for i, j in np.ndindex(_CELLS, _CELLS):
        bottom, right = max(rows[i + 1], rows[i] + 1), max(columns[j + 1], columns[j] + 1)
        cell = scale[:, rows[i] : bottom, columns[j] : right]
        result[:, :, i, j] = cell.mean(axis=(1, 2)), (cell**2).mean(axis=(1, 2))
    return result


def _statistics_of_pixels(pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Shares of eight ranges of grey levels, mean and deviation of red, green and blue, and colourfulness."""
    from PIL import Image

    small = (
        Image.fromarray((pixels * 255).astype(np.uint8)).convert("RGB").resize((_SMALL, _SMALL), Image.Resampling.BOX)
    )
    colours = np.asarray(small).astype(np.float32) / 255
    shares = np.histogram(colours.mean(axis=2), 8, (0, 1))[0] / colours[..., 0].size
    colourful = (colours.max(axis=2) - colours.min(axis=2)).mean()
    return np.concatenate([shares, colours.mean(axis=(0, 1)), colours.std(axis=(0, 1)), [colourful]])


def read_kinds(folder: Path, weights_sha256: str) -> KindHead | None:
    """The classifier in a model's folder; None if there is none, or if it was fitted to other weights.

    Args:
        folder: of the model.
        weights_sha256: hash of its weights.

    Raises:
        ModelError: the file cannot be used.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / KINDS_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            stated = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        head = KindHead(
            tuple(KIND_NAMED[name] for name in json.loads(stated["kinds"])),
            arrays["mean"],
            arrays["scale"],
            arrays["weight"],
            arrays["bias"],
            size=int(stated["size"]),
            surest=float(stated["surest"]),
            made_for=stated["made_for"],
            expected={name: tuple(places) for name, places in json.loads(stated["expected"]).items()},
            xray=_xray(arrays, stated),
            sha256=hashlib.sha256(path.read_bytes()).hexdigest()[:8],
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} cannot be used ({one_line(error)}): remove it, or copy the model again") from error
    return head if head.made_for == weights_sha256 else None


def _xray(arrays: Mapping[str, NDArray[np.float32]], stated: Mapping[str, str]) -> XrayHead | None:
    if _XRAY[0] not in arrays:
        return None
    weight, bias = (arrays[name] for name in _XRAY)
    return XrayHead(weight, bias, float(stated[_XRAY_SUREST]))


_ARRAYS = ("mean", "scale", "weight", "bias")
_XRAY, _XRAY_SUREST = ("film_weight", "film_bias"), "film_surest"


def write_kinds(head: KindHead, folder: Path) -> Path:
    """Write the classifier into the folder of its model; returns the file."""
    from safetensors.numpy import save_file

    stated = {
        "kinds": json.dumps([kind.name for kind in head.kinds]),
        "size": str(head.size),
        "surest": str(head.surest),
        "made_for": head.made_for,
        "expected": json.dumps(head.expected, sort_keys=True),
    }
    arrays = {name: getattr(head, name) for name in _ARRAYS}
    if head.xray is not None:
        arrays |= dict(zip(_XRAY, (head.xray.weight, head.xray.bias), strict=True))
        stated[_XRAY_SUREST] = str(head.xray.surest)
    path = folder / KINDS_FILE
    save_file({name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}, path, stated)
    return path


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def kinds_of(head: KindHead, probabilities: NDArray[np.float64], modalities: Collection[Modality]) -> tuple[Kind, ...]:
    """The kind of an image, followed by those of its slices that differ.

    Args:
        head: of the model.
        probabilities: (N, K) of N slices.
        modalities: those that the image may have.
    """
    rows = (probabilities.mean(axis=0), *probabilities)
    return tuple(dict.fromkeys(head.decide(row, modalities) for row in rows))
