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
from fasttextdiff.image.orientation import display_plane
from fasttextdiff.image.preprocessing import apply_window
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.read import read_volume
from fasttextdiff_lab.atlas import EMPTY, MODALITIES, read_table
from fasttextdiff_lab.volumes import read_truth

Item = TypeVar("Item")
STROKE_STRUCTURES = {"heart": Modality.XRAY, "liver": Modality.CT}
"""Structures of the stroke study that the bundled model was taught, with their modality."""
LEFT_OUT = {"spleen": Modality.CT, "spinal_canal": Modality.MR, "perihaematomal_oedema": Modality.CT}
"""Structures of the atlas that are never asked for in training, because they have too few masks."""
SAMPLES = (("example_ct_sm.nii.gz", "example_seg_fast.nii.gz"), ("example_ct_dicom", "example_seg_dicom.nii.gz"))
"""The sample CTs of the abdomen, and their segmentations."""
SPLEEN = 1
"""Label of the spleen in TotalSegmentator's sample segmentations."""
SOFT_TISSUE = (60.0, 400.0)
"""(level, width) of the atlas's pictures of the abdomen."""
TASKS = "left out of training"
"""Version of the tasks of the teaching study; results of other ones are not used."""
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


def stroke_cases(data: Path, count: int) -> Iterator[Case]:
    """At most `count` validation images of each task of the stroke study; the same ones in every run.

    QaTa and CT lesions with LViT's sentences; by name :data:`STROKE_STRUCTURES`, and structures that were left out of
    training, of these from all splits.
    """
    for task, folder in (("qata", "qata_cov19_v2_2"), ("ct lesions", "MosMedDataPlus_bjorke")):
        for target in _drawn(load_targets(data / folder, "val"), count):
            pixels, name = target.load_image(), target.image.name
            yield Case(task, name, name, target.text, pixels, target.load_mask(), target.modality)
    for structure, modality in STROKE_STRUCTURES.items():
        atlas = data / ("xray_atlas" if modality is Modality.XRAY else "ct_mr_atlas")
        yield from _drawn(list(_structure(atlas, structure, "val")), count)
    for structure in LEFT_OUT:
        yield from _drawn(_of_all_splits(data, structure), count)


@dataclass(frozen=True)
class Pool:
    """Images of one finding to teach from, and others to test on; no patient is in both.

    Attributes:
        task: name in the report.
        finding: text of the finding.
        teach: images to draw examples from.
        test: images that show the finding; empty if the patients of `teach` are split in half for each seed.
    """

    task: str
    finding: str
    teach: Sequence[Case]
    test: Sequence[Case] = ()

    @property
    def modality(self) -> Modality:
        """Modality of all images."""
        return self.teach[0].modality

    def split(self, seed: int) -> tuple[Sequence[Case], Sequence[Case]]:
        """Images to draw examples from, and to test on."""
        if self.test:
            return self.teach, self.test
        patients = sorted({case.patient for case in self.teach})
        order = np.random.default_rng(seed).permutation(len(patients))
        taught = {patients[n] for n in order[: (len(patients) + 1) // 2]}
        return [c for c in self.teach if c.patient in taught], [c for c in self.teach if c.patient not in taught]


def pools(data: Path, samples: Path) -> Iterator[Pool]:
    """The tasks of the teaching study: findings that are left out of the bundled model's training.

    The spleen is taught from the two abdominal CTs of the samples, whose masks are TotalSegmentator's, and tested on
    the atlas's, which are manual. Spinal canal and perihaematomal oedema are those of the atlas, nuclei in brightfield
    those of the Data Science Bowl.

    Args:
        data: folder of the research data.
        samples: folder of the sample volumes.
    """
    yield Pool("spleen", "spleen", list(_sample_spleens(samples)), _of_all_splits(data, "spleen"))
    for structure in ("spinal_canal", "perihaematomal_oedema"):
        name = structure.replace("_", " ")
        yield Pool(name, name, _of_all_splits(data, structure))
    yield Pool("brightfield nuclei", "cell nuclei in brightfield", list(_brightfield(data / "dsb2018" / "brightfield")))


def draw(cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """Examples of as many patients as possible; fewer than `count` if there are not as many."""
    order = np.random.default_rng(seed).permutation(len(cases))
    turns: dict[str, int] = {}
    ranked = []
    for n in order:
        patient = cases[n].patient
        turns[patient] = turns.get(patient, 0) + 1
        ranked.append((turns[patient], n))
    ranked.sort(key=lambda one: one[0])
    return [cases[n] for _, n in ranked[:count]]


def _sample_spleens(samples: Path) -> Iterator[Case]:
    """Slices of two patients."""
    folder = samples / "ct_totalsegmentator"
    for image, mask in SAMPLES:
        volume = read_volume(folder / image, modality=Modality.CT)
        _, truth = read_truth(f"spleen={folder / mask}:{SPLEEN}", volume)
        display = display_plane(volume, "acquisition")
        pixels = np.round(255 * apply_window(display.to_display(volume.array), SOFT_TISSUE)).astype(np.uint8)
        for k, marked in enumerate(display.to_display(truth)):
            if marked.any():
                yield Case("spleen", f"{image}/{k}", image, "spleen", pixels[k], marked, Modality.CT)


def _of_all_splits(data: Path, structure: str) -> list[Case]:
    """Images of a structure that was left out of training."""
    return [case for split in ("train", "val") for case in _structure(data / "ct_mr_atlas", structure, split)]


def _brightfield(folder: Path) -> Iterator[Case]:
    for path in sorted((folder / "img").iterdir()):
        truth = load_levels(folder / "labelcol" / f"{path.stem}.png") > 0
        finding = "cell nuclei in brightfield"
        tile = tuple(slice((side - TILE) // 2, (side + TILE) // 2) for side in truth.shape)
        pixels = load_image(path)[tile]
        yield Case("brightfield nuclei", path.name, path.name, finding, pixels, truth[tile], Modality.HISTOLOGY)


def _structure(folder: Path, structure: str, split: str) -> Iterator[Case]:
    """Images of an atlas on which a structure is marked."""
    pictures = folder / "img" if folder.name == "xray_atlas" else folder
    for row in read_table(folder, split):
        if row["Structure"] == structure and row["Mask"] != EMPTY:
            pixels = load_image(pictures / row["Image"], grey=True)
            truth = load_levels(folder / row["Mask"]) > 0
            modality = MODALITIES[row["Modality"]] if "Modality" in row else Modality.XRAY
            text = structure.replace("_", " ")
            yield Case(text, row["Image"], row.get("Patient", row["Image"]), text, pixels, truth, modality)


def _drawn(items: Sequence[Item], count: int) -> list[Item]:
    chosen = np.random.default_rng(0).permutation(len(items))[:count]
    return [items[n] for n in sorted(chosen)]
