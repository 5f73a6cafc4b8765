"""Reads the command line's standard error and the content of folders. Runs nothing itself."""

from __future__ import annotations

from pathlib import Path


def error_line(err: str) -> str:
    """The one line of an error, without notes."""
    lines = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    return lines[0]


def everything(folder: Path) -> dict[str, object]:
    """All files below a folder with their bytes."""
    return {
        str(path.relative_to(folder)): (path.is_symlink(), path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }
