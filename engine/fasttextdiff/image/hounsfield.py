"""Checks from the histogram whether CT voxels are Hounsfield units, and converts them where the offset is certain.

Knows the values of air and soft tissue; knows nothing about files, formats or display.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import FastTextDiffError

# Offsets that programs add to avoid negative voxels: 1024 (the usual DICOM intercept), 1000, Siemens' extended scale,
# and the middle of 16 bits. The order matters: 1024 and 1000 are distinguished by the value of air.
_OFFSETS = (0, 1024, 8192, 32768)
_LOWEST, _HIGHEST = -1100, 3100
"""Air with noise, and dense bone."""
_SAMPLED = 1_000_000


def hounsfield_offset(array: NDArray[Any]) -> int | None:
    """Offset of the voxels above Hounsfield units, from the peaks of air (-1000) and soft tissue (near 0).

    Args:
        array: grey voxels of a CT, any shape.

    Returns:
        0 for Hounsfield units, else 1024, 1000, 8192 or 32768; None if the histogram fits none of them. A crop without
        air is accepted if its soft tissue is unambiguous. 1024 and 1000 cannot always be distinguished.
    """
    sample = _sampled(array)
    fitting = (offset for offset in _OFFSETS if _fits(sample, offset))
    offset = next(fitting, None)
    return 1000 if offset == 1024 and _air_is_at_zero(sample) else offset


def in_hounsfield(path: str, array: NDArray[Any], *, is_stated: bool) -> tuple[NDArray[Any], list[str]]:
    """Convert the voxels of a CT to Hounsfield units.

    Args:
        path: name of the image in messages.
        array: grey voxels, any shape.
        is_stated: whether the header gives the conversion to Hounsfield units (DICOM Rescale Slope and Intercept). It
            is trusted unless the histogram contradicts it.

    Returns:
        The voxels, and a note for the user if they were converted.

    Raises:
        FastTextDiffError: they are not Hounsfield units, and their scale is unknown (an 8-bit window, 0 to 1, ...).
    """
    offset = hounsfield_offset(array)
    if _is_upside_down(_sampled(array)):
        raise FastTextDiffError(
            f"{path}: the voxels are inverted Hounsfield units (air is at +1000); export the CT again, or "
            "give another modality"
        )
    if offset:
        note = f"the voxels are Hounsfield units + {offset} according to their histogram: {offset} was subtracted"
        return _minus(array, offset), [
            note + (" (if it was 1000, all values are 24 too low)" if offset == 1024 else "")
        ]
    if offset == 0 or (is_stated and not _is_windowed(array) and not _is_too_low(_sampled(array))):
        return array, []
    raise FastTextDiffError(
        f"{path}: the voxels ({_text(array.min())} to {_text(array.max())}) are not Hounsfield units (air -1000, water "
        f"0), and their scale is unknown; export the CT again in Hounsfield units, or give another modality"
    )


def _sampled(array: NDArray[Any]) -> NDArray[np.float64]:
    return array.reshape(-1)[:: max(1, array.size // _SAMPLED)].astype(np.float64)


def _fits(sample: NDArray[np.float64], offset: int) -> bool:
    """Whether the histogram is that of Hounsfield units after subtracting the offset."""
    values = sample - offset
    lowest = values.min()
    if lowest < _LOWEST:  # padding outside the scanned circle
        values = values[values > lowest]
    if values.size == 0 or _share(values, _LOWEST, _HIGHEST) < 0.7:
        return False
    if offset == 0:
        return _has_air_below_tissue(values) or _is_tissue_alone(values)
    # An offset is added to avoid negative values, so an image with negative values has none.
    if np.mean(values < -offset - 20) > 0.001:
        return False
    return _is_air_and_tissue(values) or _is_tissue_alone(values)


def _share(values: NDArray[np.float64], low: float, high: float) -> float:
    return float(np.mean((values >= low) & (values <= high)))


def _has_air_below_tissue(values: NDArray[np.float64]) -> bool:
    """Only Hounsfield units have values this low."""
    return _share(values, _LOWEST, -500) >= 0.001 and bool(values.max() > 0)


def _is_air_and_tissue(values: NDArray[np.float64]) -> bool:
    """Two groups: air, and above lung mostly soft tissue (other modalities have values throughout that range)."""
    above_lung = values[values > -700]
    if _share(values, _LOWEST, -850) < 0.01 or above_lung.size < 0.02 * values.size:
        return False
    return _share(above_lung, -200, 200) >= 0.5


def _is_tissue_alone(values: NDArray[np.float64]) -> bool:
    """A crop inside the body: mostly soft tissue, on both sides of water, with the spread caused by noise and fat."""
    low, high = np.percentile(values, (2, 98))
    return _share(values, -200, 200) >= 0.6 and low < -5 and high > 5 and high - low >= 20


def _is_too_low(sample: NDArray[np.float64]) -> bool:
    """Whether 1024 was subtracted twice, as by programs that convert voxels but keep the intercept in the header."""
    above_padding = sample[sample > sample.min()] + 1024
    return above_padding.size > 0 and _is_air_and_tissue(above_padding)


def _is_upside_down(sample: NDArray[np.float64]) -> bool:
    """Whether air is at +1000: many values there, none above (as for bone), and no air at -1000."""
    if _share(sample, 850, 1150) < 0.05 or sample.max() > 1150 or _share(sample, _LOWEST, -850) > 0.001:
        return False
    return _is_air_and_tissue(-sample)


def _air_is_at_zero(sample: NDArray[np.float64]) -> bool:
    """For Hounsfield units with an offset of 1000 or 1024: whether air is at 0 (1000), not at 24 (1024)."""
    air = sample[(sample >= 0) & (sample <= 150)]
    return air.size > 0 and bool(np.median(air) < 12) and _share(air, 12, 36) < 0.1


def _is_windowed(array: NDArray[Any]) -> bool:
    """Whether the voxels are grey levels (0 to 255) or fractions, which a rescaled CT never has."""
    low, high = float(array.min()), float(array.max())
    return (low >= 0 and 128 <= high <= 255) or (array.dtype.kind == "f" and low >= -4 and 0 < high <= 4)


def _minus(array: NDArray[Any], offset: int) -> NDArray[Any]:
    """Subtract the offset, in a type that holds the result."""
    if array.dtype.kind == "f":
        return array - array.dtype.type(offset)
    low, high = int(array.min()) - offset, int(array.max()) - offset
    is_short = np.iinfo(np.int16).min <= low and high <= np.iinfo(np.int16).max
    result = array.astype(np.int32)
    result -= offset
    return result.astype(np.int16) if is_short else result


def _text(value: Any) -> str:
    return f"{float(value):.6g}"
