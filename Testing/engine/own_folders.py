"""Small labelled data like a user's own: a folder of pictures in LViT's layout, and a table of volumes."""

from __future__ import annotations

import csv
import json

import nibabel
import numpy as np
from openpyxl import Workbook
from PIL import Image


def text_table(path, rows, header=("Image", "Description")):
    book = Workbook()
    for row in (header, *rows):
        book.active.append(list(row))
    book.save(path)


def picture_folder(folder, count=5, **description):
    """X-rays with a bright spot each, on the picture's left or right; the texts name the picture's sides."""
    split = folder / "Train_Folder"
    for part in ("img", "labelcol"):
        (split / part).mkdir(parents=True)
    rows = []
    for n in range(count):
        pixels = np.random.default_rng(n).integers(0, 90, (40, 48)).astype(np.uint8)
        mask = np.zeros((40, 48), np.uint8)
        side, column = (("left", 6), ("right", 30))[n % 2]
        mask[10 + n : 22 + n, column : column + 12] = 255
        pixels[mask > 0] = 230
        Image.fromarray(pixels).save(split / "img" / f"case{n}.png")
        Image.fromarray(mask).save(split / "labelcol" / f"case{n}.png")
        rows.append((f"case{n}.png", f"A nodule in the {side} lung."))
    text_table(folder / "Train_text.xlsx", rows)
    content = {"modality": "xray", "mask_name": "{stem}.png", "laterality": "image", **description}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def write_table(path, rows, header=("image", "mask", "text", "modality", "label")):
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def save_volume(path, voxels, affine):
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)


def volume_table(folder, axes="LPS", spacing=(2.0, 2.0, 5.0)):
    """A CT of a box of tissue with a bright ball on the patient's left (label 1) and a small one on the right (2).

    `axes` is the storage order, `spacing` is along R, A and S.
    """
    folder.mkdir(exist_ok=True)
    voxels = np.full((48, 40, 12), -1000, np.int16)  # R, A, S
    voxels[4:44, 4:36] = 30
    labels = np.zeros(voxels.shape, np.uint8)
    labels[8:18, 14:26, 3:7] = 1  # low R: the patient's left
    labels[32:38, 14:20, 5:7] = 2
    voxels[labels > 0] = 300
    affine = np.diag([*spacing, 1.0])
    for name, array in (("ct", voxels), ("labels", labels)):
        image = nibabel.Nifti1Image(array, affine)
        wanted = nibabel.orientations.axcodes2ornt(axes)
        turn = nibabel.orientations.ornt_transform(nibabel.orientations.io_orientation(affine), wanted)
        nibabel.save(image.as_reoriented(turn), folder / f"{name}.nii.gz")
    rows = [
        ("ct.nii.gz", "labels.nii.gz", "mass in the left flank", "ct", "1"),
        ("ct.nii.gz", "labels.nii.gz", "small mass", "ct", "2"),
    ]
    return write_table(folder / "volumes.csv", rows)
