"""The slices of a result to review, and which of them were looked at. Plain values; knows no scene."""

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

UNSEEN, ACCEPTED, CORRECTED = "unseen", "accepted", "corrected"
STATES = (UNSEEN, ACCEPTED, CORRECTED)


@dataclass(frozen=True)
class ReviewedSlice:
    """A slice to review.

    Attributes:
        number: of the slice, from 0.
        finding: the finding of the run that is most in doubt there.
        reason: why, in a word.
        pixels: how many pixels are probably wrong.
        state: one of `STATES`.
    """

    number: int
    finding: str
    reason: str
    pixels: float
    state: str = UNSEEN


@dataclass(frozen=True)
class ReviewList:
    """Slices to review, the most doubtful first.

    Attributes:
        image: what the image was, to notice another one: name, plane, shape, matrix and content.
        slices: each number once for each finding.
    """

    image: dict[str, Any]
    slices: tuple[ReviewedSlice, ...] = ()

    def toJson(self) -> str:
        """For an attribute of a node."""
        return json.dumps({"image": self.image, "slices": [asdict(each) for each in self.slices]})

    @classmethod
    def fromJson(cls, text: str) -> "ReviewList":
        """From :meth:`toJson`.

        Raises:
            ValueError: it is damaged.
        """
        try:
            content = json.loads(text)
            slices = tuple(ReviewedSlice(**each) for each in content["slices"])
            image = dict(content["image"])
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"the review list is damaged: {error}") from error
        isWhole = all(isinstance(each.number, int) and each.state in STATES for each in slices)
        if not isWhole or len({(each.number, each.finding) for each in slices}) != len(slices):
            raise ValueError("the review list is damaged: a slice has no number or no known state")
        return cls(image, slices)

    def at(self, number: int) -> ReviewedSlice | None:
        """The first entry of a slice; None if it is not in the list."""
        return next((each for each in self.slices if each.number == number), None)

    def about(self, findings: Collection[str]) -> "ReviewList":
        """The part of the list that is about these findings."""
        return replace(self, slices=tuple(each for each in self.slices if each.finding in findings))

    def updated(
        self, first: int, end: int, findings: Collection[str], proposed: Iterable[ReviewedSlice]
    ) -> "ReviewList":
        """The list after findings were segmented again on slices [first, end): new proposals replace theirs there."""
        new = {(each.number, each.finding): each for each in proposed}
        slices = [each for each in self.slices if (each.number, each.finding) not in new]
        redone = [each for each in slices if first <= each.number < end and each.finding in findings]
        stay = [each for each in slices if each not in redone]
        if end - first == 1:  # a single slice gets no proposals
            stay += [replace(each, state=UNSEEN) for each in redone]
        return replace(self, slices=tuple(sorted([*stay, *new.values()], key=lambda each: -each.pixels)))

    def marked(self, marked: ReviewedSlice, state: str) -> "ReviewList":
        """The list with another state of one of its entries."""
        slices = tuple(replace(each, state=state) if each == marked else each for each in self.slices)
        return replace(self, slices=slices)

    def beside(self, number: int | None, step: int = 1) -> ReviewedSlice | None:
        """The next (1) or previous (-1) slice of the list, from one of its slices or from anywhere.

        After a slice of the list comes the nearest unseen one in that direction of the list, else the neighbour in the
        list. From anywhere else it is the first unseen one.
        """
        numbers = [each.number for each in self.slices]
        if number not in numbers:
            return next((each for each in self.slices if each.state == UNSEEN), next(iter(self.slices), None))
        place = numbers.index(number)
        rest = self.slices[place + 1 :] if step > 0 else self.slices[:place][::-1]
        rest = tuple(each for each in rest if each.number != number)
        return next((each for each in rest if each.state == UNSEEN), rest[0] if rest else None)

    def numbers(self, state: str) -> list[int]:
        """The slices in a state, for any finding, from 0, in order."""
        return sorted({each.number for each in self.slices if each.state == state})

    @property
    def total(self) -> int:
        """How many slices are listed, each once."""
        return len({each.number for each in self.slices})

    @property
    def lookedAt(self) -> int:
        """How many of them were looked at, for all findings that they are listed for."""
        return self.total - len(self.numbers(UNSEEN))

    def summary(self) -> str:
        """E.g. "3 of 5 slices looked at: accepted 12 40, corrected 57, unseen 4 90", numbered from 1."""
        parts = [
            f"{state} {' '.join(str(number + 1) for number in self.numbers(state))}"
            for state in (ACCEPTED, CORRECTED, UNSEEN)
            if self.numbers(state)
        ]
        return f"{self.lookedAt} of {self.total} slices looked at: {', '.join(parts)}"


def sameImage(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two descriptions are of one image in one plane; names may differ, and a former version had no content."""
    keys: Collection[str] = ("plane", "shape", "matrix", "content")
    return all(one.get(key) == other.get(key) for key in keys if key != "content" or key in one)
