"""What the panel says about the image: kind, plane, slice, window. Knows volume nodes, no widget."""

from collections.abc import Mapping
from typing import Any

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.scene.Geometry import nearestRasAxes, sliceShape, slicesToRas

_PLANES = (_("sagittal"), _("coronal"), _("axial"))
"""By the RAS axis across the slices."""


def modalityTexts(known: Mapping[str, Any]) -> list[str]:
    """The kinds of images in the order of `Parameters.MODALITIES`; the first one says what the engine takes it for.

    Args:
        known: what the engine said about the image; has "modality" once it did.
    """
    names = [_("CT"), _("MR"), _("X-ray"), _("Histology"), _("Other")]
    kinds = dict(zip(("ct", "mr", "xray", "histology", "other"), names, strict=True))
    guessed = kinds.get(known.get("modality", ""))
    return [_("Automatic: {kind}").format(kind=guessed) if guessed else _("Automatic"), *names]


def sliceText(volumeNode: Any, index: int, isPlanar: bool) -> str:
    """E.g. "axial 57 of 112"; a picture has no plane.

    Args:
        volumeNode: the image.
        index: the slice, from 0.
        isPlanar: whether it is a picture without a position in the patient.
    """
    text = _("{number} of {total}").format(number=index + 1, total=sliceShape(volumeNode)[0])
    return text if isPlanar else f"{_PLANES[nearestRasAxes(slicesToRas(volumeNode))[2]]} {text}"


def windowText(known: Mapping[str, Any]) -> str:
    """The grey-level window in which the model sees the image; empty while that is not known."""
    window = known.get("window")
    if window is None:
        return _("the image's own colours") if "planar" in known else ""
    return _("level {level:g}, width {width:g}").format(level=window[0], width=window[1])
