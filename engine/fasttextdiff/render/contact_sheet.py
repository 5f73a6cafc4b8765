"""Draws a result as one picture: representative slices of each finding with the mask, and its measurements.

Slices are drawn in radiological convention. Knows nothing about models or other file formats.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fasttextdiff.contract.colors import Rgb
from fasttextdiff.errors import UsageError, require_type
from fasttextdiff.image.orientation import DisplayPlane, display_plane
from fasttextdiff.io.atomic import whole_files
from fasttextdiff.io.overwriting import files_of, require_apart
from fasttextdiff.paths import PathText, as_path
from fasttextdiff.render.captions import drawable, font_for, wrap
from fasttextdiff.render.tiles import draw_slice, overlay_mask, tile_size, to_gray
from fasttextdiff.result import FindingResult, SegmentationResult
from fasttextdiff.segments.tags import presence_text
from fasttextdiff.segments.terminology import assign_colors
from fasttextdiff.version import DISCLAIMER

if TYPE_CHECKING:
    from PIL import Image

SOFTWARE = "FastTextDiff"
"""The `Software` text of every PNG that we write, so that it is not mistaken for an input image."""

_COLUMNS = 6
_MARGIN, _GAP = 28, 8
_PAGE, _TEXT, _MUTED, _WARNING = (16, 18, 22), (240, 242, 245), (150, 156, 166), (245, 190, 80)
# Labels at the left and right edge of a displayed slice (see `orientation`).
_EDGES = {"axial": ("R", "L"), "coronal": ("R", "L"), "sagittal": ("A", "P")}


def write_preview(result: SegmentationResult, path: PathText) -> None:
    """Write the picture as PNG.

    Args:
        result: at least one finding.
        path: file to write, ending in `.png`; an existing one is replaced.

    Raises:
        UsageError: another extension, or a path that cannot be written.
        FastTextDiffError: writing failed.
    """
    from PIL.PngImagePlugin import PngInfo

    path = as_path(path)
    require_type(result, SegmentationResult, "result", "use Segmenter.segment")
    if path.suffix.lower() != ".png":
        raise UsageError(f"cannot write a picture as {path.name!r}: the name must end in .png")
    source = result.volume.source
    require_apart([path], [*files_of(Path(source.path)), *(Path(file) for file, _ in source.frames)])
    with whole_files(path) as (temporary,):
        made_by = PngInfo()
        made_by.add_text("Software", SOFTWARE)
        draw_preview(result).save(temporary, "PNG", pnginfo=made_by)


def draw_preview(result: SegmentationResult) -> Image.Image:
    """Draw the picture: one row of slices per finding; for planar images, the image and one panel per finding.

    Returns:
        An RGB image, 600 to about 2,000 pixels wide.
    """
    display = display_plane(result.volume, result.provenance.plane)
    if result.volume.is_planar:
        panels = _planar_panels(result, display)
        columns = 2 if len(panels) in (2, 4) else 3
    else:
        panels, columns = _volume_panels(result, display), 1
    return _page(panels, columns, _title(result, display), _footer(result))


@dataclass(frozen=True)
class _Panel:
    """A row of tiles under a caption."""

    tiles: list[Image.Image]
    heading: str
    color: Rgb | None
    details: str


def _volume_panels(result: SegmentationResult, display: DisplayPlane) -> list[_Panel]:
    """One panel per finding, with representative slices."""
    chosen = [representative_slices(finding, display, result.provenance.slices) for finding in result.findings]
    colors = assign_colors([finding.finding for finding in result.findings])
    size = tile_size(display, max(map(len, chosen)))
    array = display.to_display(result.volume.array)
    panels = []
    for finding, color, slices in zip(result.findings, colors, chosen, strict=True):
        mask = display.to_display(finding.mask)
        tiles = []
        for index in slices:
            tile = overlay_mask(draw_slice(to_gray(array[index], result), size), mask[index], color)
            tiles.append(_annotated(tile, f"{index + 1} / {display.n_slices}", _EDGES.get(display.anatomical or "")))
        panels.append(_Panel(tiles, finding.finding, color, _volume_details(finding, result, display)))
    return panels


def representative_slices(finding: FindingResult, display: DisplayPlane, scope: tuple[int, int]) -> list[int]:
    """Up to six slices that show the finding, spread over its extent; if it is empty, spread over the scope.

    Args:
        finding: the finding with its mask.
        display: display plane, for the slice axis.
        scope: (first, last + 1) of the requested slices.
    """
    first, last = scope
    areas = np.count_nonzero(display.to_display(finding.mask), axis=(1, 2))
    found = np.flatnonzero(areas)
    if not found.size:
        count = min(_COLUMNS, last - first)
        return [first + round((n + 0.5) * (last - first) / count - 0.5) for n in range(count)]
    parts = np.array_split(found, min(_COLUMNS, found.size))
    return [int(part[np.argmax(areas[part])]) for part in parts]


def _planar_panels(result: SegmentationResult, display: DisplayPlane) -> list[_Panel]:
    """The plain image, then the image with each finding."""
    size = tile_size(display, 2)
    image = draw_slice(to_gray(display.to_display(result.volume.array)[0], result), size)
    panels = [_Panel([image], "Image", None, "")]
    colors = assign_colors([finding.finding for finding in result.findings])
    for finding, color in zip(result.findings, colors, strict=True):
        tile = overlay_mask(image, display.to_display(finding.mask)[0], color)
        panels.append(_Panel([tile], finding.finding, color, _planar_details(finding)))
    return panels


def _volume_details(finding: FindingResult, result: SegmentationResult, display: DisplayPlane) -> str:
    """Volume, number of slices and presence."""
    first, last = result.provenance.slices
    voxels = int(np.count_nonzero(finding.mask))
    if not voxels:
        return _joined(
            f"{finding.absence} in {last - first} slices" if not finding.untaught else finding.absence, finding
        )
    slices = np.count_nonzero(display.to_display(finding.mask).any(axis=(1, 2)))
    amount = f"{_milliliters(voxels * result.volume.voxel_ml)} in {slices} of {last - first} slices"
    return _joined(amount, finding)


def _milliliters(amount: float) -> str:
    """Three significant digits below 100 ml, whole millilitres above."""
    return f"{amount:,.0f} ml" if amount >= 100 else f"{amount:.3g} ml"


def _planar_details(finding: FindingResult) -> str:
    """Area in pixels, because a planar image has no calibrated millimetres."""
    pixels = int(np.count_nonzero(finding.mask))
    if not pixels:
        return _joined(finding.absence, finding)
    return _joined(f"{pixels:,} px ({100 * pixels / finding.mask.size:.1f} % of the image)", finding)


def _joined(amount: str, finding: FindingResult) -> str:
    """The amount with the presence, and the first warning."""
    parts = [amount, f"presence {presence_text(finding.presence)}", *finding.warnings[:1]]
    return "  ·  ".join(parts)


def _title(result: SegmentationResult, display: DisplayPlane) -> str:
    """The image, plane and window."""
    window = result.provenance.window
    return "  ·  ".join(
        part
        for part in (
            Path(result.volume.source.path).name,
            display.anatomical or "",
            f"level {window[0]:g}, width {window[1]:g}" if window else "",
        )
        if part
    )


def _footer(result: SegmentationResult) -> str:
    """The provenance."""
    made = result.provenance
    samples = f"{made.samples} sample" + ("s" if made.samples != 1 else "")
    return (
        f"{made.model} {made.weights_sha256[:8]}  ·  {made.software}  ·  seed {made.seed}, {samples}  ·  {made.created}"
    )


def _annotated(tile: Image.Image, label: str, edges: tuple[str, str] | None) -> Image.Image:
    """The slice number at the bottom, and the patient's sides at the edges."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(tile)
    width, height = tile.size
    small, large = font_for(label, 14), font_for("RLAP", 18, bold=True)
    draw.text((8, height - 6), label, _TEXT, small, anchor="ls", stroke_width=2, stroke_fill=(0, 0, 0))
    if edges:
        for x, letter, anchor in ((7, edges[0], "lm"), (width - 7, edges[1], "rm")):
            draw.text((x, height / 2), letter, _TEXT, large, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
    return tile


def _page(panels: list[_Panel], columns: int, title: str, footer: str) -> Image.Image:
    """Panels in rows of `columns` between a title and a footer."""
    from PIL import Image

    rows = [_row(panels[start : start + columns]) for start in range(0, len(panels), columns)]
    width = max(600 - 2 * _MARGIN, *(_row_width(row) for row in rows))
    blocks = [[_line(title, 17, _MUTED, width)], *rows, [_line(DISCLAIMER, 16, _WARNING, width, bold=True)]]
    blocks.append([_line(footer, 14, _MUTED, width)])
    spaces = [_MARGIN - 8 if title else 0] + [_MARGIN] * len(rows) + [6]
    heights = [max(picture.height for picture in block) for block in blocks]
    page = Image.new("RGB", (width + 2 * _MARGIN, sum(heights) + sum(spaces) + 2 * _MARGIN), _PAGE)
    y = _MARGIN
    for block, height, space in zip(blocks, heights, [*spaces, 0], strict=True):
        x = _MARGIN
        for picture in block:
            page.paste(picture, (x, y))
            x += picture.width + 3 * _GAP
        y += height + space
    return page


def _row_width(pictures: list[Image.Image]) -> int:
    """Width of pictures side by side."""
    return sum(picture.width for picture in pictures) + 3 * _GAP * (len(pictures) - 1)


def _row(panels: list[_Panel]) -> list[Image.Image]:
    """Panels with their tiles aligned, whatever the length of their captions."""
    captions = [_caption(panel) for panel in panels]
    top = max(caption.height for caption in captions) + 10
    return [_panel_picture(panel, caption, top) for panel, caption in zip(panels, captions, strict=True)]


def _panel_width(panel: _Panel) -> int:
    """Width of the tiles, but at least enough for text."""
    return max(sum(tile.width for tile in panel.tiles) + _GAP * (len(panel.tiles) - 1), 360)


def _caption(panel: _Panel) -> Image.Image:
    """Colour swatch and finding, with details below."""
    from PIL import Image

    indent = 28 if panel.color else 0
    width = _panel_width(panel)
    heading = _text_block(panel.heading, 21, _TEXT, width - indent, lines=3, bold=True)
    details = _text_block(panel.details, 16, _MUTED, width - indent, lines=2)
    picture = Image.new("RGB", (width, heading.height + 4 + details.height), _PAGE)
    if panel.color:
        picture.paste(Image.new("RGB", (16, 16), panel.color), (0, 6))
    picture.paste(heading, (indent, 0))
    picture.paste(details, (indent, heading.height + 4))
    return picture


def _panel_picture(panel: _Panel, caption: Image.Image, top: int) -> Image.Image:
    """The caption with the tiles from `top` on."""
    from PIL import Image

    picture = Image.new("RGB", (caption.width, top + panel.tiles[0].height), _PAGE)
    picture.paste(caption, (0, 0))
    x = 0
    for tile in panel.tiles:
        picture.paste(tile, (x, top))
        x += tile.width + _GAP
    return picture


def _line(text: str, size: int, color: Rgb, width: int, *, bold: bool = False) -> Image.Image:
    """One line of text, cut if it is too long."""
    return _text_block(text, size, color, width, lines=1, bold=bold)


def _text_block(text: str, size: int, color: Rgb, width: int, *, lines: int, bold: bool = False) -> Image.Image:
    """Wrapped text on the page's background."""
    from PIL import Image, ImageDraw

    font = font_for(drawable(text), size, bold=bold)
    wrapped = wrap(text, font, width, lines)
    step = round(size * 1.35)
    block = Image.new("RGB", (width, step * len(wrapped) or 1), _PAGE)
    draw = ImageDraw.Draw(block)
    for n, line in enumerate(wrapped):
        draw.text((0, n * step + size), line, color, font, anchor="ls")
    return block
