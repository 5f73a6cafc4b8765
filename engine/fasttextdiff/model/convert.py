"""Makes a model folder from the files of the published work: guided-diffusion's U-Net, a fusion head, a text encoder.

Knows files and folders; knows nothing about the names of published tensors. Never runs code from a pickle.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fasttextdiff.errors import FastTextDiffError, UsageError, one_line
from fasttextdiff.image.preprocessing import ImageSettings, Preprocessing
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.atomic import check_new_folder, whole_folder
from fasttextdiff.model import published
from fasttextdiff.model.denoiser import FeatureDenoiser
from fasttextdiff.model.info import ModelInfo
from fasttextdiff.model.pipeline import FastTextDiffPipeline
from fasttextdiff.model.text_encoder import TextEncoder
from fasttextdiff.paths import PathText, as_name, as_path

PUBLISHED_SIZE = 256
"""Pixels of the longer side; the published images are resized to 256 x 256."""

EIGHT_BITS = (127.5, 255.0)
CT_LUNG_WINDOW = (-600.0, 1500.0)
"""(level, width). Published images are 8-bit pictures divided by 255, with CT slices already in a lung window. That
window is not documented, so voxels in Hounsfield units get the usual one.
"""


def convert(denoiser: PathText, head: PathText, text_encoder: PathText, output: PathText) -> Path:
    """Make a model folder in the `paper` configuration, named "paper-monuseg" or "paper-qata".

    Args:
        denoiser: `256x256_diffusion_uncond.pt` of guided-diffusion (552.8 million parameters, 2.2 GB).
        head: `model_best.pth` of the published training: a state dict, bare or under "state_dict" or "model". Its
            shapes tell whether it is for MoNuSeg or QaTa-COV19.
        text_encoder: folder or hub id of a ModernBERT with 768 channels.
        output: model folder to write; must be missing or empty. It is written completely or not at all.

    Returns:
        `output`.

    Raises:
        UsageError: a file is missing, or `output` is not empty.
        FastTextDiffError: a file cannot be read without running code, cannot be read at all, or is not the published
            network.
    """
    denoiser = as_path(denoiser)
    head = as_path(head)
    text_encoder = as_name(text_encoder)
    output = as_path(output)
    check_new_folder(output)
    head_state = read_checkpoint(head)
    text = TextEncoder.from_pretrained(text_encoder)
    unet = published.build_unet(published.PUBLISHED_UNET)
    plan_name, plan = published.infer_plan(head_state, unet, str(head))
    layout = published.unet_layout(published.PUBLISHED_UNET, unet)
    published.fill(unet, layout, read_checkpoint(denoiser), str(denoiser))
    features = FeatureDenoiser(unet, published.linear_schedule(), plan)
    fusion = published.build_head(features.feature_channels())
    published.fill(fusion, published.head_layout(fusion), head_state, str(head))
    info = ModelInfo(name=f"paper-{plan_name}")
    try:
        pipeline = FastTextDiffPipeline(text, features, fusion, published_preprocessing(), info)
    except ValueError as error:
        raise FastTextDiffError(f"the text encoder {text_encoder} does not fit: {error}") from error
    with whole_folder(output) as temporary:
        pipeline.save_pretrained(temporary)
    return output


def published_preprocessing() -> Preprocessing:
    """Preprocessing of the published training: x / 255, longer side 256 pixels, BGR as in OpenCV."""
    return Preprocessing(
        {
            Modality.XRAY: ImageSettings(PUBLISHED_SIZE, EIGHT_BITS, (0.0, 100.0)),
            Modality.HISTOLOGY: ImageSettings(PUBLISHED_SIZE, EIGHT_BITS, (0.0, 100.0)),
            Modality.CT: ImageSettings(PUBLISHED_SIZE, CT_LUNG_WINDOW, (0.0, 100.0)),
            Modality.OTHER: ImageSettings(PUBLISHED_SIZE),
        },
        channel_order="bgr",
    )


def read_checkpoint(path: PathText) -> dict[str, Any]:
    """The tensors of a `torch.save` file by name; those of a zip file are memory-mapped.

    Unpacks a state dict under "state_dict" or "model", and removes the prefix "module." of `DataParallel`.

    Raises:
        UsageError: the file does not exist.
        FastTextDiffError: it is damaged, or cannot be read without running code.
    """
    path = as_path(path)
    if not path.is_file():
        raise UsageError(f"there is no checkpoint {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise FastTextDiffError(
            f"{path} holds more than tensors, and code in a pickle is not run: save only its state dict"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise FastTextDiffError(f"{path} is not a valid checkpoint: {one_line(error)}") from error
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> dict[str, Any]:
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(key, str) for key in content):
        raise FastTextDiffError(f"{path} does not hold a state dict, but {type(content).__name__}")
    if all(key.startswith("module.") for key in content):
        return {key.removeprefix("module."): value for key, value in content.items()}
    return dict(content)
