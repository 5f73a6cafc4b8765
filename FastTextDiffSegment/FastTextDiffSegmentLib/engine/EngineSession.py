"""Which model and volumes the running engine has. Sends them again after the engine was restarted.

Knows arrays and answers; knows nothing about Slicer's scene or windows.
"""

import os
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from FastTextDiffSegmentLib.contract.answers import ArrayFile, VolumeOpened
from FastTextDiffSegmentLib.contract.images import ACQUISITION
from FastTextDiffSegmentLib.contract.messages import IMAGE
from FastTextDiffSegmentLib.contract.requests import CloseVolume, Open, OpenVolume, Segment

from .EngineClient import EngineClient, EngineError, Pending, ProgressCallback
from .Jobs import JobCancelled, Steps
from .Place import OtherComputer, Place
from .SegmentationOutput import SegmentationOutput
from .WorkFolder import WorkFolder, remove

CHUNK_BYTES = 8 << 20
"""Bytes written in one step: a few milliseconds, so that the window stays responsive while a volume is sent."""
_VOLUMES_KEPT = 2


@dataclass(frozen=True)
class VolumeSource:
    """A volume in Slicer's memory.

    Attributes:
        key: equal for equal content; a volume with another key is sent again.
        array: voxels (slice, row, column) or (slice, row, column, c).
        ijkToRas: 4x4, in mm, without parent transforms: the patient's sides are those of the image itself.
        path: the file it was loaded from, or None; its DICOM header, if any, says what kind of image it is.
        dicomModality: DICOM Modality (0008,0060) where known, else None.
        modality: the kind of image that the user chose ("ct", ...), or None.
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
class _SentVolume:
    """A volume whose voxels are in a file, and what the engine of a generation reported about it."""

    folder: Path
    request: OpenVolume
    generation: int = 0
    known: VolumeOpened | None = None
    isAsked: bool = False
    isForgotten: bool = False


@dataclass
class Settings:
    """The engine's settings: model folder (None for the bundled model) and device."""

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
    """The module's session with the engine; methods that return steps are run by a `Job`.

    Attributes:
        client: talks to the engine.
        folder: where arrays are exchanged.
        settings: model and device; a change takes effect with the next request.
        library: folder of learned findings, of which those switched on are used; None for none.
        place: where the engine runs; changed by :meth:`use`.
    """

    client: EngineClient
    folder: WorkFolder
    settings: Settings = field(default_factory=Settings)
    library: Path | None = None
    place: Place = field(default_factory=Place)
    _opening: _Opening | None = None
    _sent: "OrderedDict[Hashable, _SentVolume]" = field(default_factory=OrderedDict)
    _forgets: int = 0

    def use(self, other: OtherComputer | None) -> None:
        """Run the engine there from now on, on this computer for None. Open requests count as cancelled."""
        if other != self.place.other:
            self.client.close()
            self.place.other = other

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
        """Load the model unless it is loaded. All jobs share one loading, and cancelling one job does not stop it.

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
        """Send a volume unless the engine has it.

        Returns:
            The contract's `VolumeOpened`.

        Raises:
            JobCancelled: the volumes were forgotten in the meantime.
        """
        sent = self._sent.get(source.key)
        if sent is None:
            sent = yield from self._send(source)
        self._sent.move_to_end(source.key)
        while sent.isAsked:  # by another job; on another computer, sending it twice would take long
            yield
        isKnown = sent.known is not None and sent.generation == self.client.generation and self.client.isRunning
        if not isKnown and not sent.isForgotten:
            yield from self._ask(sent)
        yield from self._forgetOldest(sent)
        if sent.isForgotten:
            raise JobCancelled()
        return sent.known

    def _ask(self, sent: _SentVolume) -> Steps:
        """Let the engine open a volume."""
        sent.isAsked = True
        try:
            sent.known = yield from self.client.ask(sent.request)
            sent.generation = self.client.generation
        except EngineError:
            if not sent.isForgotten:  # else it only says that the file is gone, and nobody waits for it
                raise
        finally:
            sent.isAsked = False
            if sent.isForgotten:
                remove(sent.folder)  # again: on Windows, the engine may have had its file open

    def _send(self, source: VolumeSource) -> Steps:
        folder, forgets = self.folder.newFolder("volume"), self._forgets
        try:
            file = folder / "voxels.raw"
            array = source.array
            yield from writeSteps((array[part] for part in slabs(len(array), array[0].nbytes)), file)
            if forgets != self._forgets:  # the scene was closed: what was written is of an image that is gone
                raise JobCancelled()
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
        if source.key in self._sent:  # another job sent it in the meantime
            remove(folder)
        return self._sent.setdefault(source.key, _SentVolume(folder, request))

    def _forgetOldest(self, kept: _SentVolume) -> Steps:
        """Remove the oldest copies, here and in the engine, but none that a job waits for."""
        while len(self._sent) > _VOLUMES_KEPT:
            idle = [key for key, one in self._sent.items() if one is not kept and not one.isAsked]
            if not idle:
                return
            old = self._sent.pop(idle[0])
            try:
                if self.client.isRunning:
                    yield from self.client.ask(CloseVolume(old.request.volume))
            finally:
                remove(old.folder)

    def forgetVolumes(self) -> None:
        """Remove the copies of all volumes, e.g. because the scene was closed; jobs that wait for one are cancelled."""
        self._forgets += 1
        for old in self._sent.values():
            old.isForgotten = True
            if self.client.isRunning:  # also one that is still being opened: the engine closes it right after that
                self.client.send(CloseVolume(old.request.volume))
            remove(old.folder)
        self._sent.clear()

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
        candidate: Path | None = None,
        plane: str = ACQUISITION,
    ) -> Steps:
        """Segment findings on slices `[first, end)` of a plane, all if None.

        `candidate` is the file of a learned finding that is used before the library's.

        Returns:
            :class:`SegmentationOutput`, whose arrays are in its own folder.
        """
        folder = self.folder.newFolder("output")
        try:
            options = sliceRange, samples, seed, threshold, sliceBySlice, tryAnyway, self.library, candidate, plane
            request = Segment(volume.volume, tuple(findings), folder, *options)
            answer = yield from self.client.ask(request, onProgress)
            return SegmentationOutput(answer, volume, folder)
        except BaseException:
            remove(folder)
            raise

    def close(self) -> None:
        """Stop the engine and remove all exchanged files."""
        self.client.close()
        self.folder.close()


def slabs(slices: int, sliceBytes: int) -> Iterator[slice]:
    """Ranges of slices that each take a few milliseconds to write."""
    step = max(1, CHUNK_BYTES // max(1, sliceBytes))
    for first in range(0, slices, step):
        yield slice(first, min(first + step, slices))


def writeSteps(parts: Iterable[np.ndarray], file: Path) -> Steps:
    """Write arrays in C order, one per step, into a new file that only this user can read.

    Raises:
        EngineError: it cannot be written, e.g. on a full disk.
    """
    try:
        # not readable by others: plain `open` would apply the umask
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            for part in parts:
                stream.write(np.ascontiguousarray(part).data)
                yield
    except OSError as error:
        raise EngineError(
            IMAGE, f"The volume could not be sent to the engine: {error.strerror}; free some space in {file.parent}"
        ) from error
