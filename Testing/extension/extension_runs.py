"""Runs scripts against an installed engine or module, in a process that cannot see the checkout."""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
X_RAY = HERE.parents[1] / "Resources" / "samples" / "cxr_hannover" / "1d40779e.png"


def run_alone(script, *arguments, timeout=300):
    """Run a script that cannot see the checkout; returns the JSON of its last line."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment.update(QT_QPA_PLATFORM="offscreen", OMP_NUM_THREADS="1")
    process = subprocess.run(
        [sys.executable, "-I", "-S", str(HERE / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment,
        timeout=timeout,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return json.loads(process.stdout.splitlines()[-1])
