"""Keeps the definition of an encoder or denoiser in its folder, so that one trained otherwise is never taken for it.

Knows definitions and folders; trains nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fasttextdiff.errors import UsageError
from fasttextdiff.io.atomic import whole_files
from fasttextdiff.io.json_files import parse_json
from fasttextdiff_lab.study.definition import Denoiser, Encoder, Study, plain

DEFINITION = "definition.json"
FOLDERS = {"encoder": "encoders", "denoiser": "denoisers"}
"""In the study's folder, by kind of part."""


def require_as_defined(study: Study, folder: Path) -> None:
    """Refuse parts in the study's folder that were trained in another way than the study says now.

    Raises:
        UsageError: one was, or how it was trained is not known.
    """
    sections: Mapping[str, Mapping[str, Encoder | Denoiser]] = {"encoder": study.encoders, "denoiser": study.denoisers}
    for kind, named in sections.items():
        for name, spec in named.items():
            _require(folder / FOLDERS[kind] / name, spec)


def keep_definition(place: Path, spec: Encoder | Denoiser) -> None:
    """Write the definition of a part that is about to be trained into its folder; created if missing.

    Raises:
        UsageError: the folder holds a part that was trained in another way.
    """
    _require(place, spec)
    place.mkdir(parents=True, exist_ok=True)
    with whole_files(place / DEFINITION) as (temporary,):
        temporary.write_text(json.dumps(plain(asdict(spec)), indent=1) + "\n", encoding="utf-8")


def _require(place: Path, spec: Encoder | Denoiser) -> None:
    if not place.is_dir() or not any(place.iterdir()):
        return
    stored: Any = None
    with suppress(OSError, ValueError):
        stored = parse_json((place / DEFINITION).read_text(encoding="utf-8"))
    now, before = plain(asdict(spec)), stored if isinstance(stored, dict) else {}
    differing = [name for name in now if name not in before or before[name] != now[name]]
    if differing:
        name = differing[0]
        was = f"{name} {before[name]!r:.100}" if name in before else f"an unknown '{name}'"
        raise UsageError(
            f"{place} was trained with {was}, not with {now[name]!r:.100}: choose another output folder, or delete "
            "that one to train it again"
        )
