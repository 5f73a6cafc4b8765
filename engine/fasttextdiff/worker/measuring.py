"""Measurements for 3D Slicer. Knows the contract's messages; knows nothing about models, threads and streams."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fasttextdiff.contract.answers import Measured
from fasttextdiff.contract.requests import Measure, SavedSegment
from fasttextdiff.image.volume import Volume
from fasttextdiff.segments.measuring import MaskedSegment, measure_segments, measuring_notes
from fasttextdiff.segments.terminology import code_finding, coded_entry
from fasttextdiff.worker.values import mapped_array


def measured(request: Measure, volume: Volume) -> Measured:
    """Measure segments in their current state.

    Raises:
        UsageError: there is no segment, or one is not on the grid of the volume.
    """
    return Measured(measure_segments(volume, masked_segments(request.segments)), tuple(measuring_notes(volume)))


def masked_segments(segments: Sequence[SavedSegment]) -> list[MaskedSegment]:
    """The segments of a request; their voxels stay mapped."""
    return [
        MaskedSegment(
            each.name,
            np.asarray(mapped_array(each.voxels), bool),
            coded_entry(each.terminology) or code_finding(each.name),
        )
        for each in segments
    ]
