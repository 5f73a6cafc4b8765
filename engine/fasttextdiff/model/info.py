"""The description of a model in `model_index.json`: name, thresholds and taught terms.

Loads no weights and no torch, so that findings can be checked while the user types. Knows nothing about volumes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fasttextdiff.contract.answers import TaughtFinding
from fasttextdiff.contract.findings import denied, doubtful, shortened, unreadable
from fasttextdiff.errors import ModelError, UsageError, one_line
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.json_files import parse_json
from fasttextdiff.model.naming import named_in, whole_named
from fasttextdiff.model.spelling import is_word, respelled
from fasttextdiff.model.taught import Taught, taught_from
from fasttextdiff.model.untaught import explain_untaught, strange_words, unlearned_part
from fasttextdiff.paths import PathText, as_path

BUNDLED_MODEL = Path(__file__).parents[1] / "weights" / "compact"
FORMAT_VERSION = 1
INDEX = "model_index.json"
_UNKNOWN_MODALITY = "the modality is not known: give it if the image is one of"
COMPONENTS = {
    "text_encoder": "transformers.ModernBertModel",
    "tokenizer": "transformers.PreTrainedTokenizerFast",
    "unet": "diffusers.UNet2DModel",
    "scheduler": "diffusers.DDPMScheduler",
    "fusion": "fasttextdiff.FusionHead",
}


@dataclass(frozen=True)
class ModelInfo:
    """The description of a model.

    Attributes:
        name: short name, e.g. "compact-0.7".
        licence: SPDX identifier of the weights.
        threshold: probability above which a pixel belongs to the mask, the same for all modalities.
        presence_threshold: presence below which a mask is emptied; 0 for models without a presence output.
        taught: findings the model was trained on, by modality ("xray", ...); empty if unknown.
        weights_sha256: first 16 hex digits of the hash of all weights; set on loading.
    """

    name: str
    licence: str = ""
    threshold: float = 0.5
    presence_threshold: float = 0.0
    taught: Taught = field(default_factory=dict)
    weights_sha256: str = ""

    def knows(self, finding: str, modality: Modality | None) -> bool:
        """Whether a text names a finding that was taught for a modality, or for any modality if None."""
        return bool(self.taught) and not self.untaught(finding, modality)

    def untaught(self, finding: str, modality: Modality | None) -> str:
        """Why a text is untaught, in one line; empty if it names a taught finding, or if the model lists none.

        Args:
            finding: the text as typed.
            modality: modality of the image; None if not known yet.
        """
        if not self.taught:
            return ""
        if modality is not None and modality.value not in self.taught:
            kinds = ", ".join(map(kind_name, self.taught))
            if modality is Modality.OTHER:
                return f"{_UNKNOWN_MODALITY} {kinds}"
            return f"the model was not trained on {modality.value} images, only on {kinds}"
        where = "" if modality is None or modality is Modality.OTHER else f" for {modality.value}"
        taught = self._taught_for(modality)
        reason = explain_untaught(finding, taught, where)
        if reason and not strange_words(respelled(finding, taught), taught):
            return ""
        known = [kind for kind, others in self.taught.items() if reason and not strange_words(finding, others)]
        elsewhere = " and ".join(map(kind_name, known))
        if elsewhere and modality is Modality.OTHER:
            return f"{_UNKNOWN_MODALITY} {elsewhere}, for which '{shortened(finding)}' was taught"
        return f"{reason}; it was taught for {elsewhere} images" if elsewhere else reason

    def window(self, finding: str, modality: Modality) -> tuple[float, float] | None:
        """(level, width) of a finding in training; None for the modality's window."""
        found = self.taught_finding(finding, modality)
        return None if found is None else found.window

    def taught_finding(self, finding: str, modality: Modality | None) -> TaughtFinding | None:
        """The taught finding that a text names, for a modality, or for any modality if None; None if there is none."""
        taught = self._taught_for(modality)
        return named_in(finding, taught) or named_in(respelled(finding, taught), taught)

    def whole_finding(self, finding: str, modality: Modality) -> str:
        """The name of the one taught finding that a text names as a whole; empty if there is none."""
        found = whole_named(finding, self._taught_for(modality))
        return "" if found is None else found.name

    def respelled(self, finding: str, modality: Modality) -> str:
        """A text as the text encoder reads it: misspelt words are those that were taught for a modality."""
        return respelled(finding, self._taught_for(modality))

    def is_word(self, word: str, modality: Modality | None) -> bool:
        """Whether a word in lower case has a meaning of its own, so that it is no misspelt other one."""
        return is_word(word, self._taught_for(modality))

    def _taught_for(self, modality: Modality | None) -> list[TaughtFinding]:
        kinds = self.taught if modality is None else [modality.value]
        return [taught for kind in kinds for taught in self.taught.get(kind, ())]

    def warning(self, finding: str, modality: Modality | None) -> str:
        """Why a result for this finding cannot be relied on, in one line; empty if there is no reason.

        Args:
            finding: the text as typed.
            modality: modality of the image; None if not known yet.
        """
        if not self.taught:
            return ""
        taught = self._taught_for(modality)
        return (
            self.untaught(finding, modality) or doubtful(finding) or denied(finding) or unlearned_part(finding, taught)
        )


def kind_name(kind: str) -> str:
    """A modality for a message: what is taught for other images is taught for ultrasound."""
    return "ultrasound" if kind == Modality.OTHER.value else kind


def normalise(finding: str) -> str:
    """A text with each run of white space replaced by one space; training counts characters in this form."""
    return " ".join(finding.split())


def require_findings(findings: Sequence[str]) -> None:
    """Require a list of at least one text; a single text would be read letter by letter.

    Raises:
        UsageError: it is no list, is empty, or holds something else than texts.
    """
    is_list = isinstance(findings, Sequence) and not isinstance(findings, (str, bytes))
    if not is_list or not all(isinstance(finding, str) for finding in findings):
        raise UsageError(f"findings must be a list of texts, for example ['left lung'], not {findings!r:.60}")
    if not findings:
        raise UsageError("no finding was given: type what to look for, for example 'left lung'")


def require_words(finding: str) -> None:
    """Refuse a finding that no model can read.

    Raises:
        UsageError: see :func:`fasttextdiff.contract.findings.unreadable`.
    """
    if problem := unreadable(finding):
        raise UsageError(problem)


def local_folder(name_or_folder: PathText | None) -> Path:
    """The folder of a model on this computer.

    Args:
        name_or_folder: None for the bundled model.

    Raises:
        UsageError: the folder does not exist.
    """
    if name_or_folder is None:
        return BUNDLED_MODEL
    folder = as_path(name_or_folder)
    if not folder.is_dir():
        raise UsageError(f"there is no model folder {folder}: give a folder made by 'train' or 'convert'")
    return folder


def read_index(folder: PathText) -> dict[str, Any]:
    """The content of `model_index.json`, after checking that all components exist.

    Raises:
        ModelError: it is missing, not readable or of another version, or a component is missing.
    """
    folder = as_path(folder)
    try:
        index = parse_json((folder / INDEX).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} is not a model folder: it has no {INDEX}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / INDEX} cannot be read: {one_line(error)}") from error
    if not isinstance(index, dict) or index.get("format_version") != FORMAT_VERSION:
        found = index.get("format_version") if isinstance(index, dict) else None
        raise ModelError(f"{folder / INDEX} has format_version {found}, this version reads {FORMAT_VERSION}")
    for name in COMPONENTS:
        if not (folder / name).is_dir():
            raise ModelError(f"the model folder {folder} is incomplete: '{name}' is missing")
    return index


def read_info(folder: PathText) -> ModelInfo:
    """The description of the model in a folder; its weights are neither read nor hashed.

    Raises:
        ModelError: see :func:`read_index`; or a field is missing or of the wrong type.
    """
    return info_of(folder, read_index(folder))


def info_of(folder: PathText, index: Mapping[str, Any]) -> ModelInfo:
    """The description in an index from :func:`read_index`.

    Raises:
        ModelError: a field is missing, unknown, of the wrong type or out of range.
    """
    folder = as_path(folder)
    try:
        values = dict(index["info"])
        taught = taught_from(values.get("taught", {}))
        thresholds = {name: _share(name, values.get(name, default)) for name, default in _THRESHOLDS.items()}
        return ModelInfo(**{**values, "name": _text(values["name"]), "taught": taught, **thresholds})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder / INDEX} does not describe a model: {one_line(error)}") from error


_THRESHOLDS = {"threshold": ModelInfo.threshold, "presence_threshold": ModelInfo.presence_threshold}


def _share(name: str, value: Any) -> float:
    share = float(value)
    if not 0 <= share <= 1:  # also refuses NaN, with which every mask would be empty
        raise ValueError(f"'{name}' must be a number from 0 to 1, got {share}")
    return share


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value
