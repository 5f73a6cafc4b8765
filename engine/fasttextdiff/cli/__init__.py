"""The command line: reads arguments, calls the engine, prints one line for an error.

Everything heavy is imported inside the commands, so that `--help` answers at once. Each file has a group of commands.
"""

from __future__ import annotations

from importlib import import_module

from fasttextdiff.cli.app import app, state
from fasttextdiff.cli.run import main

__all__ = ["app", "main", "state"]

# they register their commands, in the order of the help
for _group in ("segment", "batch", "train", "evaluate", "tools", "moved"):
    import_module(f"{__name__}.{_group}")
