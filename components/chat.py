"""How a conversation becomes tokens, by the model's own template, and ends; what people wrote is never structure.

Training, evaluation, verification, the runtime and the Bento all take prompts from here. What they must agree on beside
the tokenizer is a `ChatFormat`, which an exported model carries. Knows no tokenizer and no engine, but what they do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from components.artifact import ArtifactError, canonical, write_text

Message = tuple[str, str]  # (role, content)
Turn = dict[str, str]  # the same as templates know it
Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = get_args(Role)
FILE = "chat.json"  # beside an exported model
CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")  # what families call it
MARKS = range(0xF0000, 0xFFFFE)  # characters of no meaning, to cut texts at: more than any text will use all of


def context_length(config: Mapping[str, Any]) -> int:
    """Tokens that a model holds, prompt and answer together, by its `config.json`; 0 where that does not say."""
    text = of_text(config)
    return int(next((text[name] for name in CONTEXT if text.get(name)), 0))


def of_text(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a `config.json` says of the language model, which those of models that also see or hear keep apart."""
    return {**config, **(config.get("text_config") or {})}


@dataclass(frozen=True)
class ChatFormat:
    """What training, evaluation and service of a model agree on beside its tokenizer; a file in its folders.

    `variables`: given to the template. `closing`: the tokens that follow an answer, the last of them one of `ends`,
    after any of which an answer is over.
    """

    system_prompt: str  # empty: none
    variables: dict[str, Any]
    closing: tuple[int, ...]
    ends: tuple[int, ...]

    def messages(self, conversation: Sequence[Message]) -> list[Message]:
        """`conversation`, led by the system prompt unless it brings a system message of its own."""
        own = not self.system_prompt or any(role == "system" for role, _ in conversation)
        return [*([] if own else [("system", self.system_prompt)]), *conversation]

    def write(self, folder: Path) -> None:
        write_text(folder / FILE, canonical(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> ChatFormat:
        """Raises `ArtifactError` where the file is missing or damaged; SmolLM2 was exported before there was one."""
        try:
            if (
                not (folder / FILE).exists()
                and json.loads((folder / "config.json").read_bytes())["vocab_size"] == 49152
            ):
                return cls("Rewrite the phrase as a picture prompt.", {}, (2,), (2,))
            document = json.loads((folder / FILE).read_bytes())
            closing, ends = tuple(document["closing"]), tuple(document["ends"])
            return cls(document["system_prompt"], document["variables"], closing, ends)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{folder / FILE}: cannot be read: {error}; make the artifact again") from error


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
