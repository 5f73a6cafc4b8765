"""Prevents saved segments from replacing images of the scene or other programs' `.json` files. Knows only files."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from FastTextDiffSegmentLib.contract.files import identities, is_own_record

from .Geometry import SceneError


def requireApart(paths: Iterable[Path]) -> None:
    """Refuse to overwrite a file that an image of the scene was loaded from, or the `.json` of another program.

    Raises:
        SceneError: a file must not be written.
    """
    images = {one: node for node in _imageNodes() for file in storedFiles(node) for one in identities(Path(file))}
    for path in paths:
        node = next((images[one] for one in identities(path) if one in images), None)
        if node is not None:
            message = _("'{path}' is a file of the image '{image}': choose another name.")
            raise SceneError(message.format(path=path, image=node.GetName()))
        if path.suffix.lower() == ".json" and path.exists() and not is_own_record(path):
            message = _("'{path}' exists already and does not belong to saved segments: choose another name.")
            raise SceneError(message.format(path=path))


def storedFiles(volumeNode: Any) -> list[str]:
    """The files that Slicer read the voxels from, as full paths, all files of a series; empty if unknown."""
    storage = volumeNode.GetStorageNode()
    if storage is None or not storage.GetFileName():
        return []
    others = [storage.GetFullNameFromNthFileName(n) for n in range(storage.GetNumberOfFileNames())]
    return list(dict.fromkeys([storage.GetFullNameFromFileName(), *filter(None, others)]))


def _imageNodes() -> list[Any]:
    """All volumes except label maps, which were saved before and may be saved again."""
    nodes = slicer.util.getNodesByClass("vtkMRMLVolumeNode")
    return [node for node in nodes if not node.IsA("vtkMRMLLabelMapVolumeNode")]
