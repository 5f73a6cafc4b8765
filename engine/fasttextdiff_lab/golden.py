"""Verifies, without any weights, that our classes compute the same as the published networks.

Knows the format of stored cases; knows nothing about the stored configurations.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fasttextdiff.errors import FastTextDiffError, UsageError, one_line
from fasttextdiff.io.json_files import parse_json
from fasttextdiff.model.denoiser import FeatureDenoiser
from fasttextdiff.model.published import (
    GuidedConfig,
    Layout,
    build_head,
    build_unet,
    fill,
    head_layout,
    linear_schedule,
    unet_layout,
)
from fasttextdiff.model.settings import FeaturePlan
from fasttextdiff.paths import PathText, as_path

TOLERANCE = 2e-4
"""Largest absolute error in float32 that counts as agreement."""

LOGIT_STRIDE = 4
FEATURE_SIDE = 8
"""Logits of heads are stored at every 4th pixel, decoder blocks at every (width / 8)-th."""

Arrays = Mapping[str, NDArray[np.generic]]
Case = Mapping[str, Any]


@dataclass(frozen=True)
class GoldenCheck:
    """The comparison of one stored value or array with ours.

    Attributes:
        name: case and array, e.g. "tiny32 block4.t50".
        error: largest absolute difference; infinite if shapes differ; for counts, their difference.
        tolerance: largest allowed error; 0 for counts.
    """

    name: str
    error: float
    tolerance: float = TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether they agree; False for NaN."""
        return self.error <= self.tolerance


def verify_golden(folder: PathText) -> list[GoldenCheck]:
    """Compare every stored array of every case with what our classes compute, in float32 on the CPU.

    Args:
        folder: with `cases.json`, and `unet_<case>.npz` or `head_<case>.npz` for each network; its README describes the
            format.

    Returns:
        The checks in the order of the cases; a case whose parameter names or shapes differ has only that check.

    Raises:
        UsageError: the folder or its `cases.json` does not exist.
        FastTextDiffError: it cannot be read, is incomplete, or has a case of an unknown kind.
    """
    folder = as_path(folder)
    checks: list[GoldenCheck] = []
    for name, case in _read_cases(folder).items():
        try:
            checks += _verifier(name, case)(folder, name, case)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            detail = f"{type(error).__name__}: {one_line(error)}"
            raise FastTextDiffError(
                f"case '{name}' in {folder / 'cases.json'} is not as described ({detail})"
            ) from error
    return checks


def _read_cases(folder: Path) -> dict[str, Case]:
    path = folder / "cases.json"
    try:
        cases = parse_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"there are no golden outputs in {folder}: {path} is missing") from None
    except (OSError, ValueError) as error:
        raise FastTextDiffError(f"{path} cannot be read: {one_line(error)}") from error
    if not isinstance(cases, dict) or not cases or not all(isinstance(case, dict) for case in cases.values()):
        raise FastTextDiffError(f"{path} is not a list of named cases")
    return cases


def _verifier(name: str, case: Case) -> Callable[[Path, str, Case], list[GoldenCheck]]:
    """The verifier for a case, chosen by its keys."""
    if "config" in case:
        return _verify_unet
    if "extract_dims" in case:
        return _verify_head
    if "sqrt_alphas_cumprod" in case:
        return _verify_schedule
    raise FastTextDiffError(f"golden case '{name}' is neither a U-Net, a head nor a schedule")


def _read_arrays(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        raise FastTextDiffError(f"the golden outputs are incomplete: {path} is missing") from None
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise FastTextDiffError(f"{path} cannot be read: {one_line(error)}") from error


def standard_normal(seed: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Input numbers of the golden cases: float32 of `shape` that depend only on the text `seed`."""
    random = np.random.RandomState(zlib.crc32(seed.encode()))
    return np.asarray(random.standard_normal(shape), dtype=np.float32)


def parameter(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Value of a published parameter in the golden cases: plausible in scale, determined by name and seed."""
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    values = standard_normal(f"{seed}:{name}", shape)
    if len(shape) >= 2:
        values = values * np.float32(1 / math.sqrt(math.prod(shape[1:])))
    elif name.endswith("running_var"):
        values = np.abs(values) * np.float32(0.1) + np.float32(1)
    elif name.endswith(("bias", "running_mean")):
        values = values * np.float32(0.02)
    else:
        values = np.float32(1) + np.float32(0.02) * values
    return torch.from_numpy(values)


def _parameters(case: Case) -> dict[str, Tensor]:
    return {name: parameter(name, tuple(shape), case["seed"]) for name, shape in case["parameters"].items()}


def _check_parameters(name: str, case: Case, layout: Layout) -> GoldenCheck:
    """The number of published tensors that differ in name or shape from those in our mapping."""
    ours = {tensor: source.shape for tensor, source in layout.items()}
    stored = {tensor: tuple(shape) for tensor, shape in case["parameters"].items()}
    return GoldenCheck(f"{name} parameter names and shapes", len(ours.items() ^ stored.items()), 0)


def _compare(name: str, ours: Any, stored: Any) -> GoldenCheck:
    ours, stored = np.asarray(ours, dtype=np.float64), np.asarray(stored, dtype=np.float64)
    same = ours.shape == stored.shape and ours.size > 0
    return GoldenCheck(name, float(np.abs(ours - stored).max()) if same else math.inf)


def _verify_unet(folder: Path, name: str, case: Case) -> list[GoldenCheck]:
    config: GuidedConfig = case["config"]
    unet = build_unet(config)
    layout = unet_layout(config, unet)
    checks = [_check_parameters(name, case, layout)]
    if not checks[0].passed:
        return checks
    fill(unet, layout, _parameters(case), f"golden case '{name}'")
    plan = FeaturePlan(tuple(case["steps"]), tuple(sorted(case["blocks"])))
    denoiser = FeatureDenoiser(unet, linear_schedule(), plan)
    path = folder / f"unet_{name}.npz"
    stored = _read_arrays(path)
    if missing := _untested(case, stored):
        raise FastTextDiffError(f"{path} is incomplete: nothing is stored of {missing[0]}")
    ours, difference = _run_denoiser(denoiser, name, case, len(next(iter(stored.values()))))
    if unknown := sorted(set(stored) - set(ours)):
        raise FastTextDiffError(f"{path} holds '{unknown[0]}', which case '{name}' does not describe")
    checks.append(GoldenCheck(f"{name} truncated features against full", difference))
    return checks + [_compare(f"{name} {key}", ours[key], array) for key, array in stored.items()]


def _untested(case: Case, stored: Arrays) -> list[str]:
    """Timesteps without an output and blocks without features, so that an empty file does not pass."""
    blocks = {int(found[1]) for key in stored if (found := re.match(r"block(\d+)\.", key))}
    outputs = [f"out.{t}" for t in case["steps"] if f"out.{t}" not in stored]
    return outputs + [f"block {b}" for b in case["blocks"] if b not in blocks]


@torch.no_grad()
def _run_denoiser(
    denoiser: FeatureDenoiser, name: str, case: Case, batch: int
) -> tuple[dict[str, NDArray[np.float32]], float]:
    """All outputs of a U-Net by stored name, and the difference of truncated features from full ones."""
    side, channels, seed = case["image_size"], case["config"]["in_channels"], case["seed"]
    image = torch.from_numpy(np.tanh(standard_normal(f"{name}.{seed}:image", (batch, channels, side, side))))
    noise = torch.from_numpy(standard_normal(f"{name}.{seed}:noise", (1, channels, side, side)))
    full, output = denoiser.denoise(image, noise)
    truncated = denoiser(image, noise)
    difference = max(float((a - b).abs().max()) for a, b in zip(full, truncated, strict=True))
    steps = denoiser.plan.timesteps
    ours: dict[str, NDArray[np.float32]] = {}
    for n, t in enumerate(steps):
        noised = denoiser.add_noise(image, noise.expand_as(image), torch.full((batch,), t))
        ours |= {f"x_t.{t}": noised.numpy(), f"out.{t}": output[n :: len(steps)].numpy()}
        for block, feature in zip(denoiser.plan.blocks, truncated, strict=True):
            ours[f"block{block}.t{t}"] = _strided(feature.chunk(len(steps), dim=1)[n]).numpy()
    return ours, difference


def _strided(feature: Tensor) -> Tensor:
    stride = max(1, feature.shape[-1] // FEATURE_SIDE)
    return feature[..., ::stride, ::stride]


def _verify_head(folder: Path, name: str, case: Case) -> list[GoldenCheck]:
    head = build_head(tuple(case["extract_dims"]))
    layout = head_layout(head)
    checks = [_check_parameters(name, case, layout)]
    if not checks[0].passed:
        return checks
    count = sum(p.numel() for p in head.parameters())
    checks.append(GoldenCheck(f"{name} number of parameters", abs(count - case["n_parameters"]), 0))
    fill(head, layout, _parameters(case), f"golden case '{name}'")
    stored = _read_arrays(folder / f"head_{name}.npz")
    features, text = _head_inputs(name, case, head.config.text_dim)
    side = LOGIT_STRIDE * stored["logits"].shape[-1]
    with torch.no_grad():
        logits = head(features, text, None, (side, side)).logits.numpy()
    ours = {
        "logits": logits[..., ::LOGIT_STRIDE, ::LOGIT_STRIDE],
        "logits_mean": logits.mean(dtype=np.float64),
        "logits_std": logits.std(dtype=np.float64),
    }
    return checks + [_compare(f"{name} {key}", ours[key], stored[key]) for key in sorted(ours.keys() | stored.keys())]


def _head_inputs(name: str, case: Case, text_dim: int) -> tuple[list[Tensor], Tensor]:
    seed = case["seed"]
    sizes = zip(case["extract_dims"], case["feature_sizes"], strict=True)
    features = [
        torch.from_numpy(standard_normal(f"{name}.{seed}:feat{k}", (1, channels, side, side)))
        for k, (channels, side) in enumerate(sizes)
    ]
    return features, torch.from_numpy(standard_normal(f"{name}.{seed}:text", (1, case["tokens"], text_dim)))


def _verify_schedule(folder: Path, name: str, case: Case) -> list[GoldenCheck]:
    if case["name"] != "linear":
        raise FastTextDiffError(
            f"{folder / 'cases.json'} asks for a '{case['name']}' schedule; only 'linear' is supported"
        )
    kept = linear_schedule(case["num_train_timesteps"]).alphas_cumprod
    ours = {"sqrt_alphas_cumprod": kept.sqrt(), "sqrt_one_minus_alphas_cumprod": (1 - kept).sqrt()}
    return list(_check_schedule(name, case, ours))


def _check_schedule(name: str, case: Case, ours: Mapping[str, Tensor]) -> Iterator[GoldenCheck]:
    for key, values in ours.items():
        for t, stored in case[key].items():
            yield _compare(f"{name} {key}[{t}]", values[int(t)].item(), stored)
