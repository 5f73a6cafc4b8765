"""Other commands: `convert`, `info`, `prepare`, `clear-cache` and `worker`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fasttextdiff.cli.app import DeviceOption, DtypeOption, ModelOption, RuntimeOption, Verbose, app, command
from fasttextdiff.cli.common import load_segmenter, say
from fasttextdiff.render.tables import show_table


@command(app, no_args_is_help=True)
def convert(
    denoiser: Annotated[Path, typer.Option(help="256x256_diffusion_uncond.pt of guided-diffusion.")],
    head: Annotated[Path, typer.Option(help="model_best.pth of the published head.")],
    text_encoder: Annotated[str, typer.Option(help="ModernBERT folder or hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to write.")],
    verbose: Verbose = False,
) -> None:
    """Make a model folder from the files of the published work."""
    from fasttextdiff.model.convert import convert as convert_files

    say(f"wrote {convert_files(denoiser, head, text_encoder, output)}")


@command(app)
def info(
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    runtime: RuntimeOption = "auto",
    verbose: Verbose = False,
) -> None:
    """Show a model, its taught terms, and the libraries and devices in use."""
    import platform

    from fasttextdiff.environment import OPENVINO, TORCH, check_package, find_devices
    from fasttextdiff.model.info import BUNDLED_MODEL
    from fasttextdiff.model.openvino.store import cache_bytes, cache_folder
    from fasttextdiff.model.places import parameter_count
    from fasttextdiff.model.taught import listed
    from fasttextdiff.version import __version__

    segmenter = load_segmenter(model, device, dtype, runtime)
    about, used = segmenter.info, segmenter.runtime
    installed = [check_package(package) for package in (*OPENVINO, *TORCH)]
    rows = [
        ("model", f"{about.name} (weights {about.weights_sha256})"),
        ("folder", str(model or BUNDLED_MODEL)),
        ("licence", about.licence or "unknown"),
        ("parameters", f"{parameter_count(model):,}"),
        ("timesteps", ", ".join(map(str, used.settings.plan.timesteps))),
        ("threshold", f"{about.threshold:g}, presence {about.presence_threshold:g}"),
        *((f"taught on {kind}", listed(findings, kind)) for kind, findings in about.taught.items()),
        ("fasttextdiff", __version__),
        ("runs with", f"{used.version} on {used.device} in {used.dtype}"),
        ("python", platform.python_version()),
        *((package.requirement.name, package.installed or "not installed") for package in installed),
        ("devices", "\n".join(f"{found.id}: {found.name}" for found in find_devices())),
        ("OpenVINO's cache", f"{cache_bytes() / 1e6:.0f} MB in {cache_folder()}"),
    ]
    show_table("fasttextdiff", ("", ""), rows)


@command(app, no_args_is_help=True)
def prepare(
    model: Annotated[Path, typer.Argument(help="Model folder; the converted networks are written into it.")],
    verbose: Verbose = False,
) -> None:
    """Convert a model for OpenVINO, so that it also runs on computers without PyTorch."""
    from fasttextdiff.model.openvino.store import SUBFOLDER
    from fasttextdiff.model.runtimes import convert_folder

    convert_folder(model)
    say(f"wrote {model / SUBFOLDER}")


@command(app, name="clear-cache")
def clear_cache(verbose: Verbose = False) -> None:
    """Remove networks that were converted or compiled for OpenVINO; they are made again when needed."""
    from fasttextdiff.model.openvino import store

    size = store.cache_bytes()
    store.clear_cache()
    say(f"removed {size / 1e6:.0f} MB from {store.cache_folder()}")


@command(app)
def worker() -> None:
    """Serve 3D Slicer: JSON lines over standard input and output."""
    from fasttextdiff.worker.server import main as serve

    serve()
