"""What is there beside segmenting: about a model, speed, conversion, the worker of 3D Slicer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fasttextdiff.cli.app import DeviceOption, DtypeOption, ModelOption, Verbose, command
from fasttextdiff.cli.common import load_segmenter, read_image, say, write_json
from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.render.tables import show_table

if TYPE_CHECKING:
    from fasttextdiff.benchmarks.measuring import Figure


@command(name="verify-golden", no_args_is_help=True)
def verify_golden(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with cases.json and the stored arrays.")],
    verbose: Verbose = False,
) -> None:
    """Prove that the classes are the published networks: compare them with stored outputs, without any weights."""
    from fasttextdiff.golden import verify_golden as verify

    checks = verify(folder)
    rows = [(c.name, f"{c.error:.2e}", f"{c.tolerance:.0e}", "ok" if c.passed else "FAILED") for c in checks]
    show_table("Golden outputs", ("array", "max abs error", "allowed", ""), rows)
    failed = sum(not c.passed for c in checks)
    say(f"{len(checks) - failed} of {len(checks)} agree")
    if failed:
        raise FastTextDiffError(f"{failed} of {len(checks)} stored arrays are not reproduced")


@command()
def benchmark(
    suite: Annotated[
        list[str] | None, typer.Option(help="interactive, volume, text, memory or training; all if not given.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Image to measure on; a made-up chest CT if not given.")] = None,
    full_size: Annotated[
        bool, typer.Option("--full-size", help="Also the published network at full size: minutes on a CPU, 8 GB.")
    ] = False,
    repeats: Annotated[int, typer.Option(min=1, help="Each figure is the median of so many.")] = 7,
    slices: Annotated[int, typer.Option(min=1, help="Slices of the volume suite.")] = 16,
    json_output: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    verbose: Verbose = False,
) -> None:
    """Measure speed and memory, every figure beside what it is compared with."""
    from fasttextdiff.benchmarks.inputs import chest_phantom
    from fasttextdiff.benchmarks.measuring import as_json
    from fasttextdiff.benchmarks.suites import SUITES, Bench
    from fasttextdiff.io.atomic import check_writable
    from fasttextdiff.io.overwriting import files_of, require_apart

    chosen = suite or list(SUITES)
    if unknown := [name for name in chosen if name not in SUITES]:
        raise UsageError(f"'{unknown[0]}' is not a suite: use {', '.join(SUITES)}")
    if json_output:
        check_writable(json_output)
        require_apart([json_output], [] if image is None else files_of(image), "the image")
    volume = chest_phantom(3) if image is None else read_image(image, None, None)
    bench = Bench(load_segmenter(model, device, dtype), volume, repeats, full_size, slices)
    figures = []
    for name in chosen:
        for figure in SUITES[name](bench):
            say(f"{figure.name}: {figure.median:.4g} {figure.unit}")
            figures.append(figure)
    about = as_json(figures)
    _show_figures(figures, about["machine"])
    if json_output:
        write_json(json_output, about)


@command(no_args_is_help=True)
def convert(
    denoiser: Annotated[Path, typer.Option(help="256x256_diffusion_uncond.pt of guided-diffusion.")],
    head: Annotated[Path, typer.Option(help="model_best.pth of the published head.")],
    text_encoder: Annotated[str, typer.Option(help="ModernBERT folder or hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to make.")],
    verbose: Verbose = False,
) -> None:
    """Make a model folder from the files that the published work uses."""
    from fasttextdiff.model.convert import convert as convert_files

    say(f"wrote {convert_files(denoiser, head, text_encoder, output)}")


@command()
def info(model: ModelOption = None, verbose: Verbose = False) -> None:
    """Show a model, what it was taught, and the libraries and devices in use."""
    import platform

    import diffusers
    import torch
    import transformers

    from fasttextdiff.model.devices import choose_device, choose_dtype
    from fasttextdiff.model.info import BUNDLED_MODEL
    from fasttextdiff.model.pipeline import FastTextDiffPipeline, quiet_libraries
    from fasttextdiff.model.text_encoder import attention_implementation
    from fasttextdiff.version import __version__

    quiet_libraries()
    pipeline = FastTextDiffPipeline.from_pretrained(model)
    about = pipeline.info
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    device = choose_device("auto")
    rows = [
        ("model", f"{about.name} (weights {about.weights_sha256})"),
        ("folder", str(model or BUNDLED_MODEL)),
        ("licence", about.licence or "unknown"),
        ("parameters", f"{pipeline.n_parameters:,}"),
        ("timesteps", ", ".join(map(str, pipeline.denoiser.plan.timesteps))),
        ("threshold", f"{about.threshold:g}, presence {about.presence_threshold:g}"),
        *((f"taught on {kind}", ", ".join(terms)) for kind, terms in about.taught.items()),
        ("fasttextdiff", __version__),
        ("python, torch", f"{platform.python_version()}, {torch.__version__}"),
        ("transformers, diffusers", f"{transformers.__version__}, {diffusers.__version__}"),
        ("GPU", gpu),
        ("text attention", attention_implementation(device, choose_dtype("auto", device))),
    ]
    show_table("fasttextdiff", ("", ""), rows)


@command()
def worker() -> None:
    """Serve 3D Slicer: requests and answers as JSON lines over standard input and output."""
    from fasttextdiff.worker.server import main as serve

    serve()


def _show_figures(figures: Sequence[Figure], machine: dict[str, Any]) -> None:
    rows = []
    for f in figures:
        there = f.reference_median is not None
        compared = (f.reference, f"{f.reference_median:.4g}", f"{f.ratio:.2f}") if there else ("", "", "")
        dice = "" if f.dice_to_reference is None else f"{f.dice_to_reference:.4f}"
        rows.append((f.name, f.model, f.device, f"{f.median:.4g} {f.unit}", *compared, dice))
    title = f"{machine['cpu']}, {machine['threads']} threads, GPU: {machine.get('gpu', 'none')}"
    show_table(title, ("", "model", "device", "median", "beside", "", "ratio", "Dice"), rows)
