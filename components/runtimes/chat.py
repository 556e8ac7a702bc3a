"""The conversation the text model is trained on and served with: one system prompt, one turn of the user's phrase.

Knows neither tokenizers nor engines; training, evaluation, the runtime and the Bento all take the prompt from here.
"""

from __future__ import annotations

# Short on purpose: every training sample and every request pays for its tokens.
SYSTEM_PROMPT = "Rewrite the phrase as a picture prompt."

Message = tuple[str, str]  # (role, content)


def conversation(phrase: str) -> tuple[Message, ...]:
    """The messages that ask for the picture prompt of `phrase`."""
    return (("system", SYSTEM_PROMPT), ("user", phrase))


def with_system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """`messages`, led by the system prompt unless the caller brought a system message of their own."""
    if any(role == "system" for role, _ in messages):
        return messages
    return (("system", SYSTEM_PROMPT), *messages)
