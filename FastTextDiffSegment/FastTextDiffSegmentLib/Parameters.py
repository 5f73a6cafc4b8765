"""The state of the panel. Saved only with the scene: text about patients must not get into application settings."""

from typing import Annotated, Union

import slicer
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from FastTextDiffSegmentLib.contract import images

MODALITIES = ("", *images.MODALITIES)
"""Kinds of images that the user can choose; empty lets the engine decide."""
_HISTORY_LENGTH = 30
THRESHOLDS = (0.01, 0.99)
"""The slider's ends."""
_SAME_THRESHOLD = 0.005
"""The slider shows two decimals."""


@parameterNodeWrapper
class FastTextDiffSegmentParameters:
    """The panel's state.

    Attributes:
        inputVolume: the image.
        outputSegmentation: receives the segments; None for a new one.
        sliceView: the view whose slice is segmented.
        findings: the text box, one finding per line.
        unticked: findings in it that are not to be segmented.
        history: findings segmented before in this scene, newest first.
        modality: one of `MODALITIES`.
        threshold: probability above which a pixel belongs to a segment, as shown; see `chosenThreshold`.
        modelThreshold: the model's own; while it is shown, the user has chosen none.
        livePreview: whether the shown slice is segmented while typing.
        samples: number of noise samples to average.
        seed: seed of the noise.
        editorMasking: whether the Segment Editor's masking and overwriting are applied.
        sliceBySlice: whether each slice is segmented on its own.
        tryAnyway: whether findings that the model was not taught are asked for too.
        plane: one of `PLANES`, of the slices that are segmented.
    """

    # in Slicer's wrapper, a union without None cannot be empty
    inputVolume: Union[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLVectorVolumeNode, None]  # noqa: UP007 - its form
    outputSegmentation: slicer.vtkMRMLSegmentationNode
    sliceView: slicer.vtkMRMLSliceNode
    findings: str = ""
    unticked: list[str]
    history: list[str]
    modality: str = ""
    threshold: Annotated[float, WithinRange(*THRESHOLDS)] = 0.5
    modelThreshold: Annotated[float, WithinRange(*THRESHOLDS)] = 0.5
    livePreview: bool = True
    samples: Annotated[int, WithinRange(1, 32)] = 1
    seed: Annotated[int, WithinRange(0, 1_000_000)] = 0
    editorMasking: bool = False
    sliceBySlice: bool = False
    tryAnyway: bool = False
    plane: str = images.ACQUISITION


def chosenThreshold(parameters: FastTextDiffSegmentParameters) -> float | None:
    """The threshold that the user chose; None for the model's own."""
    isOwn = abs(parameters.threshold - parameters.modelThreshold) < _SAME_THRESHOLD
    return None if isOwn else parameters.threshold


def remembered(history: list[str], findings: list[str]) -> list[str]:
    """The history with these findings first, each once."""
    return list(dict.fromkeys([*findings, *history]))[:_HISTORY_LENGTH]
