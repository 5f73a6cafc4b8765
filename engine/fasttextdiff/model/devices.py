"""Chooses the device and dtype of the networks. Knows the machine; knows nothing about models."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fasttextdiff.errors import UsageError

BATCH_IMAGES = {"cpu": 4, "cuda": 16, "mps": 8}
"""Batch size of the denoiser in images (slices or tiles), by device type."""
BATCH_PAIRS = {"cpu": 1, "cuda": 64, "mps": 8}
"""Batch size of the fusion head in pairs of image and finding; a CPU's caches hold only one map."""


def choose_device(name: str) -> torch.device:
    """The device for a name.

    Raises:
        UsageError: it is not a device, or not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"'{name}' is not a device: use auto, cpu, cuda, cuda:1 or mps") from None
    there: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    if device.type not in there or not there[device.type]():
        raise UsageError(f"this computer has no usable '{name}' device: use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"there is no {name}: this computer has {torch.cuda.device_count()} CUDA devices")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The computing dtype for a name.

    Raises:
        UsageError: the dtype is unknown, or not supported by the device.
    """
    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if _has_bfloat16(device) else torch.float16
        return torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise UsageError(f"'{name}' is not a dtype: use auto, {', '.join(known)}")
    if name == "bfloat16" and not _has_bfloat16(device):
        raise UsageError(f"{device} cannot compute in bfloat16: use --dtype auto, float16 or float32")
    return known[name]


def _has_bfloat16(device: torch.device) -> bool:
    """Whether a device supports bfloat16 natively; on older GPUs torch emulates it, slower than float32."""
    if device.type == "cuda":
        return torch.version.hip is not None or torch.cuda.get_device_capability(device)[0] >= 8
    return device.type != "mps" or torch.backends.mps.is_macos_or_newer(14, 0)
