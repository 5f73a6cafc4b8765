"""How a job reports its progress to its caller, who may cancel it. Knows nothing about jobs."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], bool]
"""`progress(done, total)`, in slices, files or whatever the job counts; False cancels."""
