"""A model: text encoder, denoiser and fusion head, loaded from and saved to one folder in the diffusers style.

Knows the folder's layout and how tensors flow; knows nothing about volumes, planes or masks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn

from fasttextdiff.errors import FastTextDiffError, ModelError, UsageError, one_line
from fasttextdiff.image.preprocessing import Preprocessing
from fasttextdiff.model.denoiser import FeatureDenoiser
from fasttextdiff.model.fusion import FusionHead, FusionOutput
from fasttextdiff.model.info import COMPONENTS, FORMAT_VERSION, INDEX, ModelInfo, info_of, read_index
from fasttextdiff.model.kinds import KindHead, read_kinds
from fasttextdiff.model.places import folder_of, hash_weights
from fasttextdiff.model.settings import FeaturePlan, ModelSettings
from fasttextdiff.model.taught import taught_to
from fasttextdiff.model.text_encoder import TextEncoder, TextStates
from fasttextdiff.paths import PathText, as_path
from fasttextdiff.version import __version__


class FastTextDiffPipeline(nn.Module):
    """Text-conditioned diffusion segmentation of 2D images (paper section 3, figure 1).

    Args:
        text_encoder: finding to token states.
        denoiser: image to decoder features.
        fusion: features and token states to logits.
        preprocessing: how images are prepared for the model.
        info: name, thresholds and taught terms.
        kinds: tells what kind of image a slice is; for these weights only, and not saved with them.

    Raises:
        ValueError: the parts do not fit together.
    """

    def __init__(
        self,
        text_encoder: TextEncoder,
        denoiser: FeatureDenoiser,
        fusion: FusionHead,
        preprocessing: Preprocessing,
        info: ModelInfo,
        kinds: KindHead | None = None,
    ) -> None:
        super().__init__()
        if tuple(fusion.config.feature_channels) != denoiser.feature_channels():
            raise ValueError(
                f"the fusion head takes features of {tuple(fusion.config.feature_channels)} channels, "
                f"the denoiser gives {denoiser.feature_channels()}"
            )
        if fusion.config.text_dim != text_encoder.dim:
            raise ValueError(f"the fusion head takes text of {fusion.config.text_dim} channels, got {text_encoder.dim}")
        self.text_encoder, self.denoiser, self.fusion = text_encoder, denoiser, fusion
        self.preprocessing, self.info, self.kinds = preprocessing, info, kinds

    @property
    def settings(self) -> ModelSettings:
        """The settings of the model."""
        return ModelSettings(
            self.info,
            self.preprocessing,
            self.denoiser.plan,
            self.denoiser.multiple,
            self.text_encoder.max_tokens,
            self.kinds,
        )

    @cached_property
    def n_parameters(self) -> int:
        """Number of parameters of all components."""
        return sum(p.numel() for p in self.parameters())

    def features(self, image: Tensor, noise: Tensor) -> list[Tensor]:
        """Features of a frozen denoiser: (B, 3, H, W) in [-1, 1] to its decoder maps."""
        features: list[Tensor] = self.denoiser(image, noise)
        return features

    def maps(self, image: Tensor, noise: Tensor) -> list[Tensor]:
        """Phase one, which does not depend on the finding: features projected for the fusion head.

        Args:
            image: (B, 3, H, W) in [-1, 1].
            noise: (1, 3, H, W) or (B, 3, H, W).

        Returns:
            One map per scale, (B, width, h_k, w_k).
        """
        return self.fusion.project(self.features(image, noise))

    def answer(self, maps: Sequence[Tensor], text: TextStates, size: tuple[int, int]) -> FusionOutput:
        """Phase two: maps and token states of one or more findings per image to logits on the decoder's grid.

        Args:
            maps: from :meth:`maps`, batch B.
            text: batch B * F, with the F findings of an image next to each other.
            size: (H, W) of the model's input.
        """
        patch = self.denoiser.plan.patch_size
        mask = None if text.mask is None or bool(text.mask.all()) else text.mask
        return self.fusion.answer(maps, text.states, mask, (size[0] // patch, size[1] // patch))

    def decode(self, features: Sequence[Tensor], text: TextStates, size: tuple[int, int]) -> FusionOutput:
        """:meth:`answer` from the denoiser's :meth:`features`, for training."""
        return self.answer(self.fusion.project(features), text, size)

    def save_pretrained(self, folder: PathText, dtype: torch.dtype | None = None) -> None:
        """Write the model folder: one subfolder per component, safetensors, and `model_index.json`.

        Args:
            folder: created if missing.
            dtype: dtype of the stored weights; the model's own if None.

        Raises:
            UsageError: the folder cannot be made.
        """
        folder = as_path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the model folder {folder}: {error.strerror}; choose another one") from None
        for name, module in self._weighted().items():
            _save_component(module, folder / name, dtype)
        self.text_encoder.tokenizer.save_pretrained(folder / "tokenizer")
        self.denoiser.scheduler.save_pretrained(folder / "scheduler")
        (folder / INDEX).write_text(json.dumps(self._index(), indent=2) + "\n", encoding="utf-8")

    def _weighted(self) -> dict[str, nn.Module]:
        return {"text_encoder": self.text_encoder.model, "unet": self.denoiser.unet, "fusion": self.fusion}

    def _index(self) -> dict[str, Any]:
        info = {**asdict(self.info), "taught": taught_to(self.info.taught)}
        del info["weights_sha256"]
        return {
            "_class_name": type(self).__name__,
            "format_version": FORMAT_VERSION,
            "fasttextdiff_version": __version__,
            "components": COMPONENTS,
            "info": info,
            "features": asdict(self.denoiser.plan),
            "max_tokens": self.text_encoder.max_tokens,
            "preprocessing": self.preprocessing.to_dict(),
        }

    @classmethod
    def from_pretrained(
        cls, name_or_folder: PathText | None = None, dtype: torch.dtype = torch.float32
    ) -> FastTextDiffPipeline:
        """Load a model.

        Args:
            name_or_folder: None for the bundled compact model, a folder, or a hub id.
            dtype: of the loaded weights.

        Raises:
            UsageError: the folder does not exist.
            ModelError: it is incomplete, has pickles instead of safetensors, or shapes do not fit.
        """
        folder = folder_of(name_or_folder)
        index, weights_sha256 = read_index(folder), hash_weights(folder)
        try:
            pipeline = cls(
                TextEncoder.from_pretrained(
                    folder / "text_encoder", folder / "tokenizer", int(index["max_tokens"]), dtype=dtype
                ),
                FeatureDenoiser(
                    load_component(UNet2DModel, folder / "unet", dtype),
                    DDPMScheduler.from_pretrained(folder / "scheduler"),
                    FeaturePlan.of(index["features"]),
                ),
                load_component(FusionHead, folder / "fusion", dtype),
                Preprocessing.from_dict(index["preprocessing"]),
                replace(info_of(folder, index), weights_sha256=weights_sha256),
                read_kinds(folder, weights_sha256),
            )
        except FastTextDiffError:
            raise
        except (KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
            raise ModelError(f"the model folder {folder} cannot be used: {one_line(error)}") from error
        return pipeline.eval()


def quiet_libraries() -> None:
    """Silence advice and progress bars of libraries, which would hide our one-line errors."""
    import diffusers.utils.logging
    import transformers.utils.logging

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


def load_component(kind: Any, folder: PathText, dtype: torch.dtype) -> Any:
    """Load one diffusers component strictly: a missing, extra or misshapen tensor is an error, not a warning.

    Raises:
        ModelError: its weights are missing, damaged or do not fit its configuration.
    """
    folder = as_path(folder)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    weights = folder / "diffusion_pytorch_model.safetensors"
    if not weights.is_file():
        raise ModelError(f"the model folder is incomplete: {weights} is missing (pickled weights are not read)")
    model = kind.from_config(kind.load_config(folder))
    try:
        model.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        raise ModelError(f"the weights in {weights} do not fit: {one_line(error)}") from error
    # diffusers' `to` warns about every dtype, even if no module has to stay in float32
    return nn.Module.to(model, dtype).eval()


def _save_component(module: Any, folder: Path, dtype: torch.dtype | None) -> None:
    """Save one component, in `dtype` without changing the module in memory."""
    if dtype is None:
        module.save_pretrained(folder, safe_serialization=True)
        return
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in module.state_dict().items()}
    if isinstance(module, (UNet2DModel, FusionHead)):
        from safetensors.torch import save_file

        module.save_config(folder)
        contiguous = {name: t.contiguous() for name, t in state.items()}
        save_file(contiguous, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    else:
        module.save_pretrained(folder, state_dict=state, safe_serialization=True)
