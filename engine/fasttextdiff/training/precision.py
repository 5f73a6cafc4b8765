"""Chooses the dtype of training. Knows the machine; knows nothing about models."""

from __future__ import annotations

import torch


def training_precision() -> str:
    """The dtype as accelerate names it: "bf16" if it is fast on this machine, else "no" (float32).

    Without bfloat16 instructions (AVX2 only), a processor has no fast bfloat16 convolution: a step of the compact model
    takes about twenty times as long as in float32.
    """
    is_fast = torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001 - nothing public
    return "bf16" if is_fast else "no"
