"""Settings of this computer for all scenes: device, model folder, other computer, consents. Never patient data."""

import qt

_GROUP = "FastTextDiffSegment"
_ELSEWHERE = "other"


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
    def otherDevice(self) -> str:
        """Device id of the engine on another computer, "auto" by default."""
        return str(qt.QSettings().value(f"{_GROUP}/OtherDevice") or "auto")

    @otherDevice.setter
    def otherDevice(self, value: str) -> None:
        qt.QSettings().setValue(f"{_GROUP}/OtherDevice", value)

    @property
    def isElsewhere(self) -> bool:
        """Whether the user chose another computer."""
        return str(qt.QSettings().value(f"{_GROUP}/Place") or "") == _ELSEWHERE

    @isElsewhere.setter
    def isElsewhere(self, value: bool) -> None:
        qt.QSettings().setValue(f"{_GROUP}/Place", _ELSEWHERE if value else "")

    @property
    def host(self) -> str:
        """The other computer, HOST or USER@HOST; empty while none was typed."""
        return str(qt.QSettings().value(f"{_GROUP}/Host") or "")

    @host.setter
    def host(self, value: str) -> None:
        qt.QSettings().setValue(f"{_GROUP}/Host", value)

    @property
    def python(self) -> str:
        """The Python on the other computer; empty for the usual one."""
        return str(qt.QSettings().value(f"{_GROUP}/Python") or "")

    @python.setter
    def python(self, value: str) -> None:
        qt.QSettings().setValue(f"{_GROUP}/Python", value)

    def isHostAllowed(self, host: str) -> bool:
        """Whether the user's consent to send images to this host is remembered."""
        return host in _lines("AllowedHosts")

    def setHostAllowed(self, host: str, allowed: bool) -> None:
        """Store or remove that consent."""
        _setLine("AllowedHosts", host, allowed)

    @property
    def modelFolder(self) -> str:
        """Folder of the model, empty for the bundled one."""
        return str(qt.QSettings().value(f"{_GROUP}/ModelFolder") or "")

    @modelFolder.setter
    def modelFolder(self, value: str) -> None:
        qt.QSettings().setValue(f"{_GROUP}/ModelFolder", value)

    def isLicenceAccepted(self, model: str, licence: str) -> bool:
        """Whether the user accepted this licence for this model; permissive licences need no consent."""
        return not licence or licence in _PERMISSIVE or self._key(model, licence) in _lines("AcceptedLicences")

    def setLicenceAccepted(self, model: str, licence: str, accepted: bool) -> None:
        """Store or remove the user's consent."""
        _setLine("AcceptedLicences", self._key(model, licence), accepted)

    @staticmethod
    def _key(model: str, licence: str) -> str:
        return f"{model} {licence}"


def _lines(name: str) -> list[str]:
    return str(qt.QSettings().value(f"{_GROUP}/{name}") or "").split("\n")


def _setLine(name: str, line: str, isThere: bool) -> None:
    others = [each for each in _lines(name) if each not in ("", line)]
    qt.QSettings().setValue(f"{_GROUP}/{name}", "\n".join([*others, *([line] if isThere else [])]))


_PERMISSIVE = ("Apache-2.0", "MIT", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0")
