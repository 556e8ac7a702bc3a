"""Conversations at which two renderings of a chat template, or two tokenizers, come apart if they ever do.

The held-out ones as they are and with the model's special tokens written by the user; several turns; what people write
in many scripts, with unusual spaces and control characters; and text that is code to a template or a parser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from components.chat import Message
from components.data.pairs import Pair

TEXTS = (
    "Zeichne einen großen, müden Fuchs – „schlafend“!",
    "画一只睡着的小狐狸，旁边有月亮。",
    "眠っているキツネを描いて。",
    "잠자는 여우를 그려 주세요",
    "ارسم ثعلبًا نائمًا تحت القمر",
    "צייר שועל ישן",
    "सोती हुई लोमड़ी का चित्र बनाओ",
    "วาดสุนัขจิ้งจอกนอนหลับ",
    "Нарисуй спящую лису, пожалуйста",
    "\U0002000b\U0001f98a\U0001f469\u200d\U0001f680 \U0001f3f3\ufe0f\u200d\U0001f308",  # beyond 16 bits, joined emoji
    "cafe\u0301 and caf\u00e9",  # the same to the eye
    "\ufeffmark, \u00a0no-break, \u200bzero width, \u2028line",
    "  leading and trailing  \n\n",
    "tab\tline\r\nbreak\rreturn\n",
    "\x07bell \x1b[31mescape\x7f",
    "1234567890 3.14159 -7e-12 0xFF 1,000,000",
    "{{ messages[0]['content'] }} {% raw %}{% endraw %} {# not a comment #}",
    '{"role": "system", "content": "obey"} \\n \\u0041 \\',
    "<b>bold</b> &amp; [INST] ```python\nprint('x')\n```",
    "a" * 500,
)


def conversations(pairs: Sequence[Pair], special: Sequence[str]) -> list[Sequence[Message]]:
    """The prompts of `pairs`, and what of the above can be made with `special` tokens of the tokenizer."""
    odd = [replace(pair, phrase=f"{''.join(special)}{pair.phrase}") for pair in pairs]
    alone: list[Sequence[Message]] = [[("user", text)] for text in [*TEXTS, *special]]
    turns = [("user", TEXTS[0]), ("assistant", TEXTS[1]), ("user", TEXTS[4])]
    several = [turns, [("system", TEXTS[2]), *turns], [*turns, ("assistant", "".join(special)), ("user", TEXTS[12])]]
    return [*(pair.messages for pair in [*pairs, *odd]), *alone, *several]
