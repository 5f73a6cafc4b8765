"""Keeps compiled networks in files, because compiling takes two seconds at every start.

OpenVINO can do this too, but it writes over files that another process may have mapped into memory, and does not notice
damaged ones. Knows files; knows nothing about models.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.io.atomic import whole_files

_DIGEST = 32
"""Bytes of the SHA-256 before the network."""


def compiled(core: Any, network: Any, device: str, config: dict[str, str], kept: Path | None, name: str) -> Any:
    """A compiled network: read from its file if that is intact, else compiled and kept.

    Args:
        core: an `openvino.Core`.
        network: an `openvino.Model`.
        device: OpenVINO's name of the device.
        config: OpenVINO's settings.
        kept: folder of the files; None to compile every time.
        name: identifies the network, the model it belongs to, and OpenVINO's version.

    Returns:
        An `openvino.CompiledModel`.

    Raises:
        RuntimeError: OpenVINO cannot compile it.
    """
    if kept is None:
        return core.compile_model(network, device, config)
    # the same folder may be on another computer, e.g. in a home folder on a network
    here = f"{core.get_property(device, 'FULL_DEVICE_NAME')} {core.get_property(device, 'OPTIMIZATION_CAPABILITIES')}"
    key = hashlib.sha256(f"{name} {device} {sorted(config.items())} {here}".encode()).hexdigest()[:24]
    path = kept / f"{key}.blob"
    if content := _intact(path):
        with suppress(RuntimeError):  # of another OpenVINO
            return core.import_model(content, device, config)
    result = core.compile_model(network, device, config)
    with suppress(FastTextDiffError, OSError, RuntimeError):  # a full disk, or a device that cannot export
        _write(path, bytes(result.export_model().getbuffer()))
    return result


def _intact(path: Path) -> bytes:
    """The content of a file; empty if it is missing or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    content = data[_DIGEST:]
    return content if hashlib.sha256(content).digest() == data[:_DIGEST] else b""


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_files(path) as (temporary,):
        temporary.write_bytes(hashlib.sha256(content).digest() + content)
