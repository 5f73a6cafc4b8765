"""What a study needs of a system. Knows shapes only."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fasttextdiff.model.text_encoder import TextEncoder, TextStates


class System(nn.Module):
    """A network from pictures, and perhaps texts, to logits.

    Args:
        encoder: reads the texts; None for a system without text.
        frozen_text: whether the encoder is not trained; its states of a text are then computed once.
    """

    def __init__(self, encoder: TextEncoder | None = None, frozen_text: bool = True) -> None:
        super().__init__()
        self.encoder, self.frozen_text = encoder, frozen_text
        if encoder is not None and frozen_text:
            encoder.requires_grad_(False)

    def words(self, texts: Sequence[str]) -> TextStates | None:
        """Token states of B texts; None for a system without text."""
        if self.encoder is None:
            return None
        if self.frozen_text:
            return self.encoder.encode(texts)
        device = next(self.encoder.parameters()).device
        states: TextStates = self.encoder(
            **{name: ids.to(device) for name, ids in self.encoder.tokenize(texts).items()}
        )
        return states

    def forward(self, images: Tensor, words: TextStates | None, noise: Tensor) -> Tensor:
        """Logits (B, 1 or 2, h, w) of images (B, 3, S, S) in [-1, 1]; noise (1 or B, 3, S, S) is for diffusion only."""
        raise NotImplementedError

    def learn(self, images: Tensor, words: TextStates | None, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and a loss of the system's own besides that of the masks, if it has one."""
        return self(images, words, noise), None

    def train(self, mode: bool = True) -> System:
        """As for any module; a frozen encoder stays without dropout."""
        super().train(mode)
        if self.encoder is not None and self.frozen_text:
            self.encoder.eval()
        return self


class Plain(System):
    """A network of another library that takes a picture only.

    Args:
        network: (B, 3, S, S) to (B, 1, S, S).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, words: TextStates | None, noise: Tensor) -> Tensor:
        """See :class:`System`."""
        logits: Tensor = self.network(images)
        return logits
