"""The interactive measurements as processor time of one thread: for a machine that is also busy with other work.

    OMP_NUM_THREADS=1 python Testing/benchmarks/cpu_time.py VOLUME

alternates between the tasks, so that other load affects all of them equally, and prints medians. For the time that a
user waits, run `fasttextdiff-lab benchmark` on an idle machine; here only the ratios matter.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from fasttextdiff import FastTextDiffPipeline, Segmenter, read_volume
from fasttextdiff.model.pipeline import quiet_libraries
from fasttextdiff_lab.benchmarks.bench import FINDING
from fasttextdiff_lab.benchmarks.references import plain_segmenter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("volume", type=Path)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    if torch.get_num_threads() != 1:
        parser.error("set OMP_NUM_THREADS=1: threads that wait for each other cost processor time, too")
    quiet_libraries()
    pipeline = FastTextDiffPipeline.from_pretrained()
    fast, plain = Segmenter(pipeline, "cpu"), plain_segmenter(pipeline, "cpu")
    described = fast.prepare(read_volume(options.volume))
    middle = described.display.n_slices // 2
    one = described.with_request(slices=(middle, middle + 1), samples=1, seed=0)
    numbers = itertools.count()

    def asking(who: Segmenter, findings: int, *, is_new: bool) -> Callable[[], object]:
        def work() -> object:
            if is_new:
                who.cache.clear()
            return who.decode_slices(one, [f"{FINDING} {next(numbers)}" for _ in range(findings)])

        return work

    taken = medians(
        {
            "slow": asking(plain, 1, is_new=True),
            "new slice and new finding": asking(fast, 1, is_new=True),
            "new slice and five new findings": asking(fast, 5, is_new=True),
            "new finding on a cached slice": asking(fast, 1, is_new=False),
        },
        options.repeats,
    )
    slow, new, five, _ = taken.values()
    for name, milliseconds in taken.items():
        print(f"{name:32} {milliseconds:6.1f} ms   slow / this {slow / milliseconds:5.2f}")
    print(f"{'five findings / one':32} {five / new:6.2f}      each further one {(five - new) / 4:.1f} ms")


def medians(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Milliseconds of processor time of each task, in turns; the first round is a warm-up."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            if turn:
                taken[name].append(1e3 * (time.process_time() - start))
    return {name: statistics.median(times) for name, times in taken.items()}


if __name__ == "__main__":
    main()
