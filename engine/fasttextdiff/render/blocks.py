"""A page of headings, paragraphs, tables and pictures, written as Markdown or HTML.

Knows the two formats; knows nothing about the content.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}th,td{padding:.25rem .75rem;border-bottom:1px solid #ddd;"
    "text-align:left;vertical-align:top}figure{display:inline-block;margin:.5rem 1rem .5rem 0;max-width:644px}"
    "figure.wide{display:block;max-width:none}figcaption{color:#555;font-size:14px}img{max-width:100%}"
)


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the page's title."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A picture with a caption, in a file next to the page or as a `data:` URL; optionally at full width."""

    file: str
    caption: str
    is_wide: bool = False


Block = Heading | Paragraph | Table | Picture


def to_markdown(blocks: Sequence[Block]) -> str:
    """The page as GitHub Markdown."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_marked(block.text)}"
    if isinstance(block, Paragraph):
        return _marked(block.text)
    if isinstance(block, Picture):
        return f"![{_marked(block.caption)}]({block.file})\n\n{_marked(block.caption)}"
    return "\n".join(_markdown_row(row) for row in (block.header, ["---"] * len(block.header), *block.rows))


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell if cell == '---' else _marked(cell) for cell in cells)} |"


def _marked(text: str) -> str:
    """Text escaped for Markdown, on one line."""
    return re.sub(r"([\\`*_|<>\[\]#])", r"\\\1", " ".join(text.split()))


def to_html(blocks: Sequence[Block]) -> str:
    """The page as HTML without other dependencies than its picture files."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "")
    body = "\n".join(_html(block) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{escape(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        return f"<p>{escape(block.text)}</p>"
    if isinstance(block, Picture):
        caption = escape(block.caption)
        image = f'<img src="{escape(block.file)}" alt="{caption}">'
        start = '<figure class="wide">' if block.is_wide else "<figure>"
        return f"{start}{image}<figcaption>{caption}</figcaption></figure>"
    rows = [_html_row(block.header, "th"), *(_html_row(row, "td") for row in block.rows)]
    return "<table>\n" + "\n".join(rows) + "\n</table>"


def _html_row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
