"""The number format that training computes in. Knows the machine; knows nothing about models."""

from __future__ import annotations

import torch


def training_precision() -> str:
    """The format as accelerate names it: "bf16" where the machine is fast in it, otherwise "no", which is float32.

    A processor without bfloat16 instructions (AVX2 only) has no fast convolution in bfloat16: a step of the compact
    model then takes some twenty times as long as in float32.
    """
    return "bf16" if torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported() else "no"
