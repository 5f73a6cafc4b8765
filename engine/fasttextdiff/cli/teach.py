"""`adapt` learns a finding from a few slices; `adapters` shows and manages what was learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fasttextdiff.cli.app import DeviceOption, ModelOption, Verbose, app, checked, command, new_app
from fasttextdiff.cli.common import load_segmenter, note, progress_bar, say, utf8_text
from fasttextdiff.render.tables import show_table

if TYPE_CHECKING:
    from fasttextdiff.teaching.adapter import Card
    from fasttextdiff.teaching.examples import Example

Library = Annotated[Path, typer.Argument(metavar="LIBRARY", help="Folder of learned findings.")]
Word = Annotated[str, typer.Argument(metavar="FINDING", help="Name or synonym of a learned finding.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Adapter to write, .safetensors.")]

adapters = new_app("adapters", "Show and manage learned findings.")
app.add_typer(adapters, name="adapters")


@command(app, no_args_is_help=True)
def adapt(
    examples: Annotated[
        Path,
        typer.Argument(
            metavar="EXAMPLES", help="Table (.csv) of image, mask, text and slice, or a folder of examples."
        ),
    ],
    finding: Annotated[str, typer.Option("--finding", "-f", help="Name of the finding.")],
    output: Output,
    synonym: Annotated[list[str] | None, typer.Option("--synonym", help="Another name; repeat for several.")] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Also keep slices and masks in this folder, to learn from them again.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, callback=checked, help="Seed of variants and training.")] = 0,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    verbose: Verbose = False,
) -> None:
    """Learn a finding from 1 to 200 slices with masks. The model itself stays as it is."""
    from fasttextdiff.io.atomic import check_writable
    from fasttextdiff.io.overwriting import files_of, require_apart
    from fasttextdiff.model.info import require_words
    from fasttextdiff.teaching.example_files import check_examples_folder, examples_named, save_examples, words_kept
    from fasttextdiff.training.teaching_table import table_examples

    words = [utf8_text(word) for word in (finding, *(synonym or ()))]
    for word in words:
        require_words(word)
    _check_name(output)
    check_writable(output)
    require_apart([output], files_of(examples))
    found: list[Example] | None = None
    if examples.is_dir():
        found, words = examples_named(examples, words)
    if keep is not None:
        check_examples_folder(keep, words[0])
        words = words_kept(keep, words)
    segmenter = load_segmenter(model, device, "float32", "torch")
    if found is None:
        found = table_examples(examples, set(words), segmenter.prepare)
    with progress_bar("learning", "views") as progress:
        adapter = segmenter.adapt(found, finding=words[0], synonyms=words[1:], seed=seed, progress=progress)
    adapter.save(output)
    if keep is not None:
        save_examples(keep, found, words[0], words[1:])
    _show(adapter.card)
    say(f"wrote {output}")


@command(adapters, name="list", no_args_is_help=True)
def list_adapters(library: Library, verbose: Verbose = False) -> None:
    """List the learned findings of a library."""
    from fasttextdiff.errors import UsageError
    from fasttextdiff.teaching.library import AdapterLibrary

    if not library.is_dir():
        raise UsageError(f"there is no library {library}: 'adapters import' makes one")
    entries, damaged = AdapterLibrary(library).scan()
    rows = [
        (entry.card.finding, ", ".join(entry.card.synonyms), entry.card.modality, str(entry.card.examples),
         str(entry.versions), "on" if entry.enabled else "off", entry.card.base)
        for entry in entries
    ]  # fmt: skip
    show_table(str(library), ("finding", "synonyms", "modality", "slices", "versions", "", "model"), rows)
    for one in damaged:
        note(f"{one.problem}: roll '{one.folder.name}' back or remove it")


@command(adapters, no_args_is_help=True)
def show(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="File of an adapter.")], verbose: Verbose = False
) -> None:
    """Show the card of an adapter."""
    from fasttextdiff.teaching.adapter import Adapter

    _show(Adapter.load(adapter).card)


@command(adapters, name="import", no_args_is_help=True)
def import_adapter(
    library: Library,
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="File of an adapter.")],
    verbose: Verbose = False,
) -> None:
    """Add an adapter to a library, as a new version if its finding is there."""
    from fasttextdiff.teaching.library import AdapterLibrary

    entry = AdapterLibrary(library).import_file(adapter)
    say(f"added '{entry.card.finding}', version {entry.versions}")


@command(adapters, no_args_is_help=True)
def export(library: Library, finding: Word, output: Output, verbose: Verbose = False) -> None:
    """Write a learned finding to a file of its own."""
    from fasttextdiff.teaching.library import AdapterLibrary

    _check_name(output)
    AdapterLibrary(library).export(utf8_text(finding), output)
    say(f"wrote {output}")


@command(adapters, no_args_is_help=True)
def rename(
    library: Library,
    finding: Word,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its new name.")],
    synonym: Annotated[list[str] | None, typer.Option("--synonym", help="Another name; repeat for several.")] = None,
    verbose: Verbose = False,
) -> None:
    """Give a learned finding another name, and other synonyms if some are given."""
    from fasttextdiff.teaching.library import AdapterLibrary

    words = [utf8_text(word) for word in synonym] if synonym else None
    entry = AdapterLibrary(library).rename(utf8_text(finding), utf8_text(name), words)
    say(f"'{entry.card.finding}' is in {entry.folder}")


@command(adapters, no_args_is_help=True)
def switch(
    library: Library,
    finding: Word,
    off: Annotated[bool, typer.Option("--off", help="Off instead of on.")] = False,
    verbose: Verbose = False,
) -> None:
    """Switch a learned finding on or off."""
    from fasttextdiff.teaching.library import AdapterLibrary

    entry = AdapterLibrary(library).enable(utf8_text(finding), not off)
    say(f"'{entry.card.finding}' is {'on' if entry.enabled else 'off'}")


@command(adapters, name="roll-back", no_args_is_help=True)
def roll_back(library: Library, finding: Word, verbose: Verbose = False) -> None:
    """Return to the previous version; the current one is deleted."""
    from fasttextdiff.teaching.library import AdapterLibrary

    entry = AdapterLibrary(library).roll_back(utf8_text(finding))
    say(f"'{entry.card.finding}' is at version {entry.versions}")


@command(adapters, no_args_is_help=True)
def remove(library: Library, finding: Word, verbose: Verbose = False) -> None:
    """Remove a learned finding with all its versions."""
    from fasttextdiff.teaching.library import AdapterLibrary

    AdapterLibrary(library).remove(utf8_text(finding))
    say(f"removed '{finding}'")


def _check_name(path: Path) -> None:
    from fasttextdiff.errors import UsageError

    if path.suffix != ".safetensors":
        raise UsageError(f"an adapter must be a .safetensors file, not {path.name}")


def _show(card: Card) -> None:
    from dataclasses import asdict

    rows = [(name.replace("_", " "), _text(value)) for name, value in asdict(card).items()]
    show_table(card.finding, ("", ""), rows)


def _text(value: object) -> str:
    if value is None:
        return "not measured: too few examples"
    return ", ".join(value) if isinstance(value, tuple) else str(value)
