"""Trains a byte-pair tokenizer on radiology text.

Knows text files; knows nothing about findings or models.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fasttextdiff.errors import UsageError

SPECIAL_TOKENS = {
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}

WANTED = "vocabulary.txt"
"""File next to a trained tokenizer with the requested vocabulary size."""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Any:
    """Train a `transformers.PreTrainedTokenizerFast`: lower-cased byte-level BPE (Sennrich et al. 2016).

    Args:
        texts: training texts.
        vocabulary: number of tokens, including special ones; every byte is a token, so no text is unknown.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    # byte-level splitting separates hyphens, so that "left-sided" and "left sided" share their words
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **SPECIAL_TOKENS
    )


def learned_tokenizer(folder: Path, text: Path | None, vocabulary: int) -> Any:
    """The tokenizer in a folder; if there is none, train one on the text folder and save it there.

    Raises:
        UsageError: the folder's tokenizer has another vocabulary size, or there is no text to train one.
    """
    from transformers import AutoTokenizer

    if not folder.is_dir():
        if text is None:
            raise UsageError(f"there is no tokenizer in {folder}, and no folder of 'text' to train one")
        train_tokenizer(read_texts(text), vocabulary).save_pretrained(folder)
        (folder / WANTED).write_text(f"{vocabulary}\n", encoding="utf-8")
    wanted = folder / WANTED  # a small corpus gives fewer tokens than requested, so their number cannot be compared
    if wanted.is_file() and int(wanted.read_text(encoding="utf-8")) != vocabulary:
        raise UsageError(f"the tokenizer in {folder} was trained for another vocabulary: choose another output folder")
    return AutoTokenizer.from_pretrained(folder)


def read_texts(folder: Path) -> Iterator[str]:
    """Every line of `*.txt` and every cell with a space in `*.csv` below a folder, without licences; or of one file."""
    found = [folder] if folder.is_file() else folder.rglob("*")
    files = sorted(p for p in found if p.suffix in (".txt", ".csv") and "licence" not in p.name)
    if not files:
        raise UsageError(f"there are no .txt or .csv files in {folder}")
    for path in files:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            if path.suffix == ".txt":
                yield from (line.split("\t")[-1].strip() for line in file)
            else:
                yield from (cell for row in csv.reader(file) for cell in row if " " in cell)
