"""Commands about a trained model: mean with another one, precision, threshold, kinds of image. Knows arguments only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fasttextdiff.cli.app import RuntimeOption
from fasttextdiff.cli.common import say


def average(
    before: Annotated[Path, typer.Argument(help="Folder of a model.")],
    after: Annotated[Path, typer.Argument(help="Folder of the model trained further from it.")],
    folder: Annotated[Path, typer.Argument(help="Model folder to write.")],
    share: Annotated[float, typer.Option(min=0, max=1, help="Share of the second model.")] = 0.5,
) -> None:
    """Write the mean of two models' weights; everything else is the first one's."""
    import torch

    from fasttextdiff_lab.averaging import averaged

    averaged(before, after, share).save_pretrained(folder, dtype=torch.float16)
    say(f"wrote {folder}")


def precision(
    data: Annotated[Path, typer.Argument(help="Folder of the research data.")],
    model: Annotated[Path | None, typer.Option(help="Model folder; the bundled model if not given.")] = None,
    dtype: Annotated[str, typer.Option(help="Precision to compare with float32.")] = "bfloat16",
    every: Annotated[int, typer.Option(min=1, help="Only every N-th validation image.")] = 5,
) -> None:
    """Compare OpenVINO's masks in another precision with those in float32, on validation images."""
    from fasttextdiff.segmenter import Segmenter
    from fasttextdiff_lab.precision import agreements, questions

    plain, other = (Segmenter(model, dtype=each, runtime="openvino") for each in ("float32", dtype))
    say("\n".join(map(str, agreements(plain, other, questions(data, every)))))


def finish(
    data: Annotated[Path, typer.Argument(help="Folder of the research data.")],
    model: Annotated[Path, typer.Argument(help="Model folder; its index is changed.")],
    every: Annotated[
        int, typer.Option(min=1, help="Every N-th training image of the large sets, for the thresholds.")
    ] = 10,
) -> None:
    """Choose a trained model's thresholds on training images, and write its validation Dice into its index."""
    from fasttextdiff.segmenter import Segmenter
    from fasttextdiff_lab import finish as f

    f.write_into_index(model, presence_threshold=0.0, threshold=0.5)
    answers = list(f.training_answers(Segmenter(model), data, every))
    presence, mask = f.presence_threshold(answers), f.mask_threshold(answers)
    f.write_into_index(model, presence_threshold=presence, threshold=mask)
    say(f"presence threshold {presence}, mask threshold {mask}, from {len(answers)} answers on training images")
    segmenter = Segmenter(model)
    taught = f.with_quality(segmenter.info, list(f.validation_answers(segmenter, data)))
    f.write_into_index(model, taught=taught)
    for kind, findings in taught.items():
        for finding in findings:
            if finding.dice is not None:
                say(f"{kind} {finding.name}: Dice {finding.dice:.3f}, n {finding.validation_slices}")


def fit_kinds(
    data: Annotated[Path, typer.Argument(help="Folder of the research data.")],
    model: Annotated[Path, typer.Argument(help="Model folder; kinds.safetensors is written into it.")],
    others: Annotated[
        Path | None, typer.Option(help="Folder of PNG and JPEG pictures of nothing medical, at any depth.")
    ] = None,
    variants: Annotated[int, typer.Option(min=0, max=100, help="Random variants of each training picture.")] = 1,
    runtime: RuntimeOption = "auto",
) -> None:
    """Fit the classifier for the kind of image on training pictures, and validate it."""
    from rich.progress import track

    from fasttextdiff.model.kinds import write_kinds
    from fasttextdiff.model.runtimes import load_runtime
    from fasttextdiff_lab import kinds as k
    from fasttextdiff_lab import xray_states

    loaded = load_runtime(model, runtime=runtime)
    pictures = {split: k.pictures(data, split, others) for split in ("train", "val")}

    def shown(split: str, changes: int) -> list[k.Shown]:
        found = track(pictures[split], f"{split} pictures")
        return [one for picture in found for one in k.encoded(loaded, picture, changes)]

    def xrays_shown(split: str) -> list[k.Shown]:
        found = [picture for picture in pictures[split] if picture.kind == "chest X-ray"]
        return [one for picture in track(found, f"{split} X-rays") for one in xray_states.encoded_xray(loaded, picture)]

    head = k.fit(shown("train", variants), loaded.settings.info, say)
    xray = xray_states.fit_xray(xrays_shown("train"), head)
    say(f"wrote {write_kinds(replace(head, xray=xray), model)}")
    checked = k.check(head, shown("val", 0)).lines()
    say("\n".join([*checked, *xray_states.check_xray(head, xray, xrays_shown("val"))]))
