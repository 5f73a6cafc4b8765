"""An adapter: what a model learned about one finding, and its file with a card that says how.

Knows the decoder and its file; knows nothing about learning or the library of adapters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from fasttextdiff.contract.findings import same_key, unreadable
from fasttextdiff.errors import ModelError
from fasttextdiff.image.volume import Modality
from fasttextdiff.io.atomic import whole_files
from fasttextdiff.io.json_files import parse_json
from fasttextdiff.model.fusion import FusionHead
from fasttextdiff.model.text_encoder import TextStates
from fasttextdiff.paths import PathText, as_path
from fasttextdiff.teaching.decoder import FindingDecoder, see

FORMAT = "fasttextdiff-adapter 1"
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Card:
    """How an adapter was made; nothing in it identifies a patient.

    Attributes:
        finding: name of the finding.
        text: the words that the model reads for it; stays when the finding is renamed.
        synonyms: other names.
        modality: modality of the examples.
        examples: number of slices it was learned from.
        negatives: how many of these do not show the finding.
        base: name of the model.
        base_weights_sha256: hash of the model's weights.
        held_out_dice: Dice on held-out examples; None if there were too few to hold any out.
        steps: training steps.
        seed: of the training.
        seconds: time it took.
        created: date and time, ISO 8601, UTC.
    """

    finding: str
    text: str
    synonyms: tuple[str, ...]
    modality: str
    examples: int
    negatives: int
    base: str
    base_weights_sha256: str
    held_out_dice: float | None
    steps: int
    seed: int
    seconds: float
    created: str

    @property
    def words(self) -> tuple[str, ...]:
        """The finding and its synonyms."""
        return (self.finding, *self.synonyms)

    def covers(self, word: str) -> bool:
        """Whether a word is the finding or a synonym, in any spelling."""
        return same_key(word) in {same_key(own) for own in self.words}


@dataclass(frozen=True)
class Adapter:
    """A learned finding.

    Attributes:
        card: how it was made.
        decoder: what was learned.
    """

    card: Card
    decoder: FindingDecoder

    def require_base(self, weights_sha256: str, name: str) -> None:
        """Refuse another model than the one that learned the finding.

        Raises:
            ModelError: the weights differ.
        """
        if weights_sha256 != self.card.base_weights_sha256:
            raise ModelError(
                f"'{self.card.finding}' was learned on {self.card.base} ({self.card.base_weights_sha256}), this model "
                f"is {name} ({weights_sha256}): learn it again from its examples"
            )

    def odds(
        self, fusion: FusionHead, maps: Sequence[Any], image: Tensor, text: TextStates, size: tuple[int, int]
    ) -> Tensor:
        """Log-odds (H, W) on the head's grid; arguments as for :func:`fasttextdiff.teaching.decoder.see`."""
        return self.decoder.odds(see(fusion, maps, image, text, size))

    def sha256(self) -> str:
        """First 16 hex digits of the SHA-256 of what was learned; the same after a rename."""
        digest = hashlib.sha256()
        for name, weight in sorted(self.decoder.state_dict().items()):
            digest.update(name.encode() + weight.numpy().tobytes())
        return digest.hexdigest()[:16]

    def sha256_with_words(self) -> str:
        """Equal for adapters that answer the same texts in the same way; another one after a rename."""
        said = [self.sha256(), self.card.text, self.card.modality, *self.card.words]
        return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]

    def renamed(self, finding: str, synonyms: Sequence[str]) -> Adapter:
        """The same decoder for other words."""
        return replace(self, card=replace(self.card, finding=finding, synonyms=tuple(synonyms)))

    def save(self, path: PathText) -> None:
        """Write the adapter as safetensors with its card in the metadata, whole or not at all.

        Raises:
            UsageError: the path cannot be written.
            FastTextDiffError: writing failed.
        """
        from safetensors.torch import save

        card = {**asdict(self.card), "channels": list(self.decoder.channels)}
        weights = {name: weight.contiguous() for name, weight in self.decoder.state_dict().items()}
        content = save(weights, metadata={"format": FORMAT, "card": json.dumps(card)})
        with whole_files(as_path(path)) as (temporary,):
            temporary.write_bytes(content)

    @classmethod
    def load(cls, path: PathText) -> Adapter:
        """Read an adapter.

        Raises:
            ModelError: the file is missing, damaged, or no adapter.
        """
        from safetensors import SafetensorError, safe_open

        path = as_path(path)
        try:
            with safe_open(path, framework="pt") as file:
                card = _card(file.metadata() or {}, str(path))
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} cannot be read as an adapter: it is missing or damaged") from error
        try:
            decoder = _decoder(card.pop("channels"), weights)
            made = _checked_card(card)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ModelError(f"{path} is damaged: its weights or its card are incomplete") from error
        if not all(torch.isfinite(weight).all() for weight in weights.values()):
            raise ModelError(f"{path} is damaged: its weights are not finite")
        return cls(made, decoder.eval())


def _decoder(channels: Sequence[int], weights: Mapping[str, Tensor]) -> FindingDecoder:
    if sum(channels) != weights["mix.weight"].shape[1]:  # else the memory for a wrong number would be asked for
        raise ValueError("the channels are not those of the weights")
    decoder = FindingDecoder(channels, len(weights["mix.bias"]))
    decoder.load_state_dict(dict(weights))
    return decoder


def _checked_card(card: Mapping[str, Any]) -> Card:
    """The card of a file, whose values have the types of :class:`Card`; what later versions add is left out."""
    texts = ("finding", "text", "modality", "base", "base_weights_sha256", "created")
    if not isinstance(card["synonyms"], list):
        raise TypeError("the synonyms are no list")
    made = Card(**{field.name: card[field.name] for field in fields(Card)} | {"synonyms": tuple(card["synonyms"])})
    for value, kind in (
        *((getattr(made, name), str) for name in texts),
        *((word, str) for word in made.synonyms),
        *((getattr(made, name), int) for name in ("examples", "negatives", "steps", "seed")),
    ):
        if not isinstance(value, kind):
            raise TypeError(f"{value!r} is no {kind.__name__}")
    Modality(made.modality)
    if any(map(unreadable, made.words)):
        raise ValueError("the words cannot be read")
    return made


def _card(metadata: dict[str, str], path: str) -> dict[str, Any]:
    if metadata.get("format") != FORMAT:
        raise ModelError(f"{path} is not an adapter of this program: it has no card")
    try:
        card = parse_json(metadata["card"])
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path} is damaged: its card cannot be read") from error
    if not isinstance(card, dict):
        raise ModelError(f"{path} is damaged: its card cannot be read")
    return card
