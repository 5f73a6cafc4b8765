"""The benchmark suites: what is measured, and against which reference.

Knows the segmenter and the references; the command line prints and writes files.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.image.slices import PreparedImage
from fasttextdiff.image.volume import Volume
from fasttextdiff.segmenter import Segmenter
from fasttextdiff_lab.benchmarks.bench import FINDING, Bench
from fasttextdiff_lab.benchmarks.inputs import chest_phantom
from fasttextdiff_lab.benchmarks.measuring import Figure, Work, medians
from fasttextdiff_lab.benchmarks.references import paper_model, plain_segmenter
from fasttextdiff_lab.benchmarks.torch_suites import limit, strokes, text, training

COMPARED = ("left lung", "right lung", "infection", FINDING)
"""Findings whose results are compared with those of the reference."""
SLOW = "slow: the same weights without our optimisations"
PUBLISHED = "published: the published network as published"
TORCH = "torch float32, with our optimisations"
NEW_FINDING, NEW_SLICE = "new finding on a slice with cached features", "new slice and new finding"
BUSY = 4
"""Other processes of the busy suite."""
TALL = (512, 300)
"""Side in pixels and number of slices of the volume for the memory suite."""


def interactive(bench: Bench) -> Iterator[Figure]:
    """Waiting times of users: a new finding on the shown slice, a new slice, the first mask after the start."""
    yield from _slice_figures(bench, bench.slow(), SLOW)
    yield from _beside_torch(bench)
    if bench.full_size:
        paper, device = paper_model(bench.pipeline.text_encoder.tokenizer), bench.torch_device
        ours = Bench(Segmenter(paper, device), paper, bench.volume, max(1, bench.repeats // 4))
        yield from _slice_figures(ours, plain_segmenter(paper, device), PUBLISHED)
    yield from _start_figures(bench)


def _slice_figures(bench: Bench, plain: Segmenter, reference: str) -> Iterator[Figure]:
    segmenter, one = bench.segmenter, bench.middle()

    def new_slice() -> object:
        segmenter.cache.clear()
        return segmenter.decode_slices(one, [bench.new_finding()])

    def slow() -> object:
        return plain.decode_slices(one, [bench.new_finding()])

    agreement = compared(segmenter, plain, one)
    cached, new, whole = medians(
        lambda: segmenter.decode_slices(one, [bench.new_finding()]), new_slice, slow, repeats=bench.repeats
    )
    compare: dict[str, Any] = {"reference": reference, "reference_median": whole, **agreement}
    yield bench.figure("interactive", NEW_FINDING, cached, **compare)
    yield bench.figure("interactive", NEW_SLICE, new, **compare)


def _beside_torch(bench: Bench, suite: str = "interactive") -> Iterator[Figure]:
    """The same work with this runtime and with torch, both with all optimisations; nothing if this runtime is torch."""
    if bench.segmenter.runtime.name == "torch":
        return
    ours, theirs, one = bench.segmenter, Segmenter(bench.pipeline, "cpu"), bench.middle()

    def new_finding(who: Segmenter) -> Work:
        return lambda: who.decode_slices(one, [bench.new_finding()])

    def new_slice(who: Segmenter, findings: int = 1) -> Work:
        def work() -> object:
            who.cache.clear()
            return who.decode_slices(one, [bench.new_finding() for _ in range(findings)])

        return work

    agreement: dict[str, Any] = dict(compared(ours, theirs, one))
    for name, works in (
        (NEW_FINDING, (new_finding(ours), new_finding(theirs))),
        (NEW_SLICE, (new_slice(ours), new_slice(theirs))),
        ("new slice and five new findings", (new_slice(ours, 5), new_slice(theirs, 5))),
    ):
        median, reference = medians(*works, repeats=bench.repeats)
        yield bench.figure(suite, name, median, reference=TORCH, reference_median=reference, **agreement)


def busy(bench: Bench) -> Iterator[Figure]:
    """The same on a machine on which four other processes compute without a pause."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY)]
    try:
        for figure in _beside_torch(bench, "busy"):
            yield replace(figure, name=f"{figure.name}, with {BUSY} other busy processes")
    finally:
        for other in others:
            other.kill()
            other.wait()


def compared(fast: Segmenter, plain: Segmenter, image: PreparedImage) -> dict[str, float]:
    """Difference between fast and plain results: relative L2 of log-odds; for trained weights also Dice and presence.

    Masks are made from the probabilities without the presence threshold, because two computations that differ in the
    last digit may be on different sides of it. There is no Dice if neither has a mask.
    """
    answers = [segmenter.decode_slices(image, COMPARED).findings for segmenter in (fast, plain)]
    ours, theirs = (np.stack([answer.probability for answer in found]) for found in answers)
    difference = np.linalg.norm(_log_odds(ours) - _log_odds(theirs))
    error = float(difference / np.linalg.norm(_log_odds(theirs)))
    info = fast.info
    if not info.weights_sha256:
        return {"error_to_reference": error}
    presences = [np.stack([answer.presence for answer in found]) for found in answers]
    mask, truth = ours > info.threshold, theirs > info.threshold
    total = int(mask.sum() + truth.sum())
    dice = {"dice_to_reference": 2 * int((mask & truth).sum()) / total} if total else {}
    return {
        "error_to_reference": error,
        "presence_to_reference": float(np.abs(presences[0] - presences[1]).max()),
        **dice,
    }


def _log_odds(probability: Any) -> Any:
    clipped = probability.astype(np.float64).clip(1e-7, 1 - 1e-7)
    return np.log(clipped / (1 - clipped))


def _start_figures(bench: Bench) -> Iterator[Figure]:
    """Times from the start of a process: imports, help, the first mask."""
    bare = _process("import torch, transformers, diffusers")
    first_mask = _process(
        "import numpy as np\n"
        "from fasttextdiff import Segmenter\n"
        "from fasttextdiff_lab.benchmarks.inputs import chest_phantom\n"
        "from fasttextdiff_lab.peak_memory import resident_peak\n"
        f"segmenter = Segmenter(None, 'cpu', runtime={bench.segmenter.runtime.name!r})\n"
        "segmenter.segment(chest_phantom(1), ['left lung'])"
    )
    works = (
        ("process start to first mask, CPU, bundled model", first_mask),
        ("import fasttextdiff", _process("import fasttextdiff")),
        ("fasttextdiff --help", lambda: output_of("-m", "fasttextdiff", "--help")),
    )
    times = medians(bare, *(work for _, work in works), repeats=max(1, min(3, bench.repeats)), warmup=1)
    for (name, _), seconds in zip(works, times[1:], strict=True):
        yield bench.figure(
            "interactive",
            name,
            seconds,
            "s",
            model="process",
            device="cpu",
            reference="importing torch, transformers and diffusers alone",
            reference_median=times[0],
        )


def _process(code: str) -> Work:
    return lambda: output_of("-c", code)


def output_of(*arguments: str) -> str:
    """The output of a Python process."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise FastTextDiffError(f"a measured process failed: {' '.join(done.stderr.split())[-300:]}")
    return done.stdout


def volume(bench: Bench) -> Iterator[Figure]:
    """Many slices: time by number of slices and of findings, against the plain segmenter on the same slices."""
    segmenter, plain = bench.segmenter, bench.slow()
    few, many = chest_phantom(bench.slices), chest_phantom(2 * bench.slices)

    def run(who: Segmenter, image: Volume, findings: int) -> Work:
        def work() -> object:
            who.cache.clear()
            return who.segment(image, [bench.new_finding() for _ in range(findings)], try_anyway=True)

        return work

    repeats = max(1, bench.repeats // 2)
    one, double, five, slow = medians(
        run(segmenter, few, 1), run(segmenter, many, 1), run(segmenter, few, 5), run(plain, few, 1), repeats=repeats
    )
    name = f"{bench.slices} slices of 512 x 512"
    agreement = compared(segmenter, plain, segmenter.prepare(few, slices=(0, 1)))
    yield bench.figure("volume", f"{name}, one finding", one, "s", reference=SLOW, reference_median=slow, **agreement)
    yield bench.figure(
        "volume",
        f"{2 * bench.slices} slices, one finding",
        double,
        "s",
        reference=f"{bench.slices} slices",
        reference_median=one,
    )
    yield bench.figure("volume", f"{name}, five findings", five, "s", reference="one finding", reference_median=one)
    yield bench.figure("volume", "each further finding, per slice", (five - one) / 4 / bench.slices)


def memory(bench: Bench) -> Iterator[Figure]:
    """Peak memory of a process that segments a 512 x 512 x 300 volume."""
    side, slices = TALL
    code = (
        "import sys\n"
        "from fasttextdiff import Segmenter\n"
        "from fasttextdiff.model.allocator import keep_freed_memory\n"
        "from fasttextdiff_lab.benchmarks.inputs import chest_phantom\n"
        "from fasttextdiff_lab.peak_memory import resident_peak\n"
        "keep_freed_memory()\n"  # as the engine's own processes do
        f"segmenter = Segmenter(None, {bench.segmenter.device!r}, {bench.segmenter.dtype_name!r},"
        f" runtime={bench.segmenter.runtime.name!r})\n"
        f"segmenter.segment(chest_phantom({slices}, {side}), ['left lung'])\n"
        "torch = sys.modules.get('torch')\n"
        "print(resident_peak(), torch.cuda.max_memory_allocated() if torch and torch.cuda.is_available() else 0)"
    )
    main, gpu = (int(number) / 1e9 for number in output_of("-c", code).split()[-2:])
    name = f"{side} x {side} x {slices}, one finding, bundled model"
    yield Figure("memory", f"{name}: whole process", "process", bench.device, main, "GB")
    if gpu:
        yield Figure("memory", f"{name}: GPU", "process", bench.device, gpu, "GB")


SUITES: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "interactive": interactive,
    "busy": busy,
    "volume": volume,
    "text": text,
    "strokes": strokes,
    "memory": memory,
    "training": training,
    "limit": limit,
}
