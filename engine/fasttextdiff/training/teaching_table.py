"""Reads a table of examples of one finding: images, masks, and which slices to learn from.

Knows tables and volumes; knows nothing about learning.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.findings import same_key
from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.image.slices import PreparedImage
from fasttextdiff.image.volume import Volume
from fasttextdiff.io.read import read_volume
from fasttextdiff.teaching.examples import Example, examples_of
from fasttextdiff.training.own_data import read_rows

MOST_OF_A_VOLUME = 20
"""Slices used from a row without slice number, evenly spread over those with the finding."""


def table_examples(path: Path, words: set[str], prepare: Callable[[Volume], PreparedImage]) -> list[Example]:
    """The examples of a table with the columns image, mask and text; slice, patient, modality and label may be added.

    Rows with another text are left out, so that one table can hold several findings.

    Args:
        path: the table; its paths are relative to it.
        words: finding and synonyms.
        prepare: prepares a volume for the model.

    Raises:
        UsageError: the table does not exist, has no row for the finding, or a slice does not exist.
        FastTextDiffError: a file cannot be read.
    """
    keys = {same_key(word) for word in words}
    rows = [(row, more) for row, more in read_rows(path) if same_key(row.text) in keys]
    if not rows:
        raise UsageError(f"{path} has no row with the text '{sorted(words)[0]}'")
    examples = []
    for row, more in rows:
        volume = read_volume(row.image, modality=row.modality)
        mask, image = row.read_mask(volume), prepare(volume)
        group = more.get("patient") or str(row.image)
        for index in _slices(path, more.get("slice", ""), image, mask):
            examples += examples_of(image, index, mask, group)
    return examples


def _slices(path: Path, cell: str, image: PreparedImage, mask: NDArray[np.bool_]) -> list[int]:
    if cell:
        if not cell.isdecimal():
            raise FastTextDiffError(f"{path}: the slice '{cell}' is not a whole number from 0")
        return [int(cell)]
    there = np.nonzero(image.display.to_display(mask).any(axis=(1, 2)))[0]
    if not len(there):
        return [image.display.n_slices // 2]
    return sorted({int(n) for n in there[np.linspace(0, len(there) - 1, MOST_OF_A_VOLUME).round().astype(int)]})
