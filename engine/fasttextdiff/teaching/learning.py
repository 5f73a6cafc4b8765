"""Learns a finding from a few slices with masks, on the CPU, without changing the model.

Each slice passes the denoiser once in each of a fixed set of variants; the small decoder is then trained on sampled
pixels of what the head saw. Knows examples and networks; knows nothing about files, volumes or the library of adapters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fasttextdiff.contract.findings import understood
from fasttextdiff.errors import Cancelled, require_type
from fasttextdiff.model.info import require_words
from fasttextdiff.model.text_encoder import TextStates
from fasttextdiff.model.torch_runtime import TorchRuntime
from fasttextdiff.progress import Progress
from fasttextdiff.teaching.adapter import Adapter, Card
from fasttextdiff.teaching.decoder import FindingDecoder, Seen, points_of, see
from fasttextdiff.teaching.examples import (
    Example,
    Lesson,
    by_slice,
    check_examples,
    drawn,
    may_mirror,
    require_finding,
    variants,
)
from fasttextdiff.teaching.grids import grey_input, to_input

VIEWS = 4
"""Variants of each slice, with the slice itself; fewer for many slices, see :data:`MOST_VIEWS`."""
MOST_VIEWS = 120
"""Passes of the denoiser in all, unless there are more slices."""
PIXELS = 600
"""Pixels of each variant that are learned from; half of them inside the mask, if there is one."""
HIDDEN, STEPS, BATCH = 32, 200, 1024
RATE, DECAY, DROPOUT = 5e-3, 0.1, 0.3
CHECKS = 8
"""How often the decoder is measured on the held-out slices."""
FEWEST_TO_HOLD_OUT = 6
"""Slices, and at least two groups, from which a fifth is held out to choose the number of steps."""


@dataclass(frozen=True)
class Pixels:
    """Sampled pixels of variants.

    Attributes:
        points: (N, channels), the decoder's input.
        own: (N,), the model's own log-odds.
        truth: (N,), share of the pixel inside the mask.
        weight: (N,), how many pixels of the variant it stands for, relative.
    """

    points: Tensor
    own: Tensor
    truth: Tensor
    weight: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Pixels]) -> Pixels:
        """All pixels of several variants."""
        return cls(*(torch.cat([getattr(p, name) for p in parts]) for name in ("points", "own", "truth", "weight")))


def learn(
    runtime: TorchRuntime,
    examples: Sequence[Example],
    finding: str,
    *,
    synonyms: Sequence[str] = (),
    seed: int = 0,
    words: bool = True,
    progress: Progress | None = None,
) -> Adapter:
    """Learn a finding.

    Args:
        runtime: runs the model; its networks are only read.
        examples: slices with masks, or their tiles; an empty mask says that the finding is absent.
        finding: its name.
        synonyms: other names of the same finding.
        seed: of variants, sampling and training; equal seeds give equal adapters on one machine.
        words: whether the model sees the finding's name; False is for studies.
        progress: called with the passes done, and their number.

    Raises:
        UsageError: nothing can be learned from the examples, see :func:`check_examples`, or a word cannot be read.
        Cancelled: `progress` returned False.
    """
    require_type(finding, str, "finding")
    for name, value in (("examples", examples), ("synonyms", synonyms)):
        require_type(value, (list, tuple), name)
    names = [understood(word) for word in (finding, *synonyms)]
    for word in (finding, *synonyms):
        require_words(word)
    require_finding(names)
    check_examples(examples)
    started = datetime.now(timezone.utc)
    study = _Study(runtime, runtime.pipeline.text_encoder.encode([names[0] if words else ""]), seed, progress)
    preprocessing, multiple = runtime.pipeline.preprocessing, runtime.pipeline.denoiser.multiple
    lessons = [example.lesson(preprocessing, multiple) for example in drawn(examples, seed)]
    pixels = study.pixels(lessons, mirror=may_mirror(names, examples[0].modality))
    steps, dice = study.best_steps(pixels, lessons)
    decoder = study.trained(pixels, steps)[-1]
    info, slices = runtime.pipeline.info, by_slice(examples)
    card = Card(
        finding=names[0],
        text=names[0] if words else "",
        synonyms=tuple(names[1:]),
        modality=examples[0].modality.value,
        examples=len(slices),
        negatives=sum(not any(part.mask.any() for part in parts) for parts in slices),
        base=info.name,
        base_weights_sha256=info.weights_sha256,
        held_out_dice=dice,
        steps=steps,
        seed=seed,
        seconds=round((datetime.now(timezone.utc) - started).total_seconds(), 1),
        created=started.isoformat(timespec="seconds"),
    )
    return Adapter(card, decoder)


class _Study:
    """One run of :func:`learn`."""

    def __init__(self, runtime: TorchRuntime, text: TextStates, seed: int, progress: Progress | None) -> None:
        self.runtime, self.text, self.seed, self.progress = runtime, text, seed, progress
        self.channels: tuple[int, ...] = ()
        self._told = (0, 1)

    def pixels(self, lessons: Sequence[Lesson], *, mirror: bool) -> list[list[Pixels]]:
        """Sampled pixels of each variant of each lesson."""
        count = max(1, min(VIEWS, MOST_VIEWS // len(lessons)))
        rng = np.random.default_rng(self.seed)
        generator = torch.Generator().manual_seed(self.seed)
        total = len(lessons) * count
        found: list[list[Pixels]] = []
        for number, lesson in enumerate(lessons):
            shown = variants(lesson, count, rng, mirror=mirror)
            found.append([])
            for n, view in enumerate(shown):
                found[-1].append(_sampled(self.seen(view, n), view, generator))
                self._report(number * count + n + 1, total)
        return found

    def seen(self, lesson: Lesson, noise: int = 0) -> Seen:
        """What the head sees of a lesson."""
        pipeline = self.runtime.pipeline
        maps = self.runtime.maps([lesson.pixels], lesson.fit, noise)[0]
        patch = pipeline.denoiser.plan.patch_size
        size = lesson.fit.padded[0] // patch, lesson.fit.padded[1] // patch
        seen = see(pipeline.fusion, maps, grey_input(lesson.pixels, lesson.fit), self.text, size)
        self.channels = tuple(layer.shape[1] for layer in seen.layers)
        return seen

    def best_steps(self, pixels: Sequence[Sequence[Pixels]], lessons: Sequence[Lesson]) -> tuple[int, float | None]:
        """The number of steps that is best for held-out slices, and Dice there; all steps if there are too few."""
        held = _held_out(lessons, self.seed)
        if not held:
            return STEPS, None
        kept = [views for n, views in enumerate(pixels) if n not in held]
        test = [pixels[n][0] for n in held]
        dice = [float(np.mean([_dice(decoder, one) for one in test])) for decoder in self.trained(kept, STEPS)]
        best = int(np.argmax(dice))
        return (best + 1) * STEPS // CHECKS, round(dice[best], 3)

    def trained(self, pixels: Sequence[Sequence[Pixels]], steps: int) -> list[FindingDecoder]:
        """Decoders along a training of :data:`STEPS`, stopped after `steps`."""
        joined = Pixels.joined([view for views in pixels for view in views])
        generator = torch.Generator().manual_seed(self.seed)
        decoder = _new_decoder(self.channels, generator)
        optimiser = torch.optim.AdamW(decoder.parameters(), lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, STEPS)
        along = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)  # of the dropout
            for step in range(1, steps + 1):
                drawn = torch.randint(len(joined.truth), (BATCH,), generator=generator)
                optimiser.zero_grad()
                _loss(decoder, joined, drawn).backward()
                optimiser.step()
                schedule.step()
                if step % (STEPS // CHECKS) == 0:
                    along.append(_copy(decoder))
                    self._report(0, 0)
        return along

    def _report(self, done: int, total: int) -> None:
        """Report progress; while the decoder is trained, only check whether to continue."""
        if total:
            self._told = (done, total)
        if self.progress is not None and not self.progress(*self._told):
            raise Cancelled("learning was cancelled; nothing was changed")


def _new_decoder(channels: Sequence[int], generator: torch.Generator) -> FindingDecoder:
    decoder = FindingDecoder(channels, HIDDEN)
    with torch.no_grad():
        for weight in (decoder.mix.weight, decoder.out.weight):
            weight.copy_(torch.randn(weight.shape, generator=generator) / weight.shape[1] ** 0.5)
        decoder.mix.bias.zero_()
        decoder.out.bias.zero_()
    return decoder


def _copy(decoder: FindingDecoder) -> FindingDecoder:
    copied = FindingDecoder(decoder.channels, decoder.mix.out_features)
    copied.load_state_dict(decoder.state_dict())
    return copied.eval()


def _loss(decoder: FindingDecoder, pixels: Pixels, drawn: Tensor) -> Tensor:
    """Cross-entropy on pixels balanced between finding and background, plus 1 - Dice in their true proportion."""
    odds = decoder(pixels.points[drawn], pixels.own[drawn], DROPOUT)
    truth, weight = pixels.truth[drawn], pixels.weight[drawn]
    probability = odds.sigmoid()
    overlap = (weight * probability * truth).sum()
    dice = (2 * overlap + 1) / ((weight * probability).sum() + (weight * truth).sum() + 1)
    return functional.binary_cross_entropy_with_logits(odds, truth) + 1 - dice


def _sampled(seen: Seen, lesson: Lesson, generator: torch.Generator) -> Pixels:
    size = seen.own.shape
    truth = functional.adaptive_avg_pool2d(to_input(lesson.mask, lesson.fit), (size[0], size[1])).flatten()
    inside = truth > 0.5
    chance = torch.ones_like(truth)
    if inside.any():
        chance[inside] += 0.5 * len(truth) / int(inside.sum())
    index = torch.multinomial(chance, PIXELS, replacement=True, generator=generator)
    weight = chance.sum() / (chance[index] * len(truth))
    return Pixels(points_of(seen, index).clone(), seen.own.flatten()[index].clone(), truth[index], weight)


def _held_out(lessons: Sequence[Lesson], seed: int) -> list[int]:
    """Indices of a fifth of the slices, by whole groups; none if there are too few."""
    # in the order of the slices: by name, the choice would depend on how a user's groups are named
    groups = list(dict.fromkeys(lesson.group or str(n) for n, lesson in enumerate(lessons)))
    if len(lessons) < FEWEST_TO_HOLD_OUT or len(groups) < FEWEST_TO_HOLD_OUT // 2:
        return []
    order = np.random.default_rng(seed).permutation(len(groups))
    out = {groups[n] for n in order[: max(1, len(groups) // 5)]}
    held = [n for n, lesson in enumerate(lessons) if (lesson.group or str(n)) in out]
    kept = [lesson for n, lesson in enumerate(lessons) if n not in held]
    marked = any(lessons[n].mask.any() for n in held) and any(lesson.mask.any() for lesson in kept)
    return held if marked else []


def _dice(decoder: FindingDecoder, pixels: Pixels) -> float:
    """Dice estimated from the sampled pixels; 1 for an empty mask where the finding is absent."""
    with torch.no_grad():
        mask = (decoder(pixels.points, pixels.own) > 0).float()
    truth, weight = (pixels.truth > 0.5).float(), pixels.weight
    both = (weight * mask).sum() + (weight * truth).sum()
    return 1.0 if both == 0 else float(2 * (weight * mask * truth).sum() / both)
