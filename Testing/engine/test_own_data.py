"""Users' own folders and tables become correct samples, and their problems are reported before training."""

from __future__ import annotations

import json
import shutil
import sys

import nibabel
import numpy as np
import pytest
from dicom_files import write_slice
from own_folders import picture_folder, save_volume, text_table, volume_table, write_table
from PIL import Image
from pydicom.uid import DigitalXRayImageStorageForPresentation
from tiny_models import one_line

from fasttextdiff import cli
from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.evaluation.datasets import Target
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.read import read_volume
from fasttextdiff.model.info import BUNDLED_MODEL
from fasttextdiff.training.augment import augment
from fasttextdiff.training.batches import StepBatches
from fasttextdiff.training.config import Stage, TrainingConfig, read_config
from fasttextdiff.training.data_checks import Kind, check_dataset, require_usable
from fasttextdiff.training.groups import label_budget, load_groups
from fasttextdiff.training.own_data import load_dataset, read_table
from fasttextdiff.training.own_prompts import FOREIGN, own_prompts
from fasttextdiff.training.samples import load_samples, nuclei_samples


def config(output, labels=None, steps=12, **datasets):
    return TrainingConfig(
        name="mine", output=output, stages=(Stage(steps, 48, 4),), datasets=datasets, start=BUNDLED_MODEL, labels=labels
    )


def nothing(line):
    raise AssertionError(line)


def found(path):
    """The problems of a dataset by kind."""
    return {problem.kind: problem.names for problem in check_dataset("mine", path).problems}


# --- samples ---------------------------------------------------------------------------------------------------------


def test_pictures_have_their_mask_and_the_patients_sides_and_a_mirror_swaps_both(tmp_path):
    items = load_dataset(picture_folder(tmp_path / "own"), tmp_path, nothing)
    assert [item.source for item in items] == [f"case{n}.png" for n in range(5)]
    mirrored = 0
    for seed in range(20):
        sample = augment(items[0].load(), 64, np.random.default_rng(seed))
        (text,), (mask,) = sample.findings, sample.masks
        on_patients_left = np.nonzero(mask)[1].mean() > 32  # the right part of the picture
        assert text == f"A nodule in the {'left' if on_patients_left else 'right'} lung."
        mirrored += on_patients_left
        assert sample.image[mask > 0].mean() > 100 + sample.image[mask == 0].mean()
    assert 3 < mirrored < 17


def film(folder, kind):
    """An X-ray whose file says how large its pixels are."""
    pixels = np.random.default_rng(0).integers(0, 250, (40, 48)).astype(np.uint8)
    if kind == "jpg":
        Image.fromarray(pixels).save(folder / "film.jpg", dpi=(300, 300))
        return "film.jpg"
    none = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID"))
    kind = {"SOPClassUID": DigitalXRayImageStorageForPresentation, "Modality": "DX"}
    write_slice(folder / "film.dcm", pixels, **none, **kind, ImagerPixelSpacing=[0.14, 0.14])
    return "film.dcm"


@pytest.mark.parametrize("kind", ["jpg", "dcm"])
def test_a_film_has_the_mask_of_a_picture_with_as_many_rows_and_columns(tmp_path, kind):
    mask = np.zeros((40, 48), np.uint8)
    mask[5:15, 30:40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(mask.T).save(tmp_path / "turned.png")
    name = film(tmp_path, kind)
    table = write_table(tmp_path / "table.csv", [(name, "mask.png", "nodule", "xray", "")])
    assert not check_dataset("mine", table).problems
    (sample,) = (item.load() for item in load_dataset(table, tmp_path / "prepared", nothing))
    rows, columns = np.nonzero(sample.masks[0])
    scale = sample.masks.shape[2] / 48
    assert np.allclose([rows.mean(), columns.mean()], [9.5 * scale, 34.5 * scale], atol=1)
    write_table(table, [(name, "turned.png", "nodule", "xray", "")])
    assert list(found(table)) == [Kind.SIZE]


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 5.0), (5.0, 2.0, 2.0)], ids=["axial", "sagittal"])
@pytest.mark.parametrize("axes", ["LPS", "RAS", "RSA", "PSR"])
def test_volumes_are_prepared_as_in_use_for_all_axis_orders_with_each_rows_mask(tmp_path, axes, spacing):
    items = load_dataset(volume_table(tmp_path / "own", axes, spacing), tmp_path / "slices", nothing)
    samples = [item.load() for item in items]
    sagittal = spacing[0] == 5
    for sample in samples:
        assert sample.findings == ("mass in the left flank", "small mass")
        assert sample.modality is Modality.CT
        assert sample.mirrored != sagittal
        left, small = (mask > 0 for mask in sample.masks)
        if left.any():
            assert sample.image[left].mean() > sample.image[~left & ~small].mean() + 20
        if left.any() and not sagittal:
            assert np.nonzero(left)[1].mean() > left.shape[1] / 2
        if small.any() and not sagittal:
            assert np.nonzero(small)[1].mean() < small.shape[1] / 2
    with_finding = [sample for sample in samples if sample.masks.any()]
    assert 1 <= len(samples) / len(with_finding) <= 2
    if not sagittal:  # cut to the body, 40 x 32 voxels, with a rim
        height, width = samples[0].image.shape
        assert width / height == pytest.approx(40 / 32, abs=0.1)


def test_slices_are_prepared_once_and_again_after_a_file_changed(tmp_path):
    table, prepared = volume_table(tmp_path / "own"), tmp_path / "slices"
    first = load_dataset(table, prepared, nothing)
    (folder,) = prepared.iterdir()
    made = (folder / "images.npy").stat().st_mtime_ns
    assert load_dataset(table, prepared, nothing) == first
    assert (folder / "images.npy").stat().st_mtime_ns == made
    image = nibabel.load(table.parent / "labels.nii.gz")
    save_volume(table.parent / "labels.nii.gz", np.asarray(image.dataobj) * 0, image.affine)
    again = [item.load() for item in load_dataset(table, prepared, nothing)]
    assert len(list(prepared.iterdir())) == 2
    assert not any(sample.masks.any() for sample in again)


def test_prompts_are_the_rows_own_texts_or_findings_that_never_occur(tmp_path):
    sample = next(s for i in load_dataset(volume_table(tmp_path), tmp_path, nothing) if (s := i.load()).masks[1].any())
    asked = {}
    for seed in range(60):
        for prompt in own_prompts(sample, np.random.default_rng(seed)):
            asked.setdefault(prompt.text, []).append(prompt.mask)
    assert set(asked) == {*sample.findings, *FOREIGN[Modality.CT]}
    for text, masks in asked.items():
        truth = sample.masks[sample.findings.index(text)] if text in sample.findings else 0 * sample.masks[0]
        assert all(np.array_equal(mask, truth > 0) for mask in masks)


def test_label_budgets_are_seeded_and_nested(tmp_path):
    names = [f"{n}.png" for n in range(200)]
    five, fifteen, fifty = (set(label_budget(names, n, "mine", 0)) for n in (5, 15, 50))
    assert (len(five), len(fifteen), len(fifty)) == (5, 15, 50)
    assert five < fifteen < fifty
    assert five != set(label_budget(names, 5, "mine", 1))
    folder = picture_folder(tmp_path / "own")
    data = load_groups(config(tmp_path, 2, mine=folder, volumes=volume_table(tmp_path / "ct")), nothing)
    assert sorted(item.source for item in data.groups["mine"]) == sorted(data.labelled["mine"])
    assert len(data.labelled["mine"]) == 2
    assert {item.source for item in data.groups["volumes"]} == {"ct.nii.gz"}  # a labelled volume counts as one
    assert [finding.name for finding in data.taught["ct"]] == ["mass in the left flank", "small mass"]
    assert {finding.name for finding in data.taught["xray"]} == {item.findings[0] for item in data.groups["mine"]}


# --- batches ---------------------------------------------------------------------------------------------------------


def test_a_file_damaged_after_the_check_is_skipped_and_named(tmp_path):
    folder = picture_folder(tmp_path / "own")
    run = config(tmp_path, mine=folder)
    data = load_groups(run, nothing)
    whole = [StepBatches(data.groups, run)[step] for step in range(6)]
    path = folder / "Train_Folder" / "img" / "case2.png"
    path.write_bytes(path.read_bytes()[:200])
    damaged = [StepBatches(data.groups, run)[step] for step in range(6)]
    again = [StepBatches(data.groups, run)[step] for step in range(6)]
    met = 0
    for before, after, repeated in zip(whole, damaged, again, strict=True):
        assert after.names == repeated.names
        assert "case2.png" not in after.names
        for place, name in enumerate(before.names):
            if name == "case2.png":
                met += 1
                assert any(str(path) in line for line in after.skipped)
            else:
                assert after.names[place] == name
                assert np.array_equal(after.images[place], before.images[place])
        assert bool(after.skipped) == ("case2.png" in before.names)
    assert met > 1
    shutil.rmtree(folder / "Train_Folder" / "img")
    with pytest.raises(FastTextDiffError) as caught:
        StepBatches(data.groups, run)[0]
    one_line(caught, "'mine'", "cannot be read")


# --- checks ----------------------------------------------------------------------------------------------------------


def test_good_data_have_no_problems(tmp_path):
    assert not check_dataset("mine", picture_folder(tmp_path / "a")).problems
    assert not check_dataset("mine", volume_table(tmp_path / "b")).problems


def test_all_problems_of_a_folder_are_listed_at_once(tmp_path):
    folder = picture_folder(tmp_path / "own", 9)
    images, masks = folder / "Train_Folder" / "img", folder / "Train_Folder" / "labelcol"
    (images / "case0.png").unlink()
    (masks / "case1.png").unlink()
    (images / "case2.png").write_bytes((images / "case2.png").read_bytes()[:150])
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(masks / "case3.png")
    Image.fromarray(np.full((20, 24), 255, np.uint8)).save(masks / "case4.png")
    Image.open(masks / "case5.png").resize((96, 80)).resize((48, 40), Image.Resampling.BICUBIC).save(
        masks / "case5.png"
    )
    shutil.copy(images / "case6.png", images / "extra.png")
    Image.open(images / "case7.png").save(images / "case7.jpg")
    rows = [(f"case{n}.png", "A nodule.") for n in range(7)]
    text_table(folder / "Train_text.xlsx", [*rows, rows[6], ("case7.png", ""), ("case8.png", "узел")])
    assert found(folder) == {
        Kind.NO_IMAGE: ("case0.png",),
        Kind.NO_MASK: ("case1.png",),
        Kind.UNREADABLE: (next(iter(found(folder)[Kind.UNREADABLE])),),
        Kind.SIZE: ("case4.png",),
        Kind.AMBIGUOUS: ("case7.jpg", "case7.png"),
        Kind.NO_WORDS: ("узел",),
        Kind.NO_ROW: found(folder)[Kind.NO_ROW],
        Kind.REPEATED: ("case6.png",),
        Kind.NO_TEXT: ("case7.png",),
        Kind.EMPTY: ("case3.png",),
        Kind.GREY: ("case5.png",),
    }
    assert str(images / "case2.png") in found(folder)[Kind.UNREADABLE][0]
    assert "extra.png" in found(folder)[Kind.NO_ROW]
    with pytest.raises(FastTextDiffError) as caught:
        require_usable([check_dataset("mine", folder)])
    one_line(caught, "'mine'", "case0.png", "case1.png", "case4.png")
    assert "case3.png" not in str(caught.value)  # empty masks are allowed


def test_a_jpeg_mask_is_thresholded_at_half_grey_in_training_and_check(tmp_path):
    folder = picture_folder(tmp_path / "own", 1, mask_name="{stem}.jpg")
    masks = folder / "Train_Folder" / "labelcol"
    truth = np.asarray(Image.open(masks / "case0.png")) > 0
    Image.open(masks / "case0.png").save(masks / "case0.jpg", quality=60)
    (masks / "case0.png").unlink()
    assert set(found(folder)) == {Kind.GREY}
    (item,) = load_dataset(folder, tmp_path, nothing)
    assert (item.load().masks[0] > 0).sum() == pytest.approx(truth.sum(), rel=0.05)


def test_texts_with_sides_require_a_laterality(tmp_path):
    folder = picture_folder(tmp_path / "own")
    content = json.loads((folder / "dataset.json").read_text())
    del content["laterality"]
    (folder / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(FastTextDiffError) as caught:
        require_usable([check_dataset("mine", folder)])
    one_line(caught, "dataset.json", '"laterality": "patient"')
    text_table(folder / "Train_text.xlsx", [(f"case{n}.png", "A nodule.") for n in range(5)])
    assert not found(folder)


def test_a_picture_in_a_table_has_the_mask_that_its_file_shows(tmp_path):
    """A mask on a transparent background, and a JPEG; both were the finding everywhere."""
    truth = np.zeros((40, 48), np.uint8)
    truth[10:30, 8:24] = 255
    levels, white = Image.fromarray(truth), Image.new("L", (48, 40), 255)
    Image.fromarray(truth // 3 + 90).save(tmp_path / "x-ray.png")
    Image.merge("LA", [white, levels]).save(tmp_path / "clear.png")
    Image.fromarray(truth // 2 + 60).save(tmp_path / "compressed.jpg", quality=90)
    rows = [("x-ray.png", name, "nodule", "xray") for name in ("clear.png", "compressed.jpg")]
    table = write_table(tmp_path / "t.csv", rows, header=("image", "mask", "text", "modality"))
    for row in read_table(table):
        assert np.array_equal(row.read_mask(read_volume(row.image, modality="xray"))[0], truth > 0), row.mask


def test_pictures_listed_as_not_to_be_trained_on_are_left_out_of_own_and_of_research_data(tmp_path):
    folder = picture_folder(tmp_path / "qata_cov19_v2_2")
    (folder / "exclude_from_training.txt").write_text("case1.jpg\n\ncase3.png\n")
    left = ["case0.png", "case2.png", "case4.png"]
    assert [item.source for item in load_dataset(folder, tmp_path, nothing)] == left
    assert [sample.name for sample in load_samples(tmp_path)["qata"]] == left
    assert found(folder) == {Kind.EXCLUDED: ("case1.png", "case3.png")}
    (folder / "exclude_from_training.txt").write_text("".join(f"case{n}.png\n" for n in range(5)))
    with pytest.raises(FastTextDiffError) as caught:
        load_dataset(folder, tmp_path, nothing)
    one_line(caught, str(folder), "exclude_from_training.txt")


def test_a_tile_without_stain_is_taught_at_every_resolution(tmp_path):
    tile = np.random.default_rng(0).integers(0, 255, (512, 512)).astype(np.uint8)
    Image.fromarray(tile).convert("RGB").save(tmp_path / "tile.png")
    Image.fromarray(tile > 200).save(tmp_path / "mask.png")
    target = Target(tmp_path / "tile.png", tmp_path / "mask.png", "", Modality.HISTOLOGY)
    assert [sample.image.shape for sample in nuclei_samples(target)] == [(512,) * 2, (256,) * 2, (131,) * 2, (262,) * 2]


def test_a_table_of_a_spreadsheet_with_semicolons_is_read_and_a_comma_is_not_lost(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("Image;Mask;Text\na.nii;b.nii;cyst, left\n;;\n", encoding="utf-8-sig")
    assert [(row.name, row.text) for row in read_table(table)] == [("a.nii", "cyst, left")]
    table.write_text("image,mask,text\na.nii,b.nii,cyst, left\n")
    with pytest.raises(FastTextDiffError) as caught:
        read_table(table)
    one_line(caught, "t.csv, line 2", "quotes")


def test_a_table_with_wrong_columns_is_reported_with_its_columns(tmp_path):
    folder = picture_folder(tmp_path / "own")
    text_table(folder / "Train_text.xlsx", [("case0.png", "A nodule.")], header=("Picture", "Words"))
    assert "Picture, Words" in found(folder)[Kind.TABLE][0]
    table = write_table(tmp_path / "t.csv", [("a", "b", "c")], header=("scan", "mask", "text"))
    assert "scan, mask, text" in found(table)[Kind.TABLE][0]
    assert "neither a folder nor" in found(tmp_path / "nowhere")[Kind.TABLE][0]


def test_all_problems_of_a_table_of_volumes_are_listed_at_once(tmp_path):
    table = volume_table(tmp_path)
    image = nibabel.load(tmp_path / "ct.nii.gz")
    voxels = np.asarray(image.dataobj)
    shifted = image.affine.copy()
    shifted[0, 3] += 2
    save_volume(tmp_path / "shifted.nii.gz", (voxels > 100).astype(np.uint8), shifted)
    save_volume(tmp_path / "empty.nii.gz", np.zeros(voxels.shape, np.uint8), image.affine)
    (tmp_path / "torn.nii.gz").write_bytes((tmp_path / "ct.nii.gz").read_bytes()[:300])
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "flat.png")
    rows = [
        ("ct.nii.gz", "labels.nii.gz", "mass"),
        ("ct.nii.gz", "labels.nii.gz", "mass"),
        ("ct.nii.gz", "shifted.nii.gz", "mass"),
        ("ct.nii.gz", "empty.nii.gz", "mass"),
        ("ct.nii.gz", "none.nii.gz", "mass"),
        ("nothing.nii.gz", "labels.nii.gz", "mass"),
        ("torn.nii.gz", "labels.nii.gz", "mass"),
        ("flat.png", "flat.png", "mass on the left"),
    ]
    write_table(table, rows, header=("image", "mask", "text"))
    problems = found(table)
    assert str(tmp_path / "torn.nii.gz") in problems.pop(Kind.UNREADABLE)[0]
    assert problems == {
        Kind.NO_IMAGE: ("nothing.nii.gz",),
        Kind.NO_MASK: ("none.nii.gz",),
        Kind.SIZE: ("shifted.nii.gz",),
        Kind.FLAT: ("flat.png",),
        Kind.REPEATED: ("ct.nii.gz",),
        Kind.EMPTY: ("empty.nii.gz",),
        Kind.GREY: ("labels.nii.gz", "flat.png"),
    }
    write_table(table, [("ct.nii.gz", "labels.nii.gz", "mass", "ultrasound", "1")])
    with pytest.raises(FastTextDiffError) as caught:
        read_table(table)
    one_line(caught, "line 2", "ultrasound", "histology")


def test_check_lists_the_problems_and_does_not_train(tmp_path, capsys, monkeypatch):
    folder = picture_folder(tmp_path / "own")
    (folder / "Train_Folder" / "labelcol" / "case1.png").unlink()
    shipped = (BUNDLED_MODEL.parents[1] / "configs" / "own_data.yaml").read_text(encoding="utf-8")
    (tmp_path / "run.yaml").write_text(shipped.replace("my_images", "own"), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["fasttextdiff", "train", str(tmp_path / "run.yaml"), "--check"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, err = capsys.readouterr()
    assert stopped.value.code == 1
    assert "case1.png" in out
    assert err.startswith("error: ")
    assert "mask is missing (case1.png)" in err
    assert not (tmp_path / "my-model").exists()


def test_the_configuration_for_own_data_starts_from_the_bundled_model():
    run = read_config(BUNDLED_MODEL.parents[1] / "configs" / "own_data.yaml")
    assert run.start == BUNDLED_MODEL
    assert run.mixture == {"mine": 1.0}
