"""The command line: parses arguments, calls the engine, prints an error as one line.

Slow imports are inside the commands, so that `--help` is fast. Each file holds a group of commands.
"""

from __future__ import annotations

from importlib import import_module

from fasttextdiff.cli.app import app, state
from fasttextdiff.cli.run import main

__all__ = ["app", "main", "state"]

# imported to register their commands, in the order of the help
for _group in ("segment", "measure", "batch", "teach", "train", "evaluate", "tools", "moved"):
    import_module(f"{__name__}.{_group}")
