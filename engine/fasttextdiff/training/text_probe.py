"""Whether a text encoder keeps left from right and yes from no: a linear probe on texts it was not fitted on.

Knows token states; knows nothing about images or training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fasttextdiff.text_encoder import TextEncoder

FITTED = (
    ("{words} in the {side} lung", "{side} lung {words}", "{words} on the {side}", "{side}-sided {words}"),
    ("no {words} in the {side} lung", "{side} lung without {words}", "no sign of {words} on the {side}",
     "absent {words}, {side}"),
    ("infection", "pneumonia", "consolidation", "opacity", "effusion", "nodule"),
)  # fmt: skip
"""Templates that affirm, templates that deny, and findings, for fitting the probe."""
HELD_OUT = (
    ("the {side} hemithorax shows {words}", "{words} of the patient's {side} side", "there is {words}, {side} lung"),
    ("the {side} hemithorax shows no {words}", "never any {words} at the {side} side",
     "there is no {words}, {side} lung"),
    ("infiltrate", "atelectasis", "airspace disease", "ground-glass change", "mass"),
)  # fmt: skip
"""The same, for measuring."""
RIDGE = 1e-2


def separability(encoder: TextEncoder) -> dict[str, float]:
    """Accuracy (0.5 is chance) of telling side and negation from the [CLS] state of held-out wordings.

    Args:
        encoder: any; its mode stays what it was.

    Returns:
        "side" and "negation".
    """
    mode = encoder.training
    encoder.eval()
    fitted, held_out = _texts(*FITTED), _texts(*HELD_OUT)
    states = [_first_states(encoder, [text for text, _, _ in rows]) for rows in (fitted, held_out)]
    encoder.clear_cache()
    encoder.train(mode)
    accuracy = {}
    for column, name in ((1, "side"), (2, "negation")):
        labels = [torch.tensor([float(row[column]) for row in rows]) * 2 - 1 for rows in (fitted, held_out)]
        told = _fit_and_tell(states[0], labels[0], states[1])
        accuracy[name] = float((told.sign() == labels[1]).float().mean())
    return accuracy


def _texts(affirming: Sequence[str], denying: Sequence[str], findings: Sequence[str]) -> list[tuple[str, bool, bool]]:
    """(text, whether it says left, whether it denies)."""
    return [
        (template.format(words=words, side=side), side == "left", denies)
        for denies, templates in ((False, affirming), (True, denying))
        for template in templates
        for words in findings
        for side in ("left", "right")
    ]


def _first_states(encoder: TextEncoder, texts: Sequence[str]) -> Tensor:
    """(N, D) [CLS] states, float32 on the CPU."""
    return encoder.encode(texts).states[:, 0].float().cpu()


def _fit_and_tell(states: Tensor, labels: Tensor, others: Tensor) -> Tensor:
    """Ridge regression of labels (-1 or 1) on standardised states, applied to others (M, D); returns (M,)."""
    mean, spread = states.mean(0), states.std(0).clamp_min(1e-6)
    x, y = (states - mean) / spread, (others - mean) / spread
    kernel = x @ x.T / x.shape[1]
    weights = torch.linalg.solve(kernel + RIDGE * torch.eye(len(x)), labels)
    return (y @ x.T / x.shape[1]) @ weights
