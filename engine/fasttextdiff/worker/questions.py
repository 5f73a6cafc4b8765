"""Requests that the worker answers immediately, without loading a model: model descriptions, checks of findings.

Knows nothing about threads and streams.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fasttextdiff.contract.answers import CheckedFinding, CheckedFindings, ModelDescription
from fasttextdiff.contract.findings import understood, unreadable
from fasttextdiff.contract.requests import CheckFindings, DescribeModel
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.info import read_info, require_findings
from fasttextdiff.worker.values import model_folder_of


def _model(request: DescribeModel) -> ModelDescription:
    info = read_info(model_folder_of(request.model))
    taught = {kind: tuple(terms) for kind, terms in info.taught.items()}
    return ModelDescription(info.name, info.licence, taught)


def _check(request: CheckFindings) -> CheckedFindings:
    info, modality = read_info(model_folder_of(request.model)), Modality.named(request.modality)
    require_findings(request.findings)
    findings = [understood(text) or text for text in request.findings]
    return CheckedFindings(tuple(CheckedFinding(f, unreadable(f) or info.warning(f, modality)) for f in findings))


QUESTIONS: dict[type, Callable[[Any], Any]] = {
    DescribeModel: _model,
    CheckFindings: _check,
}
