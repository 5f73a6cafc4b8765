"""Encodes findings as token states with ModernBERT.

Knows nothing about images or the meaning of findings.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fasttextdiff.contract.findings import understood
from fasttextdiff.errors import ModelError, one_line
from fasttextdiff.model.tokens import RecentTexts, require_readable
from fasttextdiff.paths import PathText, as_name


class TextStates(NamedTuple):
    """Token states of a batch of findings.

    Attributes:
        states: (B, L, D), zero where `mask` is False.
        mask: (B, L) bool, True for real tokens, including [CLS] and [SEP]; None if there is no padding.
    """

    states: Tensor
    mask: Tensor | None


class TextEncoder(nn.Module):
    """A ModernBERT and its tokenizer (paper section 3.1; Warner et al., arXiv 2412.13663).

    All tokens up to `max_tokens` are read and padding is masked. The published code cuts every caption to ten tokens
    and attends to padding.

    Args:
        model: `transformers.ModernBertModel`, or any encoder with `last_hidden_state`.
        tokenizer: its fast tokenizer.
        max_tokens: longest finding accepted, including [CLS] and [SEP]; at least 64.
    """

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int = 128) -> None:
        super().__init__()
        if max_tokens < 64:
            raise ValueError(f"max_tokens must be at least 64, got {max_tokens}")
        self.model, self.tokenizer, self.max_tokens = model, tokenizer, max_tokens
        self._cache: RecentTexts[Tensor] = RecentTexts()

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: PathText,
        tokenizer: PathText | None = None,
        max_tokens: int = 128,
        dtype: torch.dtype = torch.float32,
    ) -> TextEncoder:
        """Load a folder or a hub id; safetensors only.

        Args:
            name_or_folder: e.g. `thomas-sounack/BioClinical-ModernBERT-base`, or a folder with config.json and
                model.safetensors.
            tokenizer: folder of the tokenizer, if it is a different one.
            max_tokens: see the class.
            dtype: of the loaded weights.

        Raises:
            ModelError: it is missing or incomplete, or its weights are only a pickle.
        """
        place = as_name(name_or_folder)
        tokenizer_place = place if tokenizer is None else as_name(tokenizer)
        from safetensors import SafetensorError
        from transformers import AutoTokenizer

        try:
            model = _load_model(place).to(dtype)
            tokens = AutoTokenizer.from_pretrained(tokenizer_place)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            raise ModelError(f"cannot load a text encoder from {name_or_folder}: {one_line(error)}") from error
        return cls(model.eval(), tokens, max_tokens)

    @property
    def dim(self) -> int:
        """Channels D of a token state."""
        return int(self.model.config.hidden_size)

    def tokenize(self, findings: Sequence[str]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, (B, L) int64, padded to the longest; the empty text is [CLS] [SEP]."""
        batch = self.tokenizer([understood(f) for f in findings], padding=True, return_tensors="pt")
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}

    def check(self, finding: str) -> None:
        """Refuse a text that cannot be a finding for this encoder; see :func:`require_readable`."""
        require_readable(finding, self.max_tokens, lambda text: len(self.tokenizer(text)["input_ids"]))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> TextStates:
        """Token states with gradients: (B, L) ids and mask to (B, L, D)."""
        chosen = attention_implementation(input_ids.device, self._dtype(input_ids))
        self.model.config._attn_implementation = chosen  # noqa: SLF001 - transformers 4.48 has no public name for it
        states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.bool()
        return TextStates(states * mask[..., None].to(states.dtype), mask)

    def _dtype(self, ids: Tensor) -> torch.dtype:
        """The dtype of attention, which under autocast is not that of the weights."""
        kind = ids.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.model.dtype

    @torch.no_grad()
    def encode(self, findings: Sequence[str]) -> TextStates:
        """Token states without gradients; each text is computed once, then cached.

        Texts are encoded one by one, so that the states of a finding do not depend on padding.
        """
        rows = [self._cache.of(f, self._states) for f in findings]
        length = max(row.shape[0] for row in rows)
        states = torch.stack([nn.functional.pad(row, (0, 0, 0, length - row.shape[0])) for row in rows])
        lengths = torch.tensor([row.shape[0] for row in rows], device=states.device)
        return TextStates(states, torch.arange(length, device=states.device)[None] < lengths[:, None])

    def _states(self, finding: str) -> Tensor:
        """(L, D) of one text."""
        tokens = {name: ids.to(self.model.device) for name, ids in self.tokenize([finding]).items()}
        states: Tensor = self(**tokens).states[0]
        return states

    def clear_cache(self) -> None:
        """Clear the cache; needed after the weights, device or dtype changed."""
        self._cache.clear()

    def _apply(self, fn: Any, recurse: bool = True) -> TextEncoder:
        self.clear_cache()
        return super()._apply(fn, recurse)


def _load_model(name_or_folder: str) -> Any:
    """Load strictly; transformers would fill a missing tensor with random numbers without an error."""
    from transformers import AutoModel

    # no dtype here: the argument is "torch_dtype" before transformers 4.56 and "dtype" from 5 on
    model, report = AutoModel.from_pretrained(
        name_or_folder,
        use_safetensors=True,
        attn_implementation="sdpa",  # until the device is known
        output_loading_info=True,
    )
    # the pooler of a BERT is often not stored, and not used here
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise ValueError(f"tensor '{missing[0]}' is missing")
    if hasattr(model.config, "reference_compile"):
        model.config.reference_compile = False  # transformers 4 would compile for every length on the first GPU pass
    return model


def attention_implementation(device: torch.device, dtype: torch.dtype) -> str:
    """`flash_attention_2` if installed and supported (Ampere or newer, 16 bits), else `sdpa`."""
    usable = (
        device.type == "cuda"
        and dtype in (torch.float16, torch.bfloat16)
        and importlib.util.find_spec("flash_attn") is not None
        and torch.cuda.get_device_capability(device)[0] >= 8
    )
    return "flash_attention_2" if usable else "sdpa"
