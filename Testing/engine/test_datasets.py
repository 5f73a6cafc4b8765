"""Labelled folders: every image gets its mask and its text, with the patient's sides."""

from __future__ import annotations

import csv
import json
import re
from zipfile import ZipFile

import numpy as np
import pytest
from openpyxl import Workbook
from PIL import Image
from tiny_models import one_line

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.evaluation.datasets import Target, load_image, load_targets, swap_sides
from fasttextdiff.evaluation.metrics import shown
from fasttextdiff.image.preprocessing import ImageSettings, choose_window
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.read import read_volume

SENTENCE = "Unilateral pulmonary infection, one infected area, lower left lung."


def picture(path, value=255, shape=(6, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


def table(path, rows, header=("Image", "Description")):
    book = Workbook()
    for row in (header, *rows):
        book.active.append(list(row))
    book.save(path)


def lvit(folder, rows=(("mask_a.png", SENTENCE),), image="a.jpg", mask="mask_a.png", **description):
    """A split "Val" with one image, its mask and a given table."""
    split = folder / "Val_Folder"
    picture(split / "img" / image, value=7)
    picture(split / "labelcol" / mask)
    table(split / "Val_text.xlsx", rows)
    content = {"modality": "xray", "mask_name": "mask_{stem}.png", "laterality": "image", **description}
    (folder / "dataset.json").write_text(json.dumps(content))
    return split


def by_finding(folder, header=("Image", "Mask", "PromptAnatomical", "PromptLViT")):
    picture(folder / "val" / "img" / "a.png", value=7)
    picture(folder / "val" / "targets" / "ggo" / "a.png")
    with (folder / "val" / "targets.csv").open("w", newline="") as file:
        row = ("a.png", "targets/ggo/a.png", "left ground glass", "right ground glass")
        csv.writer(file).writerows([header, row])


@pytest.mark.parametrize(
    ("pattern", "mask", "named"),
    [
        ("mask_{stem}.png", "mask_a.png", "mask_a.png"),  # QaTa
        ("mask_{stem}.png", "mask_a.png", "a.png"),  # the table names the image with its former extension
        ("{stem}.png", "a.png", "a.png"),  # MoNuSeg
        ("{stem}.png", "a.png", "a.tif"),
        ("{stem}_mask.png", "a_mask.png", "a_mask.png"),
    ],
)
@pytest.mark.parametrize("image", ["a.png", "a.jpg"])
def test_image_and_mask_are_found_by_stem_under_all_naming_schemes(tmp_path, pattern, mask, named, image):
    split = lvit(tmp_path, [(named, SENTENCE)], image, mask, mask_name=pattern)
    (target,) = load_targets(tmp_path, "val")
    assert target.image == split / "img" / image
    assert target.mask == split / "labelcol" / mask
    assert target.modality is Modality.XRAY
    assert abs(int(target.load_image()[0, 0]) - 7) < 3
    assert target.load_mask().dtype == bool
    assert target.load_mask().all()


def test_targets_keep_the_order_of_the_table_which_may_be_outside_the_split(tmp_path):
    split = lvit(tmp_path)
    for stem in "bc":
        picture(split / "img" / f"{stem}.png")
        picture(split / "labelcol" / f"mask_{stem}.png")
    (split / "Val_text.xlsx").unlink()
    table(tmp_path / "val_text.xlsx", [("mask_c.png", "c"), (None, None), ("mask_a.png", "a"), ("mask_b.png", None)])
    targets = load_targets(tmp_path, "VAL")
    assert [(t.image.stem, t.text) for t in targets] == [("c", "c"), ("a", "a"), ("b", "")]


@pytest.mark.parametrize(
    ("description", "sentence", "expected"),
    [
        ({}, "Infection, upper left lung.", "Infection, upper right lung."),
        ({"laterality": "patient"}, "Infection, upper left lung.", "Infection, upper left lung."),
        ({"modality": "histology"}, "The density in the upper left is high.", "The density in the upper left is high."),
        (
            {"modality": "ct", "zones": "image_rows"},
            "Infection, upper middle left lung and lower right lung..",
            "Infection, anterior middle right lung and posterior left lung.",
        ),
    ],
)
def test_sentences_give_the_patients_sides_and_anatomical_zones(tmp_path, description, sentence, expected):
    lvit(tmp_path, [("mask_a.png", f" {sentence} ")], **description)
    assert load_targets(tmp_path, "Val")[0].text == expected


def test_targets_by_finding_keep_the_written_sides(tmp_path):
    by_finding(tmp_path)
    (target,) = load_targets(tmp_path, "Val")
    assert target.text == "left ground glass"
    assert target.image == tmp_path / "val" / "img" / "a.png"
    assert target.mask == tmp_path / "val" / "targets" / "ggo" / "a.png"


def test_swapped_sides_keep_capitals_and_swap_whole_words_only():
    text = "Left lung, RIGHT hilum, left-sided; leftover, bright, upright"
    swapped = "Right lung, LEFT hilum, right-sided; leftover, bright, upright"
    assert swap_sides(text) == swapped
    assert swap_sides(swapped) == text


@pytest.mark.parametrize("split", ["test", "Train"])
def test_a_missing_split_is_a_usage_error(tmp_path, split):
    lvit(tmp_path)
    with pytest.raises(UsageError) as caught:
        load_targets(tmp_path, split)
    one_line(caught, str(tmp_path), split)
    with pytest.raises(UsageError) as caught:
        load_targets(tmp_path / "nowhere", split)
    one_line(caught, "nowhere")


@pytest.mark.parametrize("missing", ["img/a.jpg", "labelcol/mask_a.png", "Val_text.xlsx"])
def test_a_missing_file_is_named_with_its_split(tmp_path, missing):
    split = lvit(tmp_path)
    (split / missing).unlink()
    with pytest.raises(FastTextDiffError) as caught:
        load_targets(tmp_path, "val")
    one_line(caught, str(split), "Val_text.xlsx" if missing.endswith("xlsx") else "mask_a.png")


def test_a_missing_image_folder_is_named(tmp_path):
    split = lvit(tmp_path)
    (split / "img").rename(split / "images")
    with pytest.raises(FastTextDiffError) as caught:
        load_targets(tmp_path, "val")
    one_line(caught, str(split), "img")


@pytest.mark.parametrize(
    "content",
    [None, "{", "[]", "{}", '{"modality": "xray"}', '{"modality": "ultrasound", "mask_name": "{stem}.png"}'],
)
def test_a_description_that_cannot_be_used_is_named(tmp_path, content):
    lvit(tmp_path)
    path = tmp_path / "dataset.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(FastTextDiffError) as caught:
        load_targets(tmp_path, "val")
    one_line(caught, str(path), "modality")


def test_a_table_without_its_columns_or_rows_is_named(tmp_path):
    split = lvit(tmp_path, rows=())
    with pytest.raises(FastTextDiffError) as caught:
        load_targets(tmp_path, "val")
    one_line(caught, str(split), "no rows")
    table(split / "Val_text.xlsx", [("mask_a.png", SENTENCE)], header=("Picture", "Words"))
    with pytest.raises(FastTextDiffError) as caught:
        load_targets(tmp_path, "val")
    one_line(caught, "Val_text.xlsx", "Description")
    (split / "Val_text.xlsx").write_text("this is no workbook")
    with pytest.raises(FastTextDiffError) as caught:
        load_targets(tmp_path, "val")
    one_line(caught, "Val_text.xlsx", "Excel")


def test_a_table_of_findings_without_its_columns_or_masks_is_named(tmp_path):
    by_finding(tmp_path, header=("Image", "Mask", "Prompt"))
    with pytest.raises(FastTextDiffError) as caught:
        load_targets(tmp_path, "val")
    one_line(caught, "targets.csv", "PromptAnatomical")
    by_finding(tmp_path)
    (tmp_path / "val" / "targets" / "ggo" / "a.png").unlink()
    with pytest.raises(FastTextDiffError) as caught:
        load_targets(tmp_path, "val")
    one_line(caught, "targets/ggo/a.png")


HEADER, ROW = "Image,Mask,PromptAnatomical", 'a.png,targets/ggo/a.png,"trübung, links"'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{HEADER}\n{ROW}\n".encode("utf-8-sig"), None),
        (f"{HEADER}\r\n{ROW}\r\n,,\r\n\r\n".replace(",", ";").replace("; ", ", ").encode(), None),
        (f"{HEADER}\n{ROW}\n".replace(",", "\t").replace("\t ", ", ").encode(), None),
        (f" image ,MASK,promptanatomical,Note\n{ROW},\n".encode(), None),
        (f"{HEADER}\n{ROW}\n".encode("cp1252"), "save it as 'CSV UTF-8'"),
        (f"{HEADER}\n{ROW}\n".encode("utf-16"), "save it as 'CSV UTF-8'"),
        (f"{HEADER}\n{ROW}\na.png\n".encode(), "line 3: the cell of the column Mask is empty"),
        (f"{HEADER}\n{ROW}\n".replace('"', "").encode(), "line 2: 4 cells under 3 columns"),
        (f"{HEADER}\n".encode(), "no rows"),
        (b"", "it has none"),
    ],
    ids=["bom", "semicolons", "tabs", "columns", "ansi", "utf-16", "short row", "comma", "no rows", "empty"],
)
def test_a_table_of_findings_is_read_as_spreadsheets_save_it_or_refused_in_one_line(tmp_path, content, said):
    by_finding(tmp_path)
    (tmp_path / "val" / "targets.csv").write_bytes(content)
    if said is None:
        (target,) = load_targets(tmp_path, "val")
        assert (target.text, target.load_mask().all()) == ("trübung, links", True)
        return
    with pytest.raises(FastTextDiffError) as caught:
        load_targets(tmp_path, "val")
    one_line(caught, "targets.csv", said)


def test_a_workbook_without_the_empty_cells_of_a_row_is_read(tmp_path):
    """As some programs write it: without its size, so that rows end at their last cell."""
    split = lvit(tmp_path, [(" mask_a.png ", None)])
    book = split / "Val_text.xlsx"
    with ZipFile(book) as stored:
        parts = {name: stored.read(name) for name in stored.namelist()}
    with ZipFile(book, "w") as changed:
        for name, part in parts.items():
            changed.writestr(name, re.sub(rb"<dimension[^>]*/>", b"", part))
    (target,) = load_targets(tmp_path, "val")
    assert target.text == ""


def test_pictures_are_read_as_grey_or_colour_and_never_clipped(tmp_path):
    colours = np.zeros((4, 5, 3), np.uint8)
    colours[..., 1] = 200
    Image.fromarray(colours).save(tmp_path / "colour.png")
    assert np.array_equal(load_image(tmp_path / "colour.png"), colours)
    assert load_image(tmp_path / "colour.png", grey=True).shape == (4, 5)
    Image.fromarray(np.array([[0, 1], [1, 0]], bool)).save(tmp_path / "bits.png")
    assert load_image(tmp_path / "bits.png").tolist() == [[0, 255], [255, 0]]
    Image.fromarray(np.array([[0, 255], [256, 4000]], np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.array([[0, 0.2], [0.7, 1]], np.float32)).save(tmp_path / "fractions.tif")
    for name in ("deep.png", "fractions.tif"):
        with pytest.raises(FastTextDiffError) as caught:
            load_image(tmp_path / name)
        one_line(caught, name, "8 bits")


def turned(way):
    exif = Image.Exif()
    exif[0x0112] = way
    return {"exif": exif}


COLOUR = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 24, 3)).astype(np.uint8))
GREY = COLOUR.convert("L")
CLEAR = Image.merge("RGBA", [*COLOUR.split(), GREY])
KINDS_OF_PICTURE = {
    "grey.png": (GREY, {}),
    "grey as colour.png": (GREY.convert("RGB"), {}),
    "grey palette.png": (GREY.convert("P"), {}),
    "palette.png": (COLOUR.quantize(16), {}),
    "clear grey.png": (Image.merge("LA", [GREY, GREY.rotate(180)]), {}),
    "clear.png": (CLEAR, {}),
    "one clear level.png": (GREY, {"transparency": int(np.asarray(GREY)[0, 0])}),
    "bits.png": (GREY.convert("1"), {}),
    "cmyk.jpg": (COLOUR.convert("CMYK"), {}),
    "turned.jpg": (GREY, turned(6)),
    "upside down.png": (COLOUR, turned(3)),
    "turned.tif": (COLOUR, turned(8)),
    "mpo.jpg": (COLOUR, {"format": "MPO", "save_all": True, "append_images": [COLOUR.rotate(180)], **turned(6)}),
    "thumbnail first.tif": (GREY.resize((3, 2)), {"save_all": True, "append_images": [GREY]}),
}


@pytest.mark.parametrize("name", KINDS_OF_PICTURE)
def test_training_and_evaluation_see_a_picture_as_it_is_in_use(tmp_path, name):
    picture, options = KINDS_OF_PICTURE[name]
    picture.copy().save(tmp_path / name, **options)  # Pillow keeps settings of a format in the picture
    in_use = read_volume(tmp_path / name, modality="xray")
    Image.new("1", in_use.shape[:0:-1]).save(tmp_path / "mask.png")
    volume, _ = shown(Target(tmp_path / name, tmp_path / "mask.png", "opacity", Modality.XRAY))
    assert np.array_equal(volume.array, in_use.array)
    settings = ImageSettings(64)
    assert choose_window(volume, settings) == choose_window(in_use, settings)


def test_a_mask_is_upright_and_empty_where_it_is_transparent(tmp_path):
    truth = np.zeros((16, 24), bool)
    truth[2:7, 3:20] = True
    levels = Image.fromarray(truth.astype(np.uint8) * 255)
    white = Image.new("L", levels.size, 255)
    dark = Image.fromarray(truth.astype(np.uint8))
    dark.putpalette([0, 0, 0, 0, 0, 1])  # its luminance is 0
    red = Image.merge("RGB", [levels, *[Image.new("L", levels.size)] * 2])
    for name, picture, options in (
        ("clear.png", Image.merge("LA", [white, levels]), {}),
        ("dark.png", dark, {}),
        ("red.jpg", red, {"quality": 95, "subsampling": 0}),
        ("turned.png", levels.rotate(90, expand=True), turned(6)),
        ("ones.tif", Image.fromarray(truth.astype(np.uint16)), {}),
    ):
        picture.save(tmp_path / name, **options)
        mask = Target(tmp_path / "image.png", tmp_path / name, "opacity", Modality.XRAY).load_mask()
        assert np.array_equal(mask, truth), name


def test_a_file_that_is_not_a_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(FastTextDiffError) as caught:
        load_image(tmp_path / "a.png")
    one_line(caught, "a.png")
