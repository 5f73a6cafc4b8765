"""Loads training images of the wider research data: X-ray atlas, CT and MR atlas, further histology tiles.

Knows the layout of these folders (`targets.csv`, one mask per row); knows nothing about wording or augmentation.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.evaluation.datasets import Target, excluded, load_image, load_levels
from fasttextdiff.image.volume import Modality
from fasttextdiff.training.samples import (
    LUNGS,
    PULMONARY,
    Region,
    Sample,
    between_lungs,
    nuclei_samples,
    region_bits,
    windowed,
)
from fasttextdiff_lab.anatomy import SHOWN
from fasttextdiff_lab.vocabulary import STRUCTURES, known_name

EMPTY = "EMPTY"
"""Mask in a table for a structure that is annotated and absent. A structure without a row is unknown."""
LEFT_OUT = {"v7"}
"""Sources not used in training: lungs drawn by another convention, and pictures that may not be modified."""
PORTABLE = "nih"
"""Source of normal X-rays that are mostly portable AP X-rays, as abnormal ones often are; they are mistaken most."""
CHAMBERS = {"acdc", "msd_heart", "chd68"}
"""Sources in which left and right are parts of the heart, so that images may not be mirrored."""
CLAVICLES = frozenset({"left_clavicle", "right_clavicle"})
CLEAREST = 3
"""Minimum subtlety of JSRT's nodules, 1 to 5, for training; below, they are hardly visible."""
MODALITIES = {"ct": Modality.CT, "mr": Modality.MR, "us": Modality.OTHER}
RARE = 120
"""Number of masks above which further ones count less: a structure is drawn as if it had sqrt(RARE * masks)."""
FEWEST = 15
"""Minimum number of training masks of a structure."""

Row = Mapping[str, str]


@dataclass(frozen=True)
class AtlasItem:
    """An image of the CT and MR atlas, read when drawn, with the structure to ask for first.

    Attributes:
        folder: folder of the atlas.
        rows: rows of the table for one image; the structure of the first row is the one to ask for.
    """

    folder: Path
    rows: tuple[Row, ...]

    @property
    def source(self) -> str:
        """The image file."""
        return self.rows[0]["Image"]

    def load(self) -> Sample:
        """Read the picture and its masks."""
        first = self.rows[0]
        image = load_image(self.folder / first["Image"], grey=True)
        masks = np.stack([_mask(self.folder, row, image.shape) for row in self.rows]).astype(np.uint8)
        return Sample(
            image=image,
            regions=np.zeros(image.shape, np.uint8),
            modality=MODALITIES[first["Modality"]],
            annotated=Region(0),
            name=f"{first['Source']}/{Path(first['Image']).name}",
            findings=tuple(structure_name(row) for row in self.rows),
            masks=masks,
            mirrored=first["Source"] not in CHAMBERS,
        )


def structure_name(row: Row) -> str:
    """The structure of a row, as in :data:`STRUCTURES`."""
    return known_name(row["Structure"])


def source_of(sample: Sample) -> str:
    """The source of an atlas sample, from its name."""
    return sample.name.partition("/")[0]


def read_table(folder: Path, split: str = "train") -> list[Row]:
    """Rows of `targets.csv` for one split."""
    with (folder / "targets.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["Split"] == split]


def ct_mr_items(folder: Path) -> list[AtlasItem]:
    """The CT and MR atlas as a pool in which uniform draws balance structures and patients.

    A structure with n masks has a weight of n up to :data:`RARE`, and sqrt(RARE * n) above; within a structure, every
    patient has the same weight. Structures with fewer than :data:`FEWEST` masks are not asked for. Images in which a
    structure is absent are added with a third of its weight.
    """
    rows = [row for row in read_table(folder) if row["Source"] not in LEFT_OUT]
    there = Counter(row["Structure"] for row in rows if row["Mask"] != EMPTY)
    absent = Counter(row["Structure"] for row in rows if row["Mask"] == EMPTY)
    taught = {name for name in (*there, *absent) if there[name] >= FEWEST or (not there[name] and absent[name])}
    images: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["Structure"] in taught:
            images[row["Image"]].append(row)
    return [item for name in sorted(taught) for item in _pool(folder, name, images, there[name])]


def _pool(folder: Path, structure: str, images: Mapping[str, list[Row]], masks: int) -> Iterator[AtlasItem]:
    """Items for one structure, repeated according to its weight."""
    filled: dict[str, list[AtlasItem]] = defaultdict(list)
    empty: list[AtlasItem] = []
    for rows in images.values():
        for row in rows:
            if row["Structure"] == structure:
                item = AtlasItem(folder, (row, *(other for other in rows if other is not row)))
                (empty if row["Mask"] == EMPTY else filled[row["Patient"]]).append(item)
    wanted = min(masks, round((RARE * masks) ** 0.5)) if masks > RARE else max(masks, min(RARE, 2 * masks))
    yield from _evenly(filled, wanted)
    yield from empty[: max(len(empty) if not masks else wanted // 3, 0)]


def _evenly(patients: Mapping[str, Sequence[AtlasItem]], count: int) -> Iterator[AtlasItem]:
    """`count` items, cycling through patients and their slices."""
    turn, given = 0, 0
    while patients and given < count:
        for items in patients.values():
            if given < count:
                yield items[turn % len(items)]
                given += 1
        turn += 1


def xray_groups(folder: Path) -> dict[str, list[Sample]]:
    """The X-ray atlas by purpose: "normal", "portable" (a part of it), "lungs" and "jsrt" (heart, clavicles, nodules).

    Args:
        folder: folder of the atlas.
    """
    images: dict[str, list[Row]] = defaultdict(list)
    for row in read_table(folder):
        if row["Source"] not in LEFT_OUT:
            images[row["Image"]].append(row)
    subtlety = _subtlety(folder)
    groups: dict[str, list[Sample]] = {"normal": [], "lungs": [], "jsrt": []}
    for name, rows in images.items():
        sample = _xray(folder, name, rows, subtlety.get(name, 0))
        groups["jsrt" if rows[0]["Source"] == "jsrt" else "lungs" if rows[0]["Kind"] != "normal" else "normal"].append(
            sample
        )
    groups["portable"] = [s for s in groups["normal"] if source_of(s) == PORTABLE]
    groups["normal"] = _balanced_sources(groups["normal"]) + [s for s in groups["jsrt"] if Region.LESION & s.annotated]
    return groups


def _balanced_sources(samples: list[Sample]) -> list[Sample]:
    """Repeat every source of normal pictures to at least a quarter of the most frequent one."""
    by_source: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_source[source_of(sample)].append(sample)
    most = max(map(len, by_source.values()), default=0)
    return [sample for found in by_source.values() for sample in found * max(1, round(most / 3 / len(found)))]


def _subtlety(folder: Path) -> dict[str, int]:
    with (folder / "jsrt_nodules.csv").open(encoding="utf-8", newline="") as file:
        return {row["Image"]: int(row["Subtlety1to5"]) for row in csv.DictReader(file)}


def _xray(folder: Path, name: str, rows: Sequence[Row], subtlety: int) -> Sample:
    image = windowed(load_image(folder / "img" / name, grey=True))
    masks = {row["Structure"]: _mask(folder, row, image.shape) for row in rows}
    regions, annotated = lung_regions(masks, image.shape)
    if "lesion" in masks:  # always EMPTY in the table: a picture confirmed to be normal
        annotated |= PULMONARY
    if set(masks) >= CLAVICLES:
        masks["clavicles"] = both_clavicles(masks)
    asked: list[str] = [s for s in ("heart", *sorted(CLAVICLES), "clavicles") if s in masks]
    if subtlety >= CLEAREST:
        asked.append("nodule")
    elif "lesion" in masks:
        masks["nodule"] = np.zeros(image.shape, bool)
        asked.append("nodule")
    stack = np.stack([masks[s] for s in asked]).astype(np.uint8) if asked else None
    findings = tuple(map(known_name, asked))
    label = f"{rows[0]['Source']}/{name}"
    return Sample(image, regions, Modality.XRAY, annotated, name=label, findings=findings, masks=stack)


def both_clavicles(masks: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """(h, w) of the two clavicles, which the table has by side."""
    return np.logical_or.reduce([masks[side] for side in CLAVICLES])


def lung_regions(masks: Mapping[str, NDArray[np.bool_]], shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], Region]:
    """Region bits of the lungs and the patient's left half, and which of them are known."""
    nothing = np.zeros(shape, bool)
    left, right = masks.get("left_lung", nothing), masks.get("right_lung", nothing)
    bits = {Region.LEFT_LUNG: left, Region.RIGHT_LUNG: right, Region.PATIENT_LEFT: between_lungs(left, right)}
    known = LUNGS if {"left_lung", "right_lung"} <= set(masks) else Region(0)
    return region_bits(bits), known


def with_qata_lungs(samples: Sequence[Sample], qata: Path, atlas: Path) -> list[Sample]:
    """QaTa's training images with lung masks if available, without images excluded from training.

    Excluded are pictures that are also in evaluation sets (`exclude_from_training.txt`) and the validation part of the
    lung masks.
    """
    folder = atlas / "qata_lungs"
    stems = excluded(qata) | {Path(row["Image"]).stem for row in read_table(folder, "val")}
    lungs: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in read_table(folder):
        lungs[Path(row["Image"]).stem][row["Structure"]] = row
    kept = [sample for sample in samples if Path(sample.name).stem not in stems]
    return [_with_lungs(sample, folder, lungs.get(Path(sample.name).stem, {})) for sample in kept]


def _with_lungs(sample: Sample, folder: Path, rows: Mapping[str, Row]) -> Sample:
    if not rows:
        return sample
    shape = sample.regions.shape
    bits, known = lung_regions({name: _mask(folder, row, shape) for name, row in rows.items()}, shape)
    kept = sample.regions & np.uint8(Region.LESION)
    return replace(sample, regions=kept | bits, annotated=sample.annotated | known)


def nuclei_extra(folder: Path) -> Iterator[Sample]:
    """Histology tiles at the training resolutions."""
    for row in read_table(folder):
        yield from nuclei_samples(Target(folder / "img" / row["Image"], folder / row["Mask"], "", Modality.HISTOLOGY))


def _mask(folder: Path, row: Row, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if row["Mask"] == EMPTY:
        return np.zeros(shape[:2], bool)
    return load_levels(folder / row["Mask"]) > 0


def require_known(items: Sequence[AtlasItem]) -> None:
    """Refuse a table with structures or sources that are not in the vocabulary.

    Raises:
        ValueError: there are some; the message lists them.
    """
    rows = [row for item in items for row in item.rows]
    names = {structure_name(row) for row in rows} - set(STRUCTURES)
    sources = {row["Source"] for row in rows} - set(SHOWN)
    if names or sources:
        raise ValueError(f"the structures {sorted(names)} or the sources {sorted(sources)} are not in the vocabulary")
