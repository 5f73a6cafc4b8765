"""Decoder features of a diffusion U-Net at chosen timesteps: the image part of the method.

Knows the noise schedule and the network; knows nothing about text, findings, masks or volumes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn
from torch.nn import functional

from fasttextdiff.errors import Cancelled
from fasttextdiff.model.noise import standard_normal
from fasttextdiff.model.settings import FeaturePlan


class FeatureDenoiser(nn.Module):
    """Reads features of a `diffusers.UNet2DModel` at chosen blocks and timesteps (paper section 3.2; TextDiff 2.1).

    All timesteps of all images run in one batch. Decoder blocks after the last one in the plan are not run.

    Args:
        unet: the network; its input has `3 * patch_size ** 2` channels.
        scheduler: the noise schedule it was trained with.
        plan: timesteps and blocks to read.

    Raises:
        ValueError: the plan has a block or timestep that the network or schedule lacks.
    """

    def __init__(self, unet: UNet2DModel, scheduler: DDPMScheduler, plan: FeaturePlan) -> None:
        super().__init__()
        self.unet, self.scheduler, self.plan = unet, scheduler, plan
        n_blocks = len(unet.up_blocks) * (unet.config.layers_per_block + 1)
        if plan.blocks[-1] >= n_blocks:
            raise ValueError(f"decoder block {plan.blocks[-1]} does not exist: this network has {n_blocks}")
        if max(plan.timesteps) >= scheduler.config.num_train_timesteps:
            raise ValueError(f"timestep {max(plan.timesteps)} is beyond the schedule's last")

    @property
    def multiple(self) -> int:
        """The image side must be a multiple of this many pixels."""
        return int(self.plan.patch_size * 2 ** (len(self.unet.up_blocks) - 1))

    def feature_channels(self) -> tuple[int, ...]:
        """Channels of every map of :meth:`forward`: len(timesteps) times those of the block."""
        per_level = self.unet.config.layers_per_block + 1
        widths = list(reversed(self.unet.config.block_out_channels))
        return tuple(len(self.plan.timesteps) * widths[block // per_level] for block in self.plan.blocks)

    def add_noise(self, image: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps for image, noise (B, C, H, W) and timesteps (B,)."""
        return self.scheduler.add_noise(image, noise, timesteps)

    def forward(self, image: Tensor, noise: Tensor) -> list[Tensor]:
        """Features of clean images.

        Args:
            image: x_0, (B, 3, H, W), in [-1, 1]; H and W multiples of :attr:`multiple`.
            noise: eps, (1, 3, H, W) shared by the batch or (B, 3, H, W); used at every timestep.

        Returns:
            One map per block of the plan, (B, T * C_k, h_k, w_k), timesteps outermost in the channel axis.
        """
        features, _ = self.run(*self._noised(image, noise), full=False)
        return self._by_image(features)

    def denoise(self, image: Tensor, noise: Tensor) -> tuple[list[Tensor], Tensor]:
        """Like :meth:`forward`, but also return the network's output, for training.

        Returns:
            Features as from :meth:`forward`; the network's output (B * T, out, H, W), timesteps of an image next to
            each other.
        """
        features, output = self.run(*self._noised(image, noise), full=True)
        assert output is not None
        return self._by_image(features), output

    def _noised(self, image: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """x_t (B * T, 3, H, W) and t (B * T,): the timesteps of an image next to each other."""
        steps = torch.tensor(self.plan.timesteps, device=image.device)
        timesteps = steps.repeat(len(image))
        images = image.repeat_interleave(len(steps), dim=0)
        noises = noise.expand_as(image).repeat_interleave(len(steps), dim=0)
        return self.add_noise(images, noises, timesteps), timesteps

    def _by_image(self, features: list[Tensor]) -> list[Tensor]:
        """(B * T, C, h, w) to (B, T * C, h, w)."""
        t = len(self.plan.timesteps)
        return [f.reshape(f.shape[0] // t, t * f.shape[1], *f.shape[2:]) for f in features]

    def run(self, noised: Tensor, timesteps: Tensor, *, full: bool) -> tuple[list[Tensor], Tensor | None]:
        """One pass over x_t (B, 3, H, W) at timesteps (B,).

        Returns:
            The plan's decoder maps (B, C_k, h_k, w_k) and, if `full`, the network's output (B, out, H, W): the
            predicted noise (first 3 channels) and, if the network learned it, the variance.
        """
        unet = self.unet
        sample = functional.pixel_unshuffle(noised, self.plan.patch_size) if self.plan.patch_size > 1 else noised
        emb = unet.time_embedding(unet.time_proj(timesteps).to(dtype=sample.dtype))
        sample = unet.conv_in(sample)
        skips = [sample]
        for block in unet.down_blocks:
            sample, outputs = block(hidden_states=sample, temb=emb)
            skips.extend(outputs)
        if unet.mid_block is not None:
            sample = unet.mid_block(sample, emb)
        last = None if full else self.plan.blocks[-1]
        sample, features = _decode(unet, sample, emb, skips, wanted=self.plan.blocks, last=last)
        if not full:
            return features, None
        out = unet.conv_out(unet.conv_act(unet.conv_norm_out(sample)))
        return features, functional.pixel_shuffle(out, self.plan.patch_size) if self.plan.patch_size > 1 else out


def _decode(
    unet: UNet2DModel, sample: Tensor, emb: Tensor, skips: list[Tensor], *, wanted: Sequence[int], last: int | None
) -> tuple[Tensor, list[Tensor]]:
    """Run the up-blocks, keep the outputs of the plan's blocks, stop after `last`.

    `UNet2DModel.forward` can neither stop inside an up-block nor return the maps between its residual blocks.
    """
    features: list[Tensor] = []
    index = 0
    for block in unet.up_blocks:
        attentions = getattr(block, "attentions", None)
        for r, resnet in enumerate(block.resnets):
            sample = resnet(torch.cat([sample, skips.pop()], dim=1), emb)
            if attentions is not None:
                sample = attentions[r](sample)
            if r == len(block.resnets) - 1 and block.upsamplers is not None:
                for upsampler in block.upsamplers:
                    # the "resnet" up-sampler is a residual block and needs the time embedding; the plain one does not
                    sample = upsampler(sample, emb) if hasattr(upsampler, "time_emb_proj") else upsampler(sample)
            if index in wanted:
                features.append(sample)
            if index == last:
                return sample, features
            index += 1
    return sample, features


@contextmanager
def interruptible(network: nn.Module, go_on: Callable[[], bool]) -> Iterator[None]:
    """A context in which a pass of the network can be stopped before each convolution.

    Args:
        network: the network.
        go_on: called before every convolution.

    Raises:
        Cancelled: from the pass, as soon as `go_on` returns False.
    """

    def ask(*_: object) -> None:
        if not go_on():
            raise Cancelled("stopped for another request")

    hooks = [layer.register_forward_pre_hook(ask) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def seeded_noise(shape: Sequence[int], seed: int, device: torch.device | str = "cpu") -> Tensor:
    """:func:`fasttextdiff.model.noise.standard_normal` as a tensor on a device."""
    return torch.tensor(standard_normal(tuple(shape), seed), device=device)
