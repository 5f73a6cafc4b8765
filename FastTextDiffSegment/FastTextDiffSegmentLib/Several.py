"""Runs over several images, or all items of a sequence: nothing is written before all are done.

Knows the logic and the scene; knows no widget.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import slicer
from slicer.i18n import tr as _

from .contract.answers import ProposedSlice
from .engine.EngineClient import ProgressCallback
from .engine.Jobs import Steps
from .Requests import SegmentationRequest
from .scene.EditorMasking import Masking, requireArea
from .scene.Geometry import SceneError
from .scene.SegmentOutputs import requireUnchanged
from .scene.SegmentWriter import SegmentedFinding, SegmentOutput, geometryMatches
from .scene.SequenceItems import SequenceItems
from .scene.VoxelChange import packed, unpacked


@dataclass(frozen=True)
class ImageResult:
    """What was written for one image.

    Attributes:
        volumeNode: the image.
        segmentationNode: its segmentation.
        written: one entry for each finding.
    """

    volumeNode: Any
    segmentationNode: Any
    written: list[SegmentedFinding]


@dataclass(frozen=True)
class SequenceResult:
    """What was written for a sequence.

    Attributes:
        segmentationNode: shows the item that the browser shows.
        found: for each finding, on how many items it was found.
        missing: numbers of the items without an image, from 0; nothing was segmented there.
    """

    segmentationNode: Any
    found: dict[str, int]
    missing: tuple[int, ...]


class _Kept:
    """An output whose masks take little memory until they are written."""

    def __init__(self, output: SegmentOutput):
        self._shape, self._mask = output.mask.shape, packed(output.mask != 0)
        self._region = None if output.region is None else packed(output.region)
        self._output = replace(output, mask=output.mask[:0], region=None)

    def output(self) -> SegmentOutput:
        region = None if self._region is None else unpacked(self._region, self._shape)
        return replace(self._output, mask=unpacked(self._mask, self._shape), region=region)


@dataclass(frozen=True)
class KeptImage:
    """What is to be written for one image.

    Attributes:
        outputs: one for each finding.
        review: slices to review.
        content: identifies the content of the image that was segmented.
    """

    outputs: Sequence[_Kept]
    review: tuple[ProposedSlice, ...]
    content: Hashable


def requireAll(requests: Sequence[SegmentationRequest]) -> None:
    """Check all images before any of them is segmented.

    Raises:
        SceneError: one cannot be segmented; the message names it.
    """
    if not requests:
        raise SceneError(_("Choose an image."))
    for request in requests:
        valid, reason = request.isValid()
        if not valid:
            raise SceneError(f"{request.volumeNode.GetName()}: {reason}")


def severalSteps(
    logic: Any,
    requests: Sequence[SegmentationRequest],
    onProgress: ProgressCallback = lambda done, total: None,
    threshold: float | None = None,
    masking: Masking | None = None,
) -> Steps:
    """Segment images one after the other; progress counts the slices of all. Returns what is to be written for each."""
    requireAll(requests)
    _requireAreas(logic, requests, masking)
    counts = [end - first for first, end in (request.slices() for request in requests)]
    kept = []
    for number, request in enumerate(requests):
        before = sum(counts[:number])
        report = _shifted(onProgress, before, sum(counts))
        output = yield from logic.segmentationSteps(request, report)
        try:
            outputs = [_Kept(each) for each in logic.segmentOutputs(output, request, threshold)]
            kept.append(KeptImage(outputs, output.review, output.content))
        finally:
            output.release()
    return kept


def _requireAreas(logic: Any, requests: Sequence[SegmentationRequest], masking: Masking | None) -> None:
    for request in requests:
        requireArea(masking, segmentationOf(logic, request.volumeNode))


def _shifted(onProgress: ProgressCallback, before: int, total: int) -> Callable[[int, int], None]:
    return lambda done, _total: onProgress(before + done, total)


def writeImages(
    logic: Any, requests: Sequence[SegmentationRequest], kept: Sequence[KeptImage], masking: Masking | None = None
) -> list[ImageResult]:
    """Write what :func:`severalSteps` returned: each image has a segmentation of its own, and is one step to undo.

    Raises:
        SceneError: an image is gone or was changed, or the editable area is no segment of its segmentation; nothing was
            written. The same error is raised if masking allowed no change of an image, which the message names; the
            images before it were written.
    """
    requireAll(requests)
    for request, image in zip(requests, kept, strict=True):
        requireUnchanged(request.volumeNode, image.content)
    _requireAreas(logic, requests, masking)
    results = []
    for request, image in zip(requests, kept, strict=True):
        node = segmentationOf(logic, request.volumeNode) or logic.newSegmentation(request.volumeNode)
        outputs = [each.output() for each in image.outputs]
        try:
            written = logic.writeOutputs(outputs, request, node, masking, review=image.review)
        except SceneError as error:
            raise SceneError(f"{request.volumeNode.GetName()}: {error}") from error
        results.append(ImageResult(request.volumeNode, node, written))
    return results


def segmentationOf(logic: Any, volumeNode: Any) -> Any:
    """The segmentation that this module made for an image before; None if there is none."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        isFor = node.GetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole()) == volumeNode.GetID()
        if isFor and logic.archive.node(node) is not None and geometryMatches(node, volumeNode):
            return node
    return None


def sequenceSteps(
    logic: Any,
    request: SegmentationRequest,
    onProgress: ProgressCallback = lambda done, total: None,
    threshold: float | None = None,
) -> Steps:
    """Segment all items of the sequence that the request's image belongs to, and write them as a sequence.

    Returns:
        :class:`SequenceResult`.

    Raises:
        SceneError: the image belongs to no sequence, or an item cannot be segmented; nothing was written.
    """
    items = SequenceItems.of(request.volumeNode)
    if items is None:
        raise SceneError(_("The image belongs to no sequence."))
    with items.volumes() as volumes:
        requests = {number: replace(request, volumeNode=node) for number, node in volumes.items()}
        kept = yield from severalSteps(logic, list(requests.values()), onProgress, threshold)
        if not slicer.mrmlScene.IsNodePresent(items.browser) or not slicer.mrmlScene.IsNodePresent(items.sequence):
            raise SceneError(_("The sequence was removed while it was being segmented; nothing was written."))
        return _writeSequence(logic, items, volumes, dict(zip(volumes, kept, strict=True)), request)


def _writeSequence(
    logic: Any,
    items: SequenceItems,
    volumes: dict[int, Any],
    kept: dict[int, KeptImage],
    request: SegmentationRequest,
) -> SequenceResult:
    found = dict.fromkeys(request.findings, 0)
    segmentations: list[Any] = []
    try:
        for number in range(len(items.values)):
            # an empty one for a missing item, or the browser would go on to show the one before
            segmentations.append(logic.newSegmentation(volumes.get(number, items.shown)))
            outputs = [each.output() for each in kept[number].outputs] if number in kept else []
            for each in logic.writeUnrecorded(outputs, volumes[number], segmentations[-1]) if outputs else ():
                found[each.finding] += each.found
    except BaseException:
        for node in segmentations:
            slicer.mrmlScene.RemoveNode(node)
        raise
    name = _("{image} findings").format(image=items.shown.GetName())
    missing = tuple(number for number in range(len(items.values)) if number not in volumes)
    shown = items.addSegmentations(segmentations, name)
    logic.archive.adopt(shown)
    return SequenceResult(shown, found, missing)
