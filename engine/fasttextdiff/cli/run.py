"""Runs the command line; an error becomes one line and an exit code. Knows errors; commands are in their own files."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress
from typing import Any, NoReturn

import typer

from fasttextdiff.cli.app import app, state
from fasttextdiff.environment import needs_torch
from fasttextdiff.errors import Cancelled, FastTextDiffError, is_lack_of_memory
from fasttextdiff.model.allocator import keep_freed_memory
from fasttextdiff.utf8_mode import require_utf8

# base class of click's usage errors; newer releases of typer bundle click, older ones import it
CommandLineError: Any = typer.BadParameter.__mro__[2]


def main() -> NoReturn:
    """Run `fasttextdiff`."""
    run(app)


def run(app: typer.Typer) -> NoReturn:
    """Run a command line; an error is one line and an exit code: 1 failed, 2 wrong use, 130 cancelled."""
    require_utf8()
    signal.signal(signal.SIGTERM, _terminate)
    keep_freed_memory()
    _use_utf8()
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()  # report a full disk here, not while Python exits
        if code == Cancelled.exit_code:  # newer releases of typer turn Ctrl-C into this exit code without a message
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except CommandLineError as error:
        _fail(error, error.format_message(), error.exit_code)
    except FastTextDiffError as error:
        _fail(error, str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort) as error:
        _fail(error, "stopped; nothing was written", Cancelled.exit_code)
    except ModuleNotFoundError as error:
        internal = f"internal error, {type(error).__name__}: {error}; run with -v and report it"
        _fail(error, needs_torch(error) or internal, 1)
    except OSError as error:  # an error of the system, e.g. a full disk behind standard output, and not a bug
        reason = (error.strerror or str(error)).lower()
        _fail(error, f"cannot use {error.filename or 'the standard output'}: {reason}", 1)
    except Exception as error:
        if is_lack_of_memory(error):
            _fail(error, "there is not enough memory: try fewer slices or close other programs", 1)
        _fail(error, f"internal error, {type(error).__name__}: {error}; run with -v and report it", 1)


def _terminate(*_: object) -> NoReturn:
    """Handle SIGTERM like Ctrl-C, so that no temporary file is left."""
    raise KeyboardInterrupt


def _fail(error: BaseException, message: str, code: int) -> NoReturn:
    if state["verbose"]:
        import traceback

        traceback.print_exception(error)
    with suppress(OSError):  # a full standard error cannot be reported
        typer.echo(f"error: {' '.join(message.split())}", err=True)
    try:
        sys.stdout.flush()
    except OSError:  # and Python must not try again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _use_utf8() -> None:
    """Use UTF-8, in the C locale too, and print characters that the terminal cannot show as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
