#!/usr/bin/env python3
"""Makes the public repository from one commit of this one: the same files, one commit, no history.

python3 scripts/make_public.py --check                         # only the checks, on HEAD
python3 scripts/make_public.py ../SlicerFastTextDiffSegment    # the repository, in a new folder

Needs Python and git; uploads nothing. Checks the size and the rules of the Slicer Extensions Index; knows nothing about
the content of files.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NAME = "FastTextDiffSegment"
ENTRY = f"{NAME}.json"
TREE_BUDGET = 45_000_000
"""Maximum total size of the files in bytes."""
CLONE_BUDGET = 90_000_000
"""Maximum size of a fresh clone in bytes: the files and the packed `.git`. The index refuses more than 100 MB."""

# Version 1.0.1 of the schema requires three keys and allows only the keys listed here.
_SCHEMA = "/slicer-extension-catalog-entry-schema-v1.0.1.json#"
_REQUIRED = {"$schema", "category", "scm_url"}
_ALLOWED = _REQUIRED | {"scm_revision", "scm_type", "build_dependencies", "build_subdirectory", "enabled", "tier"}
_TIERS = (1, 3, 5)
_LICENCES = ("Apache License", "MIT License")
_README_WORDS = {
    "the module's title": "FastTextDiff Segment",
    "a tutorial": "tutorial",
    "the publication": "arxiv.org/abs/2512.00084",
    "what it is for": "research use only",
}
_METADATA = ("HOMEPAGE", "CATEGORY", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS")
_ICON_SIZE = (128, 128)


class PublishingError(Exception):
    """The public repository cannot be made; the one-line message says why and what to do."""


# --- rules of the Slicer Extensions Index ----------------------------------------------------------------------------


def index_problems(tree: Path) -> list[str]:
    """Violations of the rules of the Slicer Extensions Index in `tree`, one line each."""
    metadata = cmake_metadata(tree)
    return [
        *(f"CMakeLists.txt: EXTENSION_{key} is missing or empty; set it" for key in _METADATA if not metadata.get(key)),
        *_entry_problems(tree, metadata),
        *_picture_problems(tree, metadata),
        *_text_problems(tree),
    ]


def cmake_metadata(tree: Path) -> dict[str, str]:
    """{key: value} of the `EXTENSION_` variables in the top `CMakeLists.txt`, e.g. {"CATEGORY": "Segmentation"}."""
    text = (tree / "CMakeLists.txt").read_text(encoding="utf-8")
    return dict(re.findall(r'^set\(EXTENSION_(\w+) "([^"\n]*)"\)$', text, re.MULTILINE))


def _entry_problems(tree: Path, metadata: dict[str, str]) -> Iterator[str]:
    try:
        entry: dict[str, Any] = json.loads((tree / ENTRY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        yield f"{ENTRY}: cannot be read ({error}); it is the extension's entry in the index"
        return
    if wrong := (_REQUIRED - set(entry)) | (set(entry) - _ALLOWED):
        yield f"{ENTRY}: the keys {', '.join(sorted(wrong))} are missing or not allowed by the schema"
        return
    url = str(entry["scm_url"])
    rules = {
        f"$schema must end with {_SCHEMA}": str(entry["$schema"]).endswith(_SCHEMA),
        f"tier must be one of {_TIERS}": entry.get("tier", 1) in _TIERS,
        "scm_url must be an https address that ends with .git": url.startswith("https://") and url.endswith(".git"),
        f"the repository's name in scm_url must be Slicer{NAME}": Path(url).stem == f"Slicer{NAME}",
        "category must equal EXTENSION_CATEGORY": entry["category"] == metadata.get("CATEGORY"),
        "build_dependencies must equal EXTENSION_DEPENDS": entry.get("build_dependencies", [])
        == metadata.get("DEPENDS", "").split(),
        "scm_url must be the repository of EXTENSION_HOMEPAGE": url.removesuffix(".git")
        == metadata.get("HOMEPAGE", "").split("#")[0],
    }
    yield from (f"{ENTRY}: {rule}" for rule, holds in rules.items() if not holds)


def _picture_problems(tree: Path, metadata: dict[str, str]) -> Iterator[str]:
    urls = [*metadata.get("ICONURL", "").split(), *metadata.get("SCREENSHOTURLS", "").split()]
    repository = metadata.get("HOMEPAGE", "").split("#")[0].removeprefix("https://github.com/")
    raw = f"https://raw.githubusercontent.com/{repository}/main/"
    for url in urls:
        if not url.startswith(raw) or not (tree / url.removeprefix(raw)).is_file():
            yield f"CMakeLists.txt: {url} is not a file of this repository; pictures must be in it, below {raw}"
    icon = tree / urls[0].removeprefix(raw) if urls else tree
    if icon.is_file() and _png_size(icon) != _ICON_SIZE:
        yield f"{icon.relative_to(tree).as_posix()}: the icon must be a PNG of 128 x 128 pixels"


def _png_size(path: Path) -> tuple[int, int] | None:
    header = path.read_bytes()[:24]  # signature, length, "IHDR", width, height
    if header[:8] != b"\x89PNG\r\n\x1a\n":
        return None
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


def _text_problems(tree: Path) -> Iterator[str]:
    licence, readme = (
        (tree / name).read_text(encoding="utf-8") if (tree / name).is_file() else ""
        for name in ("LICENSE", "README.md")
    )
    if not any(name in licence[:200] for name in _LICENCES):
        yield "LICENSE: the index requires the Apache or MIT licence at the top of the repository"
    words = " ".join(readme.lower().split())  # a phrase may span two lines
    for what, word in _README_WORDS.items():
        if word.lower() not in words:
            yield f'README.md: {what} is missing; the index requires it (searched for "{word}")'


# --- size ------------------------------------------------------------------------------------------------------------


def size_problems(files_bytes: int, clone_bytes: int = 0) -> list[str]:
    """Sizes over budget, one line each.

    Args:
        files_bytes: size of the files.
        clone_bytes: size of the files and the packed `.git` of a fresh clone; 0 if there is none.
    """
    sizes = (("tracked files", files_bytes, TREE_BUDGET), ("a fresh clone", clone_bytes, CLONE_BUDGET))
    return [
        f"{what}: {_mb(size)} is over the budget of {_mb(budget)}; remove large files"
        for what, size, budget in sizes
        if size > budget
    ]


def _bytes_in(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


# --- making the repository -------------------------------------------------------------------------------------------


def make_public(repository: Path, commit: str, target: Path, message: str) -> int:
    """Make the public repository in the folder `target`: branch `main`, one commit with the files of `commit`.

    Returns:
        Size of a fresh clone in bytes.

    Raises:
        PublishingError: a check failed, the folder exists, or git failed. Nothing is left in these cases.
    """
    if target.exists():
        raise PublishingError(f"{target}: already exists; give a new folder, or remove this one")
    try:
        export(repository, commit, target)
        _refuse(check(target))
        _git(target, "init", "-q", "-b", "main")
        _git(target, "add", "-A", "-f")
        if programs := _executable_files(repository, commit):  # Windows keeps no executable bits in the files
            _git(target, "update-index", "--chmod=+x", "--", *programs)
        _git(target, "commit", "-q", "-m", message)
        if _git(target, "rev-parse", "HEAD^{tree}") != _git(repository, "rev-parse", f"{commit}^{{tree}}"):
            raise PublishingError(f"{target}: the files differ from {commit}; check git filters and attributes")
        with tempfile.TemporaryDirectory() as folder:
            _git(target, "clone", "-q", "--no-local", str(target), f"{folder}/clone")
            clone = _bytes_in(Path(folder))
        _refuse(size_problems(0, clone))
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return clone


def _executable_files(repository: Path, commit: str) -> list[str]:
    entries = _git(repository, "ls-tree", "-r", "-z", commit).decode().split("\0")
    return [entry.partition("\t")[2] for entry in entries if entry.startswith("100755 ")]


def export(repository: Path, commit: str, target: Path) -> None:
    """Write the files of `commit` to the new folder `target`."""
    archive = _git(repository, "archive", "--format=tar", commit)
    target.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        # the archive is git's own; early releases of Python 3.10 and 3.11 have no filters
        tar.extractall(target, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))


def check(tree: Path) -> list[str]:
    """Problems of a tree of files to publish, one line each."""
    return [*size_problems(_bytes_in(tree)), *index_problems(tree)]


def _refuse(problems: list[str]) -> None:
    if problems:
        raise PublishingError("\n".join(problems))


def _git(folder: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(folder), "-c", "core.autocrlf=false", *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise PublishingError("git is not installed, or not on the PATH") from None
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip().replace("\n", "; ")
        raise PublishingError(f"git {arguments[0]} failed in {folder}: {reason}") from error


def main(arguments: list[str] | None = None) -> int:
    """Check, and make the repository if a folder is given; returns 0 if done, 1 on a problem."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", type=Path, help="new folder of the public repository")
    parser.add_argument("--check", action="store_true", help="only check the commit")
    parser.add_argument("--commit", default="HEAD", help="the commit whose files are published (default: HEAD)")
    parser.add_argument("--message", default=f"{NAME}: first public version", help="message of the commit")
    options = parser.parse_args(arguments)
    if (options.target is None) != options.check:
        parser.error("give the new folder, or --check")
    try:
        if options.check:
            with tempfile.TemporaryDirectory() as folder:
                export(ROOT, options.commit, Path(folder) / "tree")
                _refuse(check(Path(folder) / "tree"))
            print(f"{options.commit} can be published")
        else:
            size = make_public(ROOT, options.commit, options.target.resolve(), options.message)
            print(f"{options.target}: made; a fresh clone has {_mb(size)} of {_mb(CLONE_BUDGET)} allowed")
    except PublishingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
