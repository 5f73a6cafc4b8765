"""Shared by commands: read an image, load a model, show progress, print. Knows no command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fasttextdiff.errors import UsageError

if TYPE_CHECKING:
    from fasttextdiff.image.volume import Volume
    from fasttextdiff.segmenter import Segmenter


def utf8_text(argument: str) -> str:
    """An argument decoded as UTF-8; Python keeps bytes that the locale cannot decode as surrogates.

    Raises:
        UsageError: it is not UTF-8.
    """
    try:
        return argument.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        raise UsageError("a finding is not in UTF-8: set the terminal to UTF-8 and type it again") from None


def pair(text: str | None, separator: str, kind: Callable[[str], Any], option: str) -> tuple[Any, Any] | None:
    """Two numbers with a separator between them; None if the option is not given.

    Raises:
        UsageError: the text is not two numbers.
    """
    if text is None:
        return None
    try:
        first, second = (kind(part) for part in text.split(separator))
    except ValueError:
        raise UsageError(f"{option} must be two numbers with '{separator}' between them, not '{text}'") from None
    return first, second


def read_image(path: Path, modality: str | None, series: str | None, nan_as_air: bool = False) -> Volume:
    """Read an image and print what was assumed about it."""
    from fasttextdiff.io.read import read_volume

    volume = read_volume(path, modality=modality, series_uid=series, nan_as_air=nan_as_air)
    for line in volume.source.notes:
        note(line)
    return volume


def load_segmenter(
    model: str | None, device: str, dtype: str, runtime: str = "auto", adapters: Sequence[str] = ()
) -> Segmenter:
    """Load a model onto a device, with learned findings, and print what the user should know about it."""
    from fasttextdiff.segmenter import Segmenter
    from fasttextdiff.teaching.in_use import load_adapters

    learned = load_adapters(adapters)
    segmenter = Segmenter(model, device, dtype, runtime=runtime)
    for line in segmenter.runtime.notes:
        note(line)
    if learned:
        segmenter.use(learned)
    return segmenter


def check_numbers(output: Path | None) -> None:
    """Check early that the JSON file can be written; it may replace only an earlier one of ours."""
    from fasttextdiff.io.atomic import check_writable
    from fasttextdiff.io.overwriting import require_own_record

    if output is not None:
        check_writable(output)
        require_own_record(output)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file completely or not at all, and print its path."""
    from fasttextdiff.io.atomic import whole_files

    with whole_files(path) as (temporary,):
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    say(f"wrote {path}")


@contextmanager
def progress_bar(what: str, unit: str = "slices") -> Iterator[Callable[[int, int], bool]]:
    """A progress bar; shown only on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def advance(done: int, total: int) -> bool:
            bar.update(task, completed=done, total=total)
            return True

        yield advance


def say(line: str) -> None:
    """Print a line on standard output."""
    typer.echo(line)


def note(line: str) -> None:
    """Print a note on standard error."""
    typer.echo(f"note: {line}", err=True)
