"""Reads the header of one file: what image it holds, or why it cannot be read.

Knows headers; reads no voxels and does not decide whether an image is wanted.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.batch.nameless import reason_without_names
from fasttextdiff.batch.plan import Skipped
from fasttextdiff.batch.tree import reason_of
from fasttextdiff.contract.images import slice_axis, starts_like_dicom
from fasttextdiff.contract.segments import PREFIX
from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.dicom_codestreams import require_possible_deflated
from fasttextdiff.io.dicom_folders import DICOM_ENDINGS
from fasttextdiff.io.dicom_headers import modality_of
from fasttextdiff.io.dicom_pixels import itk_ijk_to_ras
from fasttextdiff.io.file_checks import no_stderr
from fasttextdiff.io.read import ITK_ENDINGS, NIFTI_ENDINGS, PICTURE_ENDINGS
from fasttextdiff.io.read_nifti import nifti_header, nifti_matrix
from fasttextdiff.io.write import NIFTI_DESCRIPTION
from fasttextdiff.paths import as_path
from fasttextdiff.render.contact_sheet import SOFTWARE

_TAGS = [
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "Modality",
    "SeriesDescription",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "ImagePositionPatient",
    "InstanceNumber",
    "AcquisitionNumber",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
]

# Modalities (PS3.3 C.7.3.1.1.1) of images that the model was not taught, and of objects without an image.
_OTHER_MODALITIES = {
    "OT", "US", "NM", "PT", "ES", "XC", "GM", "OP", "OPT", "ECG", "SEG", "SR", "KO", "PR", "REG", "FID", "DOC", "PLAN",
    "RTIMAGE", "RTDOSE", "RTSTRUCT", "RTPLAN", "RTRECORD",
}  # fmt: skip
# Label index and neuroanatomical label (nifti1.h, NIFTI_INTENT_LABEL and NIFTI_INTENT_NEURONAME).
_LABEL_INTENTS = (1002, 1003)
# Words in file names of label maps, as common in data sets (BIDS: dseg), and folder names (nnU-Net: labelsTr).
_LABEL_WORDS = {
    "dseg", "gt", "groundtruth", "label", "labelmap", "labels", "mask", "masks", "probseg", "roi", "seg",
    "segmentation", "segmentations",
}  # fmt: skip
_LABEL_FOLDERS = {"groundtruth", "labels", "labelstr", "labelsts", "masks", "segmentations"}

CUT_SHORT = "the file is truncated; copy or export it again"
DAMAGED = "the file is damaged, or its format does not match its name"
LABEL_MAP = "a label map according to its header, not an image"
LABELLED = "a label map or mask according to its name, not an image; to segment it anyway, give the file itself"
RESULT = "a segmentation or a result of FastTextDiff, not an image"
UNKNOWN_KIND = "DICOM of unknown kind"
FOREIGN = "not DICOM, and not named like an image"


@dataclass(frozen=True, slots=True)
class DicomFile:
    """The header of a DICOM file.

    Attributes:
        path: the file.
        study_uid: Study Instance UID (0020,000D); this and the following texts are empty if missing.
        series_uid: Series Instance UID (0020,000E).
        instance_uid: SOP Instance UID (0008,0018).
        kind: name of the SOP class (PS3.4 B.5), or a known modality; names no patient.
        modality: from Modality (0008,0060); None if unknown.
        image_type: the values of Image Type (0008,0008), in capital letters.
        description: Series Description (0008,103E).
        images: number of frames; 0 for reports and other objects without images.
        is_color: more than one sample per pixel.
        is_placed: whether the file has an Image Position (0020,0032).
        place: Image Position (0020,0032), Instance Number (0020,0013) and Acquisition Number (0020,0012) as text, to
            tell different images with the same UID from copies.
        problem: why the file cannot be used; empty if it can.
    """

    path: Path
    study_uid: str = ""
    series_uid: str = ""
    instance_uid: str = ""
    kind: str = ""
    modality: Modality | None = None
    image_type: tuple[str, ...] = ()
    description: str = ""
    images: int = 0
    is_color: bool = False
    is_placed: bool = False
    place: str = ""
    problem: str = ""

    @property
    def image(self) -> tuple[tuple[str, str], str, str]:
        """Equal only for copies of an image; UIDs alone are unreliable after anonymisation."""
        return self.series, self.instance_uid, self.place

    @property
    def series(self) -> tuple[str, str]:
        """Equal for files of one series: study and series UID or, without a series UID, the folder."""
        return self.study_uid, self.series_uid or str(self.path.parent)


@dataclass(frozen=True)
class ImageFile:
    """An image file that is not DICOM, with a valid header.

    Attributes:
        path: the file.
        images: number of slices.
        size: in bytes.
    """

    path: Path
    images: int
    size: int


class _NoImage(Exception):
    """Why a file is not a case, in one line that names no file."""


def look_at(path: Path) -> DicomFile | ImageFile | Skipped:
    """Read a file's header; an unreadable file is returned as skipped, never raised.

    The caller silences warnings of the libraries, once for many files.
    """
    try:
        as_path(path)
    except UsageError:
        return Skipped(path, "", "the name is not in UTF-8; rename the file or its folder")
    try:
        with path.open("rb") as file:
            if starts_like_dicom(file):
                return _read_dicom(path, file)
        return ImageFile(path, _count_slices(path), path.stat().st_size)
    except _NoImage as reason:
        return Skipped(path, "", str(reason))
    except FastTextDiffError as error:
        return Skipped(path, "", reason_without_names(error, path))
    except Exception as error:  # parsers of the libraries may raise anything, including OSError
        return Skipped(path, "", reason_of(error) if isinstance(error, OSError) and error.errno else DAMAGED)


def is_named_like_labels(path: Path, root: Path) -> bool:
    """Whether the name of a file below `root`, or of its folder, is that of a label map or mask."""
    words = re.split(r"[^a-z0-9]+", path.name.lower())
    folder = path.parent.name.lower() if path.parent != root else ""
    return not _LABEL_WORDS.isdisjoint(words) or folder in _LABEL_FOLDERS


# --- DICOM -----------------------------------------------------------------------------------------------------------


def _read_dicom(path: Path, file: BinaryIO) -> DicomFile:
    import pydicom

    try:
        require_possible_deflated(path)
        dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
        return _parse(path, dataset, _pixel_bytes(file, dataset))
    except OSError:  # an error of the disk, not of the file
        raise
    except Exception:  # pydicom's parsers may raise anything
        return DicomFile(path, problem="the DICOM header is damaged; copy or export the file again")


def _pixel_bytes(file: BinaryIO, dataset: Any) -> int | None:
    """Bytes after the header; None if they say nothing about completeness: deflated or a private syntax."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is not None and (not syntax.is_transfer_syntax or syntax.is_deflated):
        return None
    header = file.tell()
    return file.seek(0, 2) - header


def _parse(path: Path, dataset: Any, pixel_bytes: int | None) -> DicomFile:
    sop_class = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    modality = _text(dataset, "Modality")
    kind = sop_class.name if sop_class else _known_kind(modality)
    is_image = "Image Storage" in kind or bool(dataset.get("Rows"))
    return DicomFile(
        path=path,
        study_uid=_text(dataset, "StudyInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        instance_uid=_text(dataset, "SOPInstanceUID"),
        kind=kind,
        modality=modality_of(modality),
        image_type=_values(dataset.get("ImageType")),
        description=_text(dataset, "SeriesDescription"),
        images=int(dataset.get("NumberOfFrames") or 1) if is_image else 0,
        is_color=int(dataset.get("SamplesPerPixel") or 1) > 1,
        place="|".join(
            _text(dataset, word) for word in ("ImagePositionPatient", "InstanceNumber", "AcquisitionNumber")
        ),
        is_placed=bool(dataset.get("ImagePositionPatient")),
        problem=CUT_SHORT if not kind or _is_cut_short(dataset, is_image, pixel_bytes) else "",
    )


def _known_kind(modality: str) -> str:
    """A Modality (0008,0060) as the kind of a file without a SOP class; not any other text, which may be a name."""
    if not modality or modality_of(modality) not in (None, Modality.OTHER) or modality in _OTHER_MODALITIES:
        return modality
    return UNKNOWN_KIND


def _text(dataset: Any, keyword: str) -> str:
    """A text on one line, interned because many files share it."""
    return sys.intern(" ".join(str(dataset.get(keyword) or "").split()))


def _values(value: Any) -> tuple[str, ...]:
    """The values of a text element with one or several values."""
    values = [value] if isinstance(value, str) else value or ()
    return tuple(str(one).strip().upper() for one in values)


def _is_cut_short(dataset: Any, is_image: bool, pixel_bytes: int | None) -> bool:
    """Whether the file ends within its header or, if not compressed, within its pixels."""
    if is_image and not (dataset.get("Rows") and dataset.get("Columns")):
        return True
    if pixel_bytes is None:
        return False
    if not is_image:
        return pixel_bytes < 0
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is not None and syntax.is_compressed:
        return pixel_bytes <= 0
    element_header = 8 if syntax is None or syntax.is_implicit_VR else 12  # PS3.5 7.1.2, 7.1.3
    return pixel_bytes < element_header + _announced_bytes(dataset)


def _announced_bytes(dataset: Any) -> int:
    """Size of uncompressed pixel data (PS3.5 section 8.1.1)."""
    samples = int(dataset.get("SamplesPerPixel") or 1)
    if dataset.get("PhotometricInterpretation") == "YBR_FULL_422":
        samples = 2  # two pixels share two colour samples
    pixels = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames") or 1)
    return pixels * samples * int(dataset.get("BitsAllocated") or 1) // 8


# --- other formats ---------------------------------------------------------------------------------------------------


def _count_slices(path: Path) -> int:
    """Number of slices in the header.

    Raises:
        _NoImage: there is none; the message gives the reason.
        FastTextDiffError: the header is refused.
    """
    if path.stat().st_size == 0:
        raise _NoImage("the file is empty")
    name = path.name.lower()
    for endings, counter in _COUNTERS.items():
        if name.endswith(endings):
            return counter(path)
    raise _NoImage("named like DICOM, but is not" if name.endswith(DICOM_ENDINGS) else FOREIGN)


def _count_nifti(path: Path) -> int:
    header = nifti_header(path)
    if bytes(header["descrip"]).startswith(NIFTI_DESCRIPTION):
        raise _NoImage(RESULT)
    if int(header["intent_code"]) in _LABEL_INTENTS:
        raise _NoImage(LABEL_MAP)
    return _one_stack(header.get_data_shape(), lambda: nifti_matrix(path, header)[0])


def _count_itk(path: Path) -> int:
    import SimpleITK as sitk  # noqa: N813

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with no_stderr():
        reader.ReadImageInformation()
    if any(key == "Segment0_ID" or key.startswith(PREFIX) for key in reader.GetMetaDataKeys()):
        raise _NoImage(RESULT)
    return _one_stack(reader.GetSize(), lambda: itk_ijk_to_ras(reader))


def _one_stack(shape: tuple[int, ...], ijk_to_ras: Callable[[], NDArray[np.float64]]) -> int:
    """The number of slices, if there is only one volume; `shape` is (i, j, k, ...)."""
    if any(length != 1 for length in shape[3:]):
        raise _NoImage(f"several volumes in one file ({' x '.join(map(str, shape))}); extract one time point")
    if len(shape) != 3:
        return int((*shape, 1, 1)[2])
    with suppress(FastTextDiffError):  # reading the voxels will report what is wrong with the geometry
        return int(shape[::-1][slice_axis(ijk_to_ras().tolist(), shape[::-1])])
    return int(shape[2])


def _count_picture(path: Path) -> int:
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG", "JPEG", "TIFF")) as picture:
            if picture.info.get("Software") == SOFTWARE:
                raise _NoImage(RESULT)
    except Image.DecompressionBombError:
        raise _NoImage("the picture is too large; crop it into tiles") from None
    return 1


_COUNTERS: dict[tuple[str, ...], Callable[[Path], int]] = {
    NIFTI_ENDINGS: _count_nifti,
    ITK_ENDINGS: _count_itk,
    PICTURE_ENDINGS: _count_picture,
}
