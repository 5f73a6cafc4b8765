"""Other ways to fuse image and text, in place of the published block, at equal parameters and multiply-adds.

Every variant is two fusion steps and a linear layer, each pre-normalised and residual, as published; what a step does
differs. Extra hidden layers, one over pixels and one over words, fill every variant up to the dearest one. Knows shapes
only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

PIXELS = 28 * 28
"""Pixels of a middle map, for which costs are equal."""


class Text(NamedTuple):
    """Words for a block: states (B, L, D), and mask (B, L) bool or None."""

    states: Tensor
    mask: Tensor | None


class Sizes(NamedTuple):
    """Channels of the pixels, of the words, heads, and channels of a head."""

    width: int
    text: int
    heads: int
    head: int

    @property
    def inner(self) -> int:
        """Channels of all heads."""
        return self.heads * self.head


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V, of one set of vectors to another (Vaswani et al. 2017).

    Args:
        asking: channels of the vectors that ask and receive.
        asked: channels of the vectors that answer.
        heads: number of heads.
        head: channels of a head.
    """

    def __init__(self, asking: int, asked: int, heads: int, head: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(asking, heads * head, bias=False)
        self.to_k = nn.Linear(asked, heads * head, bias=False)
        self.to_v = nn.Linear(asked, heads * head, bias=False)
        self.to_out = nn.Linear(heads * head, asking)

    def forward(self, x: Tensor, to: Tensor, mask: Tensor | None) -> Tensor:
        """(B, N, asking) and (B, M, asked), mask (B, M) of the latter, to (B, N, asking)."""
        q, k, v = (
            part(y).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part, y in ((self.to_q, x), (self.to_k, to), (self.to_v, to))
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
        answer: Tensor = self.to_out((scores.softmax(3) @ v).transpose(1, 2).flatten(2))
        return answer


class ScaledDotProduct(nn.Module):
    """The published step: pixels attend to words."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention = Attention(sizes.width, sizes.text, sizes.heads, sizes.head)
        self.norm = nn.LayerNorm(sizes.width)

    def forward(self, x: Tensor, text: Text) -> Tensor:
        """What is added to the pixels, (B, N, width)."""
        answer: Tensor = self.norm(self.attention(x, text.states, text.mask))
        return answer


class Gated(ScaledDotProduct):
    """Gated attention: each channel of a pixel decides how much of the answer it takes (after Arevalo et al. 2017)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.gate = nn.Linear(2 * sizes.width, sizes.width)

    def forward(self, x: Tensor, text: Text) -> Tensor:
        """See :class:`ScaledDotProduct`."""
        answer = super().forward(x, text)
        return self.gate(torch.cat([x, answer], dim=2)).sigmoid() * answer


class CoAttention(ScaledDotProduct):
    """Co-attention: words attend to pixels, then pixels to these words (alternating, Lu et al. 2016, section 3.3)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.back = Attention(sizes.text, sizes.width, sizes.heads, sizes.head)
        self.norm_text = nn.LayerNorm(sizes.text)

    def forward(self, x: Tensor, text: Text) -> Tensor:
        """See :class:`ScaledDotProduct`."""
        states = text.states + self.norm_text(self.back(text.states, x, None))
        return super().forward(x, Text(states, text.mask))


class FiLM(nn.Module):
    """Feature-wise linear modulation: the mean word scales and shifts every channel (Perez et al. 2018)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.film = nn.Linear(sizes.text, 2 * sizes.width)

    def forward(self, x: Tensor, text: Text) -> Tensor:
        """See :class:`ScaledDotProduct`."""
        states, mask = text
        weight = torch.ones_like(states[..., :1]) if mask is None else mask[..., None].to(states.dtype)
        mean = (states * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        scale, shift = self.film(mean).chunk(2, dim=2)
        return x * scale + shift


class NoText(nn.Module):
    """No step: the text makes no difference."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()

    def forward(self, x: Tensor, text: Text) -> Tensor:
        """See :class:`ScaledDotProduct`."""
        return torch.zeros_like(x)


BLOCKS: dict[str, Callable[[Sizes], nn.Module]] = {
    "attention": ScaledDotProduct,
    "gated": Gated,
    "co-attention": CoAttention,
    "film": FiLM,
    "none": NoText,
}
DEAREST = "co-attention"


class Hidden(nn.Module):
    """A residual hidden layer over the last axis; nothing if it has no channels."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        layers = [nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)]
        self.layers = nn.Sequential(*layers) if hidden else None

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return x if self.layers is None else x + self.layers(x)


class Block(nn.Module):
    """A fusion block of any kind, with the interface of the engine's `FusionBlock`.

    Args:
        kind: name in :data:`BLOCKS`.
        sizes: channels.
        pixel_hidden: channels of the extra hidden layer over pixels.
        word_hidden: the same over words; a block without text runs it on constant words, so that it does something.
    """

    def __init__(self, kind: str, sizes: Sizes, pixel_hidden: int, word_hidden: int) -> None:
        super().__init__()
        self.step1, self.step2 = BLOCKS[kind](sizes), BLOCKS[kind](sizes)
        steps = (nn.Identity() if kind == "none" else nn.LayerNorm(sizes.width) for _ in range(2))
        self.norm1, self.norm2 = steps
        self.norm3 = nn.LayerNorm(sizes.width)
        self.linear = nn.Linear(sizes.width, sizes.width)
        self.pixels = Hidden(sizes.width, pixel_hidden)
        self.reading = Hidden(sizes.text, word_hidden)
        self.constant = nn.Linear(sizes.text, sizes.width) if kind == "none" else None

    def words(self, states: Tensor, mask: Tensor | None) -> Text:
        """Words for :meth:`forward`; states (B, L, D), mask (B, L)."""
        if self.constant is not None:
            states = torch.ones_like(states)
        return Text(self.reading(states), mask)

    def forward(self, x: Tensor, text: Text) -> Tensor:
        """(B, N, width) pixels to (B, N, width)."""
        if self.constant is not None:
            x = x + self.constant(text.states[:, :1])
        x = x + self.step1(self.norm1(x), text)
        x = x + self.step2(self.norm2(x), text)
        x = self.pixels(x)
        return x + self.linear(functional.gelu(self.norm3(x)))


def balanced(kind: str, sizes: Sizes, tokens: int) -> Block:
    """A block whose parameters and multiply-adds equal those of the dearest kind.

    Args:
        kind: name in :data:`BLOCKS`.
        sizes: channels.
        tokens: length of a text at which costs are equal; at other lengths they differ by the words' small part.
    """
    width, text = sizes.width, sizes.text
    goal = Block(DEAREST, sizes, 0, 0)
    work, size = multiply_adds(goal, sizes, tokens), _parameters(goal)
    own = Block(kind, sizes, 0, 0)
    # two unknowns, pixel_hidden p and word_hidden w, and two equations:
    #   2 width p + 2 text w = parameters that are missing, PIXELS 2 width p + tokens 2 text w = work that is missing
    spare_size, spare_work = size - _parameters(own), work - multiply_adds(own, sizes, tokens)
    pixel = (spare_work - tokens * spare_size) / (2 * width * (PIXELS - tokens))
    word = (spare_size - 2 * width * pixel) / (2 * text)
    return Block(kind, sizes, max(0, round(pixel)), max(0, round(word)))


def multiply_adds(block: Block, sizes: Sizes, tokens: int) -> int:
    """Of one map of :data:`PIXELS` pixels and one text."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        block(torch.zeros(1, PIXELS, sizes.width), block.words(torch.zeros(1, tokens, sizes.text), None))
    return int(counter.get_total_flops() // 2)


def _parameters(module: nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())
