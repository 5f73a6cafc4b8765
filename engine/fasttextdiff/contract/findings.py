"""Normalises typed or pasted findings, and says which cannot be read.

Knows nothing about images, models or reports. Sides are the patient's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

_QUOTES = str.maketrans(
    {
        **dict.fromkeys('"\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a\u2033\u301d\u301e\uff02*', " "),
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4`\u02bc\uff07", "'"),
    }
)
_RINGED = re.compile("[\u2460-\u2473\u24f5-\u24fe\u2776-\u2793]")
"""Circled list numbers."""
_DASHES = re.compile("[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
_EDGES = " .,;:!?\u2026-/\\|~=+#&<>\u2190\u2192\u21d2"
"""Characters stripped from both ends of a finding."""
_LIST_MARK = re.compile(
    r"^\s*(?:[-+\u2022\u2023\u25aa\u25cf\u25e6\u00b7*]+\s+|\(?\d{1,2}[.):]+(?:\s+|(?=[A-Za-z\"'(]))|\d{1,2}\s+-\s+(?=[A-Za-z])|#\d{1,2}\s+"
    r"|\(?[a-hA-H]\)\s*(?=[\w(])|[a-h]\.\s+|\(?[ivx]{1,4}[.)]\s+)"
)
# First words of anatomy in the chest: "l", "r" or "RT" before one of them is a side.
_PLACE = (
    r"(?:lungs?|upper|lower|mid|middle|hemi\w+|chest|thorax|side|base|basal|basilar|apex|apical|hil\w+|pulmonary|pleura\w*"
    r"|zones?|lobes?|fields?|perihilar|kidneys?|clavicles?|atri\w+|ventric\w+|hippocamp\w+|amygdala\w*|breasts?|cp|costophrenic|hemidiaphragm|retrocardiac)"
)
_NO_SIDE_BEFORE = r"(?<![\w./'-])(?<!\d )(?<!dr )(?<!dr\. )"
# a full stop after it, or a hyphen before "lung", is removed; "L-spine", "L 5" and "R/O" are not sides
_END = (
    r"(?:\.(?=\s|[a-z]|-side|$)|-(?=lung)|(?![\w./'])(?!-(?!sided?\b)))"
    r"(?!\s+(?:\d|spine\b|vertebra\w*\b))"
)
_INITIAL = r"(?!\.\s*[A-Z])"  # "R. Smith"
_JOINT = r"\s*(?:/|\+|&|,| and )\s*"
_PAIR = re.compile(rf"(?<![\w/'-])(?:(?:L|l)t?{_JOINT}(?:R|r)t?|(?:R|r)t?{_JOINT}(?:L|l)t?)(?![\w/'-])")


def _side_rules() -> list[tuple[re.Pattern[str], str]]:
    rules = []
    for letter, side in (("l", "left"), ("r", "right")):
        big = letter.upper()
        abbreviation = rf"(?:[{letter}{big}]t|{big}T(?=\.?\s+(?i:{_PLACE})\b))"
        lone = rf"(?:{big}|{letter}(?=\.?\s+{_PLACE}\b)|(?<=lung ){letter}(?=$)|(?<=lungs ){letter}(?=$))"
        rules += [
            (re.compile(rf"[(\[]\s*(?:[{letter}{big}][tT]?\.?)\s*[)\]]"), f"({side})"),
            (re.compile(rf"{_NO_SIDE_BEFORE}{abbreviation}{_END}"), f"{side} "),
            (re.compile(rf"{_NO_SIDE_BEFORE}{lone}{_INITIAL}{_END}"), f"{side} "),
            (re.compile(rf"\(\s*{side}\s*\)", re.I), f" {side} "),
            (re.compile(rf"\b{side}\s*-?\s*sided\b", re.I), side),
            (re.compile(rf"\b{side}\s*-\s*side\b", re.I), f"{side} side"),
        ]
    return rules


# "left lung/R lung" names two places; "L/R" is a pair.
_SLASH_BETWEEN = re.compile(r"(?<=[a-z]{3})/(?=[LlRr](?:[tT]\.?)?\s+[A-Za-z])")
_ZONES = {"u": "upper", "m": "middle", "l": "lower"}
_SIDES = {"l": "left", "r": "right"}
# The model was taught zones of a lung ("upper right lung"), never lobes.
_LOBE = re.compile(r"\b(?:(left|right)\s+(upper|middle|lower)|(upper|middle|lower)\s+(left|right))[\s-]+lobe\b", re.I)
_LOBE_LETTERS = re.compile(r"\b(?:(r)([uml])l|(l)([ul])l)\b", re.I)
_NO_PART = r"\b(?!\s+(?:zone|part|segment|gangli))"
_WORDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\bb\s?/\s?l\b|\bbilat\b\.?|\bbi-lateral\b", re.I), "bilateral"),
    (re.compile(r"\bbilateral\s+lungs?$", re.I), "both lungs"),
    (re.compile(r"\bw/o\b", re.I), "without"),
    (re.compile(r"\bw/(?=\s|\w)", re.I), "with "),
    (re.compile(r"\bground\s*-\s*glass\b|\bgroundglass\b", re.I), "ground-glass"),
    *(
        rule
        for nouns, adjectives, zone in (("base", "basal|basilar", "lower"), ("apex", "apical", "upper"))
        for rule in (
            (re.compile(rf"\b(left|right)\s+(?:lung\s+)?(?:{nouns}|{adjectives}){_NO_PART}", re.I), rf"\1 {zone} zone"),
            (re.compile(rf"\b{nouns}\s+of\s+(the\s+)?(left|right)\s+lung\b", re.I), rf"{zone} zone of \1\2 lung"),
        )
    ),
    (re.compile(r"\b(left|right)\s+mid(?=\s+(?:zone|lung))", re.I), r"\1 middle"),
    (re.compile(r"\blingular?(?:\s+(?:lobe|segment)s?)?\b", re.I), "middle left lung"),
)
_LAST_SIDE = re.compile(r"^(?P<what>.+?)(?:\s*[,:-]\s*|\s*\(\s*|\s+)(?P<side>left|right)\s*\)?$", re.I)
_BOUND = re.compile(
    r"\b(?:the|a|on|to|and|or|of|in|from|than|vs|patient's|no|not|is|are|at|with|without)$|[<>&/+]$", re.I
)
_SIDE_WORD = re.compile(r"\b(?:left|right|both|bilateral)\b", re.I)
_DENIAL = re.compile(r"\b(?:no|not|without|free of|negative(?: for)?|absence of|absent)\b", re.I)
_MOST_PASSES = 8


@lru_cache(maxsize=1024)  # asked many times for each finding
def understood(text: str) -> str:
    """A finding as the engine reads, compares and shows it. Normalising it again changes nothing.

    Removes surrounding quotes, list marks, brackets and punctuation, makes white space and dashes plain, and applies
    Unicode NFKC. Writes out the usual abbreviations of sides and lobes: "Lt lung" is "left lung", and "RUL" is "upper
    right lung", as zones were taught. Keeps capital letters: see :func:`same_key`.

    Args:
        text: as typed or pasted, of any length.

    Returns:
        One line; empty if nothing is left.
    """
    for _ in range(_MOST_PASSES):
        before, text = text, _pass(text)
        if text == before:
            break
    return text


def same_key(text: str) -> str:
    """Equal for two spellings of the same finding: the normalised text without regard to case."""
    return understood(text).casefold()


def distinct(texts: Iterable[str]) -> dict[str, str]:
    """Findings in order, each once whatever its spelling, with the text as first typed.

    Args:
        texts: as typed.

    Returns:
        Normalised finding to typed text; a finding that would be empty is kept as typed, for a message about it.
    """
    first: dict[str, tuple[str, str]] = {}
    for text in texts:
        finding = understood(text) or " ".join(text.split())
        first.setdefault(finding.casefold(), (finding, text))
    return dict(first.values())


def understood_note(text: str) -> str:
    """A note if a finding is read differently from how it was typed, e.g. "understood as: right lung".

    Differences in case and white space do not count.
    """
    finding = understood(text)
    return f"understood as: {finding}" if finding and finding.casefold() != " ".join(text.split()).casefold() else ""


def unreadable(text: str) -> str:
    """Why a finding cannot be read, in one line; empty if it can."""
    finding = understood(text)
    if not finding:
        is_blank = not text.strip()
        reason = "a finding is empty" if is_blank else f"the finding '{shortened(text)}' has no words"
        return f"{reason}: type what to look for, for example 'left lung'"
    if not re.search("[A-Za-z]", finding):
        return f"the finding '{shortened(finding)}' has no Latin letters: the model reads English"
    foreign = [word for word in finding.split() if _is_foreign(word)]
    if foreign:
        return (
            f"the finding '{shortened(finding)}' has letters of another alphabet in '{shortened(foreign[0])}': "
            "the model reads English, type it in Latin letters"
        )
    return ""


def doubtful(text: str) -> str:
    """Warns of an abbreviation that may be a side but was not read as one, in one line; empty if there is none."""
    finding = understood(text)
    found = re.search(r"(?<![\w/'-])(?:l|r|lt|rt)(?![\w/'-])", finding, re.I)
    if found is None or _SIDE_WORD.search(finding):
        return ""
    return f"'{found[0]}' in '{shortened(finding)}' is not read as a side: write 'left' or 'right' if you mean one"


def denied(text: str) -> str:
    """Warns that a denial in a finding ("no", "free of") is not understood, in one line; empty if there is none."""
    finding = understood(text)
    found = _DENIAL.search(finding)
    if found is None:
        return ""
    return f"'{found[0]}' in '{shortened(finding)}' is not understood: type only what to look for"


def shortened(text: str) -> str:
    """A finding for a message: one line of at most 40 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 40 else line[:37] + "..."


def _pass(text: str) -> str:
    text = _unmarked(_plain(text))
    text = _unwrapped(text)
    return " ".join(_written_out(text).split()).strip(_EDGES)


def _plain(text: str) -> str:
    """Plain characters: one kind of quote, dash and space, no invisible ones."""
    text = _RINGED.sub(lambda ringed: f"{unicodedata.numeric(ringed[0]):g}. ", text)  # NFKC joins it to the word
    text = unicodedata.normalize("NFKC", text.translate(_QUOTES)).translate(_QUOTES)
    text = _DASHES.sub("-", text)
    text = "".join(map(_visible, text)).replace("_", " ").replace("[", "(").replace("]", ")")
    # keep an apostrophe within a word ("patient's"), remove any other single quote
    text = re.sub(r"(?<!\w)'|'(?!\w)", " ", text.replace("{", "(").replace("}", ")"))
    return " ".join(text.split())


def _visible(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Cf" or "\ufe00" <= char <= "\ufe0f":
        return ""
    # bullets are list marks, handled later
    return " " if category in ("Cc", "Cs", "Co", "Cn", "So", "Sk", "Zl", "Zp") and char != "\u25cf" else char


def _unmarked(text: str) -> str:
    """Remove the dash, bullet or number of a list."""
    while found := _LIST_MARK.match(text):
        text = text[found.end() :]
    return text.strip(" \u2022\u2023\u25aa\u25cf\u25e6\u00b7")


def _unwrapped(text: str) -> str:
    """Remove brackets around the whole text, empty ones and unmatched ones."""
    text = re.sub(r"\(\s*\)", " ", text).strip(_EDGES)
    while _wraps(text):
        text = text[1:-1].strip(_EDGES)
    if _depths(text)[-1:] not in ([], [0]) or min(_depths(text), default=0) < 0:
        text = text.replace("(", " ").replace(")", " ")
    return re.sub(r"\(\s+", "(", re.sub(r"\s+\)", ")", text))


def _wraps(text: str) -> bool:
    depths = _depths(text)
    return text.startswith("(") and text.endswith(")") and depths[-1] == 0 and 0 not in depths[:-1]


def _depths(text: str) -> list[int]:
    """How many brackets are open after each character."""
    depths, depth = [], 0
    for char in text:
        depth += (char == "(") - (char == ")")
        depths.append(depth)
    return depths


_SIDE_RULES = _side_rules()


def _written_out(text: str) -> str:
    """Write out abbreviations, and move a side at the end to the front."""
    text = _SLASH_BETWEEN.sub(" / ", text)
    text = _PAIR.sub(lambda m: "left and right" if m[0][0] in "lL" else "right and left", text)
    text = _LOBE_LETTERS.sub(_zone_of_letters, text)
    for pattern, word in (*_SIDE_RULES, *_WORDS):
        text = pattern.sub(word, text)
    text = " ".join(_LOBE.sub(_zone_of_lobe, text).split()).strip(_EDGES)
    last = _LAST_SIDE.match(text)
    if last is None:
        return text
    what = last["what"].strip(_EDGES)
    is_fixed = _BOUND.search(last["what"].strip()) or _SIDE_WORD.search(what) or _DENIAL.search(what) or "(" in what
    return text if is_fixed or not what else f"{last['side'].lower()} {what}"


def _zone_of_letters(match: re.Match[str]) -> str:
    side, zone = (part for part in match.groups() if part is not None)
    return f"{_ZONES[zone.lower()]} {_SIDES[side.lower()]} lung"


def _zone_of_lobe(match: re.Match[str]) -> str:
    side, zone = match[1] or match[4], match[2] or match[3]
    return f"{zone} {side} lung".lower()


def _is_foreign(word: str) -> bool:
    """Whether a word has letters that are not Latin; a single Greek letter is a common name and allowed."""
    letters = [char for char in word if char.isalpha()]
    other = [char for char in letters if "LATIN" not in unicodedata.name(char, "")]
    return bool(other) and not (len(letters) == 1 and "GREEK" in unicodedata.name(other[0], ""))
