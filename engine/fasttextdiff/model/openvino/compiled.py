"""Keeps compiled networks in files, because compiling takes two seconds at every start.

OpenVINO can do this too, but it writes over files that another process may have mapped into memory, and does not notice
damaged ones. Knows files; knows nothing about models.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.io.atomic import whole_files

MOST_BYTES = 256 * 2**20
"""Size of all files, above which those not used for longest are removed: there is one for each size of slices."""
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
    path = kept / f"{key_of(core, device, config, name)}.blob"
    if content := _intact(path):
        with suppress(RuntimeError):  # of another OpenVINO
            return core.import_model(content, device, config)
    result = core.compile_model(network, device, config)
    with suppress(FastTextDiffError, OSError, RuntimeError):  # a full disk, or a device that cannot export
        _write(path, bytes(result.export_model().getbuffer()))
    return result


def key_of(core: Any, device: str, config: dict[str, str], name: str) -> str:
    """Names a network on this processor: its folder may be used on another computer too.

    Args:
        core: an `openvino.Core`.
        device: OpenVINO's name of the device.
        config: OpenVINO's settings.
        name: identifies the network, the model it belongs to, and OpenVINO's version.
    """
    here = f"{core.get_property(device, 'FULL_DEVICE_NAME')} {core.get_property(device, 'OPTIMIZATION_CAPABILITIES')}"
    return hashlib.sha256(f"{name} {device} {sorted(config.items())} {here}".encode()).hexdigest()[:24]


def _intact(path: Path) -> bytes:
    """The content of a file; empty if it is missing or damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    content = data[_DIGEST:]
    if hashlib.sha256(content).digest() != data[:_DIGEST]:
        return b""
    with suppress(OSError):  # a folder that may only be read
        os.utime(path)
    return content


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_files(path) as (temporary,):
        temporary.write_bytes(hashlib.sha256(content).digest() + content)
    _remove_oldest(path)


def _remove_oldest(newest: Path) -> None:
    """Remove the files not used for longest, but not the newest."""
    files = sorted(newest.parent.glob("*.blob"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > MOST_BYTES and file != newest:
            with suppress(OSError):  # in use by another process, or removed by it
                file.unlink()
