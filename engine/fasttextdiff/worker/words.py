"""The words of a finding for 3D Slicer. Knows the contract's messages; knows nothing about threads and streams."""

from __future__ import annotations

import numpy as np

from fasttextdiff.contract.answers import ArrayFile
from fasttextdiff.contract.words import WeighedWord, WeighWords, WordsWeighed
from fasttextdiff.errors import UsageError
from fasttextdiff.image.slices import PreparedImage
from fasttextdiff.paths import as_path
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.word_effects import weigh_words


def words_weighed(request: WeighWords, segmenter: Segmenter, image: PreparedImage) -> WordsWeighed:
    """Try a finding without each of its words.

    Raises:
        UsageError: the request is not valid.
    """
    folder = as_path(request.output)
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder} for the result")
    segmenter.check_findings([request.finding])
    one = image.with_request(slices=(request.slice, request.slice + 1), samples=1, seed=request.seed)
    found = weigh_words(segmenter, one, request.finding)
    mask, path = found.text_free.view(np.uint8), folder / "text-free.raw"
    mask.tofile(path)
    return WordsWeighed(
        found.finding,
        tuple(WeighedWord(each.word, None if each.change is None else each.is_ignored) for each in found.words),
        ArrayFile(path, mask.dtype.name, mask.shape),
        found.note,
    )
