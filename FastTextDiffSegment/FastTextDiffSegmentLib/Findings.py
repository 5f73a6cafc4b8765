"""Findings as typed or pasted: lines, completion, report sentences and their negations. Plain text in and out.

The contract defines how a finding is understood. Knows nothing about Qt, Slicer, images or the model.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .contract.findings import distinct, understood, understood_note
from .contract.images import ACQUISITION

_MOST_COMPLETIONS = 8


def findingLines(text: str) -> list[str]:
    """Findings typed one per line, as understood: without blank lines, each finding once whatever its spelling."""
    return list(typedFindings(text))


def typedFindings(text: str) -> dict[str, str]:
    """The lines of :func:`findingLines`, each with the line as it was first typed."""
    return distinct(line for line in text.splitlines() if line.strip())


def stepText(findings: Sequence[str], slices: tuple[int, int], total: int, plane: str = ACQUISITION) -> str:
    """What a run did, e.g. "left lung, slice 57".

    Args:
        findings: at least one.
        slices: (first, end), from 0; shown from 1, as in the slice view.
        total: number of slices of the image in the plane.
        plane: named unless it is that of the acquisition.
    """
    names = ", ".join(findings) if len(findings) < 3 else f"{findings[0]} and {len(findings) - 1} more"
    (first, end), slice_ = slices, "slice" if plane == ACQUISITION else f"{plane} slice"
    if total == 1:
        return names
    if end - first == 1:
        return f"{names}, {slice_} {end}"
    return f"{names}, all {slice_}s" if slices == (0, total) else f"{names}, {slice_}s {first + 1} to {end}"


LEARNED_HERE = "learned here"
"""How the note of a finding begins that was learned here."""


def learnedText(slices: int) -> str:
    """What a finding was learned from, e.g. "learned here from 9 slices"."""
    return f"{LEARNED_HERE} from {slices} slice{'' if slices == 1 else 's'}"


def understoodNote(typed: str) -> str:
    """A note for a line that was not understood as typed; empty if it was."""
    return understood_note(typed)


def completions(prefix: str, terms: Iterable[str]) -> list[str]:
    """Terms with a word that starts with the typed text; terms that start with it come first. At most eight.

    Args:
        prefix: the text typed so far; case is ignored. A term that is already complete is not offered.
        terms: the candidates, in order of preference.
    """
    typed = " ".join(prefix.split()).casefold()
    if not typed:
        return []
    atWord = re.compile(r"(?<!\w)" + re.escape(typed))
    matching = [term for term in dict.fromkeys(terms) if atWord.search(term.casefold()) and term.casefold() != typed]
    return sorted(matching, key=lambda term: not term.casefold().startswith(typed))[:_MOST_COMPLETIONS]


@dataclass(frozen=True)
class Sentence:
    """One sentence of a report.

    Attributes:
        text: without heading, number or full stop.
        negated: whether the whole sentence is a denial ("No pleural effusion").
        section: the heading above it in lower case, e.g. "impression"; empty before the first.
    """

    text: str
    negated: bool
    section: str = ""

    @property
    def isFinding(self) -> bool:
        """Whether it may be a finding: not denied, and not about how or why the image was acquired."""
        return not self.negated and self.section not in _NO_FINDINGS


_REASONS = ("indication", "history", "clinical history", "clinical information", "reason for exam")
_METHODS = ("technique", "comparison", "exam", "examination", "procedure", "recommendation", "recommendations")
_NO_FINDINGS = frozenset((*_REASONS, *_METHODS))
_FINDINGS = ("findings", "impression", "impressions", "conclusion", "opinion", "report", "assessment", "summary")
_NAMES = "|".join(sorted((*_NO_FINDINGS, *_FINDINGS), key=len, reverse=True))
_HEADING = re.compile(
    rf"^\s*(?P<name>(?i:{_NAMES})"
    r"|[A-Z][A-Z/&]+(?: [A-Z/&]+){0,3})\s*:\s*"
)
# within a line, only capitals are unambiguous: "in comparison: ..." is no heading
_INLINE_HEADING = re.compile(rf"\s+(?=(?:{_NAMES.upper()}):)")
_LIST_MARK = re.compile(r"^\s*(?:\d{1,2}[.)]|[-*\u2022\u2013])\s+")
# within running text, "1." starts an item only where a sentence can start
_INLINE_MARK = re.compile(r"(?:(?<=[.;:!?])|^)\s*\d{1,2}[.)]\s+(?=[A-Za-z])")
# the space after a full stop may be missing ("apex.There"); decimal points and abbreviations are not full stops
_BREAK = re.compile(r"[.!?]+[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|[.!?](?=[A-Z][a-z])|;\s+|\n")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:e\.g|i\.e|approx|ca|cf|vs|fig|incl|dr|drs|mr|mrs|ms|prof|st)\.$", re.I)
_LONG_LINE = 60
"""Characters: a shorter line was ended on purpose, a longer one was probably wrapped by the program it comes from."""


def looksLikeReport(text: str) -> bool:
    """Whether text is a report rather than one finding per line: several sentences on a line, or a report heading."""
    return any(_HEADING.match(line) or len(_split(line)) > 1 for line in text.splitlines())


def reportSentences(text: str) -> list[Sentence]:
    """Split a pasted report into sentences; only headings, list marks and final full stops are left out.

    Args:
        text: the report; lines may be wrapped, numbered or bulleted, headings may be on their own lines or not.
    """
    sentences: list[Sentence] = []
    section = ""
    for line in _unwrapped(text):
        for part in _split(line):
            while heading := _HEADING.match(part):
                section, part = " ".join(heading["name"].lower().split()), part[heading.end() :]
            if part:
                sentences.append(Sentence(part, isNegated(part), section))
    return sentences


def _unwrapped(text: str) -> list[str]:
    """The lines, with wrapped ones joined again."""
    lines: list[str] = []
    wrapped = False
    for line in text.splitlines():
        isNew = bool(_LIST_MARK.match(line) or _HEADING.match(line))
        isContinued = wrapped and not isNew and (line.lstrip()[:1].islower() or len(lines[-1]) >= _LONG_LINE)
        if isContinued and line.strip():
            lines[-1] += " " + line.strip()
        elif line.strip():
            lines.append(line.strip())
        wrapped = bool(line.strip()) and not re.search(r"[.!?:;][\"')\]]*\s*$", line)
    return lines


def _split(line: str) -> list[str]:
    """The sentences of one line, cleaned up; empty ones are dropped."""
    line = _INLINE_MARK.sub("\n", _INLINE_HEADING.sub("\n", line))
    parts: list[str] = []
    start = 0
    for found in _BREAK.finditer(line):
        if found[0].startswith(".") and _ABBREVIATION.search(line[start : found.start() + 1]):
            continue
        parts.append(line[start : found.end()])
        start = found.end()
    parts.append(line[start:])
    clean = (_cleaned(part) for part in parts)
    return [part for part in clean if any(char.isalpha() for char in part)]


def _cleaned(sentence: str) -> str:
    text = " ".join(_LIST_MARK.sub("", sentence).split())
    return text if re.search(r"\betc\.$", text) else text.rstrip(" .;")


_LABEL = re.compile(r"^[A-Za-z][\w /&-]{1,30}:\s+")
_MILD = r"(?:significant|interval|appreciable|substantial|major|definite|obvious|relevant|marked|short-term|further)"
_SEEN = r"(?:seen|visible|visuali[sz]ed|present|identified|evident|appreciated|demonstrated|detected|noted)"
# not negations: the finding is unchanged, persists, is new, or is not excluded
_STILL_THERE = re.compile(
    r"\b(?:not|cannot|can't|n't)(?: yet)?(?: be)?(?: \w+ly)?(?: been)? (?:excluded|ruled out|included)\b"
    rf"|\bno (?:{_MILD} )*(?:changes?\b|(?:increase|decrease|improvement|progression|worsening|resolution) (?:in|of)\b)"
    r"|\bno(?:t only| doubt| less than|t yet|t fully|t completely|t entirely|t well|t clearly)\b"
    r"|\bnot (?:\w+ly )?(?:changed|increased|decreased|improved|worsened|resolved)\b"
    rf"|\bnot {_SEEN} (?:on|in) (?:the |a |any )?(?:prior|previous|earlier|older?)\b"
)
_DENIES = re.compile(
    # a sentence that starts with the negation ...
    r"^(?:(?:again|otherwise|currently|overall|also|additionally|and)?,? ?)"
    r"(?:there (?:is|are|was|were|has been|have been) |there's |(?:i|we) see )?(?:again |also |currently )?"
    r"(?:no|not|none|neither|nor|without|negative for|absence of|absent|free of|denies|exclusion of)\b"
    r"|^negative$|\b(?:patient|pt|he|she) (?:also |again )?(?:denies|denied)\b"
    # ... or has no verb: "Lungs free of ...", "Pneumonia ruled out"
    r"|^(?:\w+ ){1,3}(?:are |is )?(?:clear )?(?:free of|negative for|without evidence of)\b"
    r"|(?<!to be )(?<!must be )(?<!should be )\b(?:absent|ruled out|excluded|none)$"
    # ... or negates its verb or object
    r"|\b(?:shows?|demonstrates?|reveals?|contains?|has|have|see) no\b"
    r"|\b(?:is|are|was|were|remains?|appears?) (?:(?:clear|clear and|well expanded|otherwise|both) )?"
    r"(?:without|free of|negative for|absent)\b"
    r"|\b(?:is|are|was|were|has|have|does|do|did)(?: not|n't)\b"
    rf"|\b(?:not|no longer) {_SEEN}\b"
    r"|\b(?:is|are|was|were|been) (?:excluded|ruled out)\b(?! from)"
    r"|\b(?:has|have) (?:now |completely |fully )*resolved\b"
)
_CONTRAST = re.compile(
    r"\b(?:but|however|although|though|except(?: for)?|aside from|other than|apart from|besides)\b[\s,]*(?P<rest>.*)"
)


def isNegated(sentence: str) -> bool:
    """Whether a whole sentence denies a finding; a denial of only a part ("... without effusion") does not count.

    A heuristic for English reports: negated lines are left unticked, for the user to decide.
    """
    words = _LABEL.sub("", understood(sentence)).lower()
    contrast = _CONTRAST.search(words)
    if contrast:
        return _denies(words[: contrast.start()]) and _denies(contrast["rest"])
    return _denies(words)


def _denies(words: str) -> bool:
    return bool(_DENIES.search(_STILL_THERE.sub(" ", words).strip()))
