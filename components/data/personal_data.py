"""Personal data in texts: addresses and numbers that name someone, found by their form and checksum.

Names and postal addresses are not looked for. A reason never repeats what was found. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Literal

from pydantic import Field

from components.data.filters import Candidate, Chosen
from components.data.writing import UNSPACED

Kind = Literal["email", "iban", "card", "ip", "phone"]
_WORD = rf"[^\W{UNSPACED}]"  # in 联系我a@b.cn谢谢 the address alone
_CANDIDATES: dict[Kind, re.Pattern[str]] = {
    "email": re.compile(
        rf"(?<!{_WORD}){_WORD}(?:{_WORD}|[.%+-]){{0,63}}+@(?:(?:{_WORD}|-){{1,63}}+\.){{1,8}}{_WORD}{{2,24}}"
    ),
    "iban": re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d\d(?:[ \u00a0-]?[A-Za-z0-9]){11,30}"),
    "card": re.compile(r"(?<!\d)(?<!\d[.,])[2-6](?:[ \u00a0-]?\d){12,18}(?!\d)"),
    "ip": re.compile(
        rf"(?<!{_WORD})(?<!\.)(?:\d{{1,3}}(?:\.\d{{1,3}}){{3}}"
        r"|(?<!:)(?:[0-9A-Fa-f]{0,4}:){2,7}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}))(?![0-9A-Fa-f:]|\.\d)"
    ),
    # With the country's code; with the area's and a separator, and no date; of North America; Chinese mobile ones.
    "phone": re.compile(
        rf"(?<!{_WORD})(?<!\+)(?<!\d[.,/-])(?:"
        r"(?:\+|00)[1-9](?:[ \u00a0./()-]{0,2}\d){6,13}"
        r"|\(?0(?!\d{1,3}[./-]\d{1,2}[./-])\d{1,4}(?:\)[ \u00a0]?|[ \u00a0/-])\d(?:[ \u00a0-]?\d){4,8}"
        r"|(?:\([2-9]\d\d\) ?|[2-9]\d\d[ \u00a0.-])\d{3}[ \u00a0.-]\d{4}"
        r"|1[3-9]\d(?:[ -]?\d{4}){2})(?!\d|[.,/-]\d)"
    ),
}
_HINT = re.compile(r"[@＠\d]")
_SHORTEST_IBAN = 15


class _Plain(dict[int, str]):
    """Digits of any script, and the wide forms of @ . + as ASCII; as `str.translate` takes it, places stay."""

    def __missing__(self, point: int) -> str:
        character = chr(point)
        self[point] = plain = str(digit) if (digit := unicodedata.decimal(character, None)) is not None else character
        return plain


_PLAIN = _Plain({ord(wide): plain for wide, plain in zip("＠．＋", "@.+", strict=True)})


class PersonalData(Chosen):
    """A sample with personal data in its prompt, answer, earlier messages or rejected answer.

    An IP address may be of a machine, and four numbers with dots may be a version. E-mail addresses in scripts without
    spaces, such as 用户@例子.公司, are not found.
    """

    name: Literal["personal_data"] = "personal_data"
    action: Literal["drop", "flag", "redact"] = Field(  # type: ignore[assignment]  # one more than others have
        default="drop", description="drop, flag, or redact: each is replaced by its kind, as [email]"
    )
    kinds: tuple[Kind, ...] = Field(
        default=("email", "iban", "card", "ip", "phone"), min_length=1, description="What is looked for"
    )

    def fault(self, candidate: Candidate) -> str:
        found = sum((self.redacted(text)[1] for text in candidate.texts), Counter[Kind]())
        return f"it holds personal data: {', '.join(f'{n} × {kind}' for kind, n in found.items())}" if found else ""

    def note(self, candidate: Candidate) -> None:
        if self.action != "redact":
            return super().note(candidate)
        for place, text in enumerate(candidate.texts):
            candidate.texts[place], found = self.redacted(text)
            candidate.redacted.update(found)

    def redacted(self, text: str) -> tuple[str, Counter[Kind]]:
        """The text with each find replaced by its kind, and how many there are of each."""
        found = Counter[Kind]()
        if _HINT.search(text):
            for kind in (kind for kind in _CANDIDATES if kind in self.kinds):
                text, found[kind] = _replaced(text, kind)
        return text, +found


def _replaced(text: str, kind: Kind) -> tuple[str, int]:
    parts, end, count = list[str](), 0, 0
    for start, stop in _found(text, kind):
        parts += [text[end:start], f"[{kind}]"]
        end, count = stop, count + 1
    return "".join([*parts, text[end:]]), count


def _found(text: str, kind: Kind) -> Iterator[tuple[int, int]]:
    """Where what is personal begins and ends: the longest part of a candidate that passes, ending where a word does."""
    text, place, passes = text.translate(_PLAIN), 0, _CHECKS.get(kind, bool)
    while match := _CANDIDATES[kind].search(text, place):
        start, stop = match.span()
        ends = (end for end in range(stop, start, -1) if not _is_within(text, end))
        place = next((end for end in ends if passes(text[start:end])), 0)
        if place:
            yield start, place
        place = place or start + 1


def _is_within(text: str, place: int) -> bool:
    """Whether a place lies inside of a word or number of ASCII, or behind a separator."""
    following = text[place : place + 1]
    return not text[place - 1].isalnum() or (following.isalnum() and following.isascii())


def _is_iban(found: str) -> bool:
    """By ISO 13616: with its first four characters last and letters as 10 to 35 it leaves 1 when divided by 97."""
    compact = re.sub(r"[ \u00a0-]", "", found).upper()
    digits = "".join(str(int(character, 36)) for character in compact[4:] + compact[:4])
    return len(compact) >= _SHORTEST_IBAN and int(digits) % 97 == 1


def _is_card(found: str) -> bool:
    """By Luhn's checksum."""
    digits = [int(character) for character in found if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return len(digits) >= 13 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_ip(found: str) -> bool:
    """An address that is not this machine's own; a letter-only one, as dead::beef, is more often a name of code."""
    try:
        address = ip_address(found)
    except ValueError:
        return False
    return not address.is_loopback and not address.is_unspecified and any(map(str.isdigit, found))


_CHECKS: dict[Kind, Callable[[str], bool]] = {"iban": _is_iban, "card": _is_card, "ip": _is_ip}
