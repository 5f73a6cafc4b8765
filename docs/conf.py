"""The documentation site: `python -m sphinx --fail-on-warning docs site`.

Pages are the Markdown files of this folder; the API reference comes from the docstrings. Heavy libraries are mocked, so
that the site is built in seconds and without torch.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT / "engine"))

from fasttextdiff.version import __version__  # noqa: E402 - the path comes first

project = "FastTextDiffSegment"
author = "The FastTextDiffSegment contributors"
copyright = "The FastTextDiffSegment contributors, Apache-2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
default_role = "code"  # `x` is code, as in Markdown
autodoc_mock_imports = [
    "PIL",
    "SimpleITK",
    "diffusers",
    "highdicom",
    "nibabel",
    "openpyxl",
    "pydicom",
    "safetensors",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
    "yaml",
]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_use_rtype = False
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {"description": "Segment medical images from a typed finding.", "fixed_sidebar": True}

REPOSITORY = "https://github.com/FastTextDiffSegment/SlicerFastTextDiffSegment/blob/main/"
TOP_PAGES = {"contributing": ROOT / "CONTRIBUTING.md", "changelog": ROOT / "CHANGELOG.md"}
"""Pages whose text stands at the top of the repository, where GitHub looks for it."""
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#|mailto:)([^)\s]+)\)")


def read_page(_app: Any, docname: str, source: list[str]) -> None:
    """Put the text of a top page in its place, and let links out of this folder lead to the repository."""
    origin = TOP_PAGES.get(docname, DOCS / f"{docname}.md")
    if docname in TOP_PAGES:
        source[0] = origin.read_text(encoding="utf-8")
    page = (DOCS / docname).parent

    def link(match: re.Match[str]) -> str:
        text, (name, _, anchor) = match[1], match[2].partition("#")
        target = Path(os.path.normpath(origin.parent / name))
        target = next((DOCS / f"{top}.md" for top, path in TOP_PAGES.items() if path == target), target)
        if target.is_relative_to(DOCS):
            where = Path(os.path.relpath(target, page)).as_posix()
        else:
            where = REPOSITORY + target.relative_to(ROOT).as_posix()
        return f"[{text}]({where}{'#' + anchor if anchor else ''})"

    source[0] = _LINK.sub(link, source[0])


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("source-read", read_page)
