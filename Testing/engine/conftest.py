"""Shared fixtures: bundled samples, a tiny model, the command line, and the research data if present."""

import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# a suite in the background inherits an ignored Ctrl-C, and would pass that on to the processes it starts
signal.signal(signal.SIGINT, signal.default_int_handler)

# the same cases in every run: a failing suite must mean a change, not another random draw
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"


@pytest.fixture
def samples():
    return ROOT / "Resources" / "samples"


@pytest.fixture
def shared():
    if not SHARED.is_dir():
        pytest.skip("the research data is not here")
    return SHARED


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a random model."""
    from tiny_models import tiny_pipeline

    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def run(capsys, model):
    """Run a command line in this process, the laboratory's if the product has no such command.

    Returns (exit code, standard output, standard error).
    """
    from fasttextdiff import cli
    from fasttextdiff_lab import commands as lab

    def call(*arguments, with_model=True, main=None):
        main = main or (lab.main if arguments[0] in ("benchmark", "distil-text", "verify-golden") else cli.main)
        extra = ["--model", str(model), "--device", "cpu"] if with_model else []
        old = sys.argv
        sys.argv = ["fasttextdiff", *map(str, arguments), *extra]
        try:
            with pytest.raises(SystemExit) as stopped:
                main()
        finally:
            sys.argv = old
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return call
