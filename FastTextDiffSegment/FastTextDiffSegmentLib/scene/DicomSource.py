"""The DICOM files that a volume was loaded from. Knows the scene and Slicer's DICOM database, not the engine."""

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from .Geometry import SceneError, startsLikeDicom
from .Overwriting import storedFiles


def dicomFiles(volumeNode: Any) -> list[str]:
    """All files of the series, in no particular order.

    Raises:
        SceneError: the volume is not from DICOM, or a file no longer exists.
    """
    uids = (volumeNode.GetAttribute("DICOM.instanceUIDs") or "").split()
    files = _filesInDatabase(uids) or storedFiles(volumeNode)
    present = [file for file in files if Path(file).is_file()]
    if not uids and not (present and startsLikeDicom(present[0])):
        raise SceneError(_("'{name}' was not loaded from DICOM.").format(name=volumeNode.GetName()))
    if len(present) < max(1, len(files)):
        message = _("{count} of {total} DICOM files of '{name}' are gone: import the study again.")
        total = len(files) or len(uids)
        raise SceneError(message.format(count=total - len(present), total=total, name=volumeNode.GetName()))
    return present


def _filesInDatabase(uids: list[str]) -> list[str]:
    """Files from Slicer's DICOM database; empty if it does not know every instance."""
    database = getattr(slicer, "dicomDatabase", None)
    files = [database.fileForInstance(uid) for uid in uids] if database else []
    return list(dict.fromkeys(files)) if all(files) else []
