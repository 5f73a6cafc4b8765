"""The contact sheet shows the right slices in the right orientation with their findings, for any typed text."""

from __future__ import annotations

import numpy as np
import pytest

from fasttextdiff.errors import UsageError
from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.render.captions import font_for, wrap
from fasttextdiff.render.contact_sheet import draw_preview, write_preview
from fasttextdiff.result import FindingResult, Provenance, SegmentationResult
from fasttextdiff.segments.terminology import assign_colors

Image = pytest.importorskip("PIL.Image")
CT = np.diag([-1.0, -1.0, 3.0, 1.0])


def result(masks, array=None, matrix=CT, texts=None, planar=False, **changes):
    """Findings on a black volume; `array` (k, j, i[, 3]) replaces it."""
    array = np.zeros(masks[0].shape, np.uint8) if array is None else array
    texts = texts or [f"finding {n}" for n in range(len(masks))]
    findings = tuple(
        FindingResult(text, mask.astype(np.float32), mask, None, np.array([np.nan], np.float32))
        for text, mask in zip(texts, masks, strict=True)
    )
    values = {"plane": "acquisition", "slices": (0, len(array)), "window": None, **changes}
    made = Provenance(
        model="compact",
        weights_sha256="0" * 16,
        software="fasttextdiff 0",
        seed=0,
        samples=1,
        timesteps=(50,),
        threshold=0.5,
        device="cpu",
        dtype="float32",
        created="now",
        **values,
    )
    return SegmentationResult(Volume(array, matrix, Modality.CT, is_planar=planar), findings, made)


def drawn(picture, color):
    """Rows and columns of pixels in exactly this colour, swatch in the caption included."""
    return np.argwhere((np.asarray(picture) == color).all(axis=-1))


def block(shape, k, j, i):
    mask = np.zeros(shape, bool)
    mask[k, j, i] = True
    return mask


def test_a_mask_on_the_patients_left_is_drawn_on_the_right_of_a_slice():
    shape = (1, 40, 40)
    left = block(shape, 0, slice(10, 30), slice(26, 36))  # with this matrix i runs from patient right to left
    mirrored = np.diag([1.0, -1.0, 3.0, 1.0])
    for mask, matrix in ((left, CT), (left[..., ::-1], mirrored)):
        picture = draw_preview(result([mask], matrix=matrix))
        columns = drawn(picture, assign_colors(["finding 0"])[0])[:, 1]
        outline = columns[columns > 60]  # the swatch is to its left
        assert outline.min() > 28 + 560 * 0.5


def test_pictures_have_the_patients_proportions():
    shape = (10, 40, 40)
    mask = block(shape, slice(2, 8), slice(10, 30), slice(10, 30))
    picture = draw_preview(result([mask], plane="coronal", slices=(10, 11)))
    outline = drawn(picture, assign_colors(["finding 0"])[0])
    outline = outline[outline[:, 1] > 60]
    first = outline[outline[:, 1] < 28 + 320]
    height, width = np.ptp(first, axis=0) + 1
    assert height / width == pytest.approx(6 * 3.0 / 20, rel=0.1)


def test_a_one_voxel_lesion_in_a_large_slice_is_visible():
    picture = draw_preview(result([block((1, 3000, 3000), 0, 1000, 1000)]))
    assert len(drawn(picture, assign_colors(["finding 0"])[0])) > 256  # more than the swatch of 16 x 16


def test_slices_are_spread_over_the_finding():
    from fasttextdiff.image.orientation import display_plane
    from fasttextdiff.render.contact_sheet import representative_slices

    mask = np.zeros((60, 8, 8), bool)
    mask[20:50, 2:4, 2:4] = True
    mask[33, 1:7, 1:7] = True
    made = result([mask, np.zeros_like(mask)])
    display = display_plane(made.volume, "acquisition")
    slices = representative_slices(made.findings[0], display, (0, 60))
    assert len(slices) == 6
    assert slices == sorted(slices)
    assert 33 in slices
    assert slices[0] < 25
    assert slices[-1] >= 45
    assert representative_slices(made.findings[1], display, (10, 16)) == [10, 11, 12, 13, 14, 15]
    assert representative_slices(made.findings[1], display, (10, 12)) == [10, 11]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_planar_images_show_the_image_and_one_panel_per_finding(count):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 255, (1, 30, 50, 3)).astype(np.uint8)
    masks = [block((1, 30, 50), 0, slice(5, 20), slice(n, n + 10)) for n in range(count)]
    picture = draw_preview(result(masks, array, planar=True))
    colors = assign_colors([f"finding {n}" for n in range(count)])
    assert all(len(drawn(picture, color)) > 256 for color in colors)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "двусторонняя пневмония 肺炎 العربية 😀",
        "x" * 10_000,
        "a b " * 2_500,
        "line\nbreak\ttab\x00null",
        "half \ud800 pair",
        "~|^%\\",
    ],
)
def test_any_text_can_be_drawn(tmp_path, text):
    made = result([np.ones((3, 5, 4), bool)], texts=[text])
    write_preview(made, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width <= 2100


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 900), (900, 2, 1), (2, 700, 3)])
@pytest.mark.parametrize("plane", ["acquisition", "sagittal"])
def test_any_shape_can_be_drawn(shape, plane):
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    slices = (0, shape[2] if plane == "sagittal" else shape[0])
    picture = draw_preview(result([array > 0], array, plane=plane, slices=slices))
    assert max(picture.size) < 2500


def test_the_picture_uses_the_window_of_the_run():
    array = np.full((1, 20, 20), -600.0, np.float32)
    array[:, :, 10:] = 150.0
    picture = np.asarray(draw_preview(result([np.zeros(array.shape, bool)], array, window=(-600.0, 1500.0))))
    row = picture[picture.shape[0] // 3]
    assert (np.abs(row[28 + 140].astype(int) - 128) <= 2).all()
    assert (row[28 + 420] == 255).all()


def test_captions_fit_or_are_marked_as_cut():
    font = font_for("abc", 20)
    lines = wrap("word " * 100, font, 200, 3)
    assert len(lines) == 3
    assert lines[-1].endswith("…")
    assert all(font.getlength(line) <= 200 for line in lines)
    assert wrap("short", font, 200, 3) == ["short"]
    assert wrap("", font, 200, 3) == []


def test_text_is_set_without_any_installed_font(monkeypatch):
    from PIL import ImageFont

    from fasttextdiff.render import captions

    real = ImageFont.truetype

    def only_pillows_own(font=None, *arguments, **named):
        if isinstance(font, str):
            raise OSError("no fonts here")
        return real(font, *arguments, **named)

    captions.installed_fonts.cache_clear()
    monkeypatch.setattr(ImageFont, "truetype", only_pillows_own)
    try:
        draw_preview(result([np.ones((2, 5, 5), bool)], texts=["肺炎 😀 пневмония"]))
    finally:
        captions.installed_fonts.cache_clear()


def test_only_png_is_written(tmp_path):
    with pytest.raises(UsageError, match=r"\.png"):
        write_preview(result([np.ones((1, 4, 4), bool)]), tmp_path / "a.jpg")
