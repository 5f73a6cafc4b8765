"""The benchmark suites: what is measured, and against which reference.

Knows the segmenter and the references; the command line prints and writes files.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.image.slices import PreparedImage
from fasttextdiff.image.volume import Volume
from fasttextdiff.model.denoiser import seeded_noise
from fasttextdiff.model.pipeline import FastTextDiffPipeline
from fasttextdiff.model.text_encoder import TextEncoder
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.training.losses import segmentation_loss
from fasttextdiff_lab.benchmarks.inputs import chest_phantom
from fasttextdiff_lab.benchmarks.measuring import Figure, Work, medians
from fasttextdiff_lab.benchmarks.references import paper_model, plain_segmenter

FINDING = "consolidation in the left lung"
COMPARED = ("left lung", "right lung", "infection", FINDING)
"""Findings whose results are compared with those of the reference."""
SLOW = "slow: the same weights without our optimisations"
PUBLISHED = "published: the published network as published"
TEXT_LENGTHS = (16, 64, 512)
TALL = (512, 300)
"""Side in pixels and number of slices of the volume for the memory suite."""


@dataclass
class Bench:
    """A model on a device, and the settings of a benchmark.

    Attributes:
        segmenter: the model with all optimisations, on the runtime that is measured.
        pipeline: the same model in torch, for references and for what only torch can do.
        volume: a real image, or a phantom.
        repeats: repeats of each figure.
        full_size: whether to also measure the published network at full size: minutes on a CPU, 6 GB.
        slices: slices of the volume suite.
    """

    segmenter: Segmenter
    pipeline: FastTextDiffPipeline
    volume: Volume
    repeats: int = 5
    full_size: bool = False
    slices: int = 16
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def device(self) -> str:
        """Device, dtype and runtime, as in figures."""
        return f"{self.segmenter.device} {self.segmenter.dtype_name}, {self.segmenter.runtime.name}"

    @property
    def torch_device(self) -> str:
        """The device for work that only torch can do."""
        return self.segmenter.device if self.segmenter.runtime.name == "torch" else "cpu"

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.segmenter.info.name

    def slow(self) -> Segmenter:
        """The same weights in float32 without our optimisations."""
        return plain_segmenter(self.pipeline, self.torch_device)

    def figure(self, suite: str, name: str, seconds: float, unit: str = "ms", **more: Any) -> Figure:
        """A figure of this model on this device; converts seconds to the unit."""
        scale = {"ms": 1e3, "s": 1.0}[unit]
        if more.get("reference_median") is not None:
            more["reference_median"] *= scale
        return Figure(
            suite, name, more.pop("model", self.model), more.pop("device", self.device), seconds * scale, unit, **more
        )

    def new_finding(self) -> str:
        """A text that is not in any cache."""
        return f"{FINDING} {next(self._numbers)}"

    def middle(self) -> PreparedImage:
        """The prepared middle slice of the volume."""
        described = self.segmenter.prepare(self.volume)
        index = described.display.n_slices // 2
        return described.with_request(slices=(index, index + 1), samples=1, seed=0)


def interactive(bench: Bench) -> Iterator[Figure]:
    """Waiting times of users: a new finding on the shown slice, a new slice, the first mask after the start."""
    yield from _slice_figures(bench, bench.slow(), SLOW)
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
    yield bench.figure("interactive", "new finding on a slice with cached features", cached, **compare)
    yield bench.figure("interactive", "new slice and new finding", new, **compare)


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
        f"segmenter = Segmenter(None, 'cpu', runtime={bench.segmenter.runtime.name!r})\n"
        "segmenter.segment(chest_phantom(1), ['left lung'])"
    )
    works = (
        ("process start to first mask, CPU, bundled model", first_mask),
        ("import fasttextdiff", _process("import fasttextdiff")),
        ("fasttextdiff --help", lambda: _run("-m", "fasttextdiff", "--help")),
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
    return lambda: _run("-c", code)


def _run(*arguments: str) -> str:
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
        "import resource, sys\n"
        "from fasttextdiff import Segmenter\n"
        "from fasttextdiff.model.allocator import keep_freed_memory\n"
        "from fasttextdiff_lab.benchmarks.inputs import chest_phantom\n"
        "keep_freed_memory()\n"  # as the engine's own processes do
        f"segmenter = Segmenter(None, {bench.segmenter.device!r}, {bench.segmenter.dtype_name!r},"
        f" runtime={bench.segmenter.runtime.name!r})\n"
        f"segmenter.segment(chest_phantom({slices}, {side}), ['left lung'])\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)\n"
        "torch = sys.modules.get('torch')\n"
        "print(peak, torch.cuda.max_memory_allocated() if torch and torch.cuda.is_available() else 0)"
    )
    main, gpu = (int(number) / 1e9 for number in _run("-c", code).split()[-2:])
    name = f"{side} x {side} x {slices}, one finding, bundled model"
    yield Figure("memory", f"{name}: whole process", "process", bench.device, main, "GB")
    if gpu:
        yield Figure("memory", f"{name}: GPU", "process", bench.device, gpu, "GB")


def text(bench: Bench) -> Iterator[Figure]:
    """ModernBERT against BERT of similar width and depth, with and without cache; attention kernels."""
    from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel

    device = bench.torch_device
    torch.manual_seed(0)
    modern = ModernBertModel(ModernBertConfig()).eval().to(device)
    bert = BertModel(BertConfig(), add_pooling_layer=False).eval().to(device)
    with torch.inference_mode():
        for length in TEXT_LENGTHS:
            ids = torch.randint(1000, 20000, (1, length), device=device)
            ours, theirs = medians(_pass(modern, ids), _pass(bert, ids), repeats=bench.repeats)
            yield bench.figure(
                "text",
                f"encode {length} tokens",
                ours,
                model="ModernBERT-base (random weights)",
                device=f"{device} float32",
                reference="BERT-base (random weights)",
                reference_median=theirs,
            )
            kernel = SDPBackend.FLASH_ATTENTION
            with_kernel, without = medians(
                _with_kernel(kernel, _pass(modern, ids)),
                _with_kernel(SDPBackend.MATH, _pass(modern, ids)),
                repeats=bench.repeats,
            )
            yield bench.figure(
                "text",
                f"attention of {length} tokens: SDPA's flash kernel",
                with_kernel,
                model="ModernBERT-base (random weights)",
                device=f"{device} float32",
                reference="SDPA's plain kernel",
                reference_median=without,
            )
    yield from _cache_figures(bench)


def _pass(model: nn.Module, ids: Tensor) -> Work:
    return lambda: model(input_ids=ids, attention_mask=torch.ones_like(ids))


def _with_kernel(kernel: SDPBackend, work: Work) -> Work:
    def inside() -> object:
        with sdpa_kernel(kernel):
            return work()

    return inside


def _cache_figures(bench: Bench) -> Iterator[Figure]:
    encoder: TextEncoder = bench.pipeline.text_encoder
    encoder.encode([FINDING])
    hit, miss = medians(
        lambda: encoder.encode([FINDING]), lambda: encoder.encode([bench.new_finding()]), repeats=bench.repeats
    )
    yield bench.figure("text", "a finding encoded before", hit, reference="a new one", reference_median=miss)


def training(bench: Bench) -> Iterator[Figure]:
    """A training step of head and text encoder on a frozen denoiser, with cached or recomputed features."""
    pipeline, device = bench.pipeline, bench.torch_device
    side, batch = 224, 4
    torch.manual_seed(0)
    images = torch.rand(batch, 3, side, side, device=device) * 2 - 1
    noise = seeded_noise((1, 3, side, side), 0, device)
    truth = (torch.rand(batch, side, side, device=device) > 0.8).float()
    tokens = {name: ids.to(device) for name, ids in pipeline.text_encoder.tokenize([FINDING] * batch).items()}

    def features() -> list[Tensor]:
        with torch.no_grad():
            return pipeline.features(images, noise)

    kept = features()

    def step(maps: Callable[[], Sequence[Tensor]]) -> Work:
        def work() -> None:
            output = pipeline.decode(maps(), pipeline.text_encoder(**tokens), (side, side))
            segmentation_loss(output.logits, truth).backward()
            pipeline.zero_grad(set_to_none=True)

        return work

    cached, again = medians(step(lambda: kept), step(features), repeats=bench.repeats)
    yield bench.figure(
        "training",
        f"step of {batch} images of {side} px, features cached",
        cached,
        device=f"{device} float32",
        reference="features computed again",
        reference_median=again,
    )


SUITES: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "interactive": interactive,
    "volume": volume,
    "text": text,
    "memory": memory,
    "training": training,
}
