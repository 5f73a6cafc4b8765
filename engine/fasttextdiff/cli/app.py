"""The Typer application, and options shared by several commands. Knows no command."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from fasttextdiff.paths import as_path


def new_app(name: str, help_text: str) -> typer.Typer:
    """An application without commands; :func:`fasttextdiff.cli.run.run` handles its errors."""
    return typer.Typer(
        name=name,
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


app = new_app("fasttextdiff", "Segment medical images from a typed finding.")


def command(
    app: typer.Typer, name: str | None = None, **settings: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command of an application.

    `~` in its paths is expanded, because the shell does not expand it in `--output=~/out`.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def run(**arguments: Any) -> None:
            function(**{key: as_path(value) if isinstance(value, Path) else value for key, value in arguments.items()})

        return cast(Callable[..., None], app.command(name, **settings)(run))

    return register


state = {"verbose": False}


def _set_verbose(value: bool) -> None:
    state["verbose"] = state["verbose"] or value


Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", callback=_set_verbose, help="Show the traceback of an error.", is_eager=True)
]


ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Model folder or hub id; the bundled compact model if not given."),
]


DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps; with OpenVINO also gpu (Intel) and npu.")
]


RuntimeOption = Annotated[
    str, typer.Option(help="What runs the networks: auto, torch or openvino; auto takes the faster one that works.")
]


AdapterOption = Annotated[
    list[str] | None, typer.Option("--adapter", help="Learned finding, from adapt; repeat for several.")
]


NanAsAirOption = Annotated[bool, typer.Option("--nan-as-air", help="Treat NaN voxels as air around the patient.")]


TryAnywayOption = Annotated[
    bool, typer.Option("--try-anyway", help="Also segment findings that the model was not taught; the mask is a guess.")
]
SliceBySliceOption = Annotated[
    bool,
    typer.Option(
        "--slice-by-slice", help="Segment each slice separately: no smoothing across slices, no removal of parts."
    ),
]


DtypeOption = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]


def checked(context: typer.Context, option: typer.CallbackParam, value: Any) -> Any:
    """Check a value as soon as it is parsed, before anything else."""
    from fasttextdiff.option_rules import check_options

    if value is not None:
        check_options(**{str(option.name): value})
    return value


ThresholdOption = Annotated[
    float | None,
    typer.Option(
        callback=checked, help="Probability above which a voxel belongs to the mask; the model's own if not given."
    ),
]


SamplesOption = Annotated[int, typer.Option(min=1, callback=checked, help="Noise samples to average.")]
SeedOption = Annotated[int, typer.Option(min=0, callback=checked, help="Seed of the noise.")]


PlaneOption = Annotated[str, typer.Option(callback=checked, help="acquisition, axial, coronal or sagittal.")]


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from fasttextdiff.version import __version__

        typer.echo(f"fasttextdiff {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Verbose = False,
    # eager, or a missing command would be reported first
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
