#!/usr/bin/env python3
"""Two commands for a fresh machine with nothing but Python 3.10 or newer: `run.py demo` and `run.py test`.

Makes its own environment in `.venv` beside this file and touches nothing else. Knows nothing about the engine.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
EXTRAS = {"demo": "", "test": "[training,test]"}


def main() -> int:
    """Parse the command and run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=sorted(EXTRAS), help="demo: segment bundled images; test: run every check")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on to the demo or to pytest")
    options = parser.parse_args()
    if sys.version_info < (3, 10):  # noqa: UP036 - here it is the user's own Python
        parser.error(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}")
    prepare(options.command)
    return demo(options.arguments) if options.command == "demo" else test(options.arguments)


def prepare(command: str) -> None:
    """Make the environment, or bring it up to date when what it is made from has changed."""
    wanted = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        wanted.update((ROOT / name).read_bytes())
    stamp = ENVIRONMENT / f"{command}.stamp"
    if PYTHON.is_file() and stamp.is_file() and stamp.read_text() == wanted.hexdigest():
        return
    print(f"preparing {ENVIRONMENT} (a few minutes, once)", flush=True)
    if not PYTHON.is_file():
        try:
            venv.create(ENVIRONMENT, with_pip=True)
        except subprocess.CalledProcessError:
            sys.exit("error: this Python cannot make environments; on Debian and Ubuntu: apt-get install python3-venv")
    # torch first: pip then finds it installed and does not look for a build with CUDA libraries
    install("-c", str(ROOT / "constraints.txt"), "torch")
    install("-c", str(ROOT / "constraints.txt"), "-e", f"{ROOT}{EXTRAS[command]}")
    stamp.write_text(wanted.hexdigest())


def install(*arguments: str) -> None:
    """Run pip, and end with its exit code if it fails."""
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    if code := subprocess.call(command):
        sys.exit(code)


def demo(arguments: list[str]) -> int:
    """Segment the bundled sample images."""
    return subprocess.call([str(PYTHON), str(ROOT / "Resources" / "demo.py"), *arguments], cwd=ROOT)


def test(arguments: list[str]) -> int:
    """Formatter, linter, type checker and all tests; the exit code of the first that fails."""
    module = [str(PYTHON), "-m"]
    # the window tests need no screen
    environment = {"QT_QPA_PLATFORM": "offscreen", **os.environ}
    checks = [
        [*module, "ruff", "format", "--check", "."],
        [*module, "ruff", "check", "."],
        [*module, "mypy"],
        [*module, "pytest", *arguments],
    ]
    for check in checks:
        print("$", " ".join(check[1:]), flush=True)
        if code := subprocess.call(check, cwd=ROOT, env=environment):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
