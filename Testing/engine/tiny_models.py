"""Networks small enough for tests, and an independent version of guided-diffusion's U-Net for comparison."""

from __future__ import annotations

import math

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch.nn import functional
from transformers import ModernBertConfig, ModernBertModel

from fasttextdiff.image.preprocessing import ImageSettings, Preprocessing
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.denoiser import FeatureDenoiser
from fasttextdiff.model.fusion import FusionHead
from fasttextdiff.model.info import ModelInfo
from fasttextdiff.model.pipeline import FastTextDiffPipeline
from fasttextdiff.model.settings import FeaturePlan
from fasttextdiff.model.taught import taught_from
from fasttextdiff.model.text_encoder import TextEncoder
from fasttextdiff.training.tokenizer import train_tokenizer
from fasttextdiff_lab.golden import parameter

SENTENCES = (
    "ground-glass opacity in the left lung",
    "consolidation in the right lower lobe, with pleural effusion",
    "nuclei of epithelial cells are dense in the upper right",
    "no infection is seen",
)


def tiny_text_encoder(dim=32, max_tokens=128, seed=0):
    """A random ModernBERT with both global and local attention."""
    tokenizer = train_tokenizer(SENTENCES, 320)
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=dim,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=2,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        initializer_range=0.2,
        attn_implementation="sdpa",
    )
    torch.manual_seed(seed)
    return TextEncoder(ModernBertModel(config), tokenizer, max_tokens).eval()


def save_text_encoder(folder, dim=32):
    """The folder of :func:`tiny_text_encoder`, like a repository on the Hugging Face Hub; also returns the encoder."""
    encoder = tiny_text_encoder(dim)
    encoder.model.save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)
    return encoder


def tiny_denoiser(blocks=(1, 3), timesteps=(50, 150), patch_size=1, seed=0):
    """Three levels with attention at the coarsest; six decoder blocks."""
    torch.manual_seed(seed)
    unet = UNet2DModel(
        in_channels=3 * patch_size**2,
        out_channels=3 * patch_size**2,
        block_out_channels=(16, 16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=16,
    )
    return FeatureDenoiser(unet, DDPMScheduler(), FeaturePlan(timesteps, blocks, patch_size)).eval()


def compact_head(channels, text_dim=32, seed=0):
    """A head with all options that the published one lacks; its weights are large enough for the text to matter."""
    torch.manual_seed(seed)
    head = FusionHead(
        feature_channels=list(channels),
        text_dim=text_dim,
        width=32,
        heads=2,
        head_dim=16,
        decoder_channels=(16, 8),
        out_channels=1,
        norm_groups=4,
        positional=True,
        presence=True,
    )
    return enliven(head).eval()


def enliven(module, scale=0.3):
    """Random weights instead of the published N(0, 0.02), with which differences would vanish in rounding."""
    for weight in module.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=scale)
    return module


def tiny_pipeline(seed=0):
    """All parts, with settings that differ from every default."""
    denoiser = tiny_denoiser(patch_size=2, seed=seed)
    settings = {
        Modality.CT: ImageSettings(size=32, window=(-400.0, 1200.0)),
        Modality.HISTOLOGY: ImageSettings(size=64, tiled=True),
        Modality.OTHER: ImageSettings(size=48, percentiles=(1.0, 98.0)),
    }
    liver = {"name": "liver", "synonyms": ["hepar"], "window": [60.0, 400.0], "slices": 9, "patients": 2, "dice": 0.8}
    taught = taught_from(
        {"ct": ["ground-glass opacity", "consolidation", "left lung", "infection", {**liver, "validation_slices": 4}]}
    )
    info = ModelInfo("tiny", "CC0-1.0", 0.4, 0.3, taught)
    return FastTextDiffPipeline(
        tiny_text_encoder(max_tokens=96, seed=seed),
        denoiser,
        compact_head(denoiser.feature_channels(), seed=seed),
        Preprocessing(settings, channel_order="bgr"),
        info,
    ).eval()


def one_line(caught, *words):
    """Assert that an error is a single line that contains `words`."""
    text = str(caught.value)
    assert text
    assert "\n" not in text
    assert all(word in text for word in words), text


def published_state(layout, seed=3):
    """Plausible values for every tensor of a published layout."""
    return {name: parameter(name, source.shape, seed) for name, source in layout.items()}


class GuidedReference:
    """guided-diffusion's `UNetModel` as functions of its state dict, for comparison with the converted network."""

    def __init__(self, config, state):
        self.config, self.state = config, state

    def __call__(self, x, timesteps):
        """x_t (B, 3, H, W), t (B,) to the outputs of all `output_blocks` and the network's own output."""
        emb = self._time(timesteps)
        h = self._conv("input_blocks.0.0", x)
        skips, features = [h], []
        per_level = self.config["num_res_blocks"] + 1
        count = len(self.config["channel_mult"]) * per_level
        for index in range(1, count):
            h = self._block(f"input_blocks.{index}", h, emb, down=index % per_level == 0)
            skips.append(h)
        h = self._block("middle_block", h, emb)
        for index in range(count):
            up = (index + 1) % per_level == 0 and index + 1 < count
            h = self._block(f"output_blocks.{index}", torch.cat([h, skips.pop()], 1), emb, up=up)
            features.append(h)
        return features, self._conv("out.2", functional.silu(self._norm("out.0", h)))

    def _block(self, name, h, emb, down=False, up=False):
        """The layers of one sequential block; its last layer re-samples if `down` or `up`."""
        parts = sorted({key[len(name) + 1 :].split(".")[0] for key in self.state if key.startswith(name + ".")})
        for part in parts:
            layer, last = f"{name}.{part}", part == parts[-1]
            if f"{layer}.qkv.weight" in self.state:
                h = self._attend(layer, h)
            elif f"{layer}.op.weight" in self.state:
                h = self._conv(f"{layer}.op", h, stride=2)
            elif f"{layer}.conv.weight" in self.state:
                h = self._conv(f"{layer}.conv", functional.interpolate(h, scale_factor=2))
            else:
                h = self._residual(layer, h, emb, down and last, up and last)
        return h

    def _residual(self, name, x, emb, down, up):
        h = functional.silu(self._norm(f"{name}.in_layers.0", x))
        if down:
            h, x = functional.avg_pool2d(h, 2), functional.avg_pool2d(x, 2)
        elif up:
            h, x = functional.interpolate(h, scale_factor=2), functional.interpolate(x, scale_factor=2)
        h = self._conv(f"{name}.in_layers.2", h)
        e = functional.linear(functional.silu(emb), *self._weights(f"{name}.emb_layers.1"))[..., None, None]
        if self.config["use_scale_shift_norm"]:
            scale, shift = e.chunk(2, dim=1)
            h = self._norm(f"{name}.out_layers.0", h) * (1 + scale) + shift
        else:
            h = self._norm(f"{name}.out_layers.0", h + e)
        h = self._conv(f"{name}.out_layers.3", functional.silu(h))
        skip = f"{name}.skip_connection"
        return h + (self._conv(skip, x) if f"{skip}.weight" in self.state else x)

    def _attend(self, name, x):
        b, c, *size = x.shape
        d = self.config["num_head_channels"]
        qkv = functional.conv1d(self._norm(f"{name}.norm", x).flatten(2), *self._weights(f"{name}.qkv"))
        q, k, v = qkv.reshape(b * c // d, 3 * d, -1).split(d, dim=1)
        weights = (q.transpose(1, 2) @ k / math.sqrt(d)).softmax(-1)
        h = (v @ weights.transpose(1, 2)).reshape(b, c, -1)
        return x + functional.conv1d(h, *self._weights(f"{name}.proj_out")).reshape(b, c, *size)

    def _time(self, timesteps):
        half = self.config["model_channels"] // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half) / half)
        angles = timesteps[:, None].float() * frequencies
        emb = functional.linear(torch.cat([angles.cos(), angles.sin()], 1), *self._weights("time_embed.0"))
        return functional.linear(functional.silu(emb), *self._weights("time_embed.2"))

    def _conv(self, name, x, stride=1):
        weight, bias = self._weights(name)
        return functional.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2)

    def _norm(self, name, x):
        return functional.group_norm(x, 32, *self._weights(name))

    def _weights(self, name):
        return self.state[f"{name}.weight"], self.state[f"{name}.bias"]
