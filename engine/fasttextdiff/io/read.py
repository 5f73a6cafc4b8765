"""Reads an image of any supported format into a :class:`~fasttextdiff.image.volume.Volume`.

Knows nothing about display, models or where a result is written; DICOM's own rules are in `io.read_dicom`.
"""

from __future__ import annotations

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
from fasttextdiff.io.dicom_headers import looks_like_dicom, modality_of
from fasttextdiff.io.read_dicom import Decoded, Described, as_read, describe_dicom, read_dicom
from fasttextdiff.io.read_itk import decode_itk
from fasttextdiff.io.read_nifti import decode_nifti
from fasttextdiff.io.read_pictures import decode_picture, over_white
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
    (PNG, JPEG, TIFF). Geometry agrees with what 3D Slicer shows, so that results coincide with the image there. Colour
    with equal channels becomes grey; what was assumed or repaired is noted in `source.notes`.

    Args:
        path: file or folder.
        modality: what the image is, or its name ("ct"); None takes it from the DICOM header or
            guesses it from the voxels.
        series_uid: DICOM Series Instance UID (0020,000E), for folders with several series.
        files: the DICOM files of the image, where they are known: the folder `path` is not searched then.
        nan_as_air: take voxels that are NaN as air around the patient, part of no finding and no window; `source.notes`
            says how many there were. They are refused otherwise.

    Raises:
        UsageError: there is no such modality; or the path, or the choice of series, time point or page, does not name
            one image.
        FastTextDiffError: the file is damaged, unsupported, its slices do not make up one volume, or a CT's voxels are
            no Hounsfield units and cannot be turned into them.
    """
    path = as_path(path)
    if len(os.fsencode(path.name)) > 255:  # bytes that file systems allow
        raise UsageError(f"{path.name[:40]}...: no file has a name as long as this")
    modality = Modality.named(modality)
    with quiet():
        decoded = _decode(path, series_uid, None if files is None else _listed(files))
    return volume_from(decoded, modality, nan_as_air=nan_as_air)


def _listed(files: Sequence[PathText]) -> list[Path]:
    if isinstance(files, str | bytes | os.PathLike):  # a text is a sequence, too, of letters
        raise UsageError(f"files are a list of paths, not one ({files!r:.100})")
    paths = [as_path(file) for file in files]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise UsageError(f"{missing}: no such file")
    return paths


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' own warnings off stderr: what matters becomes an error or a note of ours."""
    import SimpleITK as sitk  # noqa: N813
    from nibabel import imageglobals

    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with warnings.catch_warnings(), imageglobals.LoggingOutputSuppressor():
            warnings.simplefilter("ignore")
            yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def _decode(path: Path, series_uid: str | None, files: Sequence[Path] | None) -> Decoded:
    """Find the format's decoder and run it; any surprise of a library becomes one line about the file."""
    try:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
        if not path.is_file() and not path.is_dir():  # reading a pipe may wait for ever
            raise UsageError(f"{path}: a device or pipe, not a file; give the name of a file")
        if files is not None or path.is_dir() or looks_like_dicom(path):
            return read_dicom(path, series_uid, files)
        decoder = _decoder(path)
        if series_uid is not None:
            raise UsageError(f"{path}: a series can only be chosen in DICOM, and this is no DICOM file")
        return decoder(path)
    except FastTextDiffError:
        raise
    except MemoryError as problem:
        raise FastTextDiffError(f"{path}: the image does not fit into memory; crop it or close programs") from problem
    except PermissionError as problem:
        raise FastTextDiffError(f"{problem.filename or path}: no permission to read it") from problem
    except Exception as problem:  # the libraries raise whatever their parsers raise
        raise FastTextDiffError(f"{path}: the file is damaged, cut short or not what its name says") from problem


def _decoder(path: Path) -> Callable[[Path], Decoded]:
    if path.stat().st_size == 0:
        raise FastTextDiffError(f"{path}: the file is empty")
    name = path.name.lower()
    for endings, decoder in _DECODERS.items():
        if name.endswith(endings):
            return decoder
    readable = ", ".join(ending for endings in _DECODERS for ending in endings)
    raise FastTextDiffError(f"{path}: neither DICOM nor a file that can be read by its ending ({readable})")


_DECODERS: dict[tuple[str, ...], Callable[[Path], Decoded]] = {
    NIFTI_ENDINGS: decode_nifti,
    ITK_ENDINGS: decode_itk,
    PICTURE_ENDINGS: decode_picture,
}


# --- images that another program has loaded --------------------------------------------------------------------------

_PICTURES = (*PICTURE_ENDINGS, ".bmp")


def decoded_from_memory(
    array: NDArray[Any],
    ijk_to_ras: NDArray[np.float64],
    *,
    name: str,
    path: Path | None = None,
    dicom_modality: str | None = None,
) -> Decoded:
    """Take an image that 3D Slicer has loaded as if it had been read from its file, so that both give the same masks.

    Args:
        array: (k, j, i), or (k, j, i, c) with 1, 3 or 4 components: grey, or 8- or 16-bit RGB or RGBA. MONOCHROME1 is
            inverted already.
        ijk_to_ras: 4x4, voxel index to RAS millimetres.
        name: what the user calls the image, for messages.
        path: the file it was loaded from (one of a series), if known and still there: it says what the image is.
        dicom_modality: DICOM Modality (0008,0060), for images whose file is gone.

    Raises:
        FastTextDiffError: there are no voxels, or values that are neither grey nor a colour.
    """
    if 0 in array.shape:
        raise FastTextDiffError(f"{name}: the volume is empty: load its image again")
    voxels = _grey_or_rgb(name, array)
    matrix, source = np.asarray(ijk_to_ras, np.float64), Source(path=name)
    described = _described(path)
    if described is not None:
        return as_read(Decoded(voxels, matrix, None, False, source), described)
    modality, is_planar = _kind_of_image(voxels, path, dicom_modality)
    if is_planar and dicom_modality and modality is Modality.XRAY:
        source = replace(
            source, notes=("its DICOM file is not there: taken as displayed, the patient's right on image left",)
        )
    return Decoded(voxels, matrix, modality, is_planar, source)


def _described(path: Path | None) -> Described | None:
    """What the image's DICOM file says; a file that can no longer be read is no reason to refuse its voxels."""
    with suppress(FastTextDiffError, OSError):
        if path is not None and path.is_file() and looks_like_dicom(path):
            return describe_dicom(path)
    return None


def _grey_or_rgb(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """(k, j, i), or (k, j, i, 3) with 8 bits as `decode_picture` makes it of a file."""
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

    return np.asarray(over_white(Image.fromarray(np.ascontiguousarray(pixels))).convert("RGB"))


def _kind_of_image(voxels: NDArray[Any], path: Path | None, dicom_modality: str | None) -> tuple[Modality | None, bool]:
    """What the image's own file, or else its DICOM Modality, says it is (None if nothing), and whether it is planar."""
    if path is not None and path.is_file():
        # a file that can no longer be read is no reason to refuse voxels that are there
        with suppress(FastTextDiffError, OSError, RuntimeError):
            if path.name.lower().endswith((*NIFTI_ENDINGS, *ITK_ENDINGS)):
                return None, len(voxels) == 1 and _is_two_dimensional(path)
    modality = modality_of(dicom_modality or "")
    is_picture = path is not None and path.suffix.lower() in _PICTURES
    return modality, len(voxels) == 1 and (is_picture or voxels.ndim == 4 or modality is Modality.XRAY)


def _is_two_dimensional(path: Path) -> bool:
    """Whether an NRRD or MetaImage file holds a picture and no stack; a NIfTI always has a position."""
    import SimpleITK as sitk  # noqa: N813

    if path.name.lower().endswith(NIFTI_ENDINGS):
        return False
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return int(reader.GetDimension()) == 2


# --- what all sources share ------------------------------------------------------------------------------------------


def volume_from(decoded: Decoded, modality: Modality | None, *, nan_as_air: bool = False) -> Volume:
    """Clean the voxels, settle the modality, and make the volume.

    Args:
        decoded: voxels as they were found.
        modality: what the user says the image is; None takes what its file says, or guesses.
        nan_as_air: as for :func:`read_volume`.

    Raises:
        FastTextDiffError: the voxels are no finite real numbers, those of a CT no Hounsfield units, or the geometry is
            not usable.
    """
    path, notes = decoded.source.path, list(decoded.source.notes)
    array = _require_real(path, decoded.array)
    nan = np.isnan(array) if nan_as_air and array.dtype.kind == "f" else None
    if nan is not None and (not nan.any() or nan.all()):
        nan = None
    values = array if nan is None else array[~nan][np.newaxis, np.newaxis]  # what is NaN has no say in what it is
    _require_finite(path, values)
    values, known, said = settle_modality(
        path,
        _grey_if_equal(_smallest_type(values)),
        asked=modality,
        stated=decoded.modality,
        is_planar=decoded.is_planar,
        is_hounsfield=decoded.is_hounsfield,
    )
    notes += said
    padding = decoded.padding
    if nan is None:
        array = values
    else:
        array, air = _with_air(values, nan, known)
        padding = nan if padding is None else nan | padding
        notes.append(f"{int(nan.sum()):,} voxels that are NaN taken as air ({air:g}) as asked: part of no finding")
    _require_place(path, decoded.ijk_to_ras)
    axis = 0 if decoded.has_slice_order else slice_axis(decoded.ijk_to_ras.tolist(), array.shape)
    if axis:
        plane = PLANE_ACROSS[nearest_ras_axes(decoded.ijk_to_ras.tolist())[axis]]
        notes.append(f"the file does not say how its slices were acquired: taken as {plane} by its geometry")
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
        )
    except ValueError as problem:
        raise FastTextDiffError(f"{path}: not a usable image: {problem}") from problem


def _require_real(path: str, array: NDArray[Any]) -> NDArray[Any]:
    """Voxels as real numbers in the machine's byte order."""
    if array.dtype.kind == "c":
        raise FastTextDiffError(f"{path}: voxels are complex numbers; save their magnitude")
    if array.dtype.kind not in "buif":
        raise FastTextDiffError(f"{path}: voxels are no numbers")
    native: NDArray[Any] = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native


def _require_place(path: str, ijk_to_ras: NDArray[np.float64]) -> None:
    """Refuse what is no place in a patient: farther than a kilometre, or not finite."""
    if not (np.abs(ijk_to_ras) <= _FARTHEST).all():
        raise FastTextDiffError(f"{path}: its geometry has numbers that no image has (beyond 1 km): save it anew")


def _with_air(values: NDArray[Any], nan: NDArray[np.bool_], modality: Modality) -> tuple[NDArray[Any], float]:
    """The voxels with air where they are NaN, and what was taken as air: the darkest there is, or that of a CT."""
    lowest = values.min()
    is_hounsfield = modality is Modality.CT and values.dtype != np.uint8
    air = min(_AIR, lowest) if is_hounsfield else lowest
    whole = np.full(nan.shape, air, np.promote_types(values.dtype, np.int16) if is_hounsfield else values.dtype)
    whole[~nan] = values.ravel()
    return whole, float(air)


def _require_finite(path: str, array: NDArray[Any]) -> None:
    """Refuse NaN and infinity: whatever stood there, a mask computed from a guess at it would not say so."""
    if array.dtype.kind != "f":
        return
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise FastTextDiffError(
            f"{path}: {bad:,} of {array.size:,} voxels are NaN or infinite; where NaN stands outside the body, read it "
            "with --nan-as-air (nan_as_air=True); else replace them by the value of air (-1024 in a CT, else 0)"
        )


def _smallest_type(array: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers as the smallest integers that hold them (up to 32 bits), others as float32 where they fit."""
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


def _grey_if_equal(array: NDArray[Any]) -> NDArray[Any]:
    """A grey picture stored as colour, as a grey one."""
    if array.ndim == 4 and all(np.array_equal(array[..., 0], array[..., channel]) for channel in (1, 2)):
        return np.ascontiguousarray(array[..., 0])
    return array
