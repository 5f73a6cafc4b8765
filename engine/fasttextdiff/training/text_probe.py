"""Tests with linear probes on held-out wordings whether an encoder's token states encode side, negation and finding.

The probes use the states of the finding's words, which hold side and negation only through attention. Knows token
states; knows nothing about images or training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fasttextdiff.model.text_encoder import TextEncoder
from fasttextdiff.training.alignment import mean_states, overlaps, tokenize_with_offsets

SIDES = (
    {"side": "left", "lung": "the left lung", "on": "the left"},
    {"side": "right", "lung": "the right lung", "on": "the right"},
    {"side": "bilateral", "lung": "both lungs", "on": "both sides"},
)
"""Fillings of the templates by side: left, right, both."""
FITTED_TEMPLATES = (
    ("{words} in {lung}", "{side} {words}", "{words} on {on}", "{words}, {lung}"),
    ("no {words} in {lung}", "{lung} without {words}", "no sign of {side} {words}", "no {words} on {on}"),
)
"""Affirmative and negative templates for fitting the probes."""
HELD_OUT_TEMPLATES = (
    ("within {lung} there is {words}", "{words} affecting {lung}", "show me the {words} at {on}"),
    ("there is no {words} within {lung}", "{lung} not affected by {words}", "never any {words} at {on}"),
)
"""Held-out counterparts for measuring; not in `training.prompts`."""
FITTED_PLAIN = ("{words}", "all {words}", "segment {words}", "no {words}", "is there {words}?")
HELD_OUT_PLAIN = ("please outline the {words}", "the picture shows {words}", "there is nothing of {words}")
"""Templates without a side, for distinguishing findings."""
LESIONS = ("lesion", "ground-glass", "consolidation")
FITTED_WORDS = {
    "lesion": ("infection", "pneumonia", "opacity", "infiltrate", "airspace disease", "inflammation"),
    "ground-glass": ("ground-glass opacity", "ground-glass", "GGO", "ground glass opacification"),
    "consolidation": ("consolidation", "consolidations", "airspace consolidation", "lung consolidation"),
    "heart": ("heart", "cardiac silhouette", "heart shadow", "cardiomediastinal silhouette"),
    "nuclei": ("nuclei", "cell nuclei", "nucleus", "stained nuclei"),
    "lungs": ("lungs", "lung fields", "lung", "both lungs"),
}
"""Findings and synonyms for fitting."""
HELD_OUT_WORDS = {
    "lesion": ("pneumonitis", "infective change", "airspace shadows", "pneumonic infiltration"),
    "ground-glass": ("GGOs", "ground-glass change", "ground-glass attenuation", "hazy ground-glass density"),
    "consolidation": ("consolidative change", "consolidated parenchyma", "consolidative opacity"),
    "heart": ("cardiac shadow", "heart contour", "cardiac outline"),
    "nuclei": ("cell nucleus", "haematoxylin-stained nuclei", "nuclear profiles"),
    "lungs": ("pulmonary fields", "lung parenchyma", "aerated lungs"),
}
"""Held-out counterparts for measuring; not in `training.prompts`."""
RIDGE = 1e-2


BATCH = 128


@dataclass(frozen=True)
class _Row:
    """A text, the finding's words in it, and its labels; side -1 if there is none."""

    text: str
    words: str
    side: int
    negation: int
    finding: int


def separability(encoder: TextEncoder) -> dict[str, dict[str, float]]:
    """Accuracy for side (chance 1/3), negation (1/2) and finding (1/6), from the states of the finding's words.

    Args:
        encoder: the text encoder; its training mode is preserved.

    Returns:
        "side", "negation" and "finding", each with "templates" (held-out templates, fitted words) and "synonyms"
        (held-out templates and words).
    """
    mode = encoder.training
    encoder.eval()
    accuracies = {}
    for names, make, fitted, held_out in (
        (("side", "negation"), _sided, FITTED_TEMPLATES, HELD_OUT_TEMPLATES),
        (("finding",), _plain, FITTED_PLAIN, HELD_OUT_PLAIN),
    ):
        fit, templates, synonyms = (
            _with_states(encoder, make(*rows))
            for rows in ((fitted, FITTED_WORDS), (held_out, FITTED_WORDS), (held_out, HELD_OUT_WORDS))
        )
        for name in names:
            accuracies[name] = {
                "templates": _accuracy(name, fit, templates),
                "synonyms": _accuracy(name, fit, synonyms),
            }
    encoder.train(mode)
    return accuracies


def _sided(templates: Sequence[Sequence[str]], words: Mapping[str, Sequence[str]]) -> list[_Row]:
    """Every lesion on every side, affirmed and negated."""
    return [
        _Row(template.format(words=word, **places), word, side, negation, LESIONS.index(finding))
        for negation, wordings in enumerate(templates)
        for template in wordings
        for finding in LESIONS
        for word in words[finding]
        for side, places in enumerate(SIDES)
    ]


def _plain(templates: Sequence[str], words: Mapping[str, Sequence[str]]) -> list[_Row]:
    """Every finding without a side."""
    return [
        _Row(template.format(words=word), word, -1, -1, number)
        for template in templates
        for number, synonyms in enumerate(words.values())
        for word in synonyms
    ]


def _with_states(encoder: TextEncoder, rows: Sequence[_Row]) -> tuple[Sequence[_Row], Tensor]:
    """The rows, and (N, D) mean states of the tokens of the finding's words, float32 on the CPU."""
    return rows, torch.cat([_states(encoder, rows[n : n + BATCH]) for n in range(0, len(rows), BATCH)])


@torch.no_grad()
def _states(encoder: TextEncoder, rows: Sequence[_Row]) -> Tensor:
    tokens, offsets = tokenize_with_offsets(encoder.tokenizer, [row.text for row in rows], encoder.max_tokens)
    device = next(encoder.parameters()).device
    states = encoder(**{name: ids.to(device) for name, ids in tokens.items()}).states.float().cpu()
    starts = [row.text.index(row.words) for row in rows]
    spans = torch.tensor([[[start, start + len(row.words)]] for start, row in zip(starts, rows, strict=True)])
    return mean_states(states, overlaps(spans, offsets))[:, 0]


def _accuracy(name: str, fit: tuple[Sequence[_Row], Tensor], asked: tuple[Sequence[_Row], Tensor]) -> float:
    """Accuracy on the `asked` rows of a probe fitted to the others."""
    labels, wanted = (torch.tensor([getattr(row, name) for row in rows]) for rows, _ in (fit, asked))
    predicted = _fit_and_predict(fit[1], functional.one_hot(labels).float() * 2 - 1, asked[1]).argmax(1)
    return float((predicted == wanted).float().mean())


def _fit_and_predict(states: Tensor, labels: Tensor, others: Tensor) -> Tensor:
    """Ridge regression of labels (N, K) on standardised states (N, D), applied to others (M, D); returns (M, K)."""
    mean, spread = states.mean(0), states.std(0).clamp_min(1e-6)
    x, y = (states - mean) / spread, (others - mean) / spread
    kernel = x @ x.T / x.shape[1]
    weights = torch.linalg.solve(kernel + RIDGE * torch.eye(len(x)), labels)
    return (y @ x.T / x.shape[1]) @ weights
