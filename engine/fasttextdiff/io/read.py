"""Reads an image of any supported format into a :class:`~fasttextdiff.image.volume.Volume`.

Knows nothing about display, models or outputs; DICOM's rules are in `io.read_dicom`.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.images import PLANE_ACROSS, nearest_ras_axes, slice_axis
from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.image.modality_choice import settle_modality
from fasttextdiff.image.volume import Modality, Source, Volume
from fasttextdiff.io.dicom_folders import looks_like_dicom
from fasttextdiff.io.dicom_headers import modality_of
from fasttextdiff.io.read_dicom import Decoded, Described, as_read, describe_dicom, read_dicom
from fasttextdiff.io.read_itk import decode_itk
from fasttextdiff.io.read_nifti import decode_nifti
from fasttextdiff.io.read_pictures import decode_picture, grey_if_equal, over
from fasttextdiff.paths import PathText, as_path

_INTEGERS = tuple(np.dtype(name) for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32"))

_AIR = -1024
"""Hounsfield units."""

_FARTHEST = 1e6
"""Millimetres."""

NIFTI_ENDINGS = (".nii", ".nii.gz")
ITK_ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


def read_volume(
    path: PathText,
    *,
    modality: Modality | str | None = None,
    series_uid: str | None = None,
    files: Sequence[PathText] | None = None,
    nan_as_air: bool = False,
) -> Volume:
    """Read one image.

    Formats: a DICOM folder or file, NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), and pictures
    (PNG, JPEG, TIFF). Geometry agrees with 3D Slicer, so that results coincide with the image there. Colour with equal
    channels becomes grey; `source.notes` lists what was assumed or repaired.

    Args:
        path: file or folder.
        modality: the modality or its name ("ct"); None takes it from the DICOM header or guesses it from the voxels.
        series_uid: DICOM Series Instance UID (0020,000E), for folders with several series.
        files: the DICOM files of the image, if known; the folder `path` is then not searched.
        nan_as_air: treat NaN voxels as air around the patient, excluded from findings and windows; `source.notes` gives
            their number. By default they are refused.

    Raises:
        UsageError: the modality is unknown; or the path, series, time point or page does not identify one image.
        FastTextDiffError: the file is damaged or unsupported, its slices do not form one volume, or a CT's voxels are
            not Hounsfield units and cannot be converted.
    """
    path = as_path(path)
    if len(os.fsencode(path.name)) > 255:  # limit of file systems in bytes
        raise UsageError(f"{path.name[:40]}...: the file name is too long")
    modality = Modality.named(modality)
    with quiet():
        decoded = _decode(path, series_uid, None if files is None else _listed(files))
    return volume_from(decoded, modality, nan_as_air=nan_as_air)


def _listed(files: Sequence[PathText]) -> list[Path]:
    if isinstance(files, str | bytes | os.PathLike):  # a text is also a sequence
        raise UsageError(f"files must be a list of paths, not one path ({files!r:.100})")
    paths = [as_path(file) for file in files]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise UsageError(f"{missing}: no such file")
    return paths


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings of libraries on stderr; what matters becomes one of our errors or notes."""
    import SimpleITK as sitk  # noqa: N813

    nibabel = logging.getLogger("nibabel.global")  # without importing nibabel, which most images do not need
    before = sitk.ProcessObject.GetGlobalWarningDisplay(), nibabel.disabled
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    nibabel.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before[0])
        nibabel.disabled = before[1]


def _decode(path: Path, series_uid: str | None, files: Sequence[Path] | None) -> Decoded:
    """Run the decoder of the format; any exception of a library becomes one line about the file."""
    try:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
        if not path.is_file() and not path.is_dir():  # reading a pipe may block forever
            raise UsageError(f"{path}: a device or pipe, not a file; give the name of a file")
        if files is not None or path.is_dir() or looks_like_dicom(path):
            return read_dicom(path, series_uid, files)
        decoder = _decoder(path)
        if series_uid is not None:
            raise UsageError(f"{path}: a series can only be chosen in DICOM, and this is not a DICOM file")
        return decoder(path)
    except FastTextDiffError:
        raise
    except MemoryError as problem:
        raise FastTextDiffError(
            f"{path}: the image does not fit into memory; crop it or close other programs"
        ) from problem
    except PermissionError as problem:
        raise FastTextDiffError(f"{problem.filename or path}: no permission to read it") from problem
    except Exception as problem:  # the libraries' parsers may raise anything
        raise FastTextDiffError(
            f"{path}: the file is damaged or truncated, or its format does not match its name"
        ) from problem


def _decoder(path: Path) -> Callable[[Path], Decoded]:
    if path.stat().st_size == 0:
        raise FastTextDiffError(f"{path}: the file is empty")
    name = path.name.lower()
    for endings, decoder in _DECODERS.items():
        if name.endswith(endings):
            return decoder
    readable = ", ".join(ending for endings in _DECODERS for ending in endings)
    raise FastTextDiffError(f"{path}: not DICOM, and its extension is not one that can be read ({readable})")


_DECODERS: dict[tuple[str, ...], Callable[[Path], Decoded]] = {
    NIFTI_ENDINGS: decode_nifti,
    ITK_ENDINGS: decode_itk,
    PICTURE_ENDINGS: decode_picture,
}


# --- images loaded by another program --------------------------------------------------------------------------------

_PICTURES = (*PICTURE_ENDINGS, ".bmp")


def decoded_from_memory(
    array: NDArray[Any],
    ijk_to_ras: NDArray[np.float64],
    *,
    name: str,
    path: Path | None = None,
    dicom_modality: str | None = None,
) -> Decoded:
    """Convert an image loaded by 3D Slicer to what reading its file gives, so that both give the same masks.

    Args:
        array: (k, j, i), or (k, j, i, c) with 1, 3 or 4 components: grey, or 8- or 16-bit RGB or RGBA. MONOCHROME1 is
            already inverted.
        ijk_to_ras: 4x4, voxel index to RAS millimetres.
        name: name of the image in messages.
        path: the file it was loaded from (one of a series), if known and still there; its header may give the modality.
        dicom_modality: DICOM Modality (0008,0060), for images whose file is gone.

    Raises:
        FastTextDiffError: there are no voxels, or their values are neither grey nor colour.
    """
    if 0 in array.shape:
        raise FastTextDiffError(f"{name}: the volume is empty: load its image again")
    voxels = _grey_or_rgb(name, array)
    matrix, source = np.asarray(ijk_to_ras, np.float64), Source(path=name)
    described = described_source(path)
    if described is not None:
        return as_read(Decoded(voxels, matrix, None, False, source), described)
    modality, is_planar = kind_of_image(voxels, path, dicom_modality)
    if is_planar and dicom_modality and modality is Modality.XRAY:
        source = replace(source, notes=("its DICOM file is missing: patient right is assumed on image left",))
    return Decoded(voxels, matrix, modality, is_planar, source)


def described_source(path: PathText | None) -> Described | None:
    """The header of the image's DICOM file; None if the file can no longer be read, since its voxels are there."""
    file = None if path is None else as_path(path)
    with suppress(FastTextDiffError, OSError):
        if file is not None and file.is_file() and looks_like_dicom(file):
            return describe_dicom(file)
    return None


def _grey_or_rgb(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """(k, j, i), or (k, j, i, 3) with 8 bits, as `decode_picture` returns it for a file."""
    if array.ndim == 3:
        return array
    components = array.shape[3]
    if components == 1:
        return array[..., 0]
    if components not in (3, 4) or array.dtype not in (np.uint8, np.uint16):
        raise FastTextDiffError(
            f"{name}: {components} values per voxel ({array.dtype}); only grey images and 8- or 16-bit colour can be "
            f"segmented: extract one component"
        )
    eight_bits = array if array.dtype == np.uint8 else (array >> 8).astype(np.uint8)
    return eight_bits if components == 3 else np.stack([_slice_over_white(pixels) for pixels in eight_bits])


def _slice_over_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(j, i, 4) to (j, i, 3)."""
    from PIL import Image

    return np.asarray(over("white", Image.fromarray(np.ascontiguousarray(pixels))).convert("RGB"))


def kind_of_image(
    voxels: NDArray[Any], path: PathText | None, dicom_modality: str | None
) -> tuple[Modality | None, bool]:
    """The modality from the image's file or DICOM Modality (None if unknown), and whether it is planar."""
    file = None if path is None else as_path(path)
    if file is not None and file.is_file():
        # the file can no longer be read, but its voxels are there
        with suppress(FastTextDiffError, OSError, RuntimeError):
            if file.name.lower().endswith((*NIFTI_ENDINGS, *ITK_ENDINGS)):
                return None, len(voxels) == 1 and _is_two_dimensional(file)
    modality = modality_of(dicom_modality or "")
    is_picture = file is not None and file.suffix.lower() in _PICTURES
    return modality, len(voxels) == 1 and (is_picture or voxels.ndim == 4 or modality is Modality.XRAY)


def _is_two_dimensional(path: Path) -> bool:
    """Whether an NRRD or MetaImage file holds a picture, not a stack; a NIfTI always has a position."""
    import SimpleITK as sitk  # noqa: N813

    if path.name.lower().endswith(NIFTI_ENDINGS):
        return False
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return int(reader.GetDimension()) == 2


# --- common to all sources -------------------------------------------------------------------------------------------


def volume_from(decoded: Decoded, modality: Modality | None, *, nan_as_air: bool = False) -> Volume:
    """Clean the voxels, determine the modality, and make the volume.

    Args:
        decoded: the decoded file.
        modality: the user's choice; None to take it from the file or guess it.
        nan_as_air: as for :func:`read_volume`.

    Raises:
        FastTextDiffError: the voxels are not finite real numbers, those of a CT are not Hounsfield units, or the
            geometry is not usable.
    """
    path, notes = decoded.source.path, list(decoded.source.notes)
    array = _require_real(path, decoded.array)
    nan = np.isnan(array) if nan_as_air and array.dtype.kind == "f" else None
    if nan is not None and (not nan.any() or nan.all()):
        nan = None
    values = array if nan is None else array[~nan][np.newaxis, np.newaxis]  # NaN voxels do not count for the modality
    _require_finite(path, values)
    values, known, extra = settle_modality(
        path,
        grey_if_equal(_smallest_type(values)),
        asked=modality,
        stated=decoded.modality,
        is_planar=decoded.is_planar,
        is_hounsfield=decoded.is_hounsfield,
    )
    notes += extra
    padding = decoded.padding
    if nan is None:
        array = values
    else:
        array, air = _with_air(values, nan, known)
        padding = nan if padding is None else nan | padding
        notes.append(f"{int(nan.sum()):,} NaN voxels read as air ({air:g}) as requested, excluded from findings")
    _require_place(path, decoded.ijk_to_ras)
    axis = 0 if decoded.has_slice_order else slice_axis(decoded.ijk_to_ras.tolist(), array.shape)
    if axis:
        plane = PLANE_ACROSS[nearest_ras_axes(decoded.ijk_to_ras.tolist())[axis]]
        notes.append(f"the file does not give the acquisition plane: assumed {plane} from its geometry")
    try:
        return Volume(
            array,
            decoded.ijk_to_ras,
            known,
            decoded.is_planar,
            replace(decoded.source, notes=tuple(notes)),
            padding,
            decoded.patient_orientation,
            axis,
            is_guessed=modality is None and decoded.modality is None,
        )
    except ValueError as problem:
        raise FastTextDiffError(f"{path}: not a usable image: {problem}") from problem


def _require_real(path: str, array: NDArray[Any]) -> NDArray[Any]:
    """Voxels as real numbers in native byte order."""
    if array.dtype.kind == "c":
        raise FastTextDiffError(f"{path}: voxels are complex numbers; save their magnitude")
    if array.dtype.kind not in "buif":
        raise FastTextDiffError(f"{path}: voxels are not numbers")
    native: NDArray[Any] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native


def _require_place(path: str, ijk_to_ras: NDArray[np.float64]) -> None:
    """Refuse implausible positions: beyond a kilometre, or not finite."""
    if not (np.abs(ijk_to_ras) <= _FARTHEST).all():
        raise FastTextDiffError(f"{path}: its geometry is not plausible (beyond 1 km): save it again")


def _with_air(values: NDArray[Any], nan: NDArray[np.bool_], modality: Modality) -> tuple[NDArray[Any], float]:
    """The voxels with air in place of NaN, and the value of air: the lowest of the image, or that of a CT."""
    lowest = values.min()
    is_hounsfield = modality is Modality.CT and values.dtype != np.uint8
    air = min(_AIR, lowest) if is_hounsfield else lowest
    whole = np.full(nan.shape, air, np.promote_types(values.dtype, np.int16) if is_hounsfield else values.dtype)
    whole[~nan] = values.ravel()
    return whole, float(air)


def _require_finite(path: str, array: NDArray[Any]) -> None:
    """Refuse NaN and infinity: a mask computed from guessed values would not show it."""
    if array.dtype.kind != "f":
        return
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise FastTextDiffError(
            f"{path}: {bad:,} of {array.size:,} voxels are NaN or infinite; if NaN marks the outside of the body, add "
            "--nan-as-air (nan_as_air=True); else replace them by the value of air (-1024 in a CT, else 0)"
        )


def _smallest_type(array: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers as the smallest integer type that holds them (up to 32 bits), others as float32 if they fit."""
    if array.dtype.kind in "bui" and array.dtype.itemsize <= 2:
        return array.astype(np.uint8) if array.dtype.kind == "b" else array
    if array.size == 0:
        return array
    low, high = array.min(), array.max()
    if array.dtype.kind in "ui" or np.array_equal(array, np.rint(array)):
        for integers in _INTEGERS:
            if np.iinfo(integers).min <= low and high <= np.iinfo(integers).max:
                return array.astype(integers)
    limit = np.finfo(np.float32).max
    return array.astype(np.float32, copy=False) if -limit <= low and high <= limit else array.astype(np.float64)
