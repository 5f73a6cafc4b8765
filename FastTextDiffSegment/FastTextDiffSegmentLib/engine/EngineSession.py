"""What the running engine has been told: the model, the volumes. Tells it again when it was restarted.

Knows arrays and answers; knows nothing about Slicer's scene or windows.
"""

import os
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from FastTextDiffSegmentLib.contract.answers import ArrayFile, VolumeOpened
from FastTextDiffSegmentLib.contract.messages import IMAGE
from FastTextDiffSegmentLib.contract.requests import CloseVolume, Open, OpenVolume, Segment

from .EngineClient import EngineClient, EngineError, Pending, ProgressCallback
from .Jobs import Steps
from .SegmentationOutput import SegmentationOutput
from .WorkFolder import WorkFolder, remove

CHUNK_BYTES = 8 << 20
"""Voxels written in one step: a few milliseconds, so that the window never halts while a volume is handed over."""
_VOLUMES_KEPT = 2


@dataclass(frozen=True)
class VolumeSource:
    """A volume as it lies in Slicer's memory.

    Attributes:
        key: equal for equal content; anything else is handed over again.
        array: voxels (slice, row, column) or (slice, row, column, c).
        ijkToRas: 4x4, without parent transforms: the sides of the patient are those of the image itself.
        path: the file it was loaded from, or None; its DICOM header, if it has one, says what the image is.
        dicomModality: DICOM Modality (0008,0060) where known, else None.
        modality: what the user says the image is ("ct", ...), or None.
        name: for messages.
    """

    key: Hashable
    array: np.ndarray
    ijkToRas: np.ndarray
    path: str | None = None
    dicomModality: str | None = None
    modality: str | None = None
    name: str = ""


@dataclass
class _Handed:
    """A volume whose voxels lie in a file, and what the engine of a generation said about it."""

    folder: Path
    request: OpenVolume
    generation: int = 0
    known: VolumeOpened | None = None


@dataclass
class Settings:
    """What the engine is opened with: model folder (None for the bundled one) and device."""

    model: str | None = None
    device: str = "auto"


@dataclass
class _Opening:
    """The loading of a model, under way or finished."""

    generation: int
    settings: Settings
    pending: Pending


@dataclass
class EngineSession:
    """The module's conversation with the engine; every method with steps is to be run by a `Job`.

    Attributes:
        client: how to reach it.
        folder: where arrays are exchanged.
        settings: model and device; a change takes effect with the next question.
    """

    client: EngineClient
    folder: WorkFolder
    settings: Settings = field(default_factory=Settings)
    _opening: _Opening | None = None
    _handed: "OrderedDict[Hashable, _Handed]" = field(default_factory=OrderedDict)

    @property
    def isOpen(self) -> bool:
        """Whether the model is loaded as the settings say."""
        return self._isOpening() and self._opening.pending.answer is not None

    def _isOpening(self) -> bool:
        """Whether the running engine loads, or has loaded, the model of the settings."""
        opening = self._opening
        return (
            opening is not None
            and self.client.isRunning
            and opening.generation == self.client.generation
            and opening.settings == self.settings
            and not opening.pending.hasFailed
        )

    def opened(self) -> Steps:
        """Load the model unless it is loaded; all jobs wait for the same loading, and none stops it for the others.

        Returns:
            The contract's `Opened`.
        """
        if not self._isOpening():
            pending = self.client.send(Open(self.settings.model, self.settings.device))
            self._opening = _Opening(self.client.generation, replace(self.settings), pending)
        pending = self._opening.pending
        while pending.answer is None:
            yield
        return pending.result()

    def provided(self, source: VolumeSource) -> Steps:
        """Hand a volume over unless the engine has it.

        Returns:
            The contract's `VolumeOpened`.
        """
        handed = self._handed.get(source.key)
        if handed is None:
            handed = yield from self._handOver(source)
        self._handed.move_to_end(source.key)
        if handed.known is None or handed.generation != self.client.generation or not self.client.isRunning:
            handed.known = yield from self.client.ask(handed.request)
            handed.generation = self.client.generation
        yield from self._forgetOldest()
        return handed.known

    def _handOver(self, source: VolumeSource) -> Steps:
        folder = self.folder.newFolder("volume")
        try:
            file = folder / "voxels.raw"
            array = source.array
            yield from writeSteps((array[part] for part in slabs(len(array), array[0].nbytes)), file)
        except BaseException:
            remove(folder)
            raise
        request = OpenVolume(
            volume=folder.name,
            voxels=ArrayFile(file, array.dtype.name, array.shape),
            ijk_to_ras=tuple(source.ijkToRas.ravel().tolist()),
            name=source.name,
            path=None if source.path is None else Path(source.path),
            dicom_modality=source.dicomModality,
            modality=source.modality,
        )
        if source.key in self._handed:  # another job handed it over meanwhile
            remove(folder)
        return self._handed.setdefault(source.key, _Handed(folder, request))

    def _forgetOldest(self) -> Steps:
        while len(self._handed) > _VOLUMES_KEPT:
            _, old = self._handed.popitem(last=False)
            if old.known is not None and old.generation == self.client.generation and self.client.isRunning:
                yield from self.client.ask(CloseVolume(old.request.volume))
            remove(old.folder)

    def forgetVolumes(self) -> None:
        """Drop the copies of all volumes, e.g. because the scene was closed."""
        for old in self._handed.values():
            if old.generation == self.client.generation and self.client.isRunning:
                self.client.send(CloseVolume(old.request.volume))
            remove(old.folder)
        self._handed.clear()

    def segmented(
        self,
        volume: VolumeOpened,
        findings: Sequence[str],
        sliceRange: tuple[int, int] | None,
        onProgress: ProgressCallback = lambda done, total: None,
        samples: int = 1,
        seed: int = 0,
        threshold: float | None = None,
        sliceBySlice: bool = False,
        tryAnyway: bool = False,
    ) -> Steps:
        """Segment findings on slices `[first, end)` along the array's first axis, all if None.

        Returns:
            :class:`SegmentationOutput`, whose arrays lie in a folder of its own.
        """
        folder = self.folder.newFolder("output")
        try:
            request = Segment(
                volume.volume, tuple(findings), folder, sliceRange, samples, seed, threshold, sliceBySlice, tryAnyway
            )
            answer = yield from self.client.ask(request, onProgress)
            return SegmentationOutput(answer, volume, folder)
        except BaseException:
            remove(folder)
            raise

    def close(self) -> None:
        """End the engine and remove everything that was exchanged."""
        self.client.close()
        self.folder.close()


def slabs(slices: int, sliceBytes: int) -> Iterator[slice]:
    """Ranges of slices that take a few milliseconds to write."""
    step = max(1, CHUNK_BYTES // max(1, sliceBytes))
    for first in range(0, slices, step):
        yield slice(first, min(first + step, slices))


def writeSteps(parts: Iterable[np.ndarray], file: Path) -> Steps:
    """Write arrays in C order one after the other, one in each step, into a new file that only this user can read.

    Raises:
        EngineError: it cannot be written, e.g. on a full disk.
    """
    try:
        # not readable by others: `open` alone would obey the umask
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            for part in parts:
                stream.write(np.ascontiguousarray(part).data)
                yield
    except OSError as error:
        raise EngineError(
            IMAGE, f"The volume could not be handed to the engine: {error.strerror}; free some space in {file.parent}"
        ) from error
