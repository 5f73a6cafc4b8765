"""Looks at an image: what kind it is and, where nothing states it, which modality.

Knows volumes and slices; `model.kinds` decides for the maps of single slices, and the caller computes these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import require_type
from fasttextdiff.image.modality_choice import GUESSED
from fasttextdiff.image.preprocessing import Window
from fasttextdiff.image.slices import PreparedImage, View, prepare
from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.model.feature_cache import Maps
from fasttextdiff.model.kinds import NONE_OF_THESE, Kind, KindHead, kinds_of, statistics_of
from fasttextdiff.model.settings import ModelSettings

FROM_PICTURE = "from the picture itself"
LOOKED_AT = (0.5, 0.25, 0.75)
"""Positions of the slices of a volume that are looked at."""
SOFT_TISSUE: Window = (40.0, 400.0)
"""(level, width) in which a CT in Hounsfield units is looked at."""

_SURELY = 0.9
"""Probability."""

MapsOf = Callable[[PreparedImage, Sequence[View]], list[Maps]]
"""Computes the maps of some views of an image."""


def recognised(volume: Volume, model: ModelSettings, maps_of: MapsOf) -> Volume:
    """A volume with the kinds of its slices and, if its modality was guessed, the modality that they show.

    A stated modality is never changed. Slices in Hounsfield units remain a CT, and no other stack becomes one, because
    the window would not fit. A chest X-ray that looks turned or inverted gets a note.

    Args:
        volume: as it was read.
        model: settings of the model; one that cannot distinguish kinds leaves the volume as it is.
        maps_of: computes maps.

    Raises:
        UsageError: it is not a volume.
        FastTextDiffError: the image cannot be segmented.
    """
    require_type(volume, Volume, "volume", "use read_volume")
    head = model.kinds
    if head is None or volume.kinds or not (_is_unclear(volume) or (_is_xray(volume) and head.xray)):
        return volume
    statistics = np.stack(_statistics(volume, model, head, maps_of))
    found = _told_apart(volume, head, statistics) if _is_unclear(volume) else volume
    doubt = head.xray_doubt(statistics[0]) if _is_xray(found) else ""
    return _with_notes(found, [*found.source.notes, doubt]) if doubt else found


def _is_unclear(volume: Volume) -> bool:
    """Whether the kind of an image is to be found out: its modality was guessed, or leaves the kind open."""
    is_stack = volume.modality in (Modality.CT, Modality.MR) and not volume.is_planar
    return volume.is_guessed or is_stack


def _is_xray(volume: Volume) -> bool:
    return volume.modality is Modality.XRAY and volume.is_planar


def _with_notes(volume: Volume, notes: Sequence[str]) -> Volume:
    return replace(volume, source=replace(volume.source, notes=tuple(dict.fromkeys(notes))))


def _statistics(volume: Volume, model: ModelSettings, head: KindHead, maps_of: MapsOf) -> list[NDArray[np.float32]]:
    """What the classifiers look at, for a few slices."""
    settings = replace(model.preprocessing.of(Modality.OTHER), size=head.size, tiled=False, crop_to_body=False)
    image = prepare(volume, settings, model.multiple, window=SOFT_TISSUE if _is_hounsfield(volume) else None)
    image = replace(image, fit=replace(image.fit, is_frequent=False))  # only a few slices are looked at
    views = [view for index in _slices(image.display.n_slices) for view in image.views(index)]
    return [statistics_of(maps_of(image, [view])[0], view.pixels()) for view in views]


def _told_apart(volume: Volume, head: KindHead, statistics: NDArray[np.float32]) -> Volume:
    """The volume with the kinds of its slices and, if its modality was guessed, that of its kind."""
    probabilities = head.probabilities(statistics)
    kinds = kinds_of(head, probabilities, _possible(volume, head.share_of(probabilities, Modality.CT)))
    found = replace(volume, kinds=tuple(kind.name for kind in kinds))
    return _read_as(found, kinds[0]) if volume.is_guessed else found


def _is_hounsfield(volume: Volume) -> bool:
    return volume.modality is Modality.CT and not volume.is_color


def _slices(count: int) -> list[int]:
    return sorted({int(share * count) for share in LOOKED_AT}) if count >= 3 else [count // 2]


def _read_as(volume: Volume, kind: Kind) -> Volume:
    """The volume with the modality of a kind, and a note instead of that of the guess."""
    modality = kind.modality if _may_become(volume, kind.modality) else volume.modality
    said = kind.name
    if kind is NONE_OF_THESE:
        said = "none that the model knows"
    elif kind.modality is not modality:
        said = f"looks like {kind.name}, but is read as {modality.value}"
    notes = [note for note in volume.source.notes if not note.startswith(GUESSED)]
    noted = _with_notes(volume, [*notes, f"kind of image: {said}, {FROM_PICTURE}"])
    return replace(noted, modality=modality)


def _possible(volume: Volume, looks_like_ct: float) -> frozenset[Modality]:
    """The modalities that count when the kind of an image is decided.

    A stack in other units than Hounsfield's is hardly a CT, however much a bright rim looks like a skull. Only if it
    surely looks like one, as a CT in grey levels does, it is not taken for something else.
    """
    if not volume.is_guessed or _is_hounsfield(volume):
        return frozenset({volume.modality})
    if volume.is_planar or looks_like_ct > _SURELY:
        return frozenset(Modality)
    return frozenset(modality for modality in Modality if _may_become(volume, modality))


def _may_become(volume: Volume, modality: Modality) -> bool:
    """Whether what an image shows may give it a modality; voxels in Hounsfield units and colour stacks say enough."""
    if volume.is_planar or modality is volume.modality:
        return True
    is_single = volume.shape[volume.slice_axis] == 1
    return volume.modality is Modality.OTHER and (modality is Modality.MR or (is_single and modality is Modality.XRAY))


def recognised_as(volume: Volume, head: KindHead | None) -> str | None:
    """The kind of a recognised image and what recognised it, for its provenance; None if the modality was stated."""
    return f"{volume.kinds[0]}, by kinds {head.sha256}" if head and volume.is_guessed and volume.kinds else None
