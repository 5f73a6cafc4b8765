"""Other commands: `convert`, `info` and `worker`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fasttextdiff.cli.app import ModelOption, Verbose, app, command
from fasttextdiff.cli.common import say
from fasttextdiff.render.tables import show_table

if TYPE_CHECKING:
    from fasttextdiff.contract.answers import TaughtFinding


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
def info(model: ModelOption = None, verbose: Verbose = False) -> None:
    """Show a model, its taught terms, and the libraries and devices in use."""
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
        *((f"taught on {kind}", _listed(findings, kind)) for kind, findings in about.taught.items()),
        ("fasttextdiff", __version__),
        ("python, torch", f"{platform.python_version()}, {torch.__version__}"),
        ("transformers, diffusers", f"{transformers.__version__}, {diffusers.__version__}"),
        ("GPU", gpu),
        ("text attention", attention_implementation(device, choose_dtype("auto", device))),
    ]
    show_table("fasttextdiff", ("", ""), rows)


def _listed(findings: Sequence[TaughtFinding], kind: str) -> str:
    """Findings with how well they are known, one a line; where nothing is recorded their terms alone."""
    from fasttextdiff.model.taught import quality_line

    if not any(quality_line(finding, kind) for finding in findings):
        return ", ".join(term for finding in findings for term in finding.terms)
    return "\n".join(
        f"{quality_line(finding, kind) or finding.name} ({', '.join(finding.synonyms)})" for finding in findings
    )


@command(app)
def worker() -> None:
    """Serve 3D Slicer: JSON lines over standard input and output."""
    from fasttextdiff.worker.server import main as serve

    serve()
