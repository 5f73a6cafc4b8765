"""What our speed is compared with: the same computation as the published code does it, and the published network.

Knows the networks; the savings of the rest of the package are avoided on purpose.
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
from fasttextdiff.model.fusion import FusionOutput
from fasttextdiff.model.info import ModelInfo
from fasttextdiff.model.pipeline import FastTextDiffPipeline
from fasttextdiff.model.runtime import TorchRuntime
from fasttextdiff.model.text_encoder import TextEncoder, TextStates
from fasttextdiff.segmenter import Segmenter

MODERNBERT_VOCABULARY = 50368


class PlainPipeline(FastTextDiffPipeline):
    """A model whose every answer is computed anew, step by step: the modules of another one without our savings.

    One full denoiser pass a timestep, one after another; features upsampled, joined and
    convolved at full width.

    Args:
        fast: the model whose weights are used.
    """

    def __init__(self, fast: FastTextDiffPipeline) -> None:
        denoiser, fusion = copy.deepcopy(fast.denoiser), copy.deepcopy(fast.fusion)
        for part in (denoiser, fusion):
            part.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        super().__init__(fast.text_encoder, denoiser, fusion, fast.preprocessing, fast.info)

    def maps(self, image: Tensor, noise: Tensor) -> list[Tensor]:
        """The denoiser's features as they are; the head's part of this phase is left to :meth:`answer`."""
        denoiser = self.denoiser
        by_timestep = []
        for timestep in denoiser.plan.timesteps:
            t = torch.full((len(image),), timestep, device=image.device)
            maps, _ = denoiser.run(denoiser.add_noise(image, noise.expand_as(image), t), t, full=True)
            by_timestep.append(maps)
        return [torch.cat(scale, dim=1) for scale in zip(*by_timestep, strict=True)]

    def answer(self, maps: Sequence[Tensor], text: TextStates, size: tuple[int, int]) -> FusionOutput:
        """As of any pipeline."""
        patch = self.denoiser.plan.patch_size
        return self.fusion.reference(maps, text.states, text.mask, (size[0] // patch, size[1] // patch))


class PlainRuntime(TorchRuntime):
    """Runs a :class:`PlainPipeline` in float32, one image at a time; nothing is kept or rounded.

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
    def _kept(maps: Sequence[Tensor]) -> list[Tensor]:
        return list(maps)

    def text(self, findings: Sequence[str]) -> TextStates:
        """As of any runtime, but without the cache of texts."""
        self.pipeline.text_encoder.clear_cache()
        return super().text(findings)


def plain_segmenter(pipeline: FastTextDiffPipeline, device: str) -> Segmenter:
    """A segmenter without any savings: the reference that speed is compared with."""
    runtime = PlainRuntime(pipeline, device)
    return Segmenter(runtime.pipeline, cache_bytes=0, runtime=runtime)


def paper_model(tokenizer: Any, plan: str = "qata", seed: int = 0) -> FastTextDiffPipeline:
    """The published network at full size with random weights: ModernBERT-base, the 552.8M U-Net, the published head.

    Args:
        tokenizer: any; the number of tokens is all that matters for speed.
        plan: "qata" or "monuseg", the decoder blocks that are read.
        seed: of the weights.
    """
    from transformers import ModernBertConfig, ModernBertModel

    torch.manual_seed(seed)
    unet = _with_random_weights(published.build_unet(published.PUBLISHED_UNET))
    denoiser = FeatureDenoiser(unet, published.linear_schedule(), published.PUBLISHED_PLANS[plan])
    head = _with_random_weights(published.build_head(denoiser.feature_channels()))
    text = TextEncoder(ModernBertModel(ModernBertConfig(vocab_size=MODERNBERT_VOCABULARY)), tokenizer)
    side = int(published.PUBLISHED_UNET["image_size"])
    preprocessing = Preprocessing({Modality.OTHER: ImageSettings(side), Modality.CT: ImageSettings(side)})
    pipeline = FastTextDiffPipeline(text, denoiser, head, preprocessing, ModelInfo(name="paper (random weights)"))
    return pipeline.eval()


def _with_random_weights(module: Any) -> Any:
    """A module made on the meta device, with weights that keep activations near one."""
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
