"""DICOM values that decoders silently misread, and misleading series."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from dicom_files import slice_dataset, write_slice
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit
from test_hounsfield import chest

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.io.read import read_volume

HU = chest()


def write_chest(folder, voxels=HU, **attributes):
    """One file per slice, 2 mm apart; an attribute may be a function of the slice number."""
    for n, pixels in enumerate(voxels):
        own = {word: value(n) if callable(value) else value for word, value in attributes.items()}
        write_slice(folder / f"i{n}.dcm", pixels, **{"ImagePositionPatient": [0, 0, 2 * n], **own})
    return folder


def refusal(path):
    with pytest.raises(FastTextDiffError) as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def replaced(folder, old, new):
    for file in folder.iterdir():
        content = file.read_bytes()
        assert old in content
        file.write_bytes(content.replace(old, new))
    return folder


@pytest.mark.parametrize("added", [0, 1024])
def test_a_ct_without_rescale_tags_is_recognised_by_its_histogram(tmp_path, added):
    folder = write_chest(tmp_path, HU + np.int16(added), RescaleSlope=None, RescaleIntercept=None)
    volume = read_volume(folder)
    assert np.array_equal(volume.array, HU)
    assert len(volume.source.notes) == 1 + bool(added)


def test_a_ct_with_a_wrong_intercept_is_corrected_and_noted(tmp_path):
    volume = read_volume(write_chest(tmp_path, (HU + 1024).clip(0).astype(np.uint16)))
    assert np.median(volume.array[:, 20:44, 14:28]) == np.median(HU[:, 20:44, 14:28])
    assert any("1024 was subtracted" in note for note in volume.source.notes)


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_monochrome1_never_inverts_hounsfield_units(tmp_path, kind):
    offset = 1024 if kind == np.uint16 else 0
    stored = (HU + offset).clip(0 if offset else -2000, 4000).astype(kind)
    folder = write_chest(tmp_path, stored, PhotometricInterpretation="MONOCHROME1", RescaleIntercept=-offset)
    assert np.abs(read_volume(folder).array.astype(int) - HU).max() <= 1 + (HU.min() < -1024) * 24


def test_a_slice_without_the_rescale_of_the_others_is_refused(tmp_path):
    folder = write_chest(
        tmp_path,
        (HU + 1024).clip(0).astype(np.uint16),
        RescaleSlope=lambda n: None if n == 3 else 1,
        RescaleIntercept=lambda n: None if n == 3 else -1024,
    )
    assert "slice i3.dcm differs from the others in having a Rescale Slope" in refusal(folder)


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize(("tag", "kind"), [("ct", "ct"), ("mr", "mr"), ("RG", "xray")])
def test_modality_is_case_insensitive(tmp_path, tag, kind):
    assert read_volume(write_slice(tmp_path / "a", HU[0], Modality=tag)).modality.value == kind


@pytest.mark.parametrize("value", [b"1,5 ", b"abc ", b"nan ", b"inf ", b"0.00"])
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_an_unusable_rescale_value_is_refused(tmp_path, value, modality):
    folder = replaced(
        write_chest(tmp_path, RescaleSlope="1.50", Modality=modality), b"DS\x04\x001.50", b"DS\x04\x00" + value
    )
    assert "Rescale" in refusal(folder)


@pytest.mark.parametrize("value", [b"nan", b"inf", b"1e9"])
@pytest.mark.parametrize(
    ("word", "digits"),
    [("SliceThickness", 1), ("PixelSpacing", 2), ("ImagePositionPatient", 3), ("ImageOrientationPatient", 6)],
)
def test_unusable_geometry_values_are_refused(tmp_path, word, digits, value):
    path = write_slice(tmp_path / "a.dcm", HU[0], **{word: [7.5] * digits if digits > 1 else 7.5})
    path.write_bytes(path.read_bytes().replace(b"7.5", value))
    assert "not a valid number" in refusal(path)


def test_bit_depths_that_decoders_scramble_are_refused(tmp_path):
    stored = (HU + 1024).clip(0, 4095).astype(np.uint16) << 4
    assert "High Bit 15" in refusal(write_chest(tmp_path, stored, BitsStored=12, HighBit=15))


@pytest.mark.parametrize(
    "announced",
    [{"NumberOfFrames": 99999999}, {"NumberOfFrames": 2_000_000_000}, {"Rows": 65535, "Columns": 65535}],
    ids=str,
)
def test_more_pixels_than_the_file_can_hold_are_refused_before_allocation(tmp_path, announced):
    path = write_slice(tmp_path / "a.dcm", HU[0], **announced)
    assert "do not fit" in refusal(path)


@pytest.mark.parametrize("announced", [{"Rows": 65}, {"Columns": 65}, {"NumberOfFrames": 2}, {"Rows": 4096}], ids=str)
def test_missing_pixels_are_not_silently_filled(tmp_path, announced):
    path = write_slice(tmp_path / "a.dcm", HU[0], **announced)
    assert "do not fit" in refusal(path)


def write_jpeg(path, pixels, **attributes):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    dataset = slice_dataset(pixels, PixelData=encapsulate([stream.getvalue()]), Modality="MR", **attributes)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("announced", [{}, {"Rows": 32}, {"Columns": 128}, {"Rows": 16384, "Columns": 16384}], ids=str)
def test_a_compressed_frame_of_another_size_than_announced_is_refused(tmp_path, announced):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 48)).astype(np.uint8)
    for path in (
        write_jpeg(tmp_path / "jpeg", pixels, **announced),
        write_slice(tmp_path / "j2k", pixels, JPEG2000Lossless, Modality="MR", **announced),
    ):
        if announced:
            assert "a compressed frame has 48 x 64 pixels" in refusal(path)
        else:
            assert read_volume(path).shape == (1, 64, 48)


def test_a_code_stream_that_claims_to_be_huge_is_never_decoded(tmp_path):
    path = write_slice(tmp_path / "j2k", HU[0].astype(np.uint16), JPEG2000Lossless, Modality="MR")
    content = path.read_bytes()
    at = content.index(b"\xff\x4f\xff\x51") + 8  # SIZ: columns, rows
    path.write_bytes(content[:at] + bytes.fromhex("0000f0000000f000") + content[at + 8 :])
    assert "a compressed frame has 61440 x 61440 pixels" in refusal(path)


def test_a_deflated_file_is_read_and_a_decompression_bomb_is_refused(tmp_path):
    dataset = slice_dataset(HU[0])
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(tmp_path / "a", enforce_file_format=True)
    assert np.array_equal(read_volume(tmp_path / "a").array[0], HU[0])
    content = (tmp_path / "a").read_bytes()
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    block = deflate.compress(bytes(1 << 24)) + deflate.flush(zlib.Z_FULL_FLUSH)  # repeats, instead of 1 GiB at once
    start = 144 + int.from_bytes(content[140:144], "little")
    (tmp_path / "a").write_bytes(content[:start] + block * 70 + b"\x03\x00")
    assert "damaged" in refusal(tmp_path / "a")


@pytest.mark.parametrize(("value", "limit"), [(-2000, None), (-2000, -1990), (-1990, -2000), (3000, 3071)])
def test_padding_of_a_ct_is_air_and_never_part_of_a_finding(tmp_path, value, limit):
    stored = HU.copy()
    stored[:, :4] = value if limit is None else (value + limit) // 2
    volume = read_volume(write_chest(tmp_path, stored, PixelPaddingValue=value, PixelPaddingRangeLimit=limit))
    assert volume.padding is not None
    assert np.array_equal(volume.padding, np.broadcast_to(np.arange(64)[:, None] < 4, HU.shape))
    assert set(volume.array[volume.padding]) == {HU[:, 4:].min()}
    assert np.array_equal(volume.array[:, 4:], HU[:, 4:])


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("padded_with", [0, 4095])
def test_padding_of_an_xray_is_black_and_not_part_of_the_window(tmp_path, photometric, padded_with):
    from fasttextdiff.image.preprocessing import ImageSettings, choose_window

    stored = np.random.default_rng(0).integers(500, 3000, (60, 60)).astype(np.uint16)
    options = {
        "Modality": "DX",
        "ImagePositionPatient": None,
        "PhotometricInterpretation": photometric,
        "BitsStored": 12,
    }
    plain = read_volume(write_slice(tmp_path / "a", stored[10:], **options))
    stored[:10] = padded_with
    volume = read_volume(write_slice(tmp_path / "b", stored, PixelPaddingValue=padded_with, **options))
    assert volume.padding is not None
    assert volume.padding.sum() == 600
    assert np.array_equal(volume.array[:, 10:], plain.array)
    assert volume.array[0, 0, 0] == plain.array.min()
    assert choose_window(volume, ImageSettings(32)) == choose_window(plain, ImageSettings(32))


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"<html>404</html>" * 30, None], ids=["empty", "stub", "html", "bare"]
)
@pytest.mark.parametrize("ending", [".dcm", ""])
def test_a_file_among_the_slices_that_is_not_dicom_is_named(tmp_path, content, ending):
    write_chest(tmp_path)
    for file in tmp_path.iterdir():
        file.rename(file.with_suffix(ending))
    last = tmp_path / f"i5{ending}"
    last.write_bytes(last.read_bytes()[132:] if content is None else content)
    (tmp_path / "notes.txt").write_text("not a slice")
    notes = read_volume(tmp_path).source.notes
    assert len(notes) == 1
    assert f"1 files in the folder cannot be read as DICOM (i5{ending})" in notes[0]


def test_a_slice_with_a_dangling_link_is_named(tmp_path):
    last = write_chest(tmp_path) / "i5.dcm"
    last.unlink()
    last.symlink_to("annex/objects/i5.dcm")
    assert "(i5.dcm): slices may be missing" in read_volume(tmp_path).source.notes[0]


def test_a_series_with_fewer_images_than_announced_is_noted(tmp_path):
    notes = read_volume(write_chest(tmp_path, ImagesInAcquisition=7)).source.notes
    assert notes == ("7 images according to the headers, 6 found: slices may be missing",)


@pytest.mark.parametrize(
    "attributes",
    [
        {"AcquisitionNumber": lambda n: 1 + n % 2},
        {"AcquisitionTime": lambda n: f"1200{n % 2:02}"},
        {"ConvolutionKernel": lambda n: ("B30f", "B80f")[n % 2]},
        {"KVP": lambda n: (80, 140)[n % 2]},
    ],
    ids=lambda attributes: next(iter(attributes)),
)
def test_interleaved_acquisitions_are_refused(tmp_path, attributes):
    assert f"({next(iter(attributes))} " in refusal(write_chest(tmp_path, **attributes))


@pytest.mark.parametrize(
    "attributes",
    [
        {"AcquisitionNumber": lambda n: n + 1, "AcquisitionTime": lambda n: f"1200{n:02}"},
        {"AcquisitionNumber": lambda n: 1 + n // 3},
        {"AcquisitionTime": lambda n: f"1200{n % 2:02}", "Modality": "MR"},
    ],
    ids=["step", "blocks", "passes"],
)
def test_consecutive_acquisitions_are_one_stack(tmp_path, attributes):
    assert read_volume(write_chest(tmp_path, **attributes)).shape == HU.shape


def test_one_series_uid_per_slice_is_refused_with_a_short_list(tmp_path):
    message = refusal(write_chest(tmp_path, np.concatenate([HU] * 4), SeriesInstanceUID=lambda n: f"1.2.3.{n}"))
    assert "24 image series" in message
    assert message.count("UID 1.2.3.") == 10


def test_nuclear_medicine_frames_are_refused(tmp_path):
    write_slice(tmp_path / "nm.dcm", HU, Modality="NM", NumberOfFrames=6, ImagePositionPatient=None)
    assert "nuclear medicine" in refusal(tmp_path / "nm.dcm")
