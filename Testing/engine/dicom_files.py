"""Writes small DICOM files for tests. Knows nothing about the code that reads them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    SegmentationStorage,
    generate_uid,
)

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SERIES = "1.2.826.0.1.3680043.8.498.1"


def slice_dataset(pixels: np.ndarray, **attributes: object) -> FileDataset:
    """A CT slice at the origin with 1 mm pixels; attributes given as None are omitted."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, preamble=b"\0" * 128, file_meta=meta)
    bits = pixels.dtype.itemsize * 8
    is_color = pixels.ndim == 3 and pixels.shape[-1] == 3
    rows, columns = pixels.shape[:2] if is_color else pixels.shape[-2:]
    described = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.2",
        "SeriesInstanceUID": SERIES,
        "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.3",
        "Modality": "CT",
        "Rows": rows,
        "Columns": columns,
        "SamplesPerPixel": 3 if is_color else 1,
        "PhotometricInterpretation": "RGB" if is_color else "MONOCHROME2",
        "PlanarConfiguration": 0 if is_color else None,
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": attributes.get("BitsStored", bits) - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "ImagePositionPatient": [0, 0, 0],
        "ImageOrientationPatient": list(IDENTITY),
        "PixelSpacing": [1, 1],
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
        "PixelData": pixels.tobytes(),
    }
    for keyword, value in {**described, **attributes}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
    return dataset


def write_slice(path: Path, pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, **attributes: object) -> Path:
    dataset = slice_dataset(pixels, **attributes)
    if syntax == RLELossless:
        dataset.compress(RLELossless, encoding_plugin="pydicom")
    elif syntax == JPEG2000Lossless:
        code_stream = io.BytesIO()
        Image.fromarray(pixels).save(code_stream, "JPEG2000", no_jp2=True)
        dataset.PixelData = encapsulate([code_stream.getvalue()])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_stack(folder: Path, voxels: np.ndarray, ijk_to_ras: np.ndarray, **attributes: object) -> Path:
    """One file per slice, named in reverse order, some in a subfolder, none with an extension."""
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ijk_to_ras
    between_columns, between_rows = np.linalg.norm(to_lps[:3, :2], axis=0)
    for k, pixels in enumerate(voxels):
        name = f"IM{(7 * k) % len(voxels):03d}" if k % 2 else f"below/IM{len(voxels) - k:03d}"
        placed = {
            "ImagePositionPatient": [float(f"{x:.6f}") for x in (to_lps @ [0, 0, k, 1])[:3]],
            "ImageOrientationPatient": [
                float(f"{x:.8f}") for x in (*to_lps[:3, 0] / between_columns, *to_lps[:3, 1] / between_rows)
            ],
            "PixelSpacing": [float(between_rows), float(between_columns)],
        }
        write_slice(folder / name, pixels, **{**placed, **attributes})
    return folder


def write_multiframe(
    path: Path, voxels: np.ndarray, heights: list[float], slopes: list[float] | None = None, **attributes: object
) -> Path:
    """An Enhanced CT with frames at the given heights; slope 1 and intercept 0 unless slopes are given."""
    dataset = slice_dataset(
        voxels,
        SOPClassUID=EnhancedCTImageStorage,
        NumberOfFrames=len(voxels),
        **dict.fromkeys(
            ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")
        ),
        **attributes,
    )
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = list(IDENTITY)
    measures.PixelSpacing, measures.SliceThickness = [2, 3], 4
    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame(height, slope) for height, slope in zip(heights, slopes or [1.0] * len(heights), strict=True)
    ]
    dataset.save_as(path, enforce_file_format=True)
    return path


def _frame(height: float, slope: float) -> Dataset:
    position, rescale, frame = Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = [0, 0, height]
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = slope, 0, "HU"
    frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [rescale]
    return frame


def write_segmentation(path: Path) -> Path:
    """A minimal DICOM SEG that readers recognise and ignore."""
    pixels = np.ones((4, 4), np.uint8)
    return write_slice(path, pixels, SOPClassUID=SegmentationStorage, Modality="SEG", SeriesInstanceUID=SERIES + ".9")
