"""The result of one case as a single HTML file: pictures, findings, warnings and provenance.

Knows results. The page is self-contained and names no files or patients.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fasttextdiff.render.blocks import Block, Heading, Paragraph, Picture, Table, to_html
from fasttextdiff.render.contact_sheet import draw_preview
from fasttextdiff.result import SegmentationResult
from fasttextdiff.version import DISCLAIMER


def case_page(result: SegmentationResult, record: Mapping[str, Any]) -> str:
    """The page.

    Args:
        result: the result to draw; its volume's source must not name a file.
        record: content of `case.json` without the hashes of the outputs.
    """
    return to_html(list(_blocks(result, record)))


def _blocks(result: SegmentationResult, record: Mapping[str, Any]) -> Iterator[Block]:
    findings = record["findings"]
    yield Heading(1, record["case"])
    yield Paragraph(DISCLAIMER)
    yield Picture(_picture(result), "; ".join(found["finding"] for found in findings), is_wide=True)
    yield Heading(2, "Findings")
    planar = result.volume.is_planar
    header = ("finding", "pixels" if planar else "ml", "presence", "uncertainty (bits)", "disagreement")
    yield Table(header, [_row(found, planar) for found in findings])
    yield Paragraph(
        "Sides are the patient's. Presence: highest probability of any slice that the finding is there at all. "
        "Uncertainty: mean entropy of the probability within the mask, 0 to 1. Disagreement: mean standard deviation "
        "of the probability over noise samples within the mask; it needs more than one sample."
    )
    yield from _listed("Warnings", [f"{one['finding']}: {text}" for one in findings for text in one["warnings"]])
    yield from _listed("About the image", record["notes"])
    yield Heading(2, "How it was made")
    yield Table(("", ""), [(name.replace("_", " "), _text(value)) for name, value in record["provenance"].items()])


def _row(found: Mapping[str, Any], planar: bool) -> list[str]:
    amount = f"{found['voxels']:,}" if planar else f"{found['ml']:,.3f}"
    if found["untaught"] and found["presence"] is None:
        amount = "not taught"
    return [found["finding"], amount, *(_text(found[key]) for key in ("presence", "uncertainty", "disagreement"))]


def _listed(title: str, lines: Sequence[str]) -> Iterator[Block]:
    if lines:
        yield Heading(2, title)
        yield from map(Paragraph, lines)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _picture(result: SegmentationResult) -> str:
    """The contact sheet as a `data:` URL (RFC 2397)."""
    file = io.BytesIO()
    draw_preview(result).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
