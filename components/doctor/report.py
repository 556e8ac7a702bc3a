"""What the doctor has found, as plain data: a page and a terminal show it. Knows no data, no models and no HTML."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["ends", "ruins", "look", "note"]
WRONG: tuple[Severity, ...] = ("ends", "ruins")  # what makes the exit code 1
ORDER: tuple[Severity, ...] = (*WRONG, "look", "note")


@dataclass(frozen=True)
class Finding:
    """`ends`: a stage would end; `ruins`: a model would learn what nobody wants; `look`: worth a look.

    `count` of the records drawn; `words` say what is wrong with how many, `remedy` what to do.
    """

    severity: Severity
    words: str
    remedy: str = ""
    count: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shown:
    """A record as the page shows it: where it comes from, and its texts by what they are."""

    place: str
    texts: dict[str, str]
    picture: str = ""  # a data: URI


@dataclass(frozen=True)
class Alike:
    """Records that are the same, or nearly, and what becomes of them."""

    words: str
    records: list[Shown]


@dataclass(frozen=True)
class Suspect:
    """A record that may teach what nobody wants; the larger its score the likelier. `reasons` explain the score."""

    score: float
    reasons: list[str]
    record: Shown


Kind = Literal["read", "learnt", "cut"]


@dataclass(frozen=True)
class Conversation:
    """What becomes of a conversation; each of its samples is a list of pieces: read, learnt or beyond the bound."""

    place: str
    verdict: str
    samples: list[list[tuple[Kind, str]]]


@dataclass(frozen=True)
class Caption:
    """What a text encoder reads of a caption, and what is cut off."""

    encoder: str
    read: str
    cut: str


@dataclass(frozen=True)
class Picture:
    """A picture as it was given and as the network sees it, both as data: URIs."""

    place: str
    given: str
    seen: str
    words: str
    captions: list[Caption]


@dataclass(frozen=True)
class Histogram:
    """How many records lie from each of `edges` to the next; `bound` is where something is cut."""

    title: str
    unit: str
    edges: list[float]
    counts: list[int]
    bound: float | None = None


@dataclass(frozen=True)
class Dropped:
    """What one stage drops for one reason; `about` says how many that are in the source."""

    stage: str
    slug: str
    count: int
    about: str
    example: str
    place: str


@dataclass
class Report:
    """All that is known of a line's source. `drawn`: which part of it the figures are of."""

    line: str
    source: str
    drawn: str
    is_whole: bool
    mapping: list[str]
    findings: list[Finding] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    histograms: list[Histogram] = field(default_factory=list)
    alike: list[Alike] = field(default_factory=list)
    suspects: list[Suspect] = field(default_factory=list)
    conversations: list[Conversation] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    scripts: dict[str, int] = field(default_factory=dict)
    longest: int | None = None  # tokens of the longest sample that is trained on

    def sorted(self) -> list[Finding]:
        return sorted(self.findings, key=lambda finding: (ORDER.index(finding.severity), -finding.count))

    def wrong(self) -> Iterator[Finding]:
        return (finding for finding in self.sorted() if finding.severity in WRONG)
