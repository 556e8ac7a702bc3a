"""How scripts write words: which leave no spaces between them, and where a word ends. Pure."""

from __future__ import annotations

import re
import unicodedata

# Han with its marks, kana, Bopomofo, Thai, Lao, Tibetan, Burmese and Khmer, as a part of a regular expression's class.
UNSPACED = (
    "\u3005-\u3007\u3040-\u30ff\u3105-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U000323af\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"
)
_UNSPACED = re.compile(f"[{UNSPACED}]")


def is_unspaced(character: str) -> bool:
    """Whether a character is of a script without spaces between words."""
    return bool(_UNSPACED.match(character))


def continues(text: str, place: int) -> bool:
    """Whether a word of a script with spaces goes on over a place between two characters, or a mark follows there."""
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    if unicodedata.category(after).startswith("M"):
        return True
    return all(part.isalnum() or part == "_" for part in (_base(text, place), after)) and not (
        is_unspaced(before) or is_unspaced(after)
    )


def _base(text: str, place: int) -> str:
    """The character before a place, without the marks on it."""
    while place > 1 and unicodedata.category(text[place - 1]).startswith("M"):
        place -= 1
    return text[place - 1]
