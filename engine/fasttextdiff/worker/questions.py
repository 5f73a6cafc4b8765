"""Requests that the worker answers immediately, without loading a model: model descriptions, checks of findings.

Knows nothing about threads and streams.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fasttextdiff.contract.answers import CacheSizes, CheckedFinding, CheckedFindings, ModelDescription
from fasttextdiff.contract.findings import understood, unreadable
from fasttextdiff.contract.requests import CheckFindings, ClearCache, DescribeModel, MeasureCache
from fasttextdiff.contract.teaching import LearnedFinding
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.info import ModelInfo, read_info, require_findings
from fasttextdiff.model.taught import is_weak, quality_line
from fasttextdiff.teaching.wording import answering, learned_elsewhere
from fasttextdiff.worker.values import model_folder_of


def _model(request: DescribeModel) -> ModelDescription:
    info = read_info(model_folder_of(request.model))
    return ModelDescription(info.name, info.licence, dict(info.taught), info.threshold)


def _check(request: CheckFindings) -> CheckedFindings:
    info, modality = read_info(model_folder_of(request.model)), Modality.named(request.modality)
    require_findings(request.findings)
    findings = [understood(text) or text for text in request.findings]
    return CheckedFindings(tuple(_checked(info, text, modality, request.learned) for text in findings))


def _checked(
    info: ModelInfo, text: str, modality: Modality | None, learned: Sequence[LearnedFinding]
) -> CheckedFinding:
    own = None if unreadable(text) else answering(text, learned, info, modality)
    if own is not None:
        return CheckedFinding(text, learned_elsewhere(text, own[0], modality), learned=own[0].finding)
    taught = info.taught_finding(text, modality)
    warning = unreadable(text) or info.warning(text, modality)
    if taught is None or modality is None:
        return CheckedFinding(text, warning)
    return CheckedFinding(text, warning, quality_line(taught, modality.value), is_weak(taught))


def _measure_cache(_request: MeasureCache | None = None) -> CacheSizes:
    from fasttextdiff.model.openvino import store

    compiled = store.cache_bytes(store.compiled_folder())
    return CacheSizes(store.cache_folder(), store.cache_bytes() - compiled, compiled)


def _clear_cache(_request: ClearCache) -> CacheSizes:
    from fasttextdiff.model.openvino import store

    store.clear_cache()
    return _measure_cache()


QUESTIONS: dict[type, Callable[[Any], Any]] = {
    DescribeModel: _model,
    CheckFindings: _check,
    MeasureCache: _measure_cache,
    ClearCache: _clear_cache,
}
