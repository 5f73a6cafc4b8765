"""Writes the page of a report, block by block, from the content of report.json.

Knows words and tables; knows nothing about measuring, Markdown or HTML.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fasttextdiff.evaluation.calibration import BORDER_PX
from fasttextdiff.render.blocks import Block, Heading, Paragraph, Picture, Table

Content = Mapping[str, Any]

PIXEL_CURVES = "reliability.svg"
PRESENCE_CURVE = "presence.svg"
TEXT_NAMES = {
    "true": "true text",
    "none": "no text",
    "shuffled": "another image's text",
    "flipped": "left and right exchanged",
    "typos": "typing errors (side words intact)",
    "paraphrase": "other words, same meaning",
}


def page_blocks(content: Content) -> list[Block]:
    """The blocks of the page."""
    return [
        *_run(content),
        *_scores(content),
        *_findings(content),
        *_texts(content),
        *_sides(content),
        *_calibration(content),
        *_cases(content),
    ]


def _run(content: Content) -> Iterator[Block]:
    run = content["run"]
    yield Heading(1, f"{run['model']} on {run['dataset']}, {run['split']} split")
    yield Paragraph(f"Command: {run['command']}")
    rows = [
        ("model", f"{run['model']}, weights {run['weights_sha256']}, licence {run['licence'] or 'unknown'}"),
        ("data", f"{run['dataset']}, split {run['split']}{_every(run['every'])}"),
        ("n", f"{content['n']} masks on {content['n_images']} images, {content['n_empty']} masks empty"),
        ("threshold", f"{run['threshold']:g}, presence {run['presence_threshold']:g}"),
        ("noise", f"seed {run['seed']}, one sample; {run['samples']} samples where stated"),
        ("device", ", ".join(run[name] for name in ("device", "dtype", "runtime") if name in run)),
        ("versions", ", ".join(f"{name} {version}" for name, version in run["versions"].items())),
        ("made", run["created"]),
    ]
    yield Table(("", ""), rows)
    yield Paragraph(
        f"In brackets: 95 % interval from {run['draws']:,} draws of images with replacement (bootstrap, seed "
        f"{run['seed']}). Research use only."
    )


def _every(every: int) -> str:
    return "" if every == 1 else f", only one mask in {every}"


def _scores(content: Content) -> Iterator[Block]:
    yield Heading(2, "Dice and IoU with the true text")
    rows = []
    for protocol, resolution in (("native", "native"), ("published", "published: 256 px, dilated truth")):
        for pool, name in (("I", "I, mean of images"), ("P", "P, all pixels together")):
            numbers = content["protocols"][protocol][pool]
            rows.append((resolution, name, number(numbers["dice"]), number(numbers["iou"]), str(content["n"])))
    yield Table(("resolution", "pool", "Dice", "IoU", "n"), rows)


def _findings(content: Content) -> Iterator[Block]:
    if not content["findings"]:
        return
    yield Heading(3, "By finding, native resolution, mean of images")
    rows = [
        (text, number(numbers["dice"]), number(numbers["iou"]), str(numbers["n"]))
        for text, numbers in content["findings"].items()
    ]
    yield Table(("finding", "Dice", "IoU", "n"), rows)


def _texts(content: Content) -> Iterator[Block]:
    yield Heading(2, "Effect of the text")
    yield Paragraph(
        "Dice against the truth of the true text, at native resolution. The difference is to the true text on the same "
        "images. Captions were written from the masks and say where lesions are: the last row uses the mean training "
        "mask of the caption and ignores the image."
    )
    rows = [
        (TEXT_NAMES[mode], f"{numbers['n_changed']} of {content['n']}", *_dice_cells(numbers))
        for mode, numbers in content["texts"].items()
    ]
    if content["caption_baseline"] is not None:
        rows.append(("caption alone, no image", f"0 of {content['n']}", *_dice_cells(content["caption_baseline"])))
    yield Table(("asked with", "texts changed", "Dice (I)", "difference (I)", "Dice (P)", "n"), _with_n(rows, content))
    yield Paragraph(_baseline_note(content["caption_baseline"]))


def _with_n(rows: Sequence[tuple[str, ...]], content: Content) -> list[tuple[str, ...]]:
    return [(*row, str(content["n"])) for row in rows]


def _dice_cells(numbers: Content) -> tuple[str, str, str]:
    return number(numbers["dice_i"]), number(numbers["difference_i"], sign=True), number(numbers["dice_p"])


def _baseline_note(baseline: Content | None) -> str:
    if baseline is None:
        return "There is no Train split, so there are no mean masks of captions to compare with."
    return (
        f"Mean masks are from {baseline['n_train']:,} training images, thresholded at {baseline['level']:.2f}, the "
        f"best level on them; for {baseline['n_unknown']} masks the caption does not occur there, and the "
        "mean of all training masks is used."
    )


def _sides(content: Content) -> Iterator[Block]:
    sides = content["sides"]
    if sides is None:
        return
    yield Heading(2, "Prompts for one side")
    yield Paragraph(
        "Lesions of the patient's left or right side, in wordings not used in training. A side without lesions needs "
        "an empty mask (less than 0.2 % of the image)."
    )
    there, absent = str(sides["n_there"]), str(sides["n_absent"])
    rows = [
        ("mean Dice on the requested side", number(sides["dice"]), there),
        ("share of mask pixels on the other side", number(sides["wrong_side"]), there),
        ("sides without lesions with an empty mask", number(sides["absent_empty"]), absent),
    ]
    yield Table(("", "", "n"), rows)


def _calibration(content: Content) -> Iterator[Block]:
    numbers, samples = content["calibration"], content["run"]["samples"]
    yield Heading(2, "Uncertainty and calibration")
    yield Paragraph(
        f"Mean of {samples} noise samples with the true text, Dice {number(numbers['dice_i'])}. The uncertainty of a "
        "slice is the sum over its pixels, divided by the expected area of the mask. Wrong pixels are ranked within "
        f"{BORDER_PX} px of the predicted border, image by image, and over the pixels of all images together."
    )
    header = ("uncertainty", "Spearman with 1 - Dice", "n", "AUROC of wrong pixels, mean of images", "n", "all pixels")
    rows = [
        (
            {"disagreement": f"disagreement of {samples} samples", "entropy": "entropy of their mean"}[kind],
            number(values["spearman"]),
            str(content["n"]),
            number(values["border_auroc"]),
            str(values["n_borders"]),
            _value(values["border_auroc_pooled"]),
        )
        for kind, values in numbers["uncertainty"].items()
    ]
    yield Table(header, rows)
    curves = {"all pixels": numbers["pixels"], f"within {BORDER_PX} px of the border": numbers["pixels_at_border"]}
    yield from _reliability("Reliability of pixel probabilities", PIXEL_CURVES, curves, "pixels")
    if content["sides"] is not None:
        yield from _presence(content["sides"])


def _presence(sides: Content) -> Iterator[Block]:
    curves = {"prompts for one side": sides["presence"]}
    yield from _reliability("Presence", PRESENCE_CURVE, curves, "questions")
    yield Paragraph(
        "Presence as the probability of lesions on the requested side: AUROC "
        f"{number(sides['presence_auroc'])}, {sides['n_there']} sides with and {sides['n_absent']} without lesions."
    )


def _reliability(title: str, file: str, curves: Mapping[str, Content], unit: str) -> Iterator[Block]:
    yield Heading(3, title)
    errors = ", ".join(f"{name} {_value(curve['ece'])} (n = {curve['n']:,})" for name, curve in curves.items())
    yield Picture(file, f"{title}: predicted probability and observed frequency. Expected calibration error: {errors}.")
    rows = [
        (name, f"{b['from']:.1f} to {b['to']:.1f}", _value(b["predicted"]), _value(b["observed"]), f"{b['n']:,}")
        for name, curve in curves.items()
        for b in curve["bins"]
    ]
    yield Table(("", "bin", "mean probability", "share observed", unit), rows)


def _cases(content: Content) -> Iterator[Block]:
    pictures = content.get("pictures")
    if pictures is None:
        return
    yield Heading(2, "Worst and best cases")
    yield Paragraph(
        "The image without and with outlines: the truth in blue, the model's mask in orange. The pictures show images "
        "of the data set: check its licence before sharing this report (--no-pictures leaves them out)."
    )
    for name, cases in pictures.items():
        yield Heading(3, f"The {name} by Dice")
        for case in cases:
            yield Picture(case["file"], f"Dice {case['dice']:.3f}: {case['text']} ({case['image']})")


def number(interval: Mapping[str, float | None], *, sign: bool = False) -> str:
    """A number with its interval, for example "0.761 [0.752, 0.770]"."""
    value, low, high = (_value(interval[key], sign=sign) for key in ("value", "low", "high"))
    return value if interval["low"] is None else f"{value} [{low}, {high}]"


def _value(number: float | None, *, sign: bool = False) -> str:
    if number is None:
        return "none"
    return f"{number:+.3f}" if sign else f"{number:.3f}"
