"""References for speed: the same computation in the way of the published code, and the published network.

Knows the networks; deliberately avoids the optimisations of the rest of the package.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fasttextdiff.image.preprocessing import ImageSettings, Preprocessing
from fasttextdiff.image.volume import Modality
from fasttextdiff.model import published
from fasttextdiff.model.denoiser import FeatureDenoiser
from fasttextdiff.model.feature_cache import Maps
from fasttextdiff.model.fusion import FusionOutput
from fasttextdiff.model.info import ModelInfo
from fasttextdiff.model.pipeline import FastTextDiffPipeline
from fasttextdiff.model.runtime import EncodedFindings
from fasttextdiff.model.text_encoder import TextEncoder, TextStates
from fasttextdiff.model.torch_runtime import TorchRuntime
from fasttextdiff.segmenter import Segmenter

MODERNBERT_VOCABULARY = 50368


class PlainPipeline(FastTextDiffPipeline):
    """A model that computes every result from scratch, step by step, without our optimisations.

    Runs one full denoiser pass per timestep; upsamples, concatenates and convolves features at full width.

    Args:
        fast: the model whose weights are used.
    """

    def __init__(self, fast: FastTextDiffPipeline) -> None:
        denoiser, fusion = copy.deepcopy(fast.denoiser), copy.deepcopy(fast.fusion)
        for part in (denoiser, fusion):
            part.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        super().__init__(fast.text_encoder, denoiser, fusion, fast.preprocessing, fast.info)

    def maps(self, image: Tensor, noise: Tensor) -> list[Tensor]:
        """The denoiser's unprojected features; :meth:`answer` does the head's part of this phase."""
        denoiser = self.denoiser
        by_timestep = []
        for timestep in denoiser.plan.timesteps:
            t = torch.full((len(image),), timestep, device=image.device)
            maps, _ = denoiser.run(denoiser.add_noise(image, noise.expand_as(image), t), t, full=True)
            by_timestep.append(maps)
        return [torch.cat(scale, dim=1) for scale in zip(*by_timestep, strict=True)]

    def answer(self, maps: Sequence[Tensor], text: TextStates, size: tuple[int, int]) -> FusionOutput:
        """As for any pipeline."""
        patch = self.denoiser.plan.patch_size
        return self.fusion.reference(maps, text.states, text.mask, (size[0] // patch, size[1] // patch))


class PlainRuntime(TorchRuntime):
    """Runs a :class:`PlainPipeline` in float32, one image at a time, without cache or rounding.

    Args:
        pipeline: the model whose weights are used.
        device: as for any runtime.
    """

    def __init__(self, pipeline: FastTextDiffPipeline, device: str) -> None:
        super().__init__(PlainPipeline(pipeline), device, "float32")
        self.batch = self.pairs = 1

    @staticmethod
    def _in_fast_layout(pipeline: FastTextDiffPipeline) -> FastTextDiffPipeline:
        return pipeline

    @staticmethod
    def _kept(maps: Sequence[Tensor]) -> Maps:
        return [m.cpu().numpy() for m in maps]

    def text(self, findings: Sequence[str]) -> EncodedFindings:
        """As for any runtime, but without the text cache."""
        self.pipeline.text_encoder.clear_cache()
        return super().text(findings)


def plain_segmenter(pipeline: FastTextDiffPipeline, device: str) -> Segmenter:
    """A segmenter without any optimisations, as a reference for speed."""
    runtime = PlainRuntime(pipeline, device)
    return Segmenter(runtime.pipeline, cache_bytes=0, runtime=runtime)


def paper_model(tokenizer: Any) -> FastTextDiffPipeline:
    """The published network at full size with random weights: ModernBERT-base, the 552.8M U-Net, the published head.

    Args:
        tokenizer: any; only the number of tokens matters for speed.
    """
    from transformers import ModernBertConfig, ModernBertModel

    torch.manual_seed(0)
    unet = _with_random_weights(published.build_unet(published.PUBLISHED_UNET))
    denoiser = FeatureDenoiser(unet, published.linear_schedule(), published.PUBLISHED_PLANS["qata"])
    head = _with_random_weights(published.build_head(denoiser.feature_channels()))
    text = TextEncoder(ModernBertModel(ModernBertConfig(vocab_size=MODERNBERT_VOCABULARY)), tokenizer)
    side = int(published.PUBLISHED_UNET["image_size"])
    preprocessing = Preprocessing({Modality.OTHER: ImageSettings(side), Modality.CT: ImageSettings(side)})
    pipeline = FastTextDiffPipeline(text, denoiser, head, preprocessing, ModelInfo(name="paper (random weights)"))
    return pipeline.eval()


def _with_random_weights(module: Any) -> Any:
    """A module from the meta device, with random weights that keep activations near one."""
    module.to_empty(device="cpu")
    for tensor in module.parameters():
        if tensor.ndim > 1:
            nn.init.normal_(tensor, std=tensor[0].numel() ** -0.5)
    for layer in module.modules():
        if isinstance(layer, (nn.GroupNorm, nn.LayerNorm, nn.BatchNorm2d)):
            layer.reset_parameters()
        elif getattr(layer, "bias", None) is not None:
            nn.init.zeros_(layer.bias)
    return module
