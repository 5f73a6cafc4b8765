"""Decoder features: exactly the network's own, at the planned blocks and timesteps, without extra work."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_denoiser

from fasttextdiff.model.denoiser import seeded_noise
from fasttextdiff.model.settings import FeaturePlan

SHAPE = (2, 3, 32, 32)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def inputs():
    return seeded_noise(SHAPE, 1).tanh(), seeded_noise((1, *SHAPE[1:]), 2)


def residual_blocks_that_run(denoiser, call):
    """Indices, in guided-diffusion's count, of the decoder's residual blocks that run during `call`, in order."""
    ran, hooks, index = [], [], 0
    for block in denoiser.unet.up_blocks:
        for resnet in block.resnets:
            hooks.append(resnet.register_forward_hook(lambda *_, index=index: ran.append(index)))
            index += 1
    hooks.append(denoiser.unet.conv_out.register_forward_hook(lambda *_: ran.append("output")))
    call()
    for hook in hooks:
        hook.remove()
    return ran


def test_nothing_after_the_last_planned_block_runs():
    denoiser = tiny_denoiser(blocks=(0, 2))
    assert residual_blocks_that_run(denoiser, lambda: denoiser(*inputs())) == [0, 1, 2]
    assert residual_blocks_that_run(denoiser, lambda: denoiser.denoise(*inputs())) == [0, 1, 2, 3, 4, 5, "output"]


def test_an_up_sampler_after_the_last_planned_block_runs_only_where_it_belongs_to_the_block():
    ran = []
    for last, expected in ((2, 1), (3, 2)):
        denoiser = tiny_denoiser(blocks=(0, last))
        for block in denoiser.unet.up_blocks[:2]:
            block.upsamplers[0].register_forward_hook(lambda *_: ran.append(1))
        denoiser(*inputs())
        assert len(ran) == expected
        ran.clear()


@pytest.mark.parametrize("patch_size", [1, 2])
def test_truncated_features_equal_those_of_the_whole_pass_and_have_the_promised_channels(patch_size):
    denoiser = tiny_denoiser(blocks=(0, 1, 3, 4), patch_size=patch_size)
    image, noise = inputs()
    features = denoiser(image, noise)
    whole, output = denoiser.denoise(image, noise)
    assert all(torch.equal(a, b) for a, b in zip(features, whole, strict=True))
    assert tuple(f.shape[1] for f in features) == denoiser.feature_channels() == (64, 64, 32, 32)
    assert [f.shape[-1] * patch_size for f in features] == [8, 16, 32, 32]
    assert output.shape == (4, 3, 32, 32)


def test_the_output_equals_that_of_unet2dmodel():
    denoiser = tiny_denoiser()
    image, noise = inputs()
    _, output = denoiser.denoise(image, noise)
    for n, t in enumerate((50, 150)):
        noised = denoiser.scheduler.add_noise(image, noise.expand_as(image), torch.full((2,), t))
        assert (output[n::2] - denoiser.unet(noised, t).sample).abs().max() < 1e-5


def test_images_and_timesteps_in_one_batch_equal_them_one_by_one():
    together = tiny_denoiser(blocks=(1, 4), timesteps=(50, 150, 250))
    image, noise = inputs()
    features = together(image, noise)
    for n, t in enumerate((50, 150, 250)):
        alone = tiny_denoiser(blocks=(1, 4), timesteps=(t,))
        for b in range(2):
            for feature, single in zip(features, alone(image[b : b + 1], noise), strict=True):
                part = feature[b].chunk(3)[n]
                assert part.std() > 0.01
                assert (part - single[0]).abs().max() < 1e-5


def test_noise_can_be_given_per_image():
    denoiser = tiny_denoiser()
    image, _ = inputs()
    noise = seeded_noise(SHAPE, 5)
    batch = denoiser(image, noise)
    second = denoiser(image[1:], noise[1:])
    assert all((a[1] - b[0]).abs().max() < 1e-5 for a, b in zip(batch, second, strict=True))
    assert (batch[0][0] - second[0][0]).abs().max() > 1e-3


def test_noise_depends_only_on_seed_and_shape():
    torch.manual_seed(1)
    first = seeded_noise((1, 3, 8, 8), 7)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(first, seeded_noise((1, 3, 8, 8), 7))
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, seeded_noise((1, 3, 8, 8), 8))
    assert first.std() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("side", [1, 3])
def test_any_multiple_of_the_stated_pixel_size_works(side):
    denoiser = tiny_denoiser(patch_size=2)
    assert denoiser.multiple == 8
    size = (1, 3, 8 * side, 16)
    assert denoiser(seeded_noise(size, 1), seeded_noise(size, 2))[0].shape[2:] == (2 * side, 4)


@pytest.mark.parametrize(("blocks", "timesteps"), [((), (50,)), ((1,), ()), ((3, 1), (50,)), ((1, 1), (50,))])
def test_a_plan_that_no_network_can_serve_is_refused(blocks, timesteps):
    with pytest.raises(ValueError, match=r"needs at least one|increasing and distinct"):
        FeaturePlan(timesteps, blocks)


@pytest.mark.parametrize(("blocks", "timesteps"), [((6,), (50,)), ((1,), (1000,))])
def test_a_plan_beyond_the_network_or_schedule_is_refused(blocks, timesteps):
    with pytest.raises(ValueError, match=r"does not exist|beyond"):
        tiny_denoiser(blocks, timesteps)
