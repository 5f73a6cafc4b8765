"""The installed extension: complete, usable without the checkout, and described as the extensions index requires.

`stand_in/` replaces Slicer's CMake macros and does the same with the lists of files.
"""

import re
import shutil
import subprocess
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest
from extension_runs import X_RAY, run_alone

import make_public

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SCRIPTED_MODULES = Path("lib/Slicer-5.12/qt-scripted-modules")
PACKAGES = sysconfig.get_path("purelib")
# Slicer's extensions are projects in C and C++ to CMake, also where they compile nothing; the test needs no compiler.
NO_COMPILER = [f"-DCMAKE_{language}_COMPILER_{key}=1" for language in ("C", "CXX") for key in ("ID_RUN", "FORCED")]


def tool(name):
    """A build tool: from this environment, else from the system."""
    return shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)


@pytest.fixture(scope="session")
def cmake():
    """Runs CMake and returns the finished process."""
    program, ninja = tool("cmake"), tool("ninja")
    if program is None or not (ninja or tool("make")):
        pytest.skip("CMake with ninja or make is not installed")
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
    compilers = [f"-DCMAKE_{language}_COMPILER={program}" for language in ("C", "CXX")]
    stand_in = f"-DSlicer_DIR={HERE / 'stand_in'}"

    def run(*arguments):
        if "-S" in arguments:
            arguments = (*arguments, stand_in, *generator, *compilers, *NO_COMPILER)
        return subprocess.run([program, *arguments], capture_output=True, text=True, encoding="utf-8", check=False)

    return run


def build_and_install(cmake, source, folder):
    """Configure, build and install `source`; returns the folders of the build and of the installed modules."""
    build, prefix = folder / "build", folder / "installed"
    for arguments in (
        ("-S", str(source), "-B", str(build), "-DBUILD_TESTING=ON"),
        ("--build", str(build)),
        ("--install", str(build), "--prefix", str(prefix)),
    ):
        process = cmake(*arguments)
        assert process.returncode == 0, process.stdout + process.stderr
    return build, prefix / SCRIPTED_MODULES


@pytest.fixture(scope="session")
def extension(cmake, tmp_path_factory):
    return build_and_install(cmake, ROOT, tmp_path_factory.mktemp("extension"))


@pytest.fixture(scope="session")
def metadata(extension):
    lines = (extension[0] / "extension.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines)


def files_in(*folders):
    """{path relative to its folder: content} of what belongs to the project."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
        and path.name != "CMakeLists.txt"  # for developers
        and not {"__pycache__", "fasttextdiff.egg-info", "fasttextdiff_lab"} & set(path.parts)  # not for Slicer
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)  # caches of mypy and ruff
    }


def test_exactly_the_files_of_module_and_engine_are_installed(extension):
    expected = files_in(ROOT / "FastTextDiffSegment", ROOT / "engine")
    installed = files_in(extension[1])
    assert sorted(installed) == sorted(expected)
    assert [name for name in expected if installed[name] != expected[name]] == []


def test_the_lists_are_sorted_and_only_the_module_gets_slicers_generic_tests():
    for folder in ("FastTextDiffSegment", "engine"):
        text = (ROOT / folder / "CMakeLists.txt").read_text(encoding="utf-8")
        lists = re.findall(r"set\(\w+_PYTHON_(?:SCRIPTS|RESOURCES)\n(.*?)\)", text, re.DOTALL)
        assert len(lists) == 2
        assert [files.split() for files in lists] == [sorted(files.split()) for files in lists]
        assert (re.search(r"^\s*WITH_GENERIC_TESTS$", text, re.MULTILINE) is not None) == (folder != "engine")


def test_the_stand_in_installs_nothing_from_outside_a_folder_like_slicer(cmake, tmp_path):
    project = tmp_path / "project"
    (project / "inside").mkdir(parents=True)
    (project / "outside.py").touch()
    (project / "inside" / "inside.py").touch()
    (project / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(Probe)\nfind_package(Slicer REQUIRED)\n"
        "include(${Slicer_USE_FILE})\nadd_subdirectory(inside)\n"
    )
    lists = project / "inside" / "CMakeLists.txt"
    lists.write_text("slicerMacroBuildScriptedModule(NAME probe SCRIPTS inside.py ../outside.py)\n")
    build, installed = build_and_install(cmake, project, tmp_path)
    assert (build / SCRIPTED_MODULES / ".." / "outside.py").is_file()
    assert list(files_in(installed)) == ["inside.py"]
    lists.write_text("slicerMacroBuildScriptedModule(NAME probe SCRIPTS inside.py gone.py)\n")
    process = cmake("-S", str(project), "-B", str(build))
    assert process.returncode != 0
    assert "gone.py" in process.stderr


def test_the_installed_engine_segments_with_its_weights_and_without_the_checkout(extension):
    installed = extension[1]
    found = run_alone("installed_engine.py", installed, PACKAGES, X_RAY)
    assert Path(found["engine"]).is_relative_to(installed)
    assert 0.05 < found["share"] < 0.35
    assert found["right_half"] > 0.9  # the patient's left lung


@pytest.mark.slicer
@pytest.mark.skipif(
    find_spec("slicer") is None or find_spec("PySide6") is None, reason="slicer-core and PySide6 are not installed"
)
def test_the_installed_module_loads_without_torch_and_segments_through_its_engine(extension):
    installed = extension[1]
    found = run_alone("installed_module.py", installed, PACKAGES, X_RAY, ROOT / "Testing" / "host")
    assert Path(found["module"]).is_relative_to(installed)
    assert Path(found["engine"]) == installed
    assert found["heavy"] == []
    assert found["errors"] == []
    assert 0.05 < found["share"] < 0.35
    assert found["right_half"] > 0.9


def test_cmake_reads_the_description_that_publishing_checks(metadata):
    assert metadata["NAME"] == make_public.NAME
    written = make_public.cmake_metadata(ROOT)
    checked = {key: text for key, text in written.items() if not key.endswith("_FILE")}  # CMake fills in their folder
    assert {"HOMEPAGE", "CATEGORY", "DEPENDS", "ICONURL", "SCREENSHOTURLS"} <= set(checked)
    assert {key: metadata[key] for key in checked} == checked
