"""A folder of examples that the user chooses: slices, masks and words, from which a finding can be learned again.

Knows files; knows nothing about learning. Nothing in the folder identifies a patient: pixels only, no headers, and
groups that only this user can tell from an identifier.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.contract.findings import same_key, shortened
from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.atomic import check_writable, whole_files
from fasttextdiff.io.json_files import parse_json
from fasttextdiff.paths import PathText, as_path
from fasttextdiff.teaching.examples import Example
from fasttextdiff.teaching.user_secret import user_secret

INDEX = "examples.json"
_SALTED_BYTES, _GROUP_BYTES = 6, 16


def check_examples_folder(folder: PathText, finding: str) -> None:
    """Refuse a folder of examples before anything is learned; nothing is created in it.

    Raises:
        UsageError: it is of another finding, or cannot be written.
        FastTextDiffError: it is damaged, or this user's secret cannot be used.
    """
    folder = as_path(folder).absolute()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir():
        raise UsageError(f"{folder} cannot be a folder of examples: {there} is a file; choose another folder")
    check_writable(there / INDEX)
    user_secret()
    if (folder / INDEX).exists():
        own = _read_index(folder)["finding"]
        if same_key(own) != same_key(finding):
            raise UsageError(
                f"{folder} has examples of '{shortened(own)}': choose another folder for '{shortened(finding)}'"
            )


def save_examples(folder: PathText, examples: Sequence[Example], finding: str, synonyms: Sequence[str] = ()) -> int:
    """Add examples to a folder; slices that are there already get the new mask.

    Args:
        folder: created if missing.
        examples: slices with masks.
        finding: its name; the folder is of one finding.
        synonyms: other names.

    Returns:
        Number of examples in the folder now.

    Raises:
        UsageError, FastTextDiffError: as :func:`check_examples_folder`, or writing failed.
    """
    check_examples_folder(folder, finding)
    folder = as_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {"salt": secrets.token_hex(8), "slices": {}}
    if (folder / INDEX).exists():
        index = _read_index(folder)
    for about in index["slices"].values():
        about["group"] = _keyed(str(about["group"]))
    for example in examples:
        key = example.key()
        with whole_files(folder / f"{key}.nrrd", folder / f"{key}.mask.nrrd") as (image, mask):
            _write(example.voxels, image, example.spacing)
            _write(example.mask.astype(np.uint8), mask, example.spacing)
        index["slices"][key] = {
            "modality": example.modality.value,
            "window": example.window,
            "spacing": example.spacing,
            "scale": example.scale,
            "window_of_model": example.window_of_model,
            "slice": example.slice_key,
            "group": _keyed(_salted(example.group, index["salt"])),
        }
    index |= {"finding": finding, "synonyms": list(synonyms)}
    with whole_files(folder / INDEX) as (path,):
        path.write_text(json.dumps(index, indent=1), encoding="utf-8")
    return len(index["slices"])


def load_examples(folder: PathText) -> tuple[list[Example], str, tuple[str, ...]]:
    """Examples, finding and synonyms of a folder.

    Raises:
        UsageError: the folder has no examples.
        FastTextDiffError: a file is missing or damaged.
    """
    folder = as_path(folder)
    if not (folder / INDEX).is_file():
        raise UsageError(f"{folder} has no examples: {INDEX} is missing")
    index = _read_index(folder)
    examples = [_read(folder, key, about) for key, about in index["slices"].items()]
    return examples, index["finding"], tuple(index["synonyms"])


def examples_named(folder: PathText, words: Sequence[str]) -> tuple[list[Example], list[str]]:
    """The examples of a folder, if they are of a finding with this name.

    Args:
        folder: the folder.
        words: name of the finding, then other names; without those, it has the folder's.

    Returns:
        Examples, and the words to learn.

    Raises:
        UsageError: the folder has no examples, or those of another finding.
        FastTextDiffError: a file is missing or damaged.
    """
    examples, own, synonyms = load_examples(folder)
    if same_key(own) not in map(same_key, words):
        raise UsageError(
            f"{folder} has examples of '{shortened(own)}', not of '{shortened(words[0])}': give another folder"
        )
    return examples, _with_synonyms(words, synonyms)


def words_kept(folder: PathText, words: Sequence[str]) -> list[str]:
    """The words to learn and to keep in a folder: name of the finding, then other names; without those, the folder's.

    Raises:
        FastTextDiffError: the folder is damaged.
    """
    folder = as_path(folder)
    return _with_synonyms(words, _read_index(folder)["synonyms"] if (folder / INDEX).exists() else ())


def _with_synonyms(words: Sequence[str], synonyms: Sequence[str]) -> list[str]:
    own = {same_key(word) for word in words}
    return list(words) if len(words) > 1 else [*words, *(word for word in synonyms if same_key(word) not in own)]


def anonymous(folder: PathText, group: str) -> str:
    """A group as a folder of examples names it, so that slices of one patient are held out together across days.

    Raises:
        FastTextDiffError: the folder cannot be read.
    """
    return _keyed(_salted(group, _read_index(as_path(folder))["salt"]))


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index = parse_json((folder / INDEX).read_text(encoding="utf-8"))
        texts = [index["salt"], index["finding"], *index["synonyms"]]
        if not all(isinstance(text, str) for text in texts) or not isinstance(index["synonyms"], list):
            raise TypeError
        if not all(isinstance(about["group"], str) for about in index["slices"].values()):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FastTextDiffError(f"{folder / INDEX} cannot be read: it is damaged") from error
    return dict(index)


def _read(folder: Path, key: str, about: dict[str, Any]) -> Example:
    import SimpleITK

    try:
        voxels, mask = (
            SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder / f"{key}{end}")))
            for end in (".nrrd", ".mask.nrrd")
        )
        window = None if about["window"] is None else (float(about["window"][0]), float(about["window"][1]))
        spacing = float(about["spacing"][0]), float(about["spacing"][1])
        if min(spacing) <= 0 or not np.isfinite(spacing).all():
            raise ValueError
        more = float(about["scale"]), _keyed(str(about["group"])), bool(about["window_of_model"])
        slice_key = str(about.get("slice", ""))  # folders of earlier days do not have it
        return Example(voxels, mask > 0, window, spacing, Modality(about["modality"]), *more, slice_key)
    except (RuntimeError, LookupError, TypeError, ValueError) as error:
        raise FastTextDiffError(f"{folder / key}.nrrd or its mask cannot be read: it is missing or damaged") from error


def _write(pixels: NDArray[Any], path: Path, spacing: tuple[float, float]) -> None:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(pixels), isVector=pixels.ndim == 3)
    image.SetSpacing((spacing[1], spacing[0]))
    try:
        SimpleITK.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:  # it does not say why
        raise FastTextDiffError(f"cannot write to {path.parent}: is the disk full?") from error


def _salted(group: str, salt: str) -> str:
    """Different in every folder. Not enough alone: the salt is in the folder, and the numbers of a hospital are few."""
    return hashlib.blake2b(group.encode(), key=salt.encode(), digest_size=_SALTED_BYTES).hexdigest() if group else ""


def _keyed(group: str) -> str:
    """Equal for equal groups of one user; without the user's secret, the group cannot be found from it.

    Folders of earlier days have salted groups, which are short. They are keyed when read, and in the folder with the
    next examples, so that one patient has one name on all days. In a folder that two users fill, a patient has two
    names, and slices of that patient may be on both sides when a fifth is held out.
    """
    if len(group) != 2 * _SALTED_BYTES:
        return group
    return hashlib.blake2b(group.encode(), key=user_secret(), digest_size=_GROUP_BYTES).hexdigest()
