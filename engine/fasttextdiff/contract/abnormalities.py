"""Words of abnormalities: small ones, such as nodules and stones, and spread ones, such as opacities."""

from __future__ import annotations

import re

PATCHY = re.compile(
    r"\b(?:infect\w+|pneumonias?|opacit(?:y|ies)|opacification|infiltrat\w+|airspace disease|consolidations?|ggos?"
    r"|ground[ -]glass|inflam\w+|shadowing|(?:diseased|affected|abnormal) areas?|abnormality|patch\w*)\b"
)
FOCAL = re.compile(
    r"\b(?:nodules?|nodular|nodes?|lesions?|tumou?rs?|cancer|carcinoma|mass(?:es)?|metastas[ei]s|gliomas?|glioblastomas?"
    r"|gbm|lumps?|pca|sts|spn|neoplasms?|sarcomas?|nsclc|hcc|rcc|npc|embol\w+|pe|thromb\w+|filling defects?|stones?"
    r"|nephrolith\w*|calcul[ui]s?|urolithiasis|plaques?|ha?emorrhages?|ha?ematomas?|bleeds?|blood(?! pool)|ich|ivh|sah"
    r"|sdh|infarct\w*|strokes?|o?edemas?)\b"
)


def is_abnormality(words: str) -> bool:
    """Whether a finding in lower case names an abnormality, not anatomy."""
    return bool(FOCAL.search(words) or PATCHY.search(words))
