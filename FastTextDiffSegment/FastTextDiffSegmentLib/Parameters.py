"""What the scene remembers of the panel: saved with it alone, as patient text must not get into the settings."""

from typing import Annotated, Union

import slicer
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from FastTextDiffSegmentLib.contract import images

MODALITIES = ("", *images.MODALITIES)
"""What the user can say the image is; empty lets the engine decide."""
_HISTORY_LENGTH = 30


@parameterNodeWrapper
class FastTextDiffSegmentParameters:
    """The panel's state.

    Attributes:
        inputVolume: the image.
        outputSegmentation: where segments go; None makes a new one.
        sliceView: the view whose slice is segmented.
        findings: the text box, one finding a line.
        unticked: lines of it that are not to be segmented.
        history: findings asked in this scene, the newest first.
        modality: one of `MODALITIES`.
        threshold: probability above which a pixel belongs to a segment.
        livePreview: whether the shown slice is segmented while typing.
        samples: noise samples averaged.
        seed: of the noise.
        editorMasking: whether the Segment Editor's masking and overwriting are obeyed.
        sliceBySlice: whether each slice is segmented on its own.
        tryAnyway: whether findings that the model was not taught are asked for too.
    """

    # a union that does not name None cannot be empty in Slicer's wrapper
    inputVolume: Union[slicer.vtkMRMLScalarVolumeNode, slicer.vtkMRMLVectorVolumeNode, None]  # noqa: UP007 - its form
    outputSegmentation: slicer.vtkMRMLSegmentationNode
    sliceView: slicer.vtkMRMLSliceNode
    findings: str = ""
    unticked: list[str]
    history: list[str]
    modality: str = ""
    threshold: Annotated[float, WithinRange(0.01, 0.99)] = 0.5
    livePreview: bool = True
    samples: Annotated[int, WithinRange(1, 32)] = 1
    seed: Annotated[int, WithinRange(0, 1_000_000)] = 0
    editorMasking: bool = False
    sliceBySlice: bool = False
    tryAnyway: bool = False


def remembered(history: list[str], findings: list[str]) -> list[str]:
    """The history with findings put in front, each once."""
    return list(dict.fromkeys([*findings, *history]))[:_HISTORY_LENGTH]
