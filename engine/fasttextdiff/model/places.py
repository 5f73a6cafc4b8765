"""Finds the folder of a model: bundled, local, or on the Hugging Face Hub; and the hash of its weights.

Loads no weights and no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from fasttextdiff.errors import UsageError
from fasttextdiff.io.json_files import parse_json
from fasttextdiff.model.info import local_folder, read_index
from fasttextdiff.paths import PathText, as_name


def folder_of(name_or_folder: PathText | None) -> Path:
    """A local folder for a name; only a hub id (`owner/name`) that is not a path is downloaded.

    Args:
        name_or_folder: None for the bundled model, a folder, or a hub id.

    Raises:
        UsageError: the folder does not exist.
    """
    text = "" if name_or_folder is None else as_name(name_or_folder)
    is_hub_id = text.count("/") == 1 and not text.startswith((".", "/", "~"))
    if name_or_folder is None or not is_hub_id or Path(text).is_dir():
        return local_folder(name_or_folder)
    return _download(text)


def _download(hub_id: str) -> Path:
    missing = f"there is no folder {hub_id}, and no such model was found on the Hugging Face Hub"
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
    except ImportError:
        raise UsageError(f"there is no folder {hub_id}, and huggingface_hub is not installed to look for it") from None
    try:
        return Path(snapshot_download(hub_id, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.md"]))
    except (RepositoryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UsageError(missing) from error


def weights_hash(name_or_folder: PathText | None = None) -> str:
    """The weights hash in a model's results, without loading it.

    Args:
        name_or_folder: as for :func:`folder_of`.

    Raises:
        UsageError: the folder does not exist.
        ModelError: it is not a model folder.
    """
    folder = folder_of(name_or_folder)
    read_index(folder)
    return hash_weights(folder)


def parameter_count(name_or_folder: PathText | None = None) -> int:
    """Number of weights of a model, from the headers of its files; arguments and errors as for :func:`folder_of`."""
    from safetensors import safe_open

    count = 0
    for path in folder_of(name_or_folder).glob("*/*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            count += sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
    return count


def networks_hash(folder: Path, weights_sha256: str) -> str:
    """Hash of all that the networks of a model are made from: weights, their configurations, and the feature plan.

    Args:
        folder: of the model.
        weights_sha256: from :func:`hash_weights`, which reads all weights and is done once.
    """
    digest = hashlib.sha256(weights_sha256.encode())
    for path in sorted((*folder.glob("*/config.json"), *folder.glob("scheduler/*.json"))):
        # the content, since git on Windows may change the ends of lines
        digest.update(_canonical(parse_json(path.read_text(encoding="utf-8"))))
    digest.update(_canonical(read_index(folder)["features"]))
    return digest.hexdigest()[:16]


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def hash_weights(folder: Path) -> str:
    """First 16 hex digits of the SHA-256 of all weight files, sorted by name."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*/*.safetensors")):
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:16]
