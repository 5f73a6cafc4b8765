"""The rooms of the Slicer library: allowed imports, and limits for files and classes. Nothing is imported here."""

import ast
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "FastTextDiffSegment" / "FastTextDiffSegmentLib"
ENGINE = ROOT / "engine"
# From the bottom up: a room may import only from rooms in rows above its own. A file named here is its own room.
LAYERS = (
    {"engine.EnginePath"},
    {"contract"},
    {"engine", "ReviewList", "Speed"},
    {"scene"},
    {"batch"},
    {"Findings", "ModuleSettings", "Parameters", "Requests"},
    {"Computer", "Correction", "EditedFindings", "Examining", "Several", "Teaching"},
    {"Logic"},
    {"panels"},
    {"effect"},
    {"SelfTest", "Widget"},
)
RANK = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}
MOST_LINES, MOST_METHODS = 399, 25


def library_modules():
    """Path by name, e.g. "scene.Geometry"; `__init__` has the room's name."""
    for file in sorted(LIBRARY.rglob("*.py")):
        name = ".".join(file.relative_to(LIBRARY).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            yield name, file


MODULES = dict(library_modules())


def imported_names(file, package):
    """Full names of a file's imports, including lazy ones; `package` is the file's own."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            inside = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*inside, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def imports_of(name, file):
    """Names of the library's modules that a file imports."""
    package = [LIBRARY.name, *name.split(".")][: None if file.name == "__init__.py" else -1]
    prefix = f"{LIBRARY.name}."
    found = {each.removeprefix(prefix) for each in imported_names(file, package) if each.startswith(prefix)}
    # the contract's files belong to the engine, so the library has none of them
    return {"contract" if each.startswith("contract.") else each for each in found} & set(MODULES)


def room_of(name):
    """The room in which a module is."""
    return name if name in RANK else name.split(".")[0]


GRAPH = {name: imports_of(name, file) - {name} for name, file in MODULES.items()}


def test_every_module_has_its_place():
    assert {room_of(name) for name in MODULES} == set(RANK)


def test_no_room_imports_from_its_own_layer_or_above():
    wrong = [
        f"{name} imports {imported}"
        for name, below in GRAPH.items()
        for imported in below
        if room_of(imported) != room_of(name) and RANK[room_of(imported)] >= RANK[room_of(name)]
    ]
    assert not wrong


def test_imports_have_no_cycles():
    left = dict(GRAPH)
    while leaves := [name for name, below in left.items() if not below & set(left)]:
        for name in leaves:
            del left[name]
    assert not left


def test_the_import_graph_is_not_empty():
    assert {"engine.EngineProcess", "engine.EnginePath", "scene.Geometry", "Findings"} <= GRAPH["Logic"]
    assert "panels.ResultTable" in GRAPH["panels.ResultRows"]
    assert "contract" in GRAPH["Findings"]


def test_the_engine_room_knows_neither_scene_nor_widgets():
    for name, file in MODULES.items():
        if room_of(name) == "engine":
            tops = {each.split(".")[0] for each in imported_names(file, [LIBRARY.name, "engine"])}
            assert not tops & {"vtk", "qt", "ctk"}, name


def sources():
    """(file, name for a message) of the library's and the engine's Python files."""
    for folder in (LIBRARY, ENGINE / "fasttextdiff", ENGINE / "fasttextdiff_lab"):
        for file in sorted(folder.rglob("*.py")):
            yield file, str(file.relative_to(folder.parent))


def test_no_file_is_too_long():
    lines = {name: len(file.read_text(encoding="utf-8").splitlines()) for file, name in sources()}
    longer = {name: count for name, count in lines.items() if count > MOST_LINES}
    assert not longer


def test_no_class_has_too_many_methods():
    larger = {}
    for file, name in sources():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                methods = sum(isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) for each in node.body)
                if methods > MOST_METHODS:
                    larger[f"{name}: {node.name}"] = methods
    assert not larger


def test_no_two_widgets_of_the_panel_share_a_place():
    for path in (ROOT / "FastTextDiffSegment" / "Resources" / "UI").glob("*.ui"):
        for layout in ElementTree.parse(path).iter("layout"):
            places = [(item.get("row"), item.get("column")) for item in layout.findall("item") if item.get("row")]
            assert len(places) == len(set(places)), layout.get("name")
