"""Resampling and noise without torch are those of torch, with which models were trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fasttextdiff.image.resampling import resampled
from fasttextdiff.model.noise import standard_normal

sides = st.integers(1, 70)


@given(old=st.tuples(sides, sides), new=st.tuples(sides, sides), antialias=st.booleans())
def test_resampling_is_that_of_torch(old, new, antialias):
    image = np.random.default_rng(0).random((2, *old), np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None], new, mode="bilinear", align_corners=False, antialias=antialias
    )
    found = resampled(image, new, antialias=antialias)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-4)


@pytest.mark.parametrize("shape", [(16,), (3, 8, 8), (1, 3, 16, 24), (1, 3, 7, 5)])
@pytest.mark.parametrize("seed", [0, 7, 2**32 + 7])
def test_noise_is_that_of_torch(shape, seed):
    expected = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))
    np.testing.assert_allclose(standard_normal(shape, seed), expected.numpy(), atol=2e-6)


def test_noise_is_kept_and_cannot_be_changed():
    noise = standard_normal((4, 4), 1)
    assert standard_normal((4, 4), 1) is noise
    with pytest.raises(ValueError, match="read-only"):
        noise[0] = 0
