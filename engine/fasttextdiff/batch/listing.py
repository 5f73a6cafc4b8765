"""Shows a batch on a terminal: the plan, the progress and the result. Knows nothing about running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fasttextdiff.batch.events import Listener, Tally
from fasttextdiff.batch.plan import Case, Plan
from fasttextdiff.render.tables import show_table
from fasttextdiff.version import DISCLAIMER


class Terminal(Listener):
    """Shows progress on standard error, with bars on a terminal, else one line per case; then prints a table.

    Args:
        shows_plan: whether to list all cases once they are known.
    """

    def __init__(self, *, shows_plan: bool) -> None:
        self._shows_plan = shows_plan
        self._console = Console(stderr=True)
        columns = TextColumn("looking"), BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeRemainingColumn()
        self._looking = self._bar(*columns, transient=True)
        self._cases = self._bar(
            TextColumn("cases"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}"),
            TimeElapsedColumn(), transient=False,
        )  # fmt: skip
        self._looking_at = self._looking.add_task("", total=None)
        self._at_case = self._cases.add_task("", total=None, pace="")

    def _bar(self, *columns: ProgressColumn, transient: bool) -> Progress:
        return Progress(*columns, console=self._console, transient=transient, disable=not self._console.is_terminal)

    def __exit__(self, *_: object) -> None:
        """Restore the terminal."""
        self._looking.stop()
        self._cases.stop()

    def looked(self, done: int, total: int) -> None:
        """Update the bar of files."""
        self._looking.start()
        self._looking.update(self._looking_at, completed=done, total=total)

    def planned(self, plan: Plan, states: Mapping[str, str]) -> None:
        """List the cases if requested."""
        self._looking.stop()
        if self._shows_plan:
            show_plan(plan)

    def progressed(self, tally: Tally) -> None:
        """Update the bar of cases."""
        self._cases.start()
        pace = [f"{tally.failed} failed"]
        if tally.per_hour is not None and tally.seconds_left is not None:
            pace += [f"{tally.per_hour:,.0f} per hour", f"{_duration(tally.seconds_left)} left"]
        self._cases.update(self._at_case, completed=tally.ended, total=tally.total, pace=", ".join(pace))
        if not self._console.is_terminal:
            self._say(f"{tally.ended} of {tally.total} cases, {', '.join(pace)}")

    def finished(self, tally: Tally, plan: Plan, folder: Path, failures: Sequence[tuple[str, str]]) -> None:
        """Show the table, the failed cases and the path of the summary."""
        self._cases.stop()
        counts = {
            "done": tally.earlier + tally.done,
            "failed": tally.failed,
            "left": tally.total - tally.ended,
            "skipped": len(plan.skipped),
        }
        show_table("", ("", "cases"), [(name, str(count)) for name, count in counts.items()])
        for name, reason in failures:
            self._say(f"note: {name}: {reason}")
        print(f"wrote {folder / 'summary.csv'}\n{DISCLAIMER}")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _duration(seconds: float) -> str:
    """Hours and minutes, or seconds below one minute."""
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def show_plan(plan: Plan) -> None:
    """Print the cases and what was skipped, with paths and series descriptions, which may name patients."""
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
        kind.value if kind else "from its voxels",
        str(case.images),
        _printable(case.description),
        "; ".join(case.findings),
        _printable(str(case.path)),
    )


def _printable(text: str) -> str:
    """A name without control sequences and invalid bytes."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
