"""Lists the taught findings of the bundled model, with training counts and CT windows, for its `model_index.json`.

Knows the training data and the vocabulary; does not train or measure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fasttextdiff.contract.answers import TaughtFinding
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.taught import Taught
from fasttextdiff.training.prompts import TAUGHT
from fasttextdiff.training.samples import Item, Region, Sample
from fasttextdiff_lab.atlas import EMPTY, LEFT_OUT, MODALITIES, AtlasItem, Row, read_table, structure_name
from fasttextdiff_lab.vocabulary import STRUCTURES

Window = tuple[float, float]
SOFT_TISSUE, BRAIN, WIDE = (60.0, 400.0), (40.0, 80.0), (0.0, 2000.0)
WINDOWS: Mapping[str, Window | None] = {
    "brain": BRAIN,
    "soft_tissue": SOFT_TISSUE,
    "soft_tissue_40_400": SOFT_TISSUE,
    "mediastinal": SOFT_TISSUE,
    "wide": WIDE,
    "lung_-400_1200": None,
    "lung_masked": None,
}
"""(level, width) by the name of a window in the table of the CT and MR atlas; None for the default CT lung window.

Most pictures are already windowed with unknown numbers, so these are estimates, checked by eye.
"""
REGIONS = {
    Region.LESION: "infection",
    Region.GROUND_GLASS: "ground-glass opacity",
    Region.CONSOLIDATION: "consolidation",
    Region.LEFT_LUNG: "left lung",
    Region.RIGHT_LUNG: "right lung",
    Region.HEART: "heart",
    Region.NUCLEI: "nuclei",
}
"""Names of findings, as in :data:`TAUGHT`, that are labelled in the first research data."""


def taught_findings(data: Path, groups: Mapping[str, Sequence[Item]]) -> Taught:
    """All findings of the recipe by modality, with the number of training images and patients.

    Args:
        data: folder of the research data.
        groups: groups of training images from :func:`fasttextdiff_lab.recipe.load_recipe`.
    """
    rows = [row for row in read_table(data / "ct_mr_atlas") if row["Source"] not in LEFT_OUT and row["Mask"] != EMPTY]
    asked = {row["Structure"] for items in groups.values() for i in items if isinstance(i, AtlasItem) for row in i.rows}
    atlas = _from_rows([row for row in rows if row["Structure"] in asked])
    counts = _counted(sample for items in groups.values() for sample in items if isinstance(sample, Sample))
    pictures = _from_samples(counts)
    kinds = [kind.value for kind in Modality if kind.value in {**atlas, **pictures}]
    return {kind: _merged([*pictures.get(kind, ()), *atlas.get(kind, ())]) for kind in kinds}


def finding_of(structure: str) -> TaughtFinding:
    """A structure of the vocabulary as a finding, named by its first word."""
    name, *synonyms = STRUCTURES[structure].words
    return TaughtFinding(name, tuple(synonyms))


def _from_rows(rows: Iterable[Row]) -> dict[str, list[TaughtFinding]]:
    by_structure: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        by_structure[MODALITIES[row["Modality"]].value, structure_name(row)].append(row)
    found: dict[str, list[TaughtFinding]] = defaultdict(list)
    for (kind, structure), those in by_structure.items():
        found[kind].append(
            replace(
                finding_of(structure),
                window=_window(those) if kind == Modality.CT.value else None,
                slices=len({row["Image"] for row in those}),
                patients=len({(row["Source"], row["Patient"]) for row in those}),
            )
        )
    return found


def _window(rows: Sequence[Row]) -> Window | None:
    """The most frequent window of a structure's pictures; the default window if some are shown in it."""
    counts = Counter(WINDOWS[row["Window"]] for row in rows)
    return None if None in counts else counts.most_common(1)[0][0]


def _counted(samples: Iterable[Sample]) -> dict[str, dict[str, set[str]]]:
    """Names of the images with each finding, by modality."""
    names: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for sample in samples:
        found = names[sample.modality.value]
        for region, name in REGIONS.items():
            if (sample.regions & region).any():
                found[name].add(sample.name)
        for n, name in enumerate(sample.findings):
            if sample.masks is not None and sample.masks[n].any():
                found[name].add(sample.name)
    return names


def _from_samples(counts: Mapping[str, Mapping[str, set[str]]]) -> dict[str, list[TaughtFinding]]:
    found: dict[str, list[TaughtFinding]] = {}
    for kind, names in counts.items():
        basic = {finding.name: finding for finding in TAUGHT.get(kind, ())}
        further = [name for name in names if name not in basic]
        lungs = names.get("left lung", set()) & names.get("right lung", set())
        known = {**basic, **{name: finding_of(name) for name in further}}
        seen = {**names, "lungs": lungs}
        found[kind] = [replace(finding, slices=len(seen.get(name, ()))) for name, finding in known.items()]
    return found


def _merged(findings: Sequence[TaughtFinding]) -> tuple[TaughtFinding, ...]:
    """Findings of one modality; findings that share a name are merged, with the words and images of both."""
    merged: dict[str, TaughtFinding] = {}
    for finding in findings:
        known = merged.get(finding.name)
        merged[finding.name] = finding if known is None else _both(known, finding)
    return tuple(merged.values())


def _both(one: TaughtFinding, other: TaughtFinding) -> TaughtFinding:
    synonyms = dict.fromkeys(term for term in (*one.synonyms, *other.synonyms) if term != one.name)
    slices = (one.slices or 0) + (other.slices or 0)
    return replace(one, synonyms=tuple(synonyms), slices=slices, patients=None)
