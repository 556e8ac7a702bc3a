"""Filters of text that `params.yaml` may list: script, repetition, boilerplate and words that the user names.

Each works in every script: where a script puts no spaces between its words, two characters count as one. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, Literal, get_args

from pydantic import Field

from components.config.base import Count, Fraction
from components.data.filters import Candidate, Chosen, normalise
from components.data.personal_data import PersonalData
from components.data.writing import UNSPACED, continues, is_unspaced

Phrase = Annotated[str, Field(min_length=1)]
ScriptName = Literal[
    "arabic", "armenian", "bengali", "bopomofo", "cherokee", "cyrillic", "devanagari", "ethiopic", "georgian", "greek",
    "gujarati", "gurmukhi", "han", "hangul", "hebrew", "hiragana", "kannada", "katakana", "khmer", "lao", "latin",
    "malayalam", "mongolian", "myanmar", "oriya", "sinhala", "syriac", "tamil", "telugu", "thaana", "thai", "tibetan",
]  # fmt: skip
_CODES = {name: chr(0xE000 + place) for place, name in enumerate(get_args(ScriptName))}
_OTHER = "\ue0ff"
# What a text is made of: words between spaces, and single characters of scripts without them.
_UNIT = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
_PARAGRAPHS = re.compile(r"\n\s*\n")
_PHRASES = (
    "lorem ipsum",
    "as an ai language model",
    "as a large language model",
    "i'm just an ai",
    "this website uses cookies",
    "this site uses cookies",
    "we use cookies",
    "accept all cookies",
    "enable javascript",
)


class Script(Chosen):
    """A sample of whose letters too few are in the scripts that are asked for; one without letters stays.

    By Unicode's names of letters. It tells Russian from English, and not English from French.
    """

    name: Literal["script"] = "script"
    allowed: tuple[ScriptName, ...] = Field(min_length=1, description="Scripts; Japanese is han, hiragana, katakana")
    min_share: Fraction = Field(default=0.8, description="Share of the letters in these scripts, at least")

    def fault(self, candidate: Candidate) -> str:
        letters = "".join(candidate.texts).translate(_SCRIPTS)
        found = sum(letters.count(_CODES[script]) for script in set(self.allowed))
        if not letters or found >= self.min_share * len(letters):
            return ""
        share = f"{found} of {len(letters)} letters are {', '.join(self.allowed)}"
        return f"{share}: a share of {found / len(letters):.2f}, less than {self.min_share:g}"


class _Scripts(dict[int, str]):
    """Character → the code of its script, empty for what is no letter; as `str.translate` takes it."""

    def __missing__(self, point: int) -> str:
        letter = unicodedata.category(chr(point)).startswith("L")
        self[point] = code = _script(chr(point)) if letter else ""
        return code


_SCRIPTS = _Scripts()


def _script(letter: str) -> str:
    """The code of a letter's script: of 𝐀 and Ａ that of A."""
    for form in (letter, unicodedata.normalize("NFKC", letter)[:1]):
        for word in re.split(r"[ -]", unicodedata.name(form, "").lower()):
            if code := _CODES.get("han" if word in ("cjk", "ideographic") else word):
                return code
    return _OTHER


def script_of(text: str) -> str:
    """The script of most letters of a text, "other" for one that has no name here; empty where there are no letters."""
    names = {code: name for name, code in _CODES.items()}
    most = Counter(text.translate(_SCRIPTS)).most_common(1)
    return names.get(most[0][0], "other") if most else ""


class Repetition(Chosen):
    """A text that says the same again and again, by the rules of Gopher.

    Rae et al. 2021, arXiv:2112.11446, table A1, whose bounds are the defaults. A line, paragraph or n-gram is repeated
    from its second time on. Lines without a letter or digit, as of code and tables, do not count. Prompt, answer and
    earlier messages are judged one by one, those below `min_words` not at all.
    """

    name: Literal["repetition"] = "repetition"
    min_words: Count = Field(default=50, description="Words of a text that is judged, at least")
    max_repeated_lines: Fraction = Field(default=0.3, description="Share of the lines that are repeated, at most")
    max_repeated_line_characters: Fraction = Field(default=0.2, description="The same, in characters")
    max_repeated_paragraphs: Fraction = Field(default=0.3, description="Share of the paragraphs that are repeated")
    max_repeated_paragraph_characters: Fraction = Field(default=0.2, description="The same, in characters")
    max_top_ngrams: tuple[Fraction, Fraction, Fraction] = Field(
        default=(0.2, 0.18, 0.16), description="Share of the characters in the most frequent 2, 3 and 4 words in a row"
    )
    max_repeated_ngrams: tuple[Fraction, Fraction, Fraction, Fraction, Fraction, Fraction] = Field(
        default=(0.15, 0.14, 0.13, 0.12, 0.11, 0.10),
        description="Share of the characters in 5 to 10 words in a row that are repeated",
    )

    def fault(self, candidate: Candidate) -> str:
        return next(filter(None, map(self._of_text, candidate.texts)), "")

    def _of_text(self, text: str) -> str:
        units = _UNIT.findall(text)
        # Most are single characters: two stand for a word.
        size = 2 if sum(is_unspaced(unit) for unit in units) > len(units) / 2 else 1
        if len(units) < self.min_words * size:
            return ""
        for what, share, most in (*self._parts(text), *self._grams(units, size)):
            if share > most:
                return f"{share:.2f} of its {what}, more than {most:g}"
        return ""

    def _parts(self, text: str) -> Iterator[tuple[str, float, float]]:
        """What is measured of lines and paragraphs: in words, its share and the bound of that."""
        lines = [line for line in map(str.strip, text.splitlines()) if any(map(str.isalnum, line))]
        paragraphs = [part for part in map(str.strip, _PARAGRAPHS.split(text)) if part]
        bounds = (self.max_repeated_lines, self.max_repeated_line_characters)
        yield from _repeated("lines", lines, *bounds)
        bounds = (self.max_repeated_paragraphs, self.max_repeated_paragraph_characters)
        yield from _repeated("paragraphs", paragraphs, *bounds)

    def _grams(self, units: Sequence[str], size: int) -> Iterator[tuple[str, float, float]]:
        """The same of n-grams, from the shortest on; once none is repeated no longer one is."""
        total = sum(map(len, units))
        for words, most in enumerate(self.max_top_ngrams, start=2):
            gram, count = Counter(_in_a_row(units, words * size)).most_common(1)[0]
            if count == 1:
                return
            share = min(count * sum(map(len, gram)) / total, 1)
            yield f"characters are in the most frequent {words} words in a row", share, most
        for words, most in enumerate(self.max_repeated_ngrams, start=5):
            if not (repeated := _again(units, words * size)):
                return
            yield f"characters are in {words} words in a row that it has already", repeated / total, most


def _repeated(
    what: str, parts: Sequence[str], most: float, most_characters: float
) -> Iterator[tuple[str, float, float]]:
    """Shares of lines or paragraphs, and of their characters, that are there already."""
    if not parts:
        return
    seen: set[str] = set()
    again = [part for part in parts if part in seen or seen.add(part)]  # type: ignore[func-returns-value]
    yield f"{what} are repeated", len(again) / len(parts), most
    yield f"characters are in repeated {what}", sum(map(len, again)) / sum(map(len, parts)), most_characters


def _in_a_row(units: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(units[start:] for start in range(length)), strict=False)


def _again(units: Sequence[str], length: int) -> int:
    """Characters in rows of units that came before, none counted twice."""
    seen: set[tuple[str, ...]] = set()
    characters = free = 0
    for place, gram in enumerate(_in_a_row(units, length)):
        if place < free:
            continue
        if gram in seen:
            characters, free = characters + sum(map(len, gram)), place + length
        seen.add(gram)
    return characters


class Boilerplate(Chosen):
    """A sample that holds one of these phrases, whatever its case and white space."""

    name: Literal["boilerplate"] = "boilerplate"
    phrases: tuple[Phrase, ...] = Field(default=_PHRASES, min_length=1, description="Phrases that no sample may hold")

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {normalise(phrase).casefold(): phrase for phrase in self.phrases}

    def fault(self, candidate: Candidate) -> str:
        for text in candidate.texts:
            folded = normalise(text).casefold()
            if held := next((phrase for known, phrase in self._folded.items() if known in folded), ""):
                return f"it holds {held!r}"
        return ""


class Words(Chosen):
    """A sample that holds one of these words, whatever its case: as a whole word where its script has spaces."""

    name: Literal["words"] = "words"
    words: tuple[Phrase, ...] = Field(min_length=1, description="Words that no sample may hold, as profanities")

    @cached_property
    def _folded(self) -> tuple[str, ...]:
        return tuple(normalise(word).casefold() for word in self.words)

    def fault(self, candidate: Candidate) -> str:
        for text in candidate.texts:
            folded = normalise(text).casefold()
            if held := next((word for word in self._folded if word in folded and _stands_alone(word, folded)), ""):
                return f"it holds the word {held!r}"
        return ""


def _stands_alone(word: str, text: str) -> bool:
    spans = (match.span() for match in re.finditer(re.escape(word), text))
    return any(not continues(text, start) and not continues(text, end) for start, end in spans)


TEXT_RULES: tuple[type[Chosen], ...] = (Script, Repetition, Boilerplate, PersonalData, Words)
