"""The systems by name: how each is built, and whether it reads texts.

Knows names and arguments; other files have the networks.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fasttextdiff.errors import FastTextDiffError, UsageError, one_line
from fasttextdiff.model.text_encoder import TextEncoder
from fasttextdiff_lab.study import definition
from fasttextdiff_lab.study.systems.system import System

Build = Callable[..., System]


@dataclass(frozen=True)
class Kind:
    """A kind of system.

    Attributes:
        place: `module:function` that builds it from `size` (pixels), `encoder` if it reads texts, and its own options.
        reads_text: whether it needs an encoder.
    """

    place: str
    reads_text: bool = False


_HERE = "fasttextdiff_lab.study.systems"
KINDS = {
    "unet": Kind(f"{_HERE}.unet:unet"),
    "transunet": Kind(f"{_HERE}.transunet:transunet"),
    "swinunet": Kind(f"{_HERE}.swinunet:swinunet"),
    "lvit": Kind(f"{_HERE}.lvit:lvit", reads_text=True),
    "fasttextdiff": Kind(f"{_HERE}.diffusion:fasttextdiff", reads_text=True),
}
"""TextDiff is `fasttextdiff` with an encoder of the BERT family."""


def kind_of(system: definition.System) -> Kind:
    """The kind of a system of a study.

    Raises:
        UsageError: it is unknown.
    """
    if system.kind in KINDS:
        return KINDS[system.kind]
    if ":" in system.kind:
        return Kind(system.kind, bool(getattr(_function(system.kind), "reads_text", False)))
    raise UsageError(f"the system '{system.kind}' is unknown: use {', '.join(KINDS)}, or module:function of your own")


def check_systems(study: definition.Study) -> dict[str, bool]:
    """Whether each system reads texts.

    Raises:
        UsageError: a system is unknown, lacks an encoder, or has unknown options.
    """
    reads = {}
    for name, system in study.systems.items():
        kind = kind_of(system)
        if kind.reads_text != (system.encoder is not None):
            raise UsageError(f"the system '{name}' {'needs' if kind.reads_text else 'cannot have'} an 'encoder'")
        options = {key: value for key, value in system.options.items() if key != "encoder"}
        try:
            inspect.signature(_function(kind.place)).bind(**_arguments(study.size, None, kind, options))
        except TypeError as error:
            raise UsageError(f"the system '{name}' has wrong options: {one_line(error)}") from error
        reads[name] = kind.reads_text
    return reads


def build(
    system: definition.System, size: int, encoder: TextEncoder | None, denoiser: Path | None, seed: int
) -> System:
    """Build a system; the same seed gives the same initial weights.

    Args:
        system: as in the study.
        size: side of the images in pixels.
        encoder: its text encoder, if it has one.
        denoiser: folder of its denoiser, if it names one.
        seed: of the initial weights.

    Raises:
        FastTextDiffError: its options or the size of the images do not fit, or a library is missing.
    """
    kind = kind_of(system)
    options = {key: value for key, value in system.options.items() if key != "encoder"}
    options |= {} if denoiser is None else {"denoiser": denoiser}
    torch.manual_seed(seed)
    try:
        built: System = _function(kind.place)(**_arguments(size, encoder, kind, options))
        return built
    except ImportError as error:
        raise FastTextDiffError(f"{one_line(error)}: pip install 'fasttextdiff[lab]'") from error
    except (ValueError, TypeError) as error:
        raise FastTextDiffError(f"the system '{system.kind}' cannot be built: {one_line(error)}") from error


def _arguments(size: int, encoder: TextEncoder | None, kind: Kind, options: dict[str, Any]) -> dict[str, Any]:
    return {"size": size, **({"encoder": encoder} if kind.reads_text else {}), **options}


def _function(place: str) -> Build:
    module, _, name = place.partition(":")
    try:
        found: Build = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"there is no system {place}: {one_line(error)}") from error
    return found
