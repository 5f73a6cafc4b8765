"""Settings of this computer for all scenes: device, model folder, accepted licences. Never findings or patient data."""

import qt

_GROUP = "FastTextDiffSegment"


class ModuleSettings:
    """Application settings under `FastTextDiffSegment/`."""

    @property
    def device(self) -> str:
        """Device id of the engine, "auto" by default."""
        return str(qt.QSettings().value(f"{_GROUP}/Device") or "auto")

    @device.setter
    def device(self, value: str) -> None:
        qt.QSettings().setValue(f"{_GROUP}/Device", value)

    @property
    def modelFolder(self) -> str:
        """Folder of the model, empty for the bundled one."""
        return str(qt.QSettings().value(f"{_GROUP}/ModelFolder") or "")

    @modelFolder.setter
    def modelFolder(self, value: str) -> None:
        qt.QSettings().setValue(f"{_GROUP}/ModelFolder", value)

    def isLicenceAccepted(self, model: str, licence: str) -> bool:
        """Whether the user accepted this licence for this model; permissive licences need no consent."""
        return not licence or licence in _PERMISSIVE or self._key(model, licence) in self._accepted()

    def setLicenceAccepted(self, model: str, licence: str, accepted: bool) -> None:
        """Store or remove the user's consent."""
        others = [key for key in self._accepted() if key != self._key(model, licence)]
        qt.QSettings().setValue(
            f"{_GROUP}/AcceptedLicences", "\n".join([*others, *([self._key(model, licence)] if accepted else [])])
        )

    @staticmethod
    def _key(model: str, licence: str) -> str:
        return f"{model} {licence}"

    @staticmethod
    def _accepted() -> list[str]:
        return str(qt.QSettings().value(f"{_GROUP}/AcceptedLicences") or "").split("\n")


_PERMISSIVE = ("Apache-2.0", "MIT", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0")
