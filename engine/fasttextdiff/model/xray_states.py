"""Tells whether a chest X-ray was turned or inverted, from the statistics that `model.kinds` computes.

Knows numbers and messages; knows nothing about images. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UPRIGHT, TURNED, INVERTED = "upright", "turned", "inverted"
STATES = (UPRIGHT, TURNED, INVERTED)
DOUBTS: Mapping[str, str] = {
    TURNED: "the X-ray looks turned: turn it upright, because sides and masks may be wrong",
    INVERTED: "the grey levels of the X-ray look inverted: save it with bright bones, because masks may be wrong",
}


@dataclass(frozen=True)
class XrayHead:
    """A linear softmax classifier.

    Attributes:
        weight: (3, D), for the order of :data:`STATES`.
        bias: (3,).
        surest: a lower probability of being turned or inverted is not reported.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    surest: float

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together."""
        if self.weight.ndim != 2 or len(self.weight) != len(STATES) or self.bias.shape != (len(STATES),):
            raise ValueError(
                f"arrays of shapes {self.weight.shape}, {self.bias.shape} do not distinguish states of an X-ray"
            )

    def probabilities(self, standard: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N, D) standardised statistics of N X-rays to (N, 3)."""
        return softmax(standard @ self.weight.T + self.bias)

    def state(self, probabilities: NDArray[np.float64]) -> str:
        """One of :data:`STATES` for probabilities (3,); upright unless another one is sure."""
        best = int(np.argmax(probabilities))
        return STATES[best] if probabilities[best] >= self.surest else UPRIGHT

    def doubt(self, standard: NDArray[np.float32]) -> str:
        """Why the result for an X-ray cannot be relied on, in one line; empty if it looks upright.

        Args:
            standard: (D,) standardised statistics.
        """
        return DOUBTS.get(self.state(self.probabilities(standard[None])[0]), "")


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities (N, K) for logits (N, K)."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
