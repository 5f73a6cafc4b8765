"""Requests and answers about teaching: strokes, examples, learning, the library of what was learned.

Knows nothing about how they are sent or carried out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .answers import ArrayFile, Segmented


@dataclass(frozen=True)
class StrokeMark:
    """One stroke on a slice.

    Attributes:
        voxels: bool, on the slice's grid (1, j, i), true on the stroke.
        present: whether the finding is there.
    """

    voxels: ArrayFile
    present: bool


@dataclass(frozen=True)
class Correct:
    """Correct a finding on one slice by strokes; nothing is learned. The answer is as for `segment`.

    Attributes:
        volume: name given in `open_volume`.
        finding: its text.
        slice: number of the slice along the volume's first axis.
        strokes: all strokes in the order drawn; a list without the last one undoes it.
        output: an existing folder for the arrays of the answer.
        seed: of the noise.
        threshold: probability above which a voxel is in the mask; null for the model's own.
        library: folder of learned findings; null for none.
        slice_by_slice: whether nothing is left out because it lies outside an organ.
    """

    op: ClassVar[str] = "correct"
    answer: ClassVar[type] = Segmented
    volume: str
    finding: str
    slice: int
    strokes: tuple[StrokeMark, ...]
    output: Path
    seed: int = 0
    threshold: float | None = None
    library: Path | None = None
    slice_by_slice: bool = False


@dataclass(frozen=True)
class ExamplesAdded:
    """How many examples are collected now."""

    count: int


@dataclass(frozen=True)
class AddExamples:
    """Collect slices with masks of one volume, to learn from; nothing is written.

    Attributes:
        volume: name given in `open_volume`.
        slices: numbers of the slices along the volume's first axis.
        masks: (n, j, i) uint8, true on the finding; an empty mask says that it is absent.
        group: equal for images of one patient; kept only as a hash that needs this user's secret.
        begin: whether to forget first what was collected before.
    """

    op: ClassVar[str] = "add_examples"
    answer: ClassVar[type] = ExamplesAdded
    volume: str
    slices: tuple[int, ...]
    masks: ArrayFile
    group: str
    begin: bool


@dataclass(frozen=True)
class LearnedFinding:
    """A learned finding.

    Attributes:
        finding: its name; for a damaged file, the name of its folder.
        synonyms: further words for it.
        modality: kind of image that it was learned on.
        examples: number of slices it was learned from.
        dice: Dice on held-out examples; null if there were too few to hold any out.
        base: name of the model that learned it.
        versions: number of versions in the library; the last one is used.
        enabled: whether it is used.
        file: of the version that is used.
        digest: hash of what was learned, 16 hex digits; empty for a damaged file.
        problem: why it cannot be used, in one line; empty if it can.
    """

    finding: str
    synonyms: tuple[str, ...]
    modality: str
    examples: int
    dice: float | None
    base: str
    versions: int
    enabled: bool
    file: Path
    digest: str
    problem: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The finding and its synonyms."""
        return (self.finding, *self.synonyms)


@dataclass(frozen=True)
class LearnedFindings:
    """All findings of a library, by name."""

    findings: tuple[LearnedFinding, ...]


@dataclass(frozen=True)
class Learn:
    """Learn a finding from the collected examples, and from those kept before; the model stays as it is.

    Attributes:
        finding: its name.
        synonyms: further words for it.
        output: file of the adapter to write, .safetensors.
        keep: folder of examples of this finding: those there are learned from too, new ones are added at the end;
            null for none.
        seed: of variants and training.
        collected: whether to learn from the collected examples; else only from those kept before.
    """

    op: ClassVar[str] = "learn"
    answer: ClassVar[type] = LearnedFinding
    finding: str
    synonyms: tuple[str, ...]
    output: Path
    keep: Path | None = None
    seed: int = 0
    collected: bool = True


@dataclass(frozen=True)
class ListLearned:
    """Which findings are in a library?

    Attributes:
        library: its folder; a missing one is empty.
    """

    op: ClassVar[str] = "list_learned"
    answer: ClassVar[type] = LearnedFindings
    library: Path


@dataclass(frozen=True)
class ImportLearned:
    """Add an adapter to a library, as a new version if its finding is there.

    Attributes:
        library: its folder.
        file: the adapter.
    """

    op: ClassVar[str] = "import_learned"
    answer: ClassVar[type] = LearnedFindings
    library: Path
    file: Path


@dataclass(frozen=True)
class ExportLearned:
    """Write the current version of a learned finding to a file.

    Attributes:
        library: its folder.
        finding: name or synonym.
        output: .safetensors.
    """

    op: ClassVar[str] = "export_learned"
    answer: ClassVar[type] = LearnedFindings
    library: Path
    finding: str
    output: Path


@dataclass(frozen=True)
class RenameLearned:
    """Give a learned finding other words; what was learned stays.

    Attributes:
        library: its folder.
        finding: name or synonym.
        name: new name.
        synonyms: all its synonyms from now on; null for those that it has.
    """

    op: ClassVar[str] = "rename_learned"
    answer: ClassVar[type] = LearnedFindings
    library: Path
    finding: str
    name: str
    synonyms: tuple[str, ...] | None = None


@dataclass(frozen=True)
class SwitchLearned:
    """Switch a learned finding on or off.

    Attributes:
        library: its folder.
        finding: name or synonym.
        enabled: on or off.
    """

    op: ClassVar[str] = "switch_learned"
    answer: ClassVar[type] = LearnedFindings
    library: Path
    finding: str
    enabled: bool


@dataclass(frozen=True)
class RollBackLearned:
    """Return to the previous version; the current one is deleted.

    Attributes:
        library: its folder.
        finding: name or synonym; for a damaged file, the name of its folder.
    """

    op: ClassVar[str] = "roll_back_learned"
    answer: ClassVar[type] = LearnedFindings
    library: Path
    finding: str


@dataclass(frozen=True)
class RemoveLearned:
    """Remove a learned finding with all its versions.

    Attributes:
        library: its folder.
        finding: name or synonym; for a damaged file, the name of its folder.
    """

    op: ClassVar[str] = "remove_learned"
    answer: ClassVar[type] = LearnedFindings
    library: Path
    finding: str


JOBS = (
    *(Correct, AddExamples, Learn, ListLearned, ImportLearned, ExportLearned),
    *(RenameLearned, SwitchLearned, RollBackLearned, RemoveLearned),
)
"""Requests about teaching; all are carried out in order, as jobs."""
