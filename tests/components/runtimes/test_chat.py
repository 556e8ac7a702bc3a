"""The system prompt: led by it exactly once, unless the caller brought one of their own."""

from __future__ import annotations

from components.runtimes.chat import SYSTEM_PROMPT, conversation, with_system


def test_a_bare_phrase_becomes_the_conversation_of_training() -> None:
    assert with_system((("user", "a red boat"),)) == conversation("a red boat")
    assert conversation("a red boat")[0] == ("system", SYSTEM_PROMPT)


def test_twice_is_once() -> None:
    once = with_system((("user", "a red boat"), ("assistant", "boat"), ("user", "bluer")))
    assert with_system(once) == once
    assert [role for role, _ in once] == ["system", "user", "assistant", "user"]


def test_a_system_message_of_the_callers_own_stays_alone() -> None:
    own = (("user", "a red boat"), ("system", "Be brief."))
    assert with_system(own) == own
