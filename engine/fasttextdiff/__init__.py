"""FastTextDiff: segmentation of medical images from a typed finding.

Importing the package is cheap: torch, transformers and the readers are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fasttextdiff.former_names import install as _install_former_names
from fasttextdiff.version import __version__

_EXPORTS = {
    "FastTextDiffPipeline": "fasttextdiff.model.pipeline",
    "Segmenter": "fasttextdiff.segmenter",
    "Volume": "fasttextdiff.image.volume",
    "Modality": "fasttextdiff.image.volume",
    "read_volume": "fasttextdiff.io.read",
    "write_segmentation": "fasttextdiff.io.write",
    "measure": "fasttextdiff.segments.measuring",
    "FastTextDiffError": "fasttextdiff.errors",
}

__all__ = ["__version__", *_EXPORTS]

_install_former_names()


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use (PEP 562)."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'fasttextdiff' has no attribute {name!r}")
    try:
        return getattr(import_module(_EXPORTS[name]), name)
    except ModuleNotFoundError as error:
        from fasttextdiff.environment import needs_torch

        if reason := needs_torch(error):
            raise ImportError(f"{name}: {reason}") from None
        raise
