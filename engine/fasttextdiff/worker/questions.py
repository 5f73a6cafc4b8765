"""What a worker answers at once, without a model in memory: what a model was taught, what is known about findings.

Knows nothing about threads and streams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fasttextdiff.findings import understood, unreadable
from fasttextdiff.model.info import FORMAT_VERSION, ModelInfo, read_info
from fasttextdiff.segments.tags import segment_names
from fasttextdiff.segments.terminology import assign_colors, code_finding
from fasttextdiff.worker.fields import findings_of, modality_of, model_folder_of

Fields = dict[str, Any]


def model_fields(folder: Path, info: ModelInfo) -> Fields:
    """A model's description in the protocol's words."""
    return {
        "name": info.name,
        "licence": info.licence,
        "taught": {kind: list(terms) for kind, terms in info.taught.items()},
        "threshold": info.threshold,
        "presenceThreshold": info.presence_threshold,
        "folder": str(folder),
        "format_version": FORMAT_VERSION,
    }


def segment_fields(findings: list[str]) -> list[Fields]:
    """How the segments of findings are named, coloured and coded; the same list always gives the same."""
    return [
        {"finding": finding, "name": name, "color": list(color), "terminology": code_finding(finding).slicer_entry}
        for finding, name, color in zip(findings, segment_names(findings), assign_colors(findings), strict=True)
    ]


def _model(request: Mapping[str, Any]) -> Fields:
    folder = model_folder_of(request)
    return model_fields(folder, read_info(folder))


def _check(request: Mapping[str, Any]) -> Fields:
    info, modality = read_info(model_folder_of(request)), modality_of(request)
    answers = segment_fields([understood(text) or text for text in findings_of(request)])
    for answer in answers:
        warning = unreadable(answer["finding"]) or info.warning(answer["finding"], modality)
        answer.update(known=not warning, warning=warning)
    return {"findings": answers}


QUESTIONS: dict[str, Callable[[Mapping[str, Any]], Fields]] = {
    "model": _model,
    "check": _check,
}
