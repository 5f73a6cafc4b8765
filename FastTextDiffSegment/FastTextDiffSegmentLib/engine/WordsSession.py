"""Asks the engine what the words of a finding do on a slice. Knows the session, nothing about Slicer's scene."""

from dataclasses import dataclass

import numpy as np

from FastTextDiffSegmentLib.contract.answers import VolumeOpened
from FastTextDiffSegmentLib.contract.words import WeighWords, WordsWeighed

from .EngineSession import EngineSession
from .Jobs import Steps
from .WorkFolder import remove


@dataclass(frozen=True)
class Weighed:
    """What the words of a finding do on one slice.

    Attributes:
        answer: the engine's answer.
        textFree: (1, rows, columns) bool, the mask without any text.
        slice: number of the slice as acquired, from 0.
    """

    answer: WordsWeighed
    textFree: np.ndarray
    slice: int


def weighSteps(session: EngineSession, volume: VolumeOpened, finding: str, k: int, seed: int = 0) -> Steps:
    """Try a finding without each of its words, on slice k.

    Returns:
        :class:`Weighed`.
    """
    folder = session.folder.newFolder("words")
    try:
        request = WeighWords(volume.volume, finding, k, folder, seed, session.library)
        answer = yield from session.client.ask(request)
        shape = answer.text_free.shape
        mask = np.fromfile(answer.text_free.file, answer.text_free.dtype).reshape(shape) != 0
        return Weighed(answer, mask, k)
    finally:
        remove(folder)
