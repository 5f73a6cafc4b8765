"""Writes the report of a study: report.json, report.md, report.html and its pictures.

Knows files and tables; `numbers` computes what is in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fasttextdiff.batch.folder import BatchFolder
from fasttextdiff.evaluation.report_page import number
from fasttextdiff.io.atomic import whole_files
from fasttextdiff.render.blocks import Block, Heading, Paragraph, Picture, Table, to_html, to_markdown
from fasttextdiff_lab.study import numbers
from fasttextdiff_lab.study.charts import Line, chart
from fasttextdiff_lab.study.definition import ALL, Cell, Study
from fasttextdiff_lab.study.numbers import differences, row_numbers, rows_of

LABELS, TIME = "dice-labels.svg", "dice-ms.svg"
POOLS = {"I": "I, mean of images", "P": "P, all pixels together"}
RESOLUTIONS = {"native": "native", "published": "published: 256 px, dilated truth"}
Content = Mapping[str, Any]


def write_report(
    study: Study, grid: Sequence[Cell], reads_text: Mapping[str, bool], outputs: BatchFolder, folder: Path
) -> dict[str, Any]:
    """Compute all numbers from the saved masks, and write the report; returns the content of report.json."""
    rows = rows_of(study, grid, reads_text, outputs)
    content = {
        "study": {"title": study.title, "question": study.question, "where": study.where, "reference": study.reference},
        "settings": {
            "size": study.size,
            "batch": study.batch,
            "budget": {"steps": study.budget.steps, "seconds": study.budget.seconds},
            "seeds": list(study.seeds),
            "draws": numbers.DRAWS,
        },
        "found_denoisers": [name for name, one in study.denoisers.items() if one.folder is not None],
        "cells": {"all": len(grid), "failed": _failures(grid, outputs), "waiting": _waiting(study, grid, outputs)},
        "rows": [row_numbers(row) for row in rows],
        "differences": list(differences(rows, study.reference)),
        "machine": rows[0].records[0]["machine"] if rows else {},
        "versions": rows[0].records[0]["versions"] if rows else {},
    }
    blocks = page_blocks(content)
    pictures = pictures_of(content)
    texts = {"report.json": json.dumps(content, indent=1) + "\n", "report.md": to_markdown(blocks)}
    texts |= {"report.html": to_html(blocks), **pictures}
    for name, text in texts.items():
        with whole_files(folder / name) as (temporary,):
            temporary.write_text(text, encoding="utf-8", newline="\n")
    return content


def _failures(grid: Sequence[Cell], outputs: BatchFolder) -> list[dict[str, str]]:
    reasons = ((cell.name, outputs.failure(cell.name)) for cell in grid)
    return [{"cell": name, "reason": reason} for name, reason in reasons if reason is not None]


def _waiting(study: Study, grid: Sequence[Cell], outputs: BatchFolder) -> list[str]:
    names = (c.name for c in grid if outputs.record(c.name, study.request(c)) is None)
    return [name for name in names if outputs.failure(name) is None]


def page_blocks(content: Content) -> list[Block]:
    """The blocks of the page."""
    return [*_head(content), *_scores(content), *_costs(content), *_differences(content), *_failed(content)]


def _head(content: Content) -> Iterator[Block]:
    study, settings, cells = content["study"], content["settings"], content["cells"]
    yield Heading(1, study["title"])
    yield Paragraph(study["question"])
    budget = settings["budget"]
    length = f"{budget['steps']} steps" if budget["steps"] else f"{budget['seconds']:g} seconds"
    done = cells["all"] - len(cells["failed"]) - len(cells["waiting"])
    seeds = ", ".join(map(str, settings["seeds"]))
    yield Paragraph(
        f"For {study['where']}. Every cell trains for {length} of {settings['batch']} images of {settings['size']} px, "
        f"with seeds {seeds}. Of {cells['all']} cells {done} are done, {len(cells['failed'])} failed, "
        f"{len(cells['waiting'])} have not run."
    )
    yield Paragraph(
        f"In brackets: 95 % intervals from {settings['draws']:,} draws of images and seeds (bootstrap). With one seed "
        "they say nothing about other seeds. All numbers are computed from the masks in cells/. Research use only."
    )
    if content["found_denoisers"]:
        yield Paragraph(
            f"Trained elsewhere, on pictures that this study does not know: {', '.join(content['found_denoisers'])}."
        )


def _scores(content: Content) -> Iterator[Block]:
    rows = content["rows"]
    if not rows:
        return
    yield Heading(2, "Dice and IoU")
    for protocol in rows[0]["protocols"]:
        for pool, name in POOLS.items():
            yield Heading(3, f"{RESOLUTIONS[protocol]}; {name}")
            yield Table(
                ("data", "labels", "text in training", "system", "asked with", "Dice", "IoU", "seeds", "images"),
                [
                    (
                        *_key_cells(row),
                        number(row["protocols"][protocol][f"{pool} dice"]),
                        number(row["protocols"][protocol][f"{pool} iou"]),
                        str(len(row["seeds"])),
                        str(row["images"]),
                    )
                    for row in rows
                ],
            )
    for file, caption in _captions(content).items():
        yield Picture(file, caption)


def _key_cells(row: Content) -> tuple[str, ...]:
    return (row["data"], str(row["labels"]), row["text"], row["system"], row["asked"])


def _costs(content: Content) -> Iterator[Block]:
    if not content["rows"]:
        return
    yield Heading(2, "Cost")
    loads = [load for row in content["rows"] for load in row["workers_load"] if load is not None]
    machine = content["machine"]
    yield Paragraph(
        f"Medians over seeds on {machine.get('cpu')}, {machine.get('threads')} threads, GPU "
        f"{machine.get('gpu', 'none')}; load average when cells ended: {min(loads, default=0):g} to "
        f"{max(loads, default=0):g}. Above the number of threads, wall times are not those of a quiet machine; "
        "processor seconds suffer less."
    )
    header = (
        "data", "labels", "text in training", "system", "parameters (M)", "trained (M)", "multiply-adds (G)",
        "of these for text (G)", "s a step", "processor s a step", "inference (ms)", "with kept text (ms)",
        "memory (MB)", "steps",
    )  # fmt: skip
    first = {_key_cells(row)[:4]: row for row in reversed(content["rows"])}
    yield Table(header, [(*key, *_cost_cells(row["costs"])) for key, row in reversed(first.items())])


def _cost_cells(costs: Content) -> tuple[str, ...]:
    return (
        f"{costs['parameters'] / 1e6:.2f}",
        f"{costs['trained_parameters'] / 1e6:.2f}",
        f"{costs['multiply_adds'] / 1e9:.3f}",
        f"{costs['multiply_adds_text'] / 1e9:.3f}",
        f"{costs['step_s']:.3f}",
        f"{costs['step_cpu_s']:.3f}",
        f"{costs['inference_ms']:.1f}",
        f"{costs['cached_ms']:.1f}",
        f"{costs.get('gpu_memory_mb', costs['memory_mb']):.0f}",
        f"{costs['steps']:.0f}",
    )


def _differences(content: Content) -> Iterator[Block]:
    named = {
        "system": f"Differences to {content['study']['reference']}",
        "text": "Differences to the first text asked",
    }
    for what, title in named.items():
        rows = [row for row in content["differences"] if row["of"] == what]
        if not rows:
            continue
        yield Heading(2, title)
        yield Paragraph("Dice on the same images and seeds; an interval without 0 is a difference.")
        yield Table(
            (
                "data",
                "labels",
                "text in training",
                "system",
                "asked with",
                "resolution",
                "Dice (I)",
                "Dice (P)",
                "seeds",
            ),
            [
                (
                    *_key_cells(row),
                    row["protocol"],
                    number(row["I dice"], sign=True),
                    number(row["P dice"], sign=True),
                    str(len(row["seeds"])),
                )
                for row in rows
            ],
        )


def _failed(content: Content) -> Iterator[Block]:
    if content["cells"]["failed"]:
        yield Heading(2, "Failed")
        yield Table(("cell", "reason"), [(one["cell"], one["reason"]) for one in content["cells"]["failed"]])


def _captions(content: Content) -> dict[str, str]:
    found = {TIME: "Dice (I) against milliseconds for one image with its text."}
    if len({row["labels"] for row in content["rows"]}) > 1:
        found[LABELS] = "Dice (I) against the number of training images with masks; bars are 95 % intervals."
    return found


def pictures_of(content: Content) -> dict[str, str]:
    """SVG pictures by file name; none without results."""
    if not content["rows"]:
        return {}
    protocol = next(iter(content["rows"][0]["protocols"]))
    lines: dict[str, list[tuple[float, Content]]] = {}
    points: dict[str, list[tuple[float, Content]]] = {}
    most = max((row["labels"] for row in content["rows"] if row["labels"] != ALL), default=1)
    for row in content["rows"]:
        name, dice = _line_name(content, row), row["protocols"][protocol]["I dice"]
        labels = 3 * max(1, most) if row["labels"] == ALL else row["labels"]
        lines.setdefault(name, []).append((labels, dice))
        points.setdefault(name, []).append((row["costs"]["inference_ms"], dice))
    drawn = {LABELS: (lines, f"labels ({ALL} at {3 * max(1, most)})", True), TIME: (points, "ms", False)}
    return {
        file: chart([Line(name, at) for name, at in drawn[file][0].items()], drawn[file][1], "Dice", drawn[file][2])
        for file in _captions(content)
    }


def _line_name(content: Content, row: Content) -> str:
    """The system, with what else differs between the rows."""
    parts = [row["system"]]
    for name in ("data", "text", "asked"):
        if len({one[name] for one in content["rows"]}) > 1:
            parts.append(str(row[name]))
    return ", ".join(parts)
