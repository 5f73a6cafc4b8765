#!/usr/bin/env python3
"""Commands for a machine that has only Python 3.10 or newer: `run.py demo`, `run.py check` and `run.py test`.

Makes an environment in `.venv` next to this file and changes nothing else. Knows nothing about the engine.
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
CPU_TORCH = "https://download.pytorch.org/whl/cpu"
EXTRAS = {"demo": "[openvino]", "test": "[training,test]"}
HELP = "demo: segment bundled images; check: formatter, linter, type checker; test: check, then every test"


def main() -> int:
    """Parse the command and run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["demo", "check", "test"], help=HELP)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed to the demo or to pytest")
    options = parser.parse_args()
    if sys.version_info < (3, 10):  # noqa: UP036 - this runs in the user's own Python
        parser.error(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}")
    if options.command == "demo":
        prepare("demo")
        return demo(options.arguments)
    prepare("test")
    return check() or (test(options.arguments) if options.command == "test" else 0)


def prepare(command: str) -> None:
    """Make the environment, or update it if its inputs have changed."""
    wanted = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        wanted.update((ROOT / name).read_bytes())
    stamp = ENVIRONMENT / f"{command}.stamp"
    if PYTHON.is_file() and stamp.is_file() and stamp.read_text() == wanted.hexdigest():
        return
    print(f"preparing {ENVIRONMENT} (a few minutes, once)", flush=True)
    if not has_pip():
        make_environment()
    if "training" in EXTRAS[command]:
        if sys.platform == "linux" and "PIP_EXTRA_INDEX_URL" not in os.environ:
            print(f"for a PyTorch without CUDA, gigabytes less: PIP_EXTRA_INDEX_URL={CPU_TORCH}", flush=True)
        # first, so that the next call finds it installed and looks for no other build
        install("-c", str(ROOT / "constraints.txt"), "torch")
    install("-c", str(ROOT / "constraints.txt"), "-e", f"{ROOT}{EXTRAS[command]}")
    stamp.write_text(wanted.hexdigest())


def has_pip() -> bool:
    """Whether the environment is whole: one that was interrupted, or whose Python was removed, is not."""
    return PYTHON.is_file() and subprocess.call([str(PYTHON), "-m", "pip", "--version"], stdout=subprocess.DEVNULL) == 0


def make_environment() -> None:
    """Make a new environment."""
    try:
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
    except subprocess.CalledProcessError:
        sys.exit("error: this Python cannot make environments; on Debian and Ubuntu: apt-get install python3-venv")


def install(*arguments: str) -> None:
    """Run pip, and exit with its code if it fails."""
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    if code := subprocess.call(command):
        sys.exit(code)


def demo(arguments: list[str]) -> int:
    """Segment the bundled sample images."""
    return subprocess.call([str(PYTHON), str(ROOT / "Resources" / "demo.py"), *arguments], cwd=ROOT)


def check() -> int:
    """Run formatter, linter and type checker; return the exit code of the first that fails."""
    return run(["ruff", "format", "--check", "."]) or run(["ruff", "check", "."]) or run(["mypy"])


def test(arguments: list[str]) -> int:
    """Run all tests, or those given by pytest's `arguments`."""
    processes = min(2, os.cpu_count() or 1) + 1  # tests often wait for the processes that they start
    parallel = [] if "-n" in arguments else ["-n", str(processes), "--dist", "loadfile", "--no-loadscope-reorder"]
    return run(["pytest", *parallel, "--durations=40", "--durations-min=5", *arguments])


def run(command: list[str]) -> int:
    """Run a Python module of the environment and return its exit code."""
    print("$ python -m", " ".join(command), flush=True)
    # window tests run without a screen; test processes use the cores better than torch's threads
    environment = {"QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    return subprocess.call([str(PYTHON), "-m", *command], cwd=ROOT, env=environment)


if __name__ == "__main__":
    sys.exit(main())
