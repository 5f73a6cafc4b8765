"""Benchmarks of what only torch does: text encoders, attention kernels, strokes, training, arithmetic of each phase."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from fasttextdiff.correction import SliceCorrection, Stroke
from fasttextdiff.image.slices import PreparedImage
from fasttextdiff.model.denoiser import seeded_noise
from fasttextdiff.model.text_encoder import TextEncoder
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.training.losses import segmentation_loss
from fasttextdiff_lab.benchmarks.bench import FINDING, Bench
from fasttextdiff_lab.benchmarks.measuring import Figure, Work, medians

TEXT_LENGTHS = (16, 64, 512)
MATRIX = 2048
"""Side of the square matrices whose product gives the machine's peak."""
COPIED = 2**28
"""Bytes whose copy gives the machine's memory bandwidth; more than any cache holds."""


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


def strokes(bench: Bench) -> Iterator[Figure]:
    """The answer to a stroke on a slice whose own answer is shown: the first stroke, and each further one."""
    is_torch = bench.segmenter.runtime.name == "torch"
    segmenter = bench.segmenter if is_torch else Segmenter(bench.pipeline, bench.torch_device)
    one, rounds = bench.middle(), bench.repeats + 1  # the first round is not counted
    waiting = [SliceCorrection(segmenter, one, FINDING) for _ in range(rounds)]
    drawn = _lines(one, rounds + 1)
    going, numbers = SliceCorrection(segmenter, one, FINDING), itertools.count(2)
    going.result(drawn[:1])
    first, further = medians(
        lambda: waiting.pop().result(drawn[:1]),
        lambda: going.result(drawn[: next(numbers)]),
        repeats=bench.repeats,
    )
    device = f"{bench.torch_device} float32, torch"
    yield bench.figure("strokes", "the first stroke on a slice", first, device=device)
    yield bench.figure("strokes", "a further stroke", further, device=device)


def _lines(image: PreparedImage, count: int) -> list[Stroke]:
    """Horizontal strokes of alternating sign, spread over the middle of a slice."""
    display = image.display.of_slices(1)
    _, rows, columns = display.display_shape
    found = []
    for n in range(count):
        mark = np.zeros(display.shape, bool)
        row = rows // 4 + n * rows // (2 * count)
        display.to_display(mark)[0, row, columns // 3 : columns // 2] = True
        found.append(Stroke(mark, present=n % 2 == 0))
    return found


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


def limit(bench: Bench) -> Iterator[Figure]:
    """The time of each phase, beside that of its arithmetic and of its memory traffic at the peaks of this machine.

    The arithmetic is the multiply-adds of convolutions, matrix products and attention in float32; its peak is that of a
    large matrix product in torch. The traffic is every tensor that an operation reads or writes, as if no cache held
    any; its peak is that of a large copy. The ratio is the share of the peak that is reached.
    """
    one, counted = bench.middle(), Segmenter(bench.pipeline, bench.torch_device)

    def new_finding(who: Segmenter) -> Work:
        return lambda: who.decode_slices(one, [bench.new_finding()])

    def new_slice(who: Segmenter) -> Work:
        def work() -> object:
            who.cache.clear()
            return who.decode_slices(one, [bench.new_finding()])

        return work

    arithmetic, bandwidth = _peaks(bench)
    for name, kind in (("a new finding on a cached slice", new_finding), ("a new slice and finding", new_slice)):
        (seconds,) = medians(kind(bench.segmenter), repeats=bench.repeats)
        kind(counted)()
        needed, moved = multiply_adds(kind(counted)), bytes_moved(kind(counted))
        peaks = (
            (
                f"{needed / 1e9:.2f} billion multiply-adds at {arithmetic / 1e9:.0f} billion a second",
                needed / arithmetic,
            ),
            (f"{moved / 1e6:.0f} MB at {bandwidth / 1e9:.1f} GB a second", moved / bandwidth),
        )
        for reference, least in peaks:
            yield bench.figure("limit", name, seconds, reference=reference, reference_median=least)


def _peaks(bench: Bench) -> tuple[float, float]:
    """Multiply-adds a second of a large product, and bytes a second read and written by a large copy."""
    factors = torch.rand(2, MATRIX, MATRIX, device=bench.torch_device)
    source, target = (torch.zeros(COPIED, dtype=torch.uint8, device=bench.torch_device) for _ in range(2))
    product, copy = medians(lambda: factors[0] @ factors[1], lambda: target.copy_(source), repeats=bench.repeats)
    return MATRIX**3 / product, 2 * COPIED / copy


def multiply_adds(work: Work) -> int:
    """Multiply-adds of convolutions, matrix products and attention in torch."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops()) // 2


def bytes_moved(work: Work) -> int:
    """Bytes of all tensors that operations in torch read and write; views cost nothing."""
    with _Traffic() as traffic:
        work()
    return traffic.total


class _Traffic(TorchDispatchMode):
    """Adds up the bytes of the inputs and outputs of every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            self.total += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result
