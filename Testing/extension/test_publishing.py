"""The public repository: small enough, as the Slicer Extensions Index requires, and made from one commit."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import make_public

ROOT = Path(__file__).resolve().parents[2]
DESCRIBED = (
    "CMakeLists.txt",
    "FastTextDiffSegment.json",
    "LICENSE",
    "README.md",
    "Resources/FastTextDiffSegment.png",
    "Resources/screenshot.png",
    "Resources/demo.jpg",
)


@pytest.fixture
def tree(tmp_path):
    """A folder with the files that describe the extension."""
    folder = tmp_path / "tree"
    for name in DESCRIBED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def git(folder, *arguments):
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def tracked_files(repository):
    names = git(repository, "-c", "core.quotePath=off", "ls-files").splitlines()
    return [repository / name for name in names if (repository / name).is_file()]


def test_the_tracked_files_fit_their_budget():
    try:
        files = tracked_files(ROOT)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git repository, or git is not installed")
    assert len(files) > 100
    assert make_public.size_problems(sum(path.stat().st_size for path in files)) == []


def test_this_tree_can_be_listed_in_the_index(tree):
    assert make_public.index_problems(ROOT) == []
    assert make_public.check(tree) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("FastTextDiffSegment.json", '"tier": 1', '"tier": 2', "tier"),
        ("FastTextDiffSegment.json", '"tier": 1', '"homepage": "x"', "homepage"),
        ("FastTextDiffSegment.json", '"category": "Segmentation"', '"category": "Other"', "category"),
        ("FastTextDiffSegment.json", "/SlicerFast", "/Fast", "repository"),
        ("FastTextDiffSegment.json", '["PyTorch"]', "[]", "build_dependencies"),
        ("FastTextDiffSegment.json", "{", "", "cannot be read"),
        ("CMakeLists.txt", "EXTENSION_DESCRIPTION", "EXTENSION_SUMMARY", "EXTENSION_DESCRIPTION"),
        ("CMakeLists.txt", "Resources/screenshot.png", "Resources/gone.png", "gone.png"),
        ("LICENSE", "Apache License", "Other Licence", "LICENSE"),
        ("README.md", "2512.00084", "", "publication"),
    ],
)
def test_what_the_index_would_refuse_is_reported_in_one_line(tree, name, old, new, expected):
    edit(tree / name, old, new)
    problems = make_public.check(tree)
    assert len(problems) >= 1
    assert any(expected in problem and "\n" not in problem for problem in problems)


def test_an_icon_of_another_size_is_refused(tree):
    shutil.copy(ROOT / "Resources/screenshot.png", tree / "Resources/FastTextDiffSegment.png")
    assert any("128 x 128" in problem for problem in make_public.check(tree))


@pytest.fixture
def source(tree, monkeypatch):
    """A repository with a history in which a large file was added and removed."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "a@example.org")
    git(tree, "init", "-q", "-b", "work")
    (tree / "large.bin").write_bytes(bytes(100_000))
    for message in ("one", "two"):
        git(tree, "add", "-A")
        git(tree, "commit", "-q", "-m", message)
        (tree / "large.bin").unlink(missing_ok=True)
    return tree


def test_the_public_repository_is_one_commit_with_the_same_files(source, tmp_path):
    target = tmp_path / "public"
    (source / "LICENSE").unlink()  # uncommitted files do not count
    size = make_public.make_public(source, "HEAD", target, "First public version")
    assert git(target, "log", "--format=%s|%P|%D") == "First public version||HEAD -> main"
    assert git(target, "rev-parse", "HEAD^{tree}") == git(source, "rev-parse", "HEAD^{tree}")
    assert git(target, "status", "--porcelain") == ""
    assert not (target / "large.bin").exists()
    files = sum(path.stat().st_size for path in tracked_files(target))
    assert files < size < 2 * files + 100_000


def test_programs_stay_executable_where_files_have_no_executable_bit(source, tmp_path, monkeypatch):
    (source / "run me.sh").write_text("#!/bin/sh\n")
    git(source, "add", "-A")
    git(source, "update-index", "--chmod=+x", "run me.sh")
    git(source, "commit", "-q", "-m", "three")
    for name, value in (("COUNT", "1"), ("KEY_0", "core.fileMode"), ("VALUE_0", "false")):  # as on Windows
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    make_public.make_public(source, "HEAD", tmp_path / "public", "x")
    assert git(tmp_path / "public", "ls-files", "-s", "run me.sh").startswith("100755 ")


@pytest.mark.parametrize("budget", ["TREE_BUDGET", "CLONE_BUDGET"])
def test_a_repository_that_is_too_large_is_removed(source, tmp_path, monkeypatch, budget):
    monkeypatch.setattr(make_public, budget, 1000)
    with pytest.raises(make_public.PublishingError, match="over the budget"):
        make_public.make_public(source, "HEAD", tmp_path / "public", "x")
    assert not (tmp_path / "public").exists()


def test_a_folder_that_is_not_empty_is_not_changed(source, tmp_path):
    (tmp_path / "public").mkdir()
    with pytest.raises(make_public.PublishingError, match="already exists"):
        make_public.make_public(source, "HEAD", tmp_path / "public", "x")
    assert list((tmp_path / "public").iterdir()) == []


def test_a_missing_commit_is_reported_in_one_line(source, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(make_public, "ROOT", source)
    assert make_public.main(["--check", "--commit", "nonsense"]) == 1
    error = capsys.readouterr().err.strip()
    assert "nonsense" in error
    assert "\n" not in error
    assert make_public.main(["--check"]) == 0


def test_version_citation_and_changelog_agree():
    version = re.search(r'__version__ = "(.+)"', (ROOT / "engine/fasttextdiff/version.py").read_text("utf-8"))[1]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    sections = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert sections[:2] == ["Unreleased", version]
