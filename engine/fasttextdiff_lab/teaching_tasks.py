"""Questions for the teaching studies: images with one finding and its true mask, from the research data.

Knows data sets, splits and patients; knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.evaluation.datasets import load_image, load_levels, load_targets
from fasttextdiff.image.volume import Modality
from fasttextdiff_lab.atlas import EMPTY, MODALITIES, read_table

Item = TypeVar("Item")
STROKE_STRUCTURES = {"heart": Modality.XRAY, "liver": Modality.CT, "brain_tumour": Modality.MR}
"""Structures of the stroke study, with their modality."""
TILE = 256
"""Side in pixels of the middle of a brightfield picture that is used, one tile of the model."""


@dataclass(frozen=True)
class Case:
    """One image with one finding.

    Attributes:
        task: name of the group in a report.
        image: file name.
        patient: patient; the image where patients are unknown.
        finding: its text.
        pixels: (h, w) or (h, w, 3) uint8.
        truth: (h, w).
        modality: modality of the image.
    """

    task: str
    image: str
    patient: str
    finding: str
    pixels: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    modality: Modality


def stroke_cases(data: Path, count: int, split: str = "val") -> Iterator[Case]:
    """At most `count` images of each task of the stroke study; the same ones in every run.

    QaTa and CT lesions with LViT's sentences, and :data:`STROKE_STRUCTURES` by name.
    """
    for task, folder in (("qata", "qata_cov19_v2_2"), ("ct lesions", "MosMedDataPlus_bjorke")):
        for target in _drawn(load_targets(data / folder, split), count):
            pixels, name = target.load_image(), target.image.name
            yield Case(task, name, name, target.text, pixels, target.load_mask(), target.modality)
    for structure, modality in STROKE_STRUCTURES.items():
        atlas = data / ("xray_atlas" if modality is Modality.XRAY else "ct_mr_atlas")
        yield from _drawn(list(_structure(atlas, structure, split)), count)


@dataclass(frozen=True)
class Pool:
    """Images of one finding to teach from, and others to test on; no patient is in both.

    Attributes:
        task: name in the report.
        finding: text of the finding.
        teach: images to draw examples from.
        test: validation images that show the finding.
    """

    task: str
    finding: str
    teach: Sequence[Case]
    test: Sequence[Case]


def pools(data: Path, tests: int = 24) -> Iterator[Pool]:
    """The tasks of the teaching study.

    Brain tumour (LGG), left ventricle (ACDC) and liver (MSD) come from the training part of the atlas, and are tested
    on its validation part, which has other patients. The 16 brightfield pictures, whose patients are not known, are
    split in half.
    """
    for structure, source in (("brain_tumour", "lgg_tcga"), ("left_ventricle", "acdc"), ("liver", "msd_liver")):
        teach, test = (list(_structure(data / "ct_mr_atlas", structure, split, source)) for split in ("train", "val"))
        yield Pool(structure.replace("_", " "), structure.replace("_", " "), teach, _drawn(test, tests))
    cells = list(_brightfield(data / "dsb2018" / "brightfield"))
    yield Pool("brightfield nuclei", "cell nuclei in brightfield", cells[::2], cells[1::2])


def draw(pool: Pool, count: int, seed: int) -> list[Case]:
    """Examples of as many patients as possible; fewer than `count` if the pool is smaller."""
    order = np.random.default_rng(seed).permutation(len(pool.teach))
    turns: dict[str, int] = {}
    ranked = []
    for n in order:
        patient = pool.teach[n].patient
        turns[patient] = turns.get(patient, 0) + 1
        ranked.append((turns[patient], n))
    ranked.sort(key=lambda one: one[0])
    return [pool.teach[n] for _, n in ranked[:count]]


def _brightfield(folder: Path) -> Iterator[Case]:
    for path in sorted((folder / "img").iterdir()):
        truth = load_levels(folder / "labelcol" / f"{path.stem}.png") > 0
        finding = "cell nuclei in brightfield"
        tile = tuple(slice((side - TILE) // 2, (side + TILE) // 2) for side in truth.shape)
        pixels = load_image(path)[tile]
        yield Case("brightfield nuclei", path.name, path.name, finding, pixels, truth[tile], Modality.HISTOLOGY)


def _structure(folder: Path, structure: str, split: str, source: str = "") -> Iterator[Case]:
    """Images of an atlas, or of one of its sources, on which a structure is marked."""
    pictures = folder / "img" if folder.name == "xray_atlas" else folder
    for row in read_table(folder, split):
        if row["Structure"] == structure and row["Mask"] != EMPTY and source in ("", row["Source"]):
            pixels = load_image(pictures / row["Image"], grey=True)
            truth = load_levels(folder / row["Mask"]) > 0
            modality = MODALITIES[row["Modality"]] if "Modality" in row else Modality.XRAY
            text = structure.replace("_", " ")
            yield Case(text, row["Image"], row.get("Patient", row["Image"]), text, pixels, truth, modality)


def _drawn(items: Sequence[Item], count: int) -> list[Item]:
    chosen = np.random.default_rng(0).permutation(len(items))[:count]
    return [items[n] for n in sorted(chosen)]
