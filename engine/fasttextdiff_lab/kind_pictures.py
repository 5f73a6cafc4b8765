"""Pictures for fitting the kind of image: labelled files, drawn pictures of nothing medical, and variants of both.

Knows pixels; knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.evaluation.datasets import load_image
from fasttextdiff.model.kinds import NONE_OF_THESE

DRAWN = {"train": 160, "val": 40}
"""Drawn pictures of each split."""
CLOSEST, CLOSEST_CT, CLOSEST_XRAY = 0.55, 0.4, 0.8
"""Smallest part of a side that a cropped variant keeps; volumes of CT are often cut close to an organ, and an X-ray
that is cut closely does not show which way up it is."""
_SIDE = 256
_WORDS = (
    "file", "edit", "view", "patient", "report", "findings", "normal", "study", "date", "total",
    "page", "table", "value", "the", "of", "and", "is", "with", "no",
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A labelled picture.

    Attributes:
        path: its file; None for a drawn picture.
        kind: name of its kind.
        group: patient or, if unknown, picture.
        source: where it comes from.
        number: of a drawn picture.
    """

    path: Path | None
    kind: str
    group: str
    source: str
    number: int = 0

    @property
    def name(self) -> str:
        """Unique within a split."""
        return f"{self.source}/{self.path.name if self.path else self.number}"

    def load(self) -> NDArray[np.uint8]:
        """(h, w), or (h, w, 3) for colour; transparent parts are white."""
        if self.path is None:
            return drawn(self.number)
        if self.kind != NONE_OF_THESE.name:
            return load_image(self.path, grey=self.kind != "stained histology")
        from PIL import Image

        with Image.open(self.path) as opened:
            opened.thumbnail((512, 512))
            clear = Image.alpha_composite(Image.new("RGBA", opened.size, "white"), opened.convert("RGBA"))
            return np.asarray(clear.convert("RGB"))


def drawn_pictures(split: str) -> Iterator[Picture]:
    """Drawn pictures of nothing medical: noise, textures, shapes, text, windows and charts."""
    first = 0 if split == "train" else DRAWN["train"]
    for number in range(first, first + DRAWN[split]):
        yield Picture(None, NONE_OF_THESE.name, f"drawn {number}", "drawn", number)


def drawn(number: int) -> NDArray[np.uint8]:
    """A drawn picture (h, w[, 3]) by its number."""
    random = np.random.default_rng(number)
    kinds = (_noise, _texture, _shapes, _text, _window, _chart)
    picture = kinds[number % len(kinds)](random)
    return picture if random.random() < 0.5 or picture.ndim == 2 else picture.mean(axis=2).astype(np.uint8)


def _noise(random: np.random.Generator) -> NDArray[np.uint8]:
    colour = (3,) if random.random() < 0.5 else ()
    level, spread = random.uniform(30, 220), random.uniform(5, 90)
    return random.normal(level, spread, (_SIDE, _SIDE, *colour)).clip(0, 255).astype(np.uint8)


def _texture(random: np.random.Generator) -> NDArray[np.uint8]:
    from scipy import ndimage

    colours = random.uniform(0, 255, (2, 3))
    smooth = ndimage.gaussian_filter(random.normal(size=(_SIDE, _SIDE)), random.uniform(0.8, 24))
    rows, columns = np.mgrid[:_SIDE, :_SIDE] / _SIDE
    waves = np.sin(2 * np.pi * random.uniform(0, 12) * (rows * random.uniform(-1, 1) + columns * random.uniform(-1, 1)))
    share = smooth / smooth.std() + random.uniform(0, 3) * waves
    share = (share - share.min()) / np.ptp(share)
    return np.asarray(colours[0] + share[..., None] * (colours[1] - colours[0])).astype(np.uint8)


def _canvas(random: np.random.Generator) -> tuple[Any, Any]:
    from PIL import Image, ImageDraw

    shade = int(random.choice([0, 20, 240, 255])) if random.random() < 0.7 else int(random.integers(0, 256))
    wide = int(random.integers(160, 400))
    image = Image.new("RGB", (wide, _SIDE), (shade, shade, shade))
    return image, ImageDraw.Draw(image)


def _colour(random: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(c) for c in random.integers(0, 256, 3))
    return red, green, blue


def _box(random: np.random.Generator, wide: int) -> tuple[int, int, int, int]:
    x, y = int(random.integers(-20, wide)), int(random.integers(-20, _SIDE))
    return x, y, x + int(random.integers(4, wide)), y + int(random.integers(4, _SIDE))


def _shapes(random: np.random.Generator) -> NDArray[np.uint8]:
    image, draw = _canvas(random)
    for _ in range(int(random.integers(1, 30))):
        shape = draw.ellipse if random.random() < 0.5 else draw.rectangle
        shape(_box(random, image.width), fill=_colour(random))
    return np.asarray(image)


def _text(random: np.random.Generator) -> NDArray[np.uint8]:
    image, draw = _canvas(random)
    ink = tuple(255 - c for c in image.getpixel((0, 0)))
    step = int(random.integers(10, 26))
    for y in range(4, _SIDE, step):
        line = " ".join(random.choice(_WORDS, int(random.integers(2, 12))))
        draw.text((6, y), line, fill=ink, font_size=step - 3)
    return np.asarray(image)


def _window(random: np.random.Generator) -> NDArray[np.uint8]:
    """A screenshot: bars, panels and short texts."""
    image, draw = _canvas(random)
    wide = image.width
    draw.rectangle((0, 0, wide, 18), fill=_colour(random))
    for _ in range(int(random.integers(2, 9))):
        box = _box(random, wide)
        draw.rectangle(box, fill=_colour(random), outline=_colour(random))
        draw.text(box[:2], str(random.choice(_WORDS)), fill=_colour(random))
    return np.asarray(image)


def _chart(random: np.random.Generator) -> NDArray[np.uint8]:
    image, draw = _canvas(random)
    wide = image.width
    for _ in range(int(random.integers(1, 5))):
        heights = _SIDE / 2 + np.cumsum(random.normal(0, 12, 20))
        points = list(zip(np.linspace(10, wide - 10, 20), heights, strict=True))
        draw.line(points, fill=_colour(random), width=int(random.integers(1, 4)))
    draw.line((10, 10, 10, _SIDE - 10, wide - 10, _SIDE - 10), fill=_colour(random))
    return np.asarray(image)


def variant(pixels: NDArray[np.uint8], random: np.random.Generator, kind: str) -> tuple[NDArray[np.uint8], str]:
    """A random variant of a picture, and what was done: turned, mirrored, cropped, inverted, other contrast or size."""
    done: list[str] = []
    image = pixels
    is_xray, is_tissue, is_none = kind == "chest X-ray", kind == "stained histology", kind == NONE_OF_THESE.name
    if random.random() < 0.5:
        image, done = image[:, ::-1], [*done, "mirrored"]
    if random.random() < (0.5 if is_xray or is_tissue else 0.2):
        turns = int(random.integers(1, 4))
        image, done = np.rot90(image, turns), [*done, f"turned {turns * 90}"]
    if random.random() < 0.7:
        image, done = cropped(image, random, CLOSEST_CT if "CT" in kind else CLOSEST), [*done, "cropped"]
    values = image.astype(np.float32) / 255
    values, done = values ** np.float32(random.uniform(0.7, 1.5)), [*done, "contrast"]
    if is_none and image.ndim == 3 and random.random() < 0.6:
        values, done = values.mean(axis=2), [*done, "grey"]
    if is_tissue:
        values, done = values * random.uniform(0.85, 1.1, 3), [*done, "tinted"]
    if is_xray and random.random() < 0.4:
        values, done = 1 - values, [*done, "inverted"]
    if random.random() < 0.3:
        values, done = values + random.normal(0, random.uniform(0.005, 0.03), values.shape), [*done, "noise"]
    return np.ascontiguousarray((values.clip(0, 1) * 255).astype(np.uint8)), " ".join(done)


def cropped(image: NDArray[np.uint8], random: np.random.Generator, least: float) -> NDArray[np.uint8]:
    """A random part of a picture, at least the share `least` of each side."""
    rows, columns = (max(16, round(side * random.uniform(least, 1.0))) for side in image.shape[:2])
    top, left = (
        int(random.integers(0, max(1, side - kept + 1)))
        for side, kept in zip(image.shape[:2], (rows, columns), strict=True)
    )
    return image[top : top + rows, left : left + columns]
