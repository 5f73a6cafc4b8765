"""Draws text of any script in a picture: finds a font, wraps lines, and never fails on a text.

Knows nothing about medical images.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import ImageFont

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Names that Pillow looks up in the system's font folders on Linux, Windows and macOS: most alphabets first, then
# Chinese, Japanese and Korean.
_REGULAR = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "arial.ttf", "Arial Unicode.ttf")
_BOLD = ("DejaVuSans-Bold.ttf", "NotoSans-Bold.ttf", "arialbd.ttf", "Arial Bold.ttf")
_WIDE = (
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "msyh.ttc",
    "malgun.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
)


def font_for(text: str, size: int, *, bold: bool = False) -> Font:
    """The installed font that can show most of the text; Pillow's own if none is installed.

    Args:
        text: text to draw.
        size: height in pixels.
        bold: prefer a bold face.
    """
    fonts = installed_fonts(size, bold)
    characters = sorted({char for char in text if not char.isspace()})[:500]
    missing = [sum(not _has(font, char) for char in characters) for font in fonts]
    return fonts[missing.index(min(missing))]


@functools.lru_cache(maxsize=16)
def installed_fonts(size: int, bold: bool) -> list[Font]:
    """Fonts in order of preference, Pillow's own last; at least one."""
    from PIL import ImageFont

    fonts: list[Font] = []
    for name in (*(_BOLD if bold else _REGULAR), *_WIDE):
        try:
            fonts.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return [*fonts, ImageFont.load_default(size)]


def _has(font: Font, char: str) -> bool:
    """Whether the font has a glyph for the character other than its "missing character" sign."""
    return _drawn(font, char) != _drawn(font, "\U0010fffe")


@functools.lru_cache(maxsize=4096)
def _drawn(font: Font, char: str) -> bytes | None:
    """The character's pixels; None if the font fails."""
    try:
        return bytes(font.getmask(char))
    except (UnicodeError, OSError, ValueError):
        return None


def drawable(text: str) -> str:
    """The text on one line, without characters that no font can draw (control characters, lone surrogates)."""
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join("".join(char if char.isprintable() else " " for char in whole).split())


def wrap(text: str, font: Font, width: float, lines: int) -> list[str]:
    """Break text into lines of at most `width` pixels, at spaces if possible.

    Args:
        text: text to wrap; control characters and line breaks count as spaces.
        font: the font it will be drawn in.
        width: pixels available.
        lines: maximum number of lines; text that does not fit ends in an ellipsis.
    """
    rest = drawable(text)[:2000]
    wrapped: list[str] = []
    while rest and len(wrapped) < lines:
        head = _fitting(rest, font, width)
        wrapped.append(head.rstrip())
        rest = rest[len(head) :].lstrip()
    if rest:
        last = wrapped[-1] + "…"
        while len(last) > 1 and font.getlength(last) > width:
            last = last[:-2] + "…"
        wrapped[-1] = last
    return wrapped


def _fitting(text: str, font: Font, width: float) -> str:
    """The longest prefix that fits, up to a space if possible; at least one character."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle]) <= width:
            low = middle
        else:
            high = middle - 1
    if low == len(text):
        return text
    space = text.rfind(" ", 0, low + 1)
    return text[:space] if space > 0 else text[:low]
