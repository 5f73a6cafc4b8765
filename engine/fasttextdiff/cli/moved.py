"""Commands that moved to `fasttextdiff-lab`: the old names run the new command as a separate process."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import typer

from fasttextdiff.cli.app import app
from fasttextdiff.cli.common import note
from fasttextdiff.errors import UsageError

_LABORATORY = "fasttextdiff_lab"
_MOVED = ("benchmark", "distil-text", "verify-golden")
_ANYTHING = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _moved(context: typer.Context) -> None:
    name = context.info_name or ""
    note(f"`fasttextdiff {name}` is now `fasttextdiff-lab {name}`")
    if find_spec(_LABORATORY) is None:
        raise UsageError(f"'{name}' needs the package fasttextdiff_lab, which is not part of 3D Slicer's installation")
    raise typer.Exit(subprocess.run([sys.executable, "-m", _LABORATORY, name, *context.args], check=False).returncode)


for _name in _MOVED:
    app.command(_name, hidden=True, context_settings=_ANYTHING)(_moved)
