"""Texts about the image: kind, plane, slice, window. Knows volume nodes, no widgets."""

from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.images import ACQUISITION
from FastTextDiffSegmentLib.scene.Geometry import nearestRasAxes, sliceShape, slicesToRas

_PLANES = (_("sagittal"), _("coronal"), _("axial"))
"""By the RAS axis across the slices."""


@dataclass(frozen=True)
class KnownImage:
    """What the engine reported about the image; all None until then.

    Attributes:
        modality: "ct", "mr", "xray", "histology" or "other".
        isPlanar: whether it is a picture without a position in the patient.
        window: (level, width) of the model's view; None also for a colour picture.
    """

    modality: str | None = None
    isPlanar: bool | None = None
    window: tuple[float, float] | None = None


def modalityTexts(modality: str | None = None) -> list[str]:
    """Names of the kinds of images, in the order of `Parameters.MODALITIES`; the first names the engine's choice.

    Args:
        modality: the kind that the engine chose; None if it is not known or the user has chosen.
    """
    names = [_("CT"), _("MR"), _("X-ray"), _("Histology"), _("Other")]
    kinds = dict(zip(("ct", "mr", "xray", "histology", "other"), names, strict=True))
    guessed = kinds.get(modality or "")
    return [_("Automatic: {kind}").format(kind=guessed) if guessed else _("Automatic"), *names]


def sliceText(volumeNode: Any, index: int, isPlanar: bool, plane: str = ACQUISITION) -> str:
    """E.g. "axial 57 of 112"; a picture has no plane.

    Args:
        volumeNode: the image.
        index: the slice, from 0.
        isPlanar: whether it is a picture without a position in the patient.
        plane: of the slice.
    """
    text = _("{number} of {total}").format(number=index + 1, total=sliceShape(volumeNode, plane)[0])
    return text if isPlanar else f"{_PLANES[nearestRasAxes(slicesToRas(volumeNode, plane))[2]]} {text}"


def windowText(known: KnownImage) -> str:
    """The grey-level window in which the model sees the image; empty if it is not known."""
    if known.window is None:
        return "" if known.isPlanar is None else _("the image's own colours")
    level, width = known.window
    return _("level {level:g}, width {width:g}").format(level=level, width=width)
