"""The wheel: contains every file of the engine, and segments an image without the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from extension_runs import X_RAY, run_alone

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built like a release: first the source distribution, then the wheel from it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        shutil.copy(ROOT / name, source / name)
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "engine", source / "engine", ignore=unwanted)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source)]
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=without_paths())
    assert process.returncode == 0, process.stdout + process.stderr
    (built,) = (folder / "dist").glob("*.whl")
    return built


def without_paths():
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def test_the_wheel_holds_exactly_the_files_of_the_engine(wheel):
    engine = ROOT / "engine"
    expected = {
        path.relative_to(engine).as_posix()
        for package in ("fasttextdiff", "fasttextdiff_lab")
        for path in (engine / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == expected


def test_the_wheel_requires_the_packages_that_slicer_is_asked_for_and_has_the_command(wheel):
    from fasttextdiff.environment import REQUIREMENTS

    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        about = message_from_bytes(archive.read(metadata))
        commands = archive.read(metadata.replace("METADATA", "entry_points.txt")).decode()
    assert about["License-Expression"] == "Apache-2.0 AND CC-BY-NC-SA-4.0"  # of the code, of the bundled weights
    assert len(about.get_all("License-File")) == 2
    needed = about.get_all("Requires-Dist")
    assert {line for line in needed if ";" not in line} == {str(requirement) for requirement in REQUIREMENTS}
    assert "fasttextdiff = fasttextdiff.cli:main" in commands


def test_the_wheel_alone_segments_an_image_without_pytorch(wheel, tmp_path):
    installed = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*command, "--target", str(installed), str(wheel)], check=True, env=without_paths())
    found = run_alone("installed_engine.py", installed, sysconfig.get_path("purelib"), X_RAY)
    assert Path(found["engine"]).is_relative_to(installed)
    assert 0.05 < found["share"] < 0.35
    assert found["right_half"] > 0.9  # the patient's left lung
