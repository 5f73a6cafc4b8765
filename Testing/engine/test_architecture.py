"""The dependency direction: nothing imports upwards, and importing the package loads nothing heavy."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fasttextdiff.former_names import FORMER

PACKAGE = Path(__file__).resolve().parents[2] / "engine" / "fasttextdiff"
# From the bottom up: a room may import only from rooms of lower layers.
LAYERS = (
    {"version", "errors", "contract", "former_names"},
    {"paths", "progress", "utf8_mode", "option_rules"},
    {"image", "environment"},
    {"result"},
    {"segments"},
    {"io"},
    {"model", "render"},
    {"containment"},
    {"outcomes", "teaching"},
    {"decoding"},
    {"segmenter"},
    {"correction", "evaluation", "word_effects"},
    {"training", "worker"},
    {"batch"},
    {"cli"},
    {"__main__"},
)
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}


def imports_of(path):
    """(module of the package or top-level name of another, line) of every import statement, including lazy ones."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:  # its own package: only siblings, by the linter's rule
            continue
        if isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module != "fasttextdiff" else [f"fasttextdiff.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        else:
            continue
        yield from ((name, node.lineno) for name in names)


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if name != "__init__":
            yield name, path


def test_every_module_has_its_place():
    assert {name for name, _ in modules()} == set(RANK)


def test_nothing_imports_upwards():
    for name, path in modules():
        for imported, line in imports_of(path):
            if imported.startswith("fasttextdiff."):
                below = imported.split(".")[1]
                assert below == name or RANK[below] < RANK[name], f"{path}:{line}: {name} imports {below}"


def test_modules_do_not_import_each_other():
    """No cycles, not even within a package."""
    below = {}
    for path in sorted(PACKAGE.parent.glob("fasttextdiff*/**/*.py")):
        package = path.parent.relative_to(PACKAGE.parent).parts
        name = ".".join(package if path.stem == "__init__" else (*package, path.stem))
        below[name] = set(full_imports(path, package))
    below = {name: imported & set(below) - {name} for name, imported in below.items()}
    assert below["fasttextdiff.io.read"] & {"fasttextdiff.io.read_dicom"}
    while leaves := [name for name, imported in below.items() if not imported & set(below)]:
        for name in leaves:
            del below[name]
    assert not below


def full_imports(path, package):
    """Full names of everything that a file imports, modules or their members."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*start, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_the_engine_knows_neither_qt_nor_slicer_nor_vtk():
    for _, path in modules():
        tops = {imported.split(".")[0] for imported, _ in imports_of(path)}
        assert not tops & {"qt", "ctk", "slicer", "vtk", "vtkmodules", "PySide6", "PyQt5"}, path


@pytest.mark.parametrize(
    "statement", ["import fasttextdiff", "import fasttextdiff.cli", "import fasttextdiff.worker.questions"]
)
def test_importing_loads_nothing_heavy(statement):
    heavy = "{'torch', 'transformers', 'diffusers', 'SimpleITK', 'nibabel', 'pydicom', 'scipy'}"
    code = f"import sys; {statement}; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_worker_starts_with_python_alone():
    """It must be able to report missing packages when nothing is installed."""
    code = "import sys; import fasttextdiff.worker.server; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    before = set(subprocess.check_output([sys.executable, "-c", "import sys; print(*sys.modules)"], text=True).split())
    assert loaded - before - sys.stdlib_module_names == {"fasttextdiff"}


@pytest.mark.parametrize("former", FORMER)
def test_a_former_module_name_works_with_a_warning(former):
    sys.modules.pop(f"fasttextdiff.{former}", None)
    with pytest.warns(DeprecationWarning, match=f"fasttextdiff.{former} is now"):
        module = importlib.import_module(f"fasttextdiff.{former}")
    now = importlib.import_module(f"fasttextdiff.{FORMER[former]}")
    names = [name for name in vars(now) if not name.startswith("_")]
    assert names
    assert all(getattr(module, name) is getattr(now, name) for name in names)
    del sys.modules[f"fasttextdiff.{former}"]


def test_no_file_imports_a_private_name_of_another():
    found = []
    for path in sorted([*PACKAGE.parent.rglob("*.py"), *PACKAGE.parents[1].glob("Testing/**/*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("fasttextdiff")):
                found += [f"{path.name}: {alias.name}" for alias in node.names if re.match("_[a-z]", alias.name)]
    assert found == []


def test_no_test_patches_a_private_name():
    """The linter sees private names that are written out; these are in texts."""
    found = []
    for path in sorted(PACKAGE.parents[1].glob("Testing/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("setattr", "delattr"):
                names = [str(each.value).rpartition(".")[2] for each in node.args[:2] if isinstance(each, ast.Constant)]
                found += [f"{path.name}: {name}" for name in names if name.startswith("_")]
    assert found == []
