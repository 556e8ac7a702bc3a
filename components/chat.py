"""The conversation the text model is trained on and served with: one system prompt, one turn of the user's phrase.

Also how it becomes tokens, so that what people wrote is never read as structure. Training, evaluation, verification,
the runtime and the Bento all take the prompt from here. Knows no tokenizer and no engine, but what they do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Literal, get_args

# Short on purpose: every training sample and every request pays for its tokens.
SYSTEM_PROMPT = "Rewrite the phrase as a picture prompt."

Message = tuple[str, str]  # (role, content)
Turn = dict[str, str]  # the same as templates know it
Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = get_args(Role)
MARKS = range(0xF0000, 0xFFFFE)  # characters of no meaning, to cut texts at: more than any text will use all of


def conversation(phrase: str) -> tuple[Message, ...]:
    """The messages that ask for the picture prompt of `phrase`."""
    return (("system", SYSTEM_PROMPT), ("user", phrase))


def with_system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """`messages`, led by the system prompt unless the caller brought a system message of their own."""
    if any(role == "system" for role, _ in messages):
        return messages
    return (("system", SYSTEM_PROMPT), *messages)


class ChatEncoder:
    """Messages and texts as token ids, in which special tokens stand for the template's words alone.

    `render`: turns to the template's text, up to where the assistant begins to write. `encode`: text to ids, where the
    text of a special token becomes that token. `special`: these texts. A template whose structure is ordinary words,
    such as `[INST]`, cannot be told from a user who writes them.
    """

    def __init__(
        self, render: Callable[[list[Turn]], str], encode: Callable[[str], list[int]], special: Collection[str]
    ) -> None:
        self._render, self._encode = render, encode
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)")

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """What the model reads before it answers; raises `ValueError` for a role that is none of `ROLES`.

        Without a special token in any content these are the ids of the rendered text. Where there is one, a mark
        between its letters goes through the template, and what stands before and after is encoded by itself.
        """
        if wrong := {role for role, _ in messages}.difference(ROLES):
            raise ValueError(f"role {min(wrong)!r} is none of {', '.join(ROLES)}")
        mark = next(mark for mark in map(chr, MARKS) if not any(mark in content for _, content in messages))
        turns = [{"role": role, "content": mark.join(self._cut(content))} for role, content in messages]
        return self._joined(self._render(turns).split(mark))

    def text(self, text: str) -> list[int]:
        """The ids of a text outside of any template, such as what the assistant shall write."""
        return self._joined(self._cut(text))

    def _cut(self, text: str) -> list[str]:
        """`text` in pieces, none of which holds the whole of a special token."""
        pieces, begin = [], 0
        while match := self._special.search(text, begin):
            pieces.append(text[begin : match.start() + 1])
            begin = match.start() + 1
        return [*pieces, text[begin:]]

    def _joined(self, pieces: Sequence[str]) -> list[int]:
        return [token for piece in pieces for token in self._encode(piece)]
