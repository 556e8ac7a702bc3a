"""What makes a text suspect: each check returns a weight and the reason in words. Pure: texts in, reasons out.

A weight is how sure the check alone is: 3 is hardly ever wrong, 1 is often a matter of taste. What a filter of
`clean.<line>.filters` finds is asked of that filter, so that listing it there drops what is suspect here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from components.data.filters import Candidate, Chosen, normalise
from components.data.personal_data import PersonalData
from components.data.sample import Sample
from components.data.text_rules import Boilerplate, Repetition

Check = tuple[str, float, str]  # slug, weight, words
_LOOKED_AT = 20_000  # characters of a text
# What UTF-8 looks like that was read as Windows-1252: a lead byte's letter, then continuation bytes' characters.
_CONTINUED = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
# Of what Ä to ß lead two in a row, as "CAFÉ»" is French.
_MOJIBAKE = re.compile(
    f"[ÂÃ][{_CONTINUED}]|(?:[Ä-ß][{_CONTINUED}]){{2,}}|[à-ï][{_CONTINUED}]{{2}}|ð[{_CONTINUED}]{{3}}"
)
_MARKUP = re.compile(r"</?(p|div|br|span|a|li|ul|td|tr|script)\b[^>]*>|&(amp|nbsp|lt|gt|quot|#\d+);", re.IGNORECASE)
# With the weight of what each finds; repetition of short texts too.
_FILTERS: tuple[tuple[Chosen, float], ...] = ((Repetition(min_words=20), 1.5), (Boilerplate(), 2), (PersonalData(), 2))
_MOST_SYMBOLS = 0.6
_FAR = 4.0  # robust standard deviations of the logarithm of a length
_FEWEST = 20  # lengths of which one can be said to be far from the rest
_ENDED = 0.7  # of the answers end as a sentence does: one that does not is then cut off
_LONG = 40  # characters that a sentence has at least, to be looked at for its end
_CLOSED = tuple(".!?…。！？؟।॥:;)]}\"'”’»」』`*|>~")


@dataclass(frozen=True)
class Usual:
    """How the answers of a set are: the median and spread of their lengths' logarithm, and how many end a sentence."""

    middle: float
    spread: float
    ended: float
    count: int

    @classmethod
    def of(cls, answers: Sequence[str]) -> Usual:
        logs = np.log([max(len(answer), 1) for answer in answers] or [1])
        middle = float(np.median(logs))
        spread = 1.4826 * float(np.median(np.abs(logs - middle)))
        ended = sum(answer.rstrip().endswith(_CLOSED) for answer in answers) / max(len(answers), 1)
        return cls(middle, max(spread, 0.25), ended, len(answers))

    def far(self, text: str) -> float:
        """How many robust standard deviations a length is from the median; 0 where too few are known."""
        distance = (float(np.log(max(len(text), 1))) - self.middle) / self.spread
        return distance if self.count >= _FEWEST else 0.0


def of_pair(sample: Sample, usual: Usual) -> list[Check]:
    """What is suspect of a pair or a conversation."""
    answer, history = str(sample.meta.get("completion", "")), sample.meta.get("history", ())
    found = [*_turns(history), *_echo(sample.text, answer), *_length(answer, usual), *_ending(answer, usual)]
    for name, text in (("the answer", answer), ("the prompt", sample.text)):
        found += [(slug, weight, f"{name} {words}") for slug, weight, words in of_text(text)]
    return found


def of_caption(caption: str, usual: Usual) -> list[Check]:
    """What is suspect of a picture's caption."""
    found = [(slug, weight, f"the caption {words}") for slug, weight, words in of_text(caption)]
    if re.fullmatch(
        r"[\w-]+\.(png|jpe?g|webp|gif|tiff?|bmp|avif)|(IMG|DSC|DSCN|PXL)[_-]?\d+.*", caption, re.IGNORECASE
    ):
        found.append(("file_name", 3, "the caption is the name of a file"))
    return found + _length(caption, usual, "the caption")


def of_text(text: str) -> Iterator[Check]:
    text = text[:_LOOKED_AT]
    for check in (_mojibake, _replaced, _symbols, _markup):
        yield from check(text)
    for rule, weight in _FILTERS:
        if fault := rule.fault(Candidate(text, texts=[text])):
            yield rule.name, weight, f"would be dropped by the filter {rule.name}: {fault}"


def _turns(history: Sequence[dict[str, str]]) -> list[Check]:
    empty = sum(not message["content"].strip() for message in history)
    return [("empty_turn", 3, f"{empty} earlier turns are empty")] if empty else []


def _echo(prompt: str, answer: str) -> list[Check]:
    asked, said = normalise(prompt).casefold(), normalise(answer).casefold()
    if asked and asked == said:
        return [("echo", 3, "the answer is the prompt")]
    if len(asked) > _LONG and said.startswith(asked):
        return [("echo", 1.5, "the answer begins with the whole prompt")]
    return []


def _length(text: str, usual: Usual, name: str = "the answer") -> list[Check]:
    if abs(far := usual.far(text)) < _FAR:
        return []
    long = "long" if far > 0 else "short"
    words = f"{name} is very {long}: {len(text):,} characters, half of all have at least {np.exp(usual.middle):,.0f}"
    return [(f"{long}_text", min(abs(far) / _FAR, 2), words)]


def _ending(answer: str, usual: Usual) -> list[Check]:
    end = answer.rstrip()[-1:]
    if answer.count("```") % 2:
        return [("cut_off", 2, "the answer opens a block of code and does not close it")]
    if len(answer) >= _LONG and usual.ended >= _ENDED and (end.isalpha() or end in ",、，،-"):
        return [("cut_off", 1.5, f"the answer ends in the middle of a sentence; {usual.ended:.0%} of all do not")]
    return []


def _mojibake(text: str) -> Iterator[Check]:
    for found in _MOJIBAKE.finditer(text):
        try:
            meant = found[0].encode("cp1252").decode("utf-8")
        except UnicodeError:
            continue
        yield "mojibake", 3, f"holds {found[0]!r}, which is {meant!r} read in the wrong encoding"
        return


def _replaced(text: str) -> Iterator[Check]:
    if count := text.count("\ufffd"):
        yield "replaced", 2.5, f"has {count} characters that an earlier program could not read (U+FFFD)"


def _symbols(text: str) -> Iterator[Check]:
    visible = [character for character in text if not character.isspace()]
    symbols = sum(
        not character.isalnum() and not unicodedata.category(character).startswith("M") for character in visible
    )
    if len(visible) >= 5 and symbols > _MOST_SYMBOLS * len(visible):
        yield "symbols", 1.5, f"is {symbols / len(visible):.0%} symbols"


def _markup(text: str) -> Iterator[Check]:
    if found := _MARKUP.search(text):
        yield "markup", 1, f"holds markup of web pages, as {found[0][:40]!r}"
