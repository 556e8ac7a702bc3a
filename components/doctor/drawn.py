"""A sample of a source, drawn evenly by a seed while the source streams by; nothing else of it is held."""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import count

import numpy as np

from components.config import Line, Prepare
from components.data import prepare
from components.data.concept import draw as number_of
from components.data.sample import Reject, Sample
from components.stage import StageError

_HEAD = 100  # rows of a file by which `prepare` judges the whole file


@dataclass(frozen=True)
class Drawn:
    """`records` in the order of the source, of `total` that it holds, which is an estimate unless it `is_whole`.

    `rows` were counted, and `copies` of them are written as an earlier one is. `ends`: the sentence with which
    `prepare` would end, empty where it would not.
    """

    records: list[Sample | Reject]
    is_whole: bool
    rows: int
    total: int
    copies: int
    seen: Counter[str]
    ends: str = ""

    def __str__(self) -> str:
        if self.is_whole:
            return f"{len(self.records):,} rows or pictures; all of them were read"
        return f"{self.rows:,} rows or pictures; {len(self.records):,} were drawn, evenly over all"

    def about(self, count: float) -> str:
        """A count of the sample as one of the source, said to be an estimate where it is one."""
        if self.is_whole:
            return f"{count:,.0f}"
        return f"about {float(f'{count * self.scale:.2g}'):,.0f}"

    @property
    def scale(self) -> float:
        return self.total / max(len(self.records), 1)


def draw(line: Line, parameters: Prepare, size: int, seed: int) -> Drawn:
    """At most `size` records of a line's source, each as `prepare` reads it; equal sources give equal ones."""
    kept, seen, ends = _Kept(size, seed, parameters), Counter[str](), ""
    try:
        for record in prepare.records(line, parameters, seen, kept.wanted):
            kept.add(record)
    except StageError as error:
        ends = str(error)
    return kept.drawn(seen, ends)


class _Kept:
    """The records with the smallest numbers, each of which is drawn for a place."""

    def __init__(self, size: int, seed: int, parameters: Prepare) -> None:
        self.size, self.seed, self.limit = size, seed, parameters.limit
        self.has_places = parameters.source != "openmoji"
        self.rows, self.left_out, self._file, self._of_file = 0, False, "", 0
        self._order = count()
        self._heap: list[tuple[float, int, Sample | Reject]] = []  # numbers with a minus: the first is the largest
        self._contents = array("q")

    def wanted(self, place: str, content: Hashable) -> bool:
        """Whether a row is read: where it may be in the sample, and where its file is judged by it."""
        if self.limit is not None and self.rows >= self.limit:
            return False
        self.rows += 1
        self._contents.append(hash(content))
        file, _, number = place.rpartition(":")
        self._of_file = self._of_file + 1 if file == self._file else 1
        self._file = file
        inside = self._is_in(number_of(place, self.seed))
        self.left_out |= not inside
        return inside or (bool(file) and number.isdigit() and self._of_file <= _HEAD)

    def add(self, record: Sample | Reject) -> None:
        sample = record.sample if isinstance(record, Reject) else record
        number = number_of(sample.source if self.has_places else sample.id, self.seed)
        if not self._is_in(number):
            self.left_out = True
            return
        heapq.heappush(self._heap, (-number, next(self._order), record))
        if len(self._heap) > self.size:
            heapq.heappop(self._heap)
            self.left_out = True

    def drawn(self, seen: Counter[str], ends: str) -> Drawn:
        """Copies by hashes of 64 bits: of 10⁶ rows two that differ are taken for copies once in 10⁷ runs."""
        records = [record for *_, record in sorted(self._heap, key=lambda entry: entry[1])]
        rows = self.rows or next(self._order)  # what has no places counts none
        places = len({number for number, *_ in self._heap})
        total = round(rows * len(records) / max(places, 1)) if self.left_out else len(records)
        copies = self.rows - len(np.unique(np.frombuffer(self._contents, np.int64)))
        return Drawn(records, not self.left_out, rows, total, copies, seen, ends)

    def _is_in(self, number: float) -> bool:
        return len(self._heap) < self.size or number <= -self._heap[0][0]
