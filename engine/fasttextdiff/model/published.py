"""Builds the published networks, guided-diffusion's 256x256 U-Net and the fusion head, and maps their tensors to ours.

Knows names and shapes; knows nothing about files or folders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.model.denoiser import FeatureDenoiser
from fasttextdiff.model.fusion import FusionHead
from fasttextdiff.model.settings import FeaturePlan

GuidedConfig = Mapping[str, Any]
"""Arguments of guided-diffusion's `UNetModel` by name; `attention_resolutions` are down-sampling factors."""

PUBLISHED_UNET: GuidedConfig = {
    "image_size": 256,
    "in_channels": 3,
    "out_channels": 6,
    "model_channels": 256,
    "channel_mult": (1, 1, 2, 2, 4, 4),
    "num_res_blocks": 2,
    "attention_resolutions": (8, 16, 32),
    "num_head_channels": 64,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
}
"""The network in `256x256_diffusion_uncond.pt`: 552.8 million parameters, attention at 32, 16 and 8 pixels."""

PUBLISHED_TIMESTEPS = (50, 150, 250)
PUBLISHED_PLANS: Mapping[str, FeaturePlan] = {
    "monuseg": FeaturePlan(PUBLISHED_TIMESTEPS, (6, 8, 12, 16)),
    "qata": FeaturePlan(PUBLISHED_TIMESTEPS, (4, 6, 8, 12)),
}
"""Decoder blocks that the published heads read; MosMedData+ uses those of QaTa-COV19."""

NORM_GROUPS = 32
"""Groups of every GroupNorm in guided-diffusion (`nn.normalization`)."""

_IGNORED = {"dropout", "num_heads", "num_heads_upsample", "use_checkpoint", "use_fp16"}
"""Arguments that do not affect inference if `num_head_channels` is given."""

_FIXED = {"conv_resample": True, "use_new_attention_order": False, "num_classes": None, "dims": 2}
"""Optional arguments, with their only supported value."""

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ATTENTION = {"norm": "group_norm", "proj_out": "to_out.0"}
_HEAD = {
    "cross1.norm1": "block.norm1",
    "cross1.norm2": "block.norm2",
    "cross1.norm3": "block.norm3",
    "cross1.ff.net.2": "block.linear",
    **{
        f"cross1.attn{n}.{theirs}": f"block.attention{n}.{ours}"
        for n in (1, 2)
        for theirs, ours in {
            "to_q": "to_q",
            "to_k": "to_k",
            "to_v": "to_v",
            "to_out.0": "to_out",
            "to_out.1": "norm_out",
        }.items()
    },
    "decodes.0": "conv1",
    "decodes.1": "norm1",
    "decodes.3": "conv2",
    "decodes.4": "norm2",
    "decodes.6": "conv3",
}


class SourceTensor(NamedTuple):
    """Where a published tensor goes.

    Attributes:
        shape: its published shape.
        targets: our tensors: one with the same number of elements, or query, key and value.
        heads: number of attention heads whose rows are interleaved in a `qkv` tensor.
    """

    shape: tuple[int, ...]
    targets: tuple[str, ...]
    heads: int = 1


Layout = dict[str, SourceTensor]
"""Every tensor of a published state dict by name."""


def build_unet(config: GuidedConfig) -> UNet2DModel:
    """The `UNet2DModel` equivalent to guided-diffusion's `UNetModel(**config)`, on the meta device.

    Raises:
        FastTextDiffError: `UNet2DModel` cannot express the configuration.
    """
    _check(config)
    attends = _attention_levels(config)
    # only the "Resnet" blocks support residual resampling without attention: DownBlock2D and UpBlock2D ignore "resnet"
    plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")
    down, up = plain if config["resblock_updown"] else ("DownBlock2D", "UpBlock2D")
    resampling = "resnet" if config["resblock_updown"] else "conv"
    with torch.device("meta"):
        unet = UNet2DModel(
            sample_size=config["image_size"],
            in_channels=config["in_channels"],
            out_channels=config["out_channels"],
            block_out_channels=tuple(config["model_channels"] * m for m in config["channel_mult"]),
            layers_per_block=config["num_res_blocks"],
            down_block_types=tuple("AttnDownBlock2D" if a else down for a in attends),
            up_block_types=tuple("AttnUpBlock2D" if a else up for a in reversed(attends)),
            downsample_type=resampling,
            upsample_type=resampling,
            resnet_time_scale_shift="scale_shift" if config["use_scale_shift_norm"] else "default",
            attention_head_dim=config["num_head_channels"],
            norm_num_groups=NORM_GROUPS,
            attn_norm_num_groups=NORM_GROUPS,  # else the middle attention would have no norm with "scale_shift"
        )
    return unet.eval()


def _check(config: GuidedConfig) -> None:
    """Refuse settings that UNet2DModel does not support, rather than convert them wrongly."""
    missing = [key for key in PUBLISHED_UNET if key not in config]
    unknown = [key for key in config if key not in {*PUBLISHED_UNET, *_IGNORED, *_FIXED}]
    if missing or unknown:
        raise FastTextDiffError(
            f"this denoiser configuration cannot be used: it lacks {missing} and has unknown {unknown}"
        )
    widths = [config["model_channels"] * m for m in config["channel_mult"]]
    heads = config["num_head_channels"]
    problems = {
        "channel_mult must start with 1": config["channel_mult"][0] != 1,
        f"channels must be multiples of {NORM_GROUPS}": any(w % NORM_GROUPS for w in widths),
        "num_head_channels must divide the channels": heads < 1 or any(w % heads for w in widths),
        **{f"{key} must be {value}": config.get(key, value) != value for key, value in _FIXED.items()},
    }
    for problem, found in problems.items():
        if found:
            raise FastTextDiffError(f"this denoiser configuration cannot be used: {problem}")


def _attention_levels(config: GuidedConfig) -> list[bool]:
    """Whether each level has attention, finest first."""
    return [2**level in config["attention_resolutions"] for level in range(len(config["channel_mult"]))]


def build_head(feature_channels: tuple[int, ...]) -> FusionHead:
    """The published head for features of these channels, coarsest first, on the meta device."""
    with torch.device("meta"):
        head: FusionHead = FusionHead(feature_channels=feature_channels)
    return head.eval()


def linear_schedule(timesteps: int = 1000) -> DDPMScheduler:
    """guided-diffusion's "linear" schedule: beta from 1e-4 to 0.02 at 1000 steps, scaled for other numbers of steps."""
    scale = 1000 / timesteps
    return DDPMScheduler(
        num_train_timesteps=timesteps,
        beta_start=scale * 1e-4,
        beta_end=scale * 0.02,
        beta_schedule="linear",
        variance_type="learned_range",
    )


def unet_layout(config: GuidedConfig, unet: UNet2DModel) -> Layout:
    """guided-diffusion's tensors for a `unet` from :func:`build_unet`."""
    shapes = _shapes(unet)
    layout = _copied({"time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2"}, shapes)
    layout |= _copied({"input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out"}, shapes)
    for theirs, ours in _blocks(config):
        if ".attentions." in ours:
            layout |= _attention(theirs, ours, shapes, config["num_head_channels"])
        elif ours.endswith("samplers.0") and not config["resblock_updown"]:
            convolution = "op" if "downsamplers" in ours else "conv"
            layout |= _copied({f"{theirs}.{convolution}": f"{ours}.conv"}, shapes)
        else:
            layout |= _copied({f"{theirs}.{s}": f"{ours}.{t}" for s, t in _RESNET.items()}, shapes)
    return layout


def _blocks(config: GuidedConfig) -> Iterator[tuple[str, str]]:
    """Pairs (guided-diffusion's, diffusers' prefix) of all residual blocks, attentions and re-samplers."""
    yield from _input_blocks(config)
    yield "middle_block.0", "mid_block.resnets.0"
    yield "middle_block.1", "mid_block.attentions.0"
    yield "middle_block.2", "mid_block.resnets.1"
    yield from _output_blocks(config)


def _input_blocks(config: GuidedConfig) -> Iterator[tuple[str, str]]:
    attends = _attention_levels(config)
    index = 1  # 0 is the first convolution
    for level, attention in enumerate(attends):
        for r in range(config["num_res_blocks"]):
            yield f"input_blocks.{index}.0", f"down_blocks.{level}.resnets.{r}"
            if attention:
                yield f"input_blocks.{index}.1", f"down_blocks.{level}.attentions.{r}"
            index += 1
        if level < len(attends) - 1:
            yield f"input_blocks.{index}.0", f"down_blocks.{level}.downsamplers.0"
            index += 1


def _output_blocks(config: GuidedConfig) -> Iterator[tuple[str, str]]:
    attends = _attention_levels(config)[::-1]
    per_level = config["num_res_blocks"] + 1
    for level, attention in enumerate(attends):
        for r in range(per_level):
            theirs, ours = f"output_blocks.{level * per_level + r}", f"up_blocks.{level}"
            yield f"{theirs}.0", f"{ours}.resnets.{r}"
            if attention:
                yield f"{theirs}.1", f"{ours}.attentions.{r}"
            if r == per_level - 1 and level < len(attends) - 1:
                yield f"{theirs}.{2 if attention else 1}", f"{ours}.upsamplers.0"


def _attention(theirs: str, ours: str, shapes: Mapping[str, tuple[int, ...]], head_channels: int) -> Layout:
    """An `AttentionBlock`, whose linear maps are stored as convolutions of length 1 and q, k, v as one tensor."""
    channels = shapes[f"{ours}.to_q.bias"][0]
    layout = _copied({f"{theirs}.{s}": f"{ours}.{t}" for s, t in _ATTENTION.items()}, shapes)
    layout[f"{theirs}.proj_out.weight"] = SourceTensor((channels, channels, 1), (f"{ours}.to_out.0.weight",))
    for kind, shape in {"weight": (3 * channels, channels, 1), "bias": (3 * channels,)}.items():
        targets = tuple(f"{ours}.{part}.{kind}" for part in ("to_q", "to_k", "to_v"))
        layout[f"{theirs}.qkv.{kind}"] = SourceTensor(shape, targets, channels // head_channels)
    return layout


def head_layout(head: FusionHead) -> Layout:
    """The published names of a head's tensors (`down1 down2 cross1... decodes...`).

    `down1` projects the first scale, `down2` all later ones that need it.
    """
    names = dict(_HEAD)
    for scale, projection in enumerate(head.projection_of_scale):
        if projection is not None:
            names["down1" if scale == 0 else "down2"] = f"projections.{projection}"
    return _copied(names, _shapes(head))


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _copied(modules: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> Layout:
    """Entries for modules whose tensors have the same names and shapes in both."""
    return {
        theirs + name.removeprefix(ours): SourceTensor(shape, (name,))
        for theirs, ours in modules.items()
        for name, shape in shapes.items()
        if name.rpartition(".")[0] == ours
    }


def fill(module: nn.Module, layout: Layout, state: Mapping[str, Any], origin: str) -> None:
    """Assign float32 weights to a module built on the meta device.

    Tensors are not copied if possible, so that a memory-mapped file is not read into memory.

    Args:
        module: from :func:`build_unet` or :func:`build_head`.
        layout: from :func:`unet_layout` or :func:`head_layout`.
        state: published tensors by name.
        origin: their source, for the message.

    Raises:
        FastTextDiffError: a tensor is missing, unexpected or has another shape; the message names the first.
    """
    _check_tensors(layout, state, origin)
    own = _shapes(module)
    filled: dict[str, Tensor] = {}
    for name, source in layout.items():
        tensor = state[name].float() if state[name].is_floating_point() else state[name]
        parts = [tensor] if len(source.targets) == 1 else _split_qkv(tensor, source.heads)
        filled |= {target: part.reshape(own[target]) for target, part in zip(source.targets, parts, strict=True)}
    module.load_state_dict(filled, strict=True, assign=True)


def _check_tensors(layout: Layout, state: Mapping[str, Any], origin: str) -> None:
    for name, source in layout.items():
        if name not in state:
            raise FastTextDiffError(f"{origin} is not the published network: tensor '{name}' is missing")
        found = state[name]
        if not isinstance(found, Tensor):
            raise FastTextDiffError(f"{origin} is not the published network: '{name}' is not a tensor")
        if tuple(found.shape) != source.shape:
            raise FastTextDiffError(
                f"{origin} is not the published network: tensor '{name}' has shape {tuple(found.shape)}, "
                f"expected {source.shape}"
            )
    for name in state:
        if name not in layout:
            raise FastTextDiffError(f"{origin} is not the published network: tensor '{name}' is unexpected")


def _split_qkv(tensor: Tensor, heads: int) -> list[Tensor]:
    """Split (3C, ...) into query, key and value (heads, C / heads, ...).

    Rows are ordered by head, then q, k, v within a head (QKVAttentionLegacy).
    """
    parts = tensor.unflatten(0, (heads, 3, -1)).unbind(1)
    return [part.clone(memory_format=torch.contiguous_format) for part in parts]


def infer_plan(state: Mapping[str, Any], unet: UNet2DModel, origin: str) -> tuple[str, FeaturePlan]:
    """The published plan of a head's state dict, from the input channels of its `down1`.

    Returns:
        The plan's name and the plan.

    Raises:
        FastTextDiffError: no plan fits.
    """
    found = tuple(getattr(state.get("down1.weight"), "shape", ()))
    expected = {}
    for name, plan in PUBLISHED_PLANS.items():
        channels = FeatureDenoiser(unet, linear_schedule(), plan).feature_channels()
        expected[name] = head_layout(build_head(channels))["down1.weight"].shape
        if found == expected[name]:
            return name, plan
    shown = f"has shape {found}" if found else "is missing"
    raise FastTextDiffError(f"{origin} is not a published head: tensor 'down1.weight' {shown}, expected {expected}")
