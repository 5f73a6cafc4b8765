"""Commands about a model's weights: their mean with another model's, and their precision. Knows arguments only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
