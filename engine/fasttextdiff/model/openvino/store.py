"""Finds the converted networks of a model, or converts them once. Knows folders; loads torch only to convert."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasttextdiff.errors import FastTextDiffError, ModelError
from fasttextdiff.io.atomic import whole_folder
from fasttextdiff.model.openvino.package import FORMAT, read_networks, read_record
from fasttextdiff.model.places import networks_hash
from fasttextdiff.paths import user_folder

if TYPE_CHECKING:
    from fasttextdiff.model.pipeline import FastTextDiffPipeline

SUBFOLDER = "openvino"
CACHE_VARIABLE = "FASTTEXTDIFF_CACHE"


@dataclass(frozen=True)
class Converted:
    """The converted networks of a model.

    Attributes:
        networks: `openvino.Model` by name.
        record: what was written with them.
    """

    networks: dict[str, Any]
    record: dict[str, Any]


def cache_folder() -> Path:
    """This user's folder of converted and compiled networks; set FASTTEXTDIFF_CACHE for another one."""
    return user_folder(CACHE_VARIABLE, ("LOCALAPPDATA", "Local"), "Caches", ("XDG_CACHE_HOME", ".cache")) / SUBFOLDER


def cache_bytes(folder: Path | None = None) -> int:
    """Size of the cache folder, or of a part of it; 0 if it does not exist."""
    return sum(path.stat().st_size for path in (folder or cache_folder()).rglob("*") if path.is_file())


def compiled_folder() -> Path:
    """The part of the cache with networks compiled for this computer."""
    return cache_folder() / "compiled"


def clear_cache() -> None:
    """Remove everything from the cache; networks are converted and compiled again when needed."""
    shutil.rmtree(cache_folder(), ignore_errors=True)


def find(model_folder: Path, weights_sha256: str) -> Converted | None:
    """The converted networks in the model's own folder or in the cache; None if they are missing or damaged.

    Args:
        model_folder: of the weights.
        weights_sha256: their hash.
    """
    made_from = networks_hash(model_folder, weights_sha256)
    for folder in (model_folder / SUBFOLDER, _cached(made_from)):
        try:
            return _read(folder, made_from, model_folder)
        except ModelError:
            continue
    return None


def convert(pipeline: FastTextDiffPipeline, model_folder: Path, output: Path | None = None) -> Converted:
    """Convert a model, and keep the networks.

    Two processes may convert at once: each writes a folder of its own, and the first to finish is kept.

    Args:
        pipeline: the model, loaded from `model_folder`.
        model_folder: of its weights.
        output: folder to write; the cache if None.

    Raises:
        ModelError: the networks cannot be converted.
        FastTextDiffError: they cannot be written.
    """
    from fasttextdiff.model.openvino.writing import write_package

    made_from = networks_hash(model_folder, pipeline.info.weights_sha256)
    folder = output or _cached(made_from)
    try:
        return _read(folder, made_from, model_folder)
    except ModelError:
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or of other weights
    try:
        with whole_folder(folder) as temporary:
            write_package(pipeline, model_folder, temporary, made_from)
    except FastTextDiffError:
        with suppress(ModelError):  # another process was faster
            return _read(folder, made_from, model_folder)
        raise
    return _read(folder, made_from, model_folder)


def _cached(made_from: str) -> Path:
    return cache_folder() / f"{made_from}-{FORMAT}"


def _read(folder: Path, made_from: str, model_folder: Path) -> Converted:
    record = read_record(folder, made_from)
    return Converted(read_networks(folder, record, model_folder), record)
