"""Chooses what runs a model's networks on this computer. Loads torch only where it is chosen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fasttextdiff.environment import (
    OPENVINO,
    TORCH,
    check_package,
    has_gpu_driver,
    load_openvino,
    problem_with,
)
from fasttextdiff.errors import FastTextDiffError, MissingPackagesError, ModelError, UsageError, one_line
from fasttextdiff.model.places import folder_of
from fasttextdiff.model.runtime import Runtime
from fasttextdiff.model.settings import read_settings
from fasttextdiff.paths import PathText

if TYPE_CHECKING:
    from fasttextdiff.model.openvino.store import Converted
    from fasttextdiff.model.pipeline import FastTextDiffPipeline
    from fasttextdiff.model.settings import ModelSettings

RUNTIMES = ("auto", "torch", "openvino")
DTYPES = ("auto", "float32", "bfloat16", "float16")
_TORCH, _OPENVINO = ("cuda", "mps"), ("gpu", "npu")
DEVICES = ("auto", "cpu", *_TORCH, *_OPENVINO)
"""Names of devices; those of torch and those of OpenVINO are known to one runtime only."""


class _Where(NamedTuple):
    """Where a runtime computes, in which dtype, and on how many CPU threads (None for all cores)."""

    device: str
    dtype: str
    threads: int | None


def load_runtime(
    model: FastTextDiffPipeline | PathText | None,
    device: str = "auto",
    dtype: str = "auto",
    runtime: str = "auto",
    threads: int | None = None,
) -> Runtime:
    """Load a model with the runtime that suits this computer best.

    "auto" is PyTorch for a CUDA GPU that works and for a model that is already loaded; else OpenVINO, if it is
    installed and its answer on this computer agrees with PyTorch's; else PyTorch.

    Args:
        model: a loaded model, a folder, a hub id, or None for the bundled model.
        device: "auto", "cpu", "cuda", "cuda:1", "mps"; "gpu" (Intel) and "npu" with OpenVINO.
        dtype: "auto", "float32", "bfloat16" or "float16".
        runtime: "auto", "torch" or "openvino".
        threads: CPU threads of the model; None for all cores. PyTorch keeps them for the whole process.

    Raises:
        UsageError: the model, device, dtype or runtime does not exist.
        ModelError: the model cannot be used.
        MissingPackagesError: a package is missing.
    """
    check_choice(device, dtype, runtime)
    where = _Where(device, dtype, threads)
    if not (model is None or isinstance(model, (str, os.PathLike))):
        if runtime == "openvino":
            raise UsageError("a model in memory runs with torch: save it, and give its folder to run it with openvino")
        _require_model(model)
        return _with_torch(model, where)
    folder = folder_of(model)
    if runtime == "openvino" or (runtime == "auto" and device in _OPENVINO):
        return _with_openvino(folder, where)
    if runtime == "torch" or _wants_torch(device):
        return _with_torch(folder, where)
    return _best(folder, where)


def pipeline_of(runtime: Runtime, model: FastTextDiffPipeline | PathText | None) -> FastTextDiffPipeline:
    """The model in PyTorch: that of the runtime, or one loaded in addition, if the runtime has none.

    Args:
        runtime: runs the model.
        model: what the runtime was loaded from.

    Raises:
        MissingPackagesError: PyTorch is missing.
        UsageError: `model` is not what the runtime was loaded from.
    """
    own: FastTextDiffPipeline | None = getattr(runtime, "pipeline", None)
    if own is not None:
        return own
    beside: Any = load_runtime(model, "cpu", "float32", "torch")
    mine, its = (each.settings.info for each in (runtime, beside))
    if mine.weights_sha256 != its.weights_sha256:
        raise UsageError(f"{its.name} is not the model that runs ({mine.name}): give its folder")
    loaded: FastTextDiffPipeline = beside.pipeline
    return loaded


def convert_folder(folder: PathText) -> None:
    """Convert a model for OpenVINO into its own folder.

    Args:
        folder: of the model.

    Raises:
        UsageError: the folder does not exist.
        MissingPackagesError: PyTorch or OpenVINO is missing.
        ModelError: the networks cannot be converted.
        FastTextDiffError: they cannot be written.
    """
    if missing := problem_with((*OPENVINO, *TORCH)):
        raise MissingPackagesError(
            f"converting needs OpenVINO and PyTorch ({missing}): pip install 'fasttextdiff[openvino,torch]'"
        )
    from fasttextdiff.model.openvino import store
    from fasttextdiff.model.pipeline import FastTextDiffPipeline, quiet_libraries

    quiet_libraries()
    place = folder_of(folder)
    store.convert(FastTextDiffPipeline.from_pretrained(place), place, place / store.SUBFOLDER)


def check_choice(device: str, dtype: str, runtime: str) -> None:
    """Refuse names that no runtime knows, before anything is loaded.

    Raises:
        UsageError: the device, dtype or runtime does not exist, or they do not go together.
    """
    if runtime not in RUNTIMES:
        raise UsageError(f"'{runtime}' is not a runtime: use {', '.join(RUNTIMES)}")
    if dtype not in DTYPES:
        raise UsageError(f"'{dtype}' is not a dtype: use {', '.join(DTYPES)}")
    kind, _, number = str(device).partition(":")
    if kind not in DEVICES or (number and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"'{device}' is not a device: use auto, cpu, cuda, cuda:1 or mps; gpu or npu with OpenVINO")
    if (runtime, kind) in {*(("openvino", kind) for kind in _TORCH), *(("torch", kind) for kind in _OPENVINO)}:
        raise UsageError(f"{runtime} does not run on '{device}': leave out --runtime, or choose another device")


def _best(folder: Path, where: _Where) -> Runtime:
    """OpenVINO if it works, else PyTorch; the reason is noted if OpenVINO is installed."""
    if missing := problem_with(OPENVINO):
        if problem_with(TORCH):
            raise MissingPackagesError(
                f"nothing can run the model ({missing}): pip install 'fasttextdiff[openvino]' (small) "
                "or 'fasttextdiff[torch]' (also trains, and uses GPUs)"
            )
        return _instead(missing if check_package(OPENVINO[0]).installed else "", folder, where)
    try:
        return _with_openvino(folder, where)
    except FastTextDiffError as error:
        if problem_with(TORCH):
            raise
        return _instead(str(error), folder, where)


def _instead(problem: str, folder: Path, where: _Where) -> Runtime:
    """PyTorch, with a note on the problem with OpenVINO."""
    runtime = _with_torch(folder, where)
    runtime.notes = (f"OpenVINO is not used: {problem}",) if problem else ()
    return runtime


def _wants_torch(device: str) -> bool:
    """Whether the model should run on a GPU that only torch can use; torch is loaded only if there is a driver."""
    if device.startswith(_TORCH):
        return True
    if device != "auto" or not has_gpu_driver() or problem_with(TORCH):
        return False
    from fasttextdiff.model.devices import choose_device

    return choose_device("auto").type != "cpu"


def _with_torch(model: FastTextDiffPipeline | Path, where: _Where) -> Runtime:
    if missing := problem_with(TORCH):
        raise MissingPackagesError(f"this needs PyTorch ({missing}): pip install 'fasttextdiff[torch]'")
    import torch

    from fasttextdiff.model.devices import choose_device, choose_dtype
    from fasttextdiff.model.pipeline import FastTextDiffPipeline, quiet_libraries
    from fasttextdiff.model.torch_runtime import TorchRuntime

    choose_dtype(where.dtype, choose_device(where.device))  # fail before the model is loaded
    if isinstance(model, Path):
        quiet_libraries()
        model = FastTextDiffPipeline.from_pretrained(model)
    if where.threads is not None:
        torch.set_num_threads(where.threads)
    return TorchRuntime(model, where.device, where.dtype)


def _require_model(model: object) -> None:
    if not all(hasattr(model, part) for part in ("text_encoder", "denoiser", "fusion")):
        raise UsageError(f"'model' must be a FastTextDiffPipeline, a folder or a hub id, not {type(model).__name__}")


def _with_openvino(folder: Path, where: _Where) -> Runtime:
    if missing := problem_with(OPENVINO):
        raise MissingPackagesError(f"this needs OpenVINO ({missing}): pip install 'fasttextdiff[openvino]'")
    try:
        load_openvino()
    except Exception as error:  # a damaged package may raise anything on import
        raise MissingPackagesError(f"OpenVINO cannot be loaded ({one_line(error)}): install it again") from error
    from fasttextdiff.model.openvino import store
    from fasttextdiff.model.openvino.runtime import OpenVinoRuntime
    from fasttextdiff.model.openvino.self_check import problem_here
    from fasttextdiff.model.tokens import Tokens

    settings = read_settings(folder)
    converted = _converted(settings, folder)
    tokens = Tokens(folder / "tokenizer" / "tokenizer.json", settings.max_tokens)
    kept, made_from = store.compiled_folder(), converted.record["made_from"]

    def computing_in(dtype: str) -> OpenVinoRuntime:
        return OpenVinoRuntime(
            settings, tokens, converted.networks, where.device, dtype, kept, made_from, where.threads
        )

    runtime = computing_in(where.dtype)
    wrong = problem_here(runtime, converted.record["check"], kept)
    if wrong and where.dtype == "auto" and runtime.dtype != "float32":
        runtime = computing_in("float32")
        wrong = problem_here(runtime, converted.record["check"], kept)
    if wrong:
        raise ModelError(f"OpenVINO does not compute {settings.info.name} correctly on this computer: {wrong}")
    return runtime


def _converted(settings: ModelSettings, folder: Path) -> Converted:
    """The converted networks; converted now if they are not there yet."""
    from fasttextdiff.model.openvino import store

    if (found := store.find(folder, settings.info.weights_sha256)) is not None:
        return found
    if missing := problem_with(TORCH):
        is_there = (folder / store.SUBFOLDER).is_dir()
        reason = "has damaged networks for OpenVINO" if is_there else "was not converted for OpenVINO yet"
        raise MissingPackagesError(
            f"{settings.info.name} {reason}, and converting needs PyTorch once ({missing}): "
            "pip install 'fasttextdiff[torch]', or convert it on another computer (fasttextdiff prepare)"
        )
    from fasttextdiff.model.pipeline import FastTextDiffPipeline, quiet_libraries

    quiet_libraries()
    return store.convert(FastTextDiffPipeline.from_pretrained(folder), folder)
