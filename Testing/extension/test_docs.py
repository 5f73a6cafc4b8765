"""The documents: the site builds without warnings, linked and named files exist, every room is described."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_architecture import imports_of, modules

import fasttextdiff

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "engine" / "fasttextdiff"
LIBRARY = ROOT / "FastTextDiffSegment" / "FastTextDiffSegmentLib"
DOCUMENTS = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")})
WITH_PATHS = ("CONTRIBUTING.md", "docs/architecture.md", "docs/publishing.md")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|md|toml|txt|json|cff))`")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "docs", str(folder)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return folder


def test_the_site_builds_without_warnings_and_documents_every_public_name(site):
    page = (site / "api.html").read_text(encoding="utf-8")
    assert [name for name in fasttextdiff.__all__ if f'id="fasttextdiff.{name}"' not in page] == []
    for name in fasttextdiff.__all__:
        entry = page.split(f'id="fasttextdiff.{name}"')[1].split("<dd>")[1]
        assert entry.strip().startswith("<p>"), f"{name} has no docstring"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_linked_files_exist(document):
    links = LINK.findall(document.read_text(encoding="utf-8"))
    files = [link.split("#")[0] for link in links if not link.startswith(("http", "#", "mailto:"))]
    assert [name for name in files if not (document.parent / name).exists()] == []


@pytest.mark.parametrize("document", WITH_PATHS)
def test_named_files_exist(document):
    named = set(PATH.findall((ROOT / document).read_text(encoding="utf-8")))
    assert len(named) > 3
    # rooms are named without their package
    places = {name: [ROOT / name, ENGINE / name, LIBRARY / name] for name in sorted(named)}
    assert [name for name, paths in places.items() if not any(path.exists() for path in paths)] == []


def test_the_architecture_page_has_a_sentence_for_every_room():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for folder in (ENGINE, LIBRARY):
        rooms = {path.parent.name for path in folder.glob("*/__init__.py")}
        described = set(re.findall(r"^\| `(\w+)/` \| \w.{40,} \|$", page, re.MULTILINE))
        assert rooms - described == set()


def test_the_diagram_shows_every_room_above_what_it_imports():
    picture = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    row = {
        name.strip().removesuffix(".py"): int(y)
        for y, names in re.findall(r' y="(\d+)" [^>]*><tspan[^>]*>([^<]+)<', picture)
        for name in names.split(",")
    }
    drawn = [(name, path) for name, path in modules() if name in row]
    assert {path.parent.name for path in ENGINE.glob("*/__init__.py")} - set(row) == set()
    for name, path in drawn:
        below = {imported.split(".")[1] for imported, _ in imports_of(path) if imported.startswith("fasttextdiff.")}
        assert [other for other in below - {name} if row.get(other, 10_000) <= row[name]] == [], path
