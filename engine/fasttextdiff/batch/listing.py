"""Shows a plan as tables: what would be segmented, and what was left out and why. Knows nothing about running it."""

from __future__ import annotations

from fasttextdiff.batch.plan import Case, Plan
from fasttextdiff.tables import show_table


def show_plan(plan: Plan) -> None:
    """Print the cases and what was skipped, with paths and series descriptions: for the eyes of who asked for it."""
    title = f"{len(plan.cases)} to segment"
    header = ("name", "modality", "images", "series", "findings", "path")
    show_table(title, header, [_row(case) for case in plan.cases])
    if plan.skipped:
        rows = [(_printable(one.reason), _printable(str(one.path))) for one in plan.skipped]
        show_table(f"{len(plan.skipped)} skipped", ("why", "path"), rows)


def _row(case: Case) -> tuple[str, ...]:
    kind = case.options.modality or case.modality
    return (
        case.name,
        kind.value if kind else "by its voxels",
        str(case.images),
        _printable(case.description),
        "; ".join(case.findings),
        _printable(str(case.path)),
    )


def _printable(text: str) -> str:
    """Names come from anywhere: without control sequences, and without bytes that are no text."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
