"""The number format of training: bfloat16 only if the machine is fast with it."""

from types import SimpleNamespace

import pytest
import torch

from fasttextdiff.training.precision import training_precision


@pytest.mark.parametrize(
    ("gpu", "fast_on_cpu", "expected"), [(True, False, "bf16"), (False, True, "bf16"), (False, False, "no")]
)
def test_a_processor_without_bfloat16_trains_in_float32(monkeypatch, gpu, fast_on_cpu, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(_is_mkldnn_bf16_supported=lambda: fast_on_cpu))
    assert training_precision() == expected
