"""A volume: voxels, their position in the patient, and their source.

Knows nothing about files, models or display.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import UsageError


class Modality(str, Enum):
    """The modalities that a model can be trained for; `OTHER` is everything else."""

    CT = "ct"
    MR = "mr"
    XRAY = "xray"
    HISTOLOGY = "histology"
    OTHER = "other"

    @classmethod
    def named(cls, name: Modality | str | None) -> Modality | None:
        """A modality by its name, in any case; None stays None, for the reader to determine it.

        Raises:
            UsageError: the name is unknown.
        """
        if name is None or isinstance(name, cls):
            return name
        try:
            return cls(name.lower() if isinstance(name, str) else name)
        except ValueError:
            raise UsageError(f"{name!r} is not a modality: use {', '.join(kind.value for kind in cls)}") from None


@dataclass(frozen=True)
class Source:
    """Where a volume was read from.

    Attributes:
        path: the file or folder, as given; for an image from memory, its name.
        study_uid: DICOM Study Instance UID (0020,000D), empty if not DICOM.
        series_uid: DICOM Series Instance UID (0020,000E).
        frame_of_reference_uid: DICOM Frame of Reference UID (0020,0052).
        instance_uids: DICOM SOP Instance UID (0008,0018) of each slice k.
        frames: DICOM file of each slice k and the frame's number in it, from 1; names may identify the patient and must
            never be logged or written.
        notes: what the reader assumed or repaired, one line each, to show and record.
    """

    path: str = ""
    study_uid: str = ""
    series_uid: str = ""
    frame_of_reference_uid: str = ""
    instance_uids: tuple[str, ...] = ()
    frames: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Volume:
    """A stack of slices, valid once constructed.

    Attributes:
        array: voxels (k, j, i), or (k, j, i, 3) for RGB; finite. CT is in Hounsfield units, except colour and 8-bit
            planar pictures. MONOCHROME1 is already inverted, as Slicer does on loading, but never in CT.
        ijk_to_ras: 4x4, voxel index (i, j, k, 1) to millimetres (R, A, S, 1); invertible, possibly left-handed or
            oblique.
        modality: modality of the image.
        is_planar: True for one image without a position in the patient (PNG, projection X-ray): no millilitres, and
            taken as displayed (row 0 on top, column 0 on the left) unless its orientation is known.
        source: provenance.
        padding: voxels (k, j, i) outside the scanned region, from DICOM's Pixel Padding Value: excluded from windows
            and findings; None if there are none.
        slice_axis: the array axis (0 = k, 1 = j, 2 = i) of the acquired slices.
        patient_orientation: for planar images, the directions of growing i and j: two of "L", "R", "F", "H", "P" and
            "A" (Patient Orientation, PS3.3 C.7.6.1.1.1); None to take the image as displayed.
        is_guessed: whether the modality was guessed from the voxels, because neither the file nor the user gives it.
        kinds: what its slices show, e.g. "head CT", judging by their content; the kind of the whole image first. Empty
            if nobody looked.

    Raises:
        ValueError: an argument of another type, wrong number of axes, an empty axis, a matrix that is not 4x4 or is
            singular, voxels that are not finite numbers, or an invalid slice axis.
    """

    array: NDArray[np.generic]
    ijk_to_ras: NDArray[np.float64]
    modality: Modality
    is_planar: bool = False
    source: Source = field(default_factory=Source)
    padding: NDArray[np.bool_] | None = None
    patient_orientation: tuple[str, str] | None = None
    slice_axis: int = 0
    is_guessed: bool = False
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse invalid values."""
        self._check_types()
        if self.array.ndim not in (3, 4) or (self.array.ndim == 4 and self.array.shape[3] != 3):
            raise ValueError(f"a volume must be (k, j, i) or (k, j, i, 3), got shape {self.array.shape}")
        if 0 in self.array.shape:
            raise ValueError(f"a volume cannot be empty, got shape {self.array.shape}")
        if self.slice_axis not in (0, 1, 2):
            raise ValueError(f"slice_axis must be 0 (k), 1 (j) or 2 (i), not {self.slice_axis!r}")
        if self.ijk_to_ras.shape != (4, 4) or abs(np.linalg.det(self.ijk_to_ras)) < 1e-12:
            raise ValueError("ijk_to_ras must be an invertible 4x4 matrix")
        if self.array.dtype.kind == "f" and not np.isfinite(self.array).all():
            raise ValueError("voxels must be finite")

    def _check_types(self) -> None:
        for name, array, kinds in (("array", self.array, "biuf"), ("ijk_to_ras", self.ijk_to_ras, "iuf")):
            if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
                raise ValueError(f"{name} must be a numpy array of numbers, not {_kind_of(array)}")
        if not isinstance(self.modality, Modality):
            raise ValueError(f"modality must be a Modality, such as Modality.CT, not {self.modality!r:.40}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns: (k, j, i)."""
        k, j, i = self.array.shape[:3]
        return k, j, i

    @property
    def is_color(self) -> bool:
        """Whether voxels are RGB."""
        return self.array.ndim == 4

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in millimetres between neighbours along (i, j, k)."""
        i, j, k = np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.ijk_to_ras[:3, :3]))) / 1000.0


def _kind_of(value: object) -> str:
    return f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
