"""Where the engine is installed and how to start it. Knows nothing about its protocol."""

import os
import shutil
import sys
from pathlib import Path

MODULE_FOLDER = Path(__file__).resolve().parents[2]


def engineFolder() -> Path:
    """The folder that contains the package `fasttextdiff`: next to the installed module, or `engine` in a checkout.

    Raises:
        FileNotFoundError: it is in neither place, so the installation is incomplete.
    """
    for folder in (MODULE_FOLDER, MODULE_FOLDER.parent / "engine"):
        if (folder / "fasttextdiff" / "__init__.py").is_file():
            return folder
    raise FileNotFoundError(
        f"The engine 'fasttextdiff' is not in {MODULE_FOLDER}: install the extension again, or add the module's "
        "folder from a complete checkout."
    )


def engineCommand(*arguments: str) -> list[str]:
    """The engine's command line. PythonSlicer, on Slicer's PATH, is Slicer's Python with its libraries set up."""
    return [shutil.which("PythonSlicer") or sys.executable, "-m", "fasttextdiff", *arguments]


def engineEnvironment() -> dict[str, str]:
    """The engine's environment variables: where the package is, UTF-8, no network access."""
    environment = dict(os.environ)
    paths = [str(engineFolder()), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    environment.update(PYTHONUTF8="1", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    return environment
