"""How long a run will take, from runs that were measured. Knows numbers only."""

import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

_REMEMBERED = 3
"""Runs of a kind. The slowest counts: one over slices that the engine still had in its cache is many times faster."""


@dataclass(frozen=True)
class Cost:
    """What a run will take.

    Attributes:
        slices: number of slices.
        seconds: estimate; None if no run was measured yet.
    """

    slices: int
    seconds: float | None

    @classmethod
    def total(cls, costs: Sequence["Cost"]) -> "Cost":
        """The cost of runs one after the other."""
        seconds = [cost.seconds for cost in costs if cost.seconds is not None]
        return cls(sum(cost.slices for cost in costs), sum(seconds) if len(seconds) == len(costs) else None)

    def text(self) -> str:
        """E.g. "31 slices, about 25 s"."""
        count = "1 slice" if self.slices == 1 else f"{self.slices} slices"
        if self.seconds is None:
            return f"{count}; the time is known after the first result"
        if self.seconds < 100:
            return f"{count}, about {max(1.0, self.seconds):.0f} s"
        return f"{count}, about {self.seconds / 60:.0f} min"


class Speed:
    """Seconds for each slice, by kind of slice.

    Args:
        clock: seconds, as `time.monotonic`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._seconds: dict[Hashable, deque[float]] = {}

    def measured(self, kind: Hashable, samples: int = 1) -> Callable[[int, int], None]:
        """Start to measure a run; call the result with (done, total) slices whenever some are done."""
        started, first, firstDone = self._clock(), None, 0

        def report(done: int, total: int) -> None:
            nonlocal first, firstDone
            now = self._clock()
            if done == total:
                # a run's first batch includes the start-up of the model
                since, counted = (started, done) if first is None else (first, done - firstDone)
                seconds = self._seconds.setdefault(kind, deque(maxlen=_REMEMBERED))
                seconds.append((now - since) / max(1, counted) / samples)
            elif first is None and done:
                first, firstDone = now, done

        return report

    def cost(self, kind: Hashable, slices: int, samples: int = 1) -> Cost:
        """The cost of a run; from runs of other kinds if none of this kind was measured."""
        seconds = self._seconds.get(kind) or [each for runs in self._seconds.values() for each in runs]
        return Cost(slices, max(seconds) * slices * samples if seconds else None)
