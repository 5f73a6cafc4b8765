"""The settings of a model: how images are prepared, which features are read, how long texts may be.

Loads no weights and no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fasttextdiff.errors import ModelError, one_line
from fasttextdiff.image.preprocessing import Preprocessing
from fasttextdiff.io.json_files import parse_json
from fasttextdiff.model.info import ModelInfo, info_of, read_index
from fasttextdiff.model.kinds import KindHead, read_kinds
from fasttextdiff.model.places import hash_weights
from fasttextdiff.paths import PathText, as_path


@dataclass(frozen=True)
class FeaturePlan:
    """Which features to take from the denoiser.

    Attributes:
        timesteps: diffusion steps t at which the noised image x_t is denoised (paper: 50, 150, 250).
        blocks: decoder blocks whose output is kept, numbered as in guided-diffusion's `output_blocks`: block
            k * (layers_per_block + 1) + r is residual block r of up-block k, with its attention, and with the
            up-sampler after the last residual block of an up-block.
        patch_size: p > 1 folds p x p pixels into channels before the network (space to depth), so that it runs at 1/p
            of the image's side; 1 for the published network.
    """

    timesteps: tuple[int, ...]
    blocks: tuple[int, ...]
    patch_size: int = 1

    def __post_init__(self) -> None:
        """Refuse invalid plans."""
        if not self.timesteps or not self.blocks:
            raise ValueError("a feature plan needs at least one timestep and one decoder block")
        if list(self.blocks) != sorted(set(self.blocks)):
            raise ValueError(f"decoder blocks must be increasing and distinct, got {self.blocks}")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> FeaturePlan:
        """The plan in a model's index."""
        return cls(tuple(values["timesteps"]), tuple(values["blocks"]), int(values["patch_size"]))


@dataclass(frozen=True)
class ModelSettings:
    """The settings of a model.

    Attributes:
        info: name, thresholds and taught findings.
        preprocessing: how images are prepared.
        plan: features that are read.
        multiple: rows and columns of the model's input are multiples of this many pixels.
        max_tokens: longest finding, including [CLS] and [SEP].
        kinds: tells what kind of image a slice is; None if the model has nothing for that.
    """

    info: ModelInfo
    preprocessing: Preprocessing
    plan: FeaturePlan
    multiple: int
    max_tokens: int
    kinds: KindHead | None = None


def read_settings(folder: PathText) -> ModelSettings:
    """The settings in a model folder, with the hash of its weights.

    Raises:
        ModelError: the folder is incomplete or cannot be read.
    """
    folder = as_path(folder)
    index = read_index(folder)
    try:
        plan, weights_sha256 = FeaturePlan.of(index["features"]), hash_weights(folder)
        return ModelSettings(
            info=replace(info_of(folder, index), weights_sha256=weights_sha256),
            preprocessing=Preprocessing.from_dict(index["preprocessing"]),
            plan=plan,
            multiple=plan.patch_size * 2 ** (_levels(folder) - 1),
            max_tokens=int(index["max_tokens"]),
            kinds=read_kinds(folder, weights_sha256),
        )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ModelError(f"the model folder {folder} cannot be used: {one_line(error)}") from error


def _levels(folder: Path) -> int:
    """Resolutions of the denoiser."""
    config = parse_json((folder / "unet" / "config.json").read_text(encoding="utf-8"))
    return len(config["block_out_channels"])
