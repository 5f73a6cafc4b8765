"""run.py's environment is made anew when it was left half-made."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path):
    """run.py as a module that works in an empty folder."""
    spec = importlib.util.spec_from_file_location("run", ROOT / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ENVIRONMENT = tmp_path / ".venv"
    module.PYTHON = module.ENVIRONMENT / module.PYTHON.relative_to(ROOT / ".venv")
    return module


@pytest.mark.parametrize("left", ["nothing", "without pip", "without its Python"])
def test_an_environment_that_is_not_whole_is_made_anew(run, left):
    if left != "nothing":
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", run.ENVIRONMENT], check=True)
    if left == "without its Python":
        run.PYTHON.unlink()
        run.PYTHON.symlink_to(run.ENVIRONMENT / "removed")
    assert not run.has_pip()
    run.make_environment()
    assert run.has_pip()
