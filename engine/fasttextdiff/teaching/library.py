"""A folder of learned findings: one subfolder each, with all its versions.

Knows files and cards; knows nothing about learning or images.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fasttextdiff.contract.findings import same_key, shortened, understood
from fasttextdiff.errors import FastTextDiffError, ModelError, UsageError, one_line
from fasttextdiff.model.info import require_words
from fasttextdiff.paths import PathText, as_path
from fasttextdiff.teaching.adapter import SUFFIX, Adapter, Card
from fasttextdiff.teaching.examples import require_finding

OFF = "off"
"""File that switches an entry off."""


@dataclass(frozen=True)
class Entry:
    """A learned finding in the library.

    Attributes:
        folder: its subfolder.
        file: its current version.
        card: card of the current version.
        versions: number of versions; the last one is current.
        enabled: whether it is used.
    """

    folder: Path
    file: Path
    card: Card
    versions: int
    enabled: bool


@dataclass(frozen=True)
class Damaged:
    """A subfolder whose current version cannot be read.

    Attributes:
        folder: the subfolder.
        problem: what is wrong, in one line.
        versions: number of versions.
    """

    folder: Path
    problem: str
    versions: int


@contextmanager
def _moved(folder: Path, target: Path) -> Iterator[None]:
    """Rename a folder, and rename it back if what follows fails.

    Raises:
        FastTextDiffError: it cannot be renamed, e.g. because another program has a file in it open.
    """
    try:
        folder.rename(target)
    except OSError as error:
        raise FastTextDiffError(f"cannot rename {folder}: {one_line(error)}") from error
    try:
        yield
    except BaseException:
        target.rename(folder)
        raise


class AdapterLibrary:
    """Learned findings in a folder, by name.

    Every change is one file or folder that is written or renamed whole, so that an interruption leaves the library as
    it was or as it should be.

    Args:
        folder: created with the first adapter.
    """

    def __init__(self, folder: PathText) -> None:
        self.folder = as_path(folder)

    def entries(self) -> list[Entry]:
        """All learned findings, by name.

        Raises:
            ModelError: a file is damaged.
        """
        return [_entry(one) for one in self._folders()]

    def scan(self) -> tuple[list[Entry], list[Damaged]]:
        """All learned findings that can be read, and those that cannot."""
        entries: list[Entry] = []
        damaged: list[Damaged] = []
        for one in self._folders():
            try:
                entries.append(_entry(one))
            except ModelError as error:
                damaged.append(Damaged(one, str(error), len(_versions(one))))
        return entries, damaged

    def _folders(self) -> list[Path]:
        folders = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        return [one for one in folders if not one.name.startswith(".") and _versions(one)]

    def find(self, word: str) -> Adapter | None:
        """The adapter that is switched on for a word, or None.

        Raises:
            ModelError: a file is damaged.
        """
        found = [entry for entry in self.entries() if entry.enabled and entry.card.covers(word)]
        return self.load(found[0]) if found else None

    def load(self, entry: Entry) -> Adapter:
        """The current version of an entry.

        Raises:
            ModelError: its file is damaged.
        """
        return Adapter.load(entry.file)

    def entry(self, word: str) -> Entry:
        """The entry with a word, on or off.

        Raises:
            UsageError: there is none.
        """
        entries, _ = self.scan()
        found = sorted((e for e in entries if e.card.covers(word)), key=lambda e: not e.enabled)
        if not found:
            names = ", ".join(e.card.finding for e in entries) or "nothing"
            raise UsageError(f"'{shortened(word)}' was not learned here: the library has {names}")
        return found[0]

    def add(self, adapter: Adapter) -> Entry:
        """Add an adapter, as a new version if its finding is there already, and switch it on.

        Raises:
            UsageError: one of its words belongs to another finding that is switched on, or its folder is damaged.
            FastTextDiffError: it cannot be written.
        """
        folder = self._place(adapter.card.finding)
        self._check_words(adapter.card.words, folder)
        folder.mkdir(parents=True, exist_ok=True)
        versions = _versions(folder)
        number = int(versions[-1].stem[1:]) + 1 if versions else 1
        adapter.save(folder / f"v{number:04d}{SUFFIX}")
        (folder / OFF).unlink(missing_ok=True)
        return _entry(folder)

    def rename(self, word: str, finding: str, synonyms: Sequence[str] | None = None) -> Entry:
        """Give a learned finding another name; what was learned stays.

        Args:
            word: name or synonym.
            finding: its new name.
            synonyms: all its synonyms from now on; None for those that it has.

        Raises:
            UsageError: it was not learned, a word cannot be read, or belongs to another finding.
            FastTextDiffError: it cannot be written.
        """
        for one in (finding, *(synonyms or ())):
            require_words(one)
        entry = self.entry(word)
        if synonyms is None:
            synonyms = [one for one in entry.card.synonyms if same_key(one) != same_key(finding)]
        words = [understood(one) for one in (finding, *synonyms)]
        require_finding(words)
        target = entry.folder if entry.card.covers(words[0]) else self._place(words[0])
        if target != entry.folder and target.exists():
            raise UsageError(f"'{shortened(finding)}' is in the library already: choose another name or remove it")
        self._check_words(words, entry.folder)
        renamed = self.load(entry).renamed(words[0], words[1:])
        with _moved(entry.folder, target):
            renamed.save(target / entry.file.name)
        return _entry(target)

    def enable(self, word: str, enabled: bool = True) -> Entry:
        """Switch a learned finding on or off.

        Raises:
            UsageError: it was not learned, or a word belongs to another finding that is switched on.
        """
        entry = self.entry(word)
        if enabled:
            self._check_words(entry.card.words, entry.folder)
            (entry.folder / OFF).unlink(missing_ok=True)
        else:
            (entry.folder / OFF).touch()
        return _entry(entry.folder)

    def roll_back(self, word: str) -> Entry:
        """Return to the previous version.

        Args:
            word: name or synonym; for a damaged one, the name of its subfolder.

        Raises:
            UsageError: it was not learned, there is no earlier version, or a word of that one belongs to another
                finding by now.
        """
        folder = self._folder_of(word)
        if len(_versions(folder)) < 2:
            raise UsageError(f"'{shortened(word)}' has no earlier version")
        if not (folder / OFF).exists():
            with suppress(ModelError):  # a damaged one answers no word
                self._check_words(Adapter.load(_versions(folder)[-2]).card.words, folder)
        _versions(folder)[-1].unlink()
        return _entry(folder)

    def remove(self, word: str) -> None:
        """Remove a learned finding with all its versions.

        Args:
            word: name or synonym; for a damaged one, the name of its subfolder.

        Raises:
            UsageError: it was not learned.
            FastTextDiffError: it cannot be removed, and stays as it was.
        """
        folder = self._folder_of(word)
        gone = folder.with_name(f".removed-{secrets.token_hex(4)}")  # hidden at once, or an earlier version would show
        with _moved(folder, gone):
            pass
        shutil.rmtree(gone, ignore_errors=True)

    def _folder_of(self, word: str) -> Path:
        damaged = [one.folder for one in self.scan()[1] if one.folder.name == word]
        return damaged[0] if damaged else self.entry(word).folder

    def _place(self, finding: str) -> Path:
        """The subfolder of a finding: its own, or a new one that no other finding has, e.g. under an earlier name.

        Raises:
            UsageError: a damaged folder has its name, and may be of this finding or of another one.
        """
        entries, damaged = self.scan()
        own = [entry.folder for entry in entries if same_key(entry.card.finding) == same_key(finding)]
        if own:
            return own[0]
        slug = _slug(finding)
        if any(one.folder.name == slug for one in damaged):
            raise UsageError(f"{self.folder / slug} is damaged: roll '{slug}' back or remove it first")
        taken = {entry.folder.name for entry in entries} | {one.folder.name for one in damaged}
        names = (slug, *(f"{slug}-{number}" for number in range(2, len(taken) + 3)))
        return self.folder / next(name for name in names if name not in taken)

    def export(self, word: str, path: PathText) -> None:
        """Write the current version of a learned finding to a file of its own.

        Raises:
            UsageError: it was not learned, or the path cannot be written.
            FastTextDiffError: writing failed.
        """
        self.load(self.entry(word)).save(path)

    def import_file(self, path: PathText) -> Entry:
        """Add an exported adapter.

        Raises:
            ModelError: the file is damaged or no adapter.
            UsageError: one of its words belongs to another finding that is switched on.
        """
        return self.add(Adapter.load(path))

    def _check_words(self, words: Sequence[str], own: Path) -> None:
        """Refuse words of another finding that is switched on, because one word must mean one thing."""
        others = [entry.card for entry in self.scan()[0] if entry.enabled and entry.folder != own]
        for word, card in ((word, card) for card in others for word in words if card.covers(word)):
            raise UsageError(
                f"'{shortened(word)}' already means the learned '{card.finding}': switch that off or use another word"
            )


def _entry(folder: Path) -> Entry:
    versions = _versions(folder)
    return Entry(folder, versions[-1], Adapter.load(versions[-1]).card, len(versions), not (folder / OFF).exists())


def _versions(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"v[0-9]*{SUFFIX}")) if folder.is_dir() else []


def _slug(finding: str) -> str:
    """A folder name for a finding; findings that differ have different ones."""
    key = same_key(finding)
    plain = re.sub(r"[^a-z0-9]+", "-", key).strip("-")[:60]
    if plain.replace("-", " ") == key:
        return plain
    return f"{plain or 'finding'}-{hashlib.blake2b(key.encode(), digest_size=4).hexdigest()}"
