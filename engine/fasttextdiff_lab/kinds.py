"""Fits and validates the classifier for the kind of image: collects labelled pictures, encodes them, fits.

Knows the research data; the classifier itself is in `fasttextdiff.model.kinds`. Never fits on validation images.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.errors import UsageError
from fasttextdiff.evaluation.datasets import excluded
from fasttextdiff.evaluation.metrics import picture_volume
from fasttextdiff.image.slices import prepare
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.info import ModelInfo
from fasttextdiff.model.kinds import KINDS, NONE_OF_THESE, KindHead, statistics_of
from fasttextdiff.model.naming import named_in
from fasttextdiff.model.runtime import Runtime
from fasttextdiff.model.taught import Taught
from fasttextdiff_lab.anatomy import SHOWN_BY_KIND
from fasttextdiff_lab.atlas import LEFT_OUT, Row, read_table
from fasttextdiff_lab.kind_pictures import Picture, drawn_pictures, variant
from fasttextdiff_lab.taught import finding_of
from fasttextdiff_lab.vocabulary import STRUCTURES

SIZE = 128
"""Pixels of the longer side: enough to see what an image shows, and a fourth of the time of 256."""
CT_CHEST, CT_BELLY, CT_HEAD, CT_LIMB = "chest CT", "CT of abdomen or pelvis", "head CT", "limb CT"
KIND_OF_SOURCE = {
    "ct": {
        **dict.fromkeys(("avt_aorta", "chd68", "chest_ct_subset", "fumpe", "imlab3d", "lidc"), CT_CHEST),
        **dict.fromkeys(("lung_ct_sa", "msd_lung"), CT_CHEST),
        **dict.fromkeys(("chaos_ct", "curvas", "kits19", "kssd", "mendeley_stone"), CT_BELLY),
        **dict.fromkeys(("msd_hepaticvessel", "msd_liver", "msd_spleen"), CT_BELLY),
        **dict.fromkeys(("aisd", "ct_ich", "mbh", "phe_sich"), CT_HEAD),
        "sts_ibsi": CT_LIMB,
    },
    "mr": {
        **dict.fromkeys(("acdc", "msd_heart"), "heart MR"),
        **dict.fromkeys(("brats2023", "brats_met", "brisc2025", "fullhead", "lgg_tcga"), "head MR"),
        **dict.fromkeys(("ms_mendeley", "npc_t2", "pardoe"), "head MR"),
        **dict.fromkeys(("kidney_t2w", "pansegdata_t2", "uwm_gi"), "abdominal MR"),
        **dict.fromkeys(("bladder_mr", "prostate158", "prostate_edwards"), "pelvic MR"),
        "spider": "spine MR",
        "sts_ibsi": "limb MR",
        "breastdm": "breast MR",
    },
    "us": dict.fromkeys(("bus_bra", "busi"), "breast ultrasound"),
}
"""What each source of the CT and MR atlas shows; crops without surroundings (msd_hippocampus) are left out.

The sources of abdominal CT hold about a dozen slices of the pelvis, too few for a kind of its own."""
MOST = {"train": 60, "val": 100}
"""Pictures of one source that are used, by split."""
PENALTY = 0.003
"""On squared weights; chosen on held-out training patients."""
FOLDS = 4
KEPT = 0.98
"""Share of correctly answered training images that the lowest accepted probability keeps."""


@dataclass(frozen=True)
class Shown:
    """Statistics of one encoded picture.

    Attributes:
        kind: its true kind.
        group: patient, which is never both fitted and tested on.
        source: where it comes from.
        how: "" as it is, else the name of the change.
        statistics: (D,).
    """

    kind: str
    group: str
    source: str
    how: str
    statistics: NDArray[np.float32]


def pictures(data: Path, split: str, others: Path | None) -> list[Picture]:
    """The labelled pictures of a split, at most :data:`MOST` of each source.

    Args:
        data: folder of the research data.
        split: "train" or "val".
        others: folder of pictures that are not medical, searched at any depth; a fifth of them is for validation.
    """
    found = [
        *_atlas(data / "ct_mr_atlas", split),
        *_xrays(data, split),
        *_lung_cts(data, split),
        *_histology(data, split),
        *drawn_pictures(split),
        *(_others(others, split) if others else ()),
    ]
    by_source: dict[str, list[Picture]] = defaultdict(list)
    for picture in found:
        by_source[picture.source].append(picture)
    return [picture for those in by_source.values() for picture in _some(those, MOST[split])]


def _some(found: list[Picture], count: int) -> list[Picture]:
    """At most `count`, evenly over the list."""
    return [found[n * len(found) // count] for n in range(count)] if len(found) > count else found


def _atlas(folder: Path, split: str) -> Iterator[Picture]:
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in read_table(folder, split):
        rows[row["Image"]].append(row)
    for name, those in rows.items():
        modality, source = those[0]["Modality"], those[0]["Source"]
        kind = KIND_OF_SOURCE[modality].get(source)
        if source == "tcia_dwt":  # of the whole trunk; where it shows lungs, they have masks
            kind = CT_CHEST if any("lung" in row["Structure"] for row in those) else CT_BELLY
        if kind is not None:
            yield Picture(folder / name, kind, those[0]["Patient"], f"{modality}/{source}")


def _xrays(data: Path, split: str) -> Iterator[Picture]:
    seen: set[str] = set()
    for row in read_table(data / "xray_atlas", split):
        if row["Source"] not in LEFT_OUT and row["Image"] not in seen:
            seen.add(row["Image"])
            yield Picture(data / "xray_atlas" / "img" / row["Image"], "chest X-ray", row["Image"], row["Source"])
    qata = data / "qata_cov19_v2_2"
    stems = excluded(qata)
    for path in sorted((qata / f"{split.title()}_Folder" / "img").iterdir()):
        if path.stem not in stems:
            yield Picture(path, "chest X-ray", path.name, "qata")


def _lung_cts(data: Path, split: str) -> Iterator[Picture]:
    for path in sorted((data / "MosMedDataPlus_bjorke" / f"{split.title()}_Folder" / "img").iterdir()):
        yield Picture(path, CT_CHEST, path.name, "bjorke")
    if split == "train":
        for path in sorted((data / "unlabelled_ct").glob("*.jpg")):
            yield Picture(path, CT_CHEST, path.stem.rpartition("_")[0], "unlabelled_ct")


def _histology(data: Path, split: str) -> Iterator[Picture]:
    for path in sorted((data / "monuseg_2" / f"{split.title()}_Folder" / "img").iterdir()):
        yield Picture(path, "stained histology", path.stem, "monuseg")
    for row in read_table(data / "nuclei_extra", split):
        yield Picture(data / "nuclei_extra" / "img" / row["Image"], "stained histology", row["Image"], "nuclei_extra")
    for path in sorted((data / "dsb2018" / "stained" / "img").iterdir()):
        if is_for_validation(path.name) == (split == "val"):
            yield Picture(path, "stained histology", path.stem, "dsb2018")


def _others(folder: Path, split: str) -> Iterator[Picture]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".png", ".jpg", ".jpeg") and is_for_validation(path.name) == (split == "val"):
            yield Picture(path, NONE_OF_THESE.name, path.name, f"others/{path.parent.name}")


def is_for_validation(name: str) -> bool:
    """Whether a picture without a published split is in the fifth that is never fitted on."""
    return hashlib.sha256(name.encode()).digest()[0] < 51


def encoded(runtime: Runtime, picture: Picture, variants: int) -> Iterator[Shown]:
    """Statistics of a picture as it is, and of random variants of it."""
    pixels = picture.load()
    pictures = [(pixels, "")]
    for number in range(variants):
        pictures.append(variant(pixels, random_of(picture, str(number)), picture.kind))
    yield from all_shown(runtime, picture, pictures)


def random_of(picture: Picture, purpose: str) -> np.random.Generator:
    """Random numbers that are the same in every run."""
    digest = hashlib.sha256(f"{picture.name}/{purpose}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:4], "big"))


def all_shown(runtime: Runtime, picture: Picture, changed: Iterable[tuple[NDArray[np.uint8], str]]) -> Iterator[Shown]:
    """Statistics of what a picture became by changes, each with its name."""
    for pixels, how in changed:
        if pixels.min() < pixels.max():  # drawn pictures and parts of pictures may show nothing
            yield _shown(runtime, picture, pixels, how)


def _shown(runtime: Runtime, picture: Picture, pixels: NDArray[np.uint8], how: str) -> Shown:
    settings = replace(runtime.settings.preprocessing.of(Modality.OTHER), size=SIZE)
    image = prepare(picture_volume(pixels, Modality.OTHER), settings, runtime.settings.multiple)
    shown = image.views(0)[0].pixels()
    (maps,) = runtime.maps([shown], image.fit, 0)
    return Shown(picture.kind, picture.group, picture.source, how, statistics_of(maps, shown))


def fit(shown: Sequence[Shown], info: ModelInfo, say: Callable[[str], None]) -> KindHead:
    """The classifier, with the lowest accepted probability from held-out training patients.

    Args:
        shown: encoded training pictures.
        info: description of the model.
        say: called with a line on how it answers for the held-out pictures.

    Raises:
        UsageError: a kind has no pictures.
    """
    if missing := {kind.name for kind in KINDS} - {one.kind for one in shown}:
        raise UsageError(f"there are no training pictures of: {', '.join(sorted(missing))}")
    unseen, truth = held_out(shown, lambda those: _fitted(those).probabilities), _truth(shown)
    right = unseen.argmax(axis=1) == truth
    surest = float(np.quantile(unseen.max(axis=1)[right], 1 - KEPT))
    say(f"held-out training pictures: {right.mean():.3f} right (n {len(shown)}), accepted from {surest:.3f}")
    return replace(
        _fitted(shown),
        surest=round(surest, 3),
        made_for=info.weights_sha256,
        expected=expected_kinds(info.taught),
    )


Probabilities = Callable[[NDArray[np.float32]], NDArray[np.float64]]


def held_out(shown: Sequence[Shown], fitted: Callable[[Sequence[Shown]], Probabilities]) -> NDArray[np.float64]:
    """Probabilities (N, K) of every picture from a classifier that never saw its patient.

    Args:
        shown: encoded pictures.
        fitted: fits a classifier, and returns what gives its probabilities for statistics (N, D).
    """
    folds = np.array([hashlib.sha256(one.group.encode()).digest()[1] % FOLDS for one in shown])
    statistics = np.stack([one.statistics for one in shown])
    parts = {
        fold: fitted([one for one, f in zip(shown, folds, strict=True) if f != fold])(statistics[folds == fold])
        for fold in set(folds.tolist())
    }
    result = np.zeros((len(shown), next(iter(parts.values())).shape[1]))
    for fold, probabilities in parts.items():
        result[folds == fold] = probabilities
    return result


def _truth(shown: Sequence[Shown]) -> NDArray[np.int_]:
    names = [kind.name for kind in KINDS]
    return np.array([names.index(one.kind) for one in shown])


def _fitted(shown: Sequence[Shown]) -> KindHead:
    """Softmax regression in which a kind of n pictures has the weight of sqrt(n)."""
    statistics, truth = np.stack([one.statistics for one in shown]), _truth(shown)
    weights = np.bincount(truth, minlength=len(KINDS))[truth] ** -0.5
    mean, scale = statistics.mean(axis=0), statistics.std(axis=0) + np.float32(1e-4)
    nothing = np.zeros((len(KINDS), len(mean)), np.float32)
    head = KindHead(KINDS, mean, scale, nothing, nothing[:, 0], size=SIZE, surest=0.0, made_for="")
    weight, bias = regression(head.standard(statistics), truth, weights / weights.sum())
    return replace(head, weight=weight, bias=bias)


def regression(
    x: NDArray[np.float32], truth: NDArray[np.int_], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Softmax regression: minimises weighted cross-entropy + PENALTY / 2 * sum of squared weights.

    Args:
        x: (N, D) standardised statistics.
        truth: (N,) numbers of classes.
        weights: (N,) of the cases, with a sum of 1.

    Returns:
        Weight (K, D) and bias (K,).
    """
    from scipy.optimize import minimize

    count, length = int(truth.max()) + 1, x.shape[1]
    one_hot = np.eye(count)[truth]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w, b = flat[:-count].reshape(count, length), flat[-count:]
        logits = x @ w.T.astype(np.float32) + b
        logits -= logits.max(axis=1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        wrong = (np.exp(log_p) - one_hot) * weights[:, None]
        value = -(weights * log_p[np.arange(len(x)), truth]).sum() + PENALTY * (w**2).sum() / 2
        slope = wrong.T.astype(np.float32) @ x + PENALTY * w
        return float(value), np.concatenate([slope.ravel(), wrong.sum(axis=0)])

    start = np.zeros(count * (length + 1))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 150}).x.astype(np.float32)
    return found[:-count].reshape(count, length), found[-count:]


def expected_kinds(taught: Taught) -> dict[str, tuple[str, ...]]:
    """The kinds of image on which each taught finding may be seen, as far as the vocabulary knows where it is."""
    structures = {structure: finding_of(structure) for structure in STRUCTURES}
    expected = {}
    for finding in {finding.name: finding for those in taught.values() for finding in those}.values():
        named = named_in(finding.name, structures.values())
        if named is not None:
            areas = next(STRUCTURES[key].areas for key, value in structures.items() if value == named)
            expected[finding.name] = tuple(kind for kind, shown in SHOWN_BY_KIND.items() if shown & areas)
    return expected


@dataclass(frozen=True)
class Checked:
    """How the classifier answers for validation pictures.

    Attributes:
        table: (K, K) counts; rows are true kinds, columns answers.
        wrong: one line for each wrong answer: truth, answer, source, patient.
    """

    table: NDArray[np.int_]
    wrong: list[str]

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(np.trace(self.table) / self.table.sum())

    @property
    def mean_recall(self) -> float:
        """Mean over kinds of the share of their pictures that is answered right."""
        counts = self.table.sum(axis=1)
        return float((np.diag(self.table)[counts > 0] / counts[counts > 0]).mean())

    def lines(self) -> list[str]:
        """Accuracy with n, for all and for each kind, the confusion table, and the wrong answers."""
        counts = self.table.sum(axis=1)
        lines = [f"right: {self.accuracy:.3f} (n {counts.sum()}); mean over kinds: {self.mean_recall:.3f}"]
        for n, kind in enumerate(KINDS):
            others = ", ".join(f"{c} {KINDS[m].name}" for m, c in enumerate(self.table[n]) if c and m != n)
            lines.append(f"{kind.name:24s} {self.table[n, n]:4d} of {counts[n]:4d}{others and '; '}{others}")
        return lines + self.wrong


def check(head: KindHead, shown: Sequence[Shown]) -> Checked:
    """Answers for encoded pictures."""
    names = [kind.name for kind in KINDS]
    table, wrong = np.zeros((len(KINDS), len(KINDS)), int), []
    for one, p in zip(shown, head.probabilities(np.stack([one.statistics for one in shown])), strict=True):
        answer = head.decide(p).name
        table[names.index(one.kind), names.index(answer)] += 1
        if answer != one.kind:
            wrong.append(f"{one.kind} -> {answer} ({p.max():.2f}): {one.source}, {one.group} {one.how}".rstrip())
    return Checked(table, wrong)
