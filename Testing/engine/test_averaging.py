"""The mean of two models' weights."""

import pytest
import torch

from fasttextdiff.errors import UsageError
from fasttextdiff.model.info import BUNDLED_MODEL
from fasttextdiff.model.pipeline import FastTextDiffPipeline
from fasttextdiff_lab.averaging import averaged


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    """The bundled model with 1 added to every weight of the last convolution."""
    folder = tmp_path_factory.mktemp("shifted")
    pipeline = FastTextDiffPipeline.from_pretrained()
    with torch.no_grad():
        pipeline.fusion.conv3.weight.add_(1)
    pipeline.save_pretrained(folder)
    return folder


def test_weights_lie_between_those_of_both_models(shifted):
    plain, mean = FastTextDiffPipeline.from_pretrained(), averaged(BUNDLED_MODEL, shifted, 0.25)
    eight_bits = 2**-8
    assert torch.allclose(mean.fusion.conv3.weight, plain.fusion.conv3.weight + 0.25, rtol=eight_bits)
    assert torch.allclose(mean.fusion.conv1.weight, plain.fusion.conv1.weight, rtol=eight_bits)
    assert mean.info.taught == plain.info.taught


def test_a_model_of_other_sizes_is_refused(shifted, tmp_path):
    other = FastTextDiffPipeline.from_pretrained(shifted)
    other.fusion.conv3 = torch.nn.Conv2d(other.fusion.conv3.in_channels, 2, 3, padding=1)
    other.fusion.register_to_config(out_channels=2)
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(UsageError, match="was not trained further"):
        averaged(BUNDLED_MODEL, tmp_path / "other", 0.5)
