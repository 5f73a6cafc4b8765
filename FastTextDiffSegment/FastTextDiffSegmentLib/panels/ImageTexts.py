"""What the panel says about the image: kind, plane, slice, window. Knows volume nodes, no widget."""

from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from FastTextDiffSegmentLib.scene.Geometry import nearestRasAxes, sliceShape, slicesToRas

_PLANES = (_("sagittal"), _("coronal"), _("axial"))
"""By the RAS axis across the slices."""


@dataclass(frozen=True)
class KnownImage:
    """What the engine has said about the image; all None while it has said nothing.

    Attributes:
        modality: "ct", "mr", "xray", "histology" or "other".
        isPlanar: whether it is a picture without a position in the patient.
        window: (level, width) in which the model sees it; None also for a picture in colour.
    """

    modality: str | None = None
    isPlanar: bool | None = None
    window: tuple[float, float] | None = None


def modalityTexts(modality: str | None = None) -> list[str]:
    """The kinds of images in the order of `Parameters.MODALITIES`; the first one says what the engine takes it for.

    Args:
        modality: what the engine takes the image for; None while that is not known or not asked.
    """
    names = [_("CT"), _("MR"), _("X-ray"), _("Histology"), _("Other")]
    kinds = dict(zip(("ct", "mr", "xray", "histology", "other"), names, strict=True))
    guessed = kinds.get(modality or "")
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


def windowText(known: KnownImage) -> str:
    """The grey-level window in which the model sees the image; empty while that is not known."""
    if known.window is None:
        return "" if known.isPlanar is None else _("the image's own colours")
    level, width = known.window
    return _("level {level:g}, width {width:g}").format(level=level, width=width)
