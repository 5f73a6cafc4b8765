"""A model: text encoder, denoiser and fusion head, loaded from and saved to one folder in the diffusers style.

Knows the folder's layout and how tensors flow; knows nothing about volumes, planes or masks.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn

from fasttextdiff.denoiser import FeatureDenoiser, FeaturePlan
from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.fusion import FusionHead, FusionOutput
from fasttextdiff.preprocessing import Preprocessing
from fasttextdiff.text_encoder import TextEncoder, TextStates
from fasttextdiff.version import __version__
from fasttextdiff.volume import Modality

BUNDLED_MODEL = Path(__file__).parent / "weights" / "compact"
FORMAT_VERSION = 1
INDEX = "model_index.json"
COMPONENTS = {
    "text_encoder": "transformers.ModernBertModel",
    "tokenizer": "transformers.PreTrainedTokenizerFast",
    "unet": "diffusers.UNet2DModel",
    "scheduler": "diffusers.DDPMScheduler",
    "fusion": "fasttextdiff.FusionHead",
}


@dataclass(frozen=True)
class ModelInfo:
    """What a model says about itself.

    Attributes:
        name: short name, e.g. "compact-0.1".
        licence: SPDX identifier of the weights.
        threshold: probability above which a pixel belongs to the mask, chosen once for all modalities.
        presence_threshold: presence below which a mask is emptied; 0 for models without a presence output.
        taught: finding terms the model was trained on, by modality ("xray": ["left lung", ...]); empty if unknown.
        weights_sha256: first 16 hex digits of the hash of all weights; set on loading.
    """

    name: str
    licence: str = ""
    threshold: float = 0.5
    presence_threshold: float = 0.0
    taught: Mapping[str, Sequence[str]] = field(default_factory=dict)
    weights_sha256: str = ""

    def knows(self, finding: str, modality: Modality) -> bool:
        """Whether a finding text names something that the model was trained on for a modality."""
        text = f" {_words(finding)} "
        return any(f" {_words(term)} " in text for term in self.taught.get(modality.value, ()))


class FastTextDiffPipeline(nn.Module):
    """Text-conditioned diffusion segmentation of 2D images (paper section 3, figure 1).

    Args:
        text_encoder: finding to token states.
        denoiser: image to decoder features.
        fusion: features and token states to logits.
        preprocessing: how images reach the model.
        info: name, thresholds and what it was taught.

    Raises:
        ValueError: the parts do not fit each other.
    """

    def __init__(
        self,
        text_encoder: TextEncoder,
        denoiser: FeatureDenoiser,
        fusion: FusionHead,
        preprocessing: Preprocessing,
        info: ModelInfo,
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
        self.preprocessing, self.info = preprocessing, info

    @cached_property
    def n_parameters(self) -> int:
        """Number of parameters of all components."""
        return sum(p.numel() for p in self.parameters())

    def features(self, image: Tensor, noise: Tensor) -> list[Tensor]:
        """Phase one, independent of the finding: (B, 3, H, W) in [-1, 1] to the denoiser's decoder maps."""
        features: list[Tensor] = self.denoiser(image, noise)
        return features

    def decode(self, features: Sequence[Tensor], text: TextStates, size: tuple[int, int]) -> FusionOutput:
        """Phase two: features and token states of one finding an image to logits on the decoder's grid.

        Args:
            features: from :meth:`features`, batch B.
            text: batch B.
            size: (H, W) of the model's input.
        """
        patch = self.denoiser.plan.patch_size
        output: FusionOutput = self.fusion(features, text.states, text.mask, (size[0] // patch, size[1] // patch))
        return output

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the model folder: one subfolder a component, safetensors, and `model_index.json`.

        Args:
            folder: made if needed.
            dtype: of the stored weights; the model's own if None.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, module in self._weighted().items():
            _save_component(module, folder / name, dtype)
        self.text_encoder.tokenizer.save_pretrained(folder / "tokenizer")
        self.denoiser.scheduler.save_pretrained(folder / "scheduler")
        (folder / INDEX).write_text(json.dumps(self._index(), indent=2) + "\n", encoding="utf-8")

    def _weighted(self) -> dict[str, nn.Module]:
        return {"text_encoder": self.text_encoder.model, "unet": self.denoiser.unet, "fusion": self.fusion}

    def _index(self) -> dict[str, Any]:
        info = asdict(self.info)
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
        cls, name_or_folder: str | Path | None = None, dtype: torch.dtype = torch.float32
    ) -> FastTextDiffPipeline:
        """Load a model.

        Args:
            name_or_folder: None for the bundled compact model, a folder, or a hub id.
            dtype: of the loaded weights.

        Raises:
            UsageError: there is no such folder.
            FastTextDiffError: it is incomplete, holds pickles instead of safetensors, or shapes do not fit.
        """
        folder = _resolve(name_or_folder)
        index = _read_index(folder)
        try:
            pipeline = cls(
                TextEncoder.from_pretrained(
                    folder / "text_encoder", folder / "tokenizer", int(index["max_tokens"]), dtype=dtype
                ),
                FeatureDenoiser(
                    _load_component(UNet2DModel, folder / "unet", dtype),
                    DDPMScheduler.from_pretrained(folder / "scheduler"),
                    _plan(index["features"]),
                ),
                _load_component(FusionHead, folder / "fusion", dtype),
                Preprocessing.from_dict(index["preprocessing"]),
                replace(ModelInfo(**index["info"]), weights_sha256=_hash_weights(folder)),
            )
        except FastTextDiffError:
            raise
        except (KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
            raise FastTextDiffError(f"the model folder {folder} cannot be used: {_one_line(error)}") from error
        return pipeline.eval()


def _resolve(name_or_folder: str | Path | None) -> Path:
    """A local folder for a name; only a hub id (`owner/name`) that is no path may reach for the network."""
    if name_or_folder is None:
        return BUNDLED_MODEL
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return folder
    text = str(name_or_folder)
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise UsageError(f"there is no model folder {folder}: give a folder made by 'train' or 'convert'")
    return _download(text)


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.md"]))
    except (RepositoryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UsageError(f"there is no folder {hub_id}, and no such model could be had from the hub") from error


def _read_index(folder: Path) -> dict[str, Any]:
    """The checked content of `model_index.json`."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FastTextDiffError(f"{folder} is not a model folder: it has no {INDEX}") from None
    except (OSError, ValueError) as error:
        raise FastTextDiffError(f"{folder / INDEX} cannot be read: {_one_line(error)}") from error
    if not isinstance(index, dict) or index.get("format_version") != FORMAT_VERSION:
        found = index.get("format_version") if isinstance(index, dict) else None
        raise FastTextDiffError(f"{folder / INDEX} has format_version {found}, this version reads {FORMAT_VERSION}")
    for name in COMPONENTS:
        if not (folder / name).is_dir():
            raise FastTextDiffError(f"the model folder {folder} is incomplete: '{name}' is missing")
    return index


def _plan(values: Mapping[str, Any]) -> FeaturePlan:
    return FeaturePlan(tuple(values["timesteps"]), tuple(values["blocks"]), int(values["patch_size"]))


def _load_component(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Load one diffusers component strictly: a missing, additional or misshapen tensor is an error, not a warning."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    weights = folder / "diffusion_pytorch_model.safetensors"
    if not weights.is_file():
        raise FastTextDiffError(f"the model folder is incomplete: {weights} is missing (pickled weights are not read)")
    model = kind.from_config(kind.load_config(folder))
    try:
        model.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        raise FastTextDiffError(f"the weights in {weights} do not fit: {_one_line(error)}") from error
    # diffusers' own `to` warns about every dtype, even where no module has to stay in float32
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


def _hash_weights(folder: Path) -> str:
    """First 16 hex digits of the SHA-256 over all weight files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*/*.safetensors")):
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:16]


def _words(text: str) -> str:
    """Lower-case words, separated by single spaces."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] or type(error).__name__
