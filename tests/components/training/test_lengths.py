"""How long samples are, and that what does not fit is refused, left out or split as was asked for, and counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from components.data.pairs import Pair
from components.models.language import Chat
from components.stage import StageError
from components.training.lengths import encode, fitting, percentiles, split
from tests.components.training.test_text import SETTINGS
from tests.tiny_language import format_of, thinking_chat, tiny_tokenizer

PAIRS = [Pair("draw a rocket", "rocket: space", "rocket"), Pair("an apple please", "red apple: fruit, food", "apple")]
HISTORY = [("system", "Be brief.")] + [
    message for n in range(5) for message in (("user", f"question {n}"), ("assistant", f"answer {n} " * (n + 1)))
]
TALK = Pair("the last one", "the end", "x", rejected="no end", history=tuple(HISTORY))


@pytest.fixture(scope="module")
def chat() -> Chat:
    tokenizer = tiny_tokenizer()
    return Chat(tokenizer, format_of(tokenizer, [2], ""))


def learned(chat: Chat, pair: Pair) -> list[str]:
    """The answers that a pair teaches, in order."""
    texts = [chat.tokenizer.decode([t for t in s.encoded[1] if t >= 0]) for s in encode(chat, pair, SETTINGS)]
    return [answer for text in texts for answer in str(text).split("<|im_end|>")[:-1]]


def test_pairs_that_do_not_fit_are_left_out_whole_and_said_so(chat: Chat, capsys: pytest.CaptureFixture[str]) -> None:
    limit = max(len(chat.encode(pair)[0]) for pair in PAIRS)
    settings = SETTINGS.model_copy(update={"max_length": limit})
    long = [replace(PAIRS[0], completion="x" * 200), replace(PAIRS[0], rejected="x" * 200), Pair("x" * 200, "x", "x")]
    assert [sample.encoded for sample in fitting(chat, PAIRS, settings, 512).samples] == list(map(chat.encode, PAIRS))
    assert capsys.readouterr().out == ""
    fit = fitting(chat, [*long, *PAIRS], settings, 512)
    assert (len(fit.samples), fit.metrics["pairs"], fit.metrics["pairs_too_long"]) == (2, 2, 3)
    assert "3 of 5 pairs are left out" in capsys.readouterr().out
    with pytest.raises(StageError, match="none of 3 pairs has at most"):
        fitting(chat, long, settings, 512)
    with pytest.raises(StageError, match="3 of 5 pairs have more than"):
        fitting(chat, [*long, *PAIRS], settings.model_copy(update={"overflow": "refuse"}), 512)


def test_without_a_length_of_the_users_the_longest_sample_counts_as_far_as_the_model_goes(chat: Chat) -> None:
    settings = SETTINGS.model_copy(update={"max_length": None})
    longest = max(len(chat.encode(pair)[0]) for pair in PAIRS)
    assert fitting(chat, PAIRS, settings, 512).metrics["max_length"] == longest
    bounded = fitting(chat, PAIRS, settings, longest - 1)
    assert (bounded.metrics["max_length"], bounded.metrics["pairs_too_long"]) == (longest - 1, 1)
    assert fitting(chat, PAIRS, SETTINGS, longest - 1).metrics["max_length"] == longest - 1
    refused = settings.model_copy(update={"overflow": "refuse"})
    with pytest.raises(StageError, match="take a base that holds more, or a larger machine"):  # not: raise max_length
        fitting(chat, PAIRS, refused, longest - 1)


def test_the_lengths_that_are_told_are_those_of_samples(chat: Chat) -> None:
    assert percentiles([5, 1, 9]) == {
        "tokens_min": 1, "tokens_median": 5, "tokens_95": 9, "tokens_99": 9, "tokens_max": 9
    }  # fmt: skip
    fit = fitting(chat, [*PAIRS, TALK], SETTINGS, 512)
    assert fit.metrics["tokens_max"] == max(s.length for s in encode(chat, TALK, SETTINGS)) > fit.metrics["max_length"]


@pytest.mark.parametrize("template", ["appends", "thinks"])
@pytest.mark.parametrize("bound", [90, 130, 200, 400])
def test_a_conversation_is_split_between_turns_into_parts_that_fit(template: str, bound: int, chat: Chat) -> None:
    chat = thinking_chat() if template == "thinks" else chat
    pair = replace(TALK, untaught=(4,))
    parts = list(split(chat, pair, SETTINGS, bound))
    found = [answer for part in reversed(parts) for answer in learned(chat, part)]
    wanted = learned(chat, pair)
    assert all(part.messages[0] == ("system", "Be brief.") for part in parts)
    assert all(sample.length <= bound for part in parts for sample in encode(chat, part, SETTINGS))
    assert found == [answer for answer in wanted if answer in found] and len(set(found)) == len(found)
    assert "the end" in found and "answer 1 answer 1 " not in found
    assert [part.rejected for part in parts] == ["no end", *[""] * (len(parts) - 1)]
    said = (*pair.messages, ("assistant", pair.completion))
    for part in parts:
        turns = (*part.messages, ("assistant", part.completion))[1:]
        assert any(said[at : at + len(turns)] == turns for at in range(1, len(said), 2))
    fit = fitting(chat, [pair], SETTINGS.model_copy(update={"max_length": bound, "overflow": "split"}), 512)
    assert fit.metrics["answers_too_long"] == len(wanted) - len(found)
    assert fit.metrics["pairs_split"] == (len(parts) > 1 or len(found) < len(wanted))


def test_of_a_conversation_of_which_the_last_answer_alone_is_learned_the_last_turns_are_kept(chat: Chat) -> None:
    settings = SETTINGS.model_copy(update={"answers": "last"})
    (part,) = split(chat, TALK, settings, 150)
    assert part.completion == "the end" and part.history[1:] == TALK.history[-len(part.history) + 1 :]
    assert len(part.history) > 1


def test_a_rejected_answer_that_is_too_long_takes_the_wanted_one_along_no_more(chat: Chat) -> None:
    pair = replace(PAIRS[0], rejected="x" * 200)
    settings = SETTINGS.model_copy(update={"max_length": len(chat.encode(PAIRS[0])[0]), "overflow": "split"})
    fit = fitting(chat, [pair], settings, 512)
    assert [sample.encoded for sample in fit.samples] == [chat.encode(PAIRS[0])]
    assert (fit.metrics["answers_too_long"], fit.metrics["rejected_too_long"], fit.metrics["pairs_too_long"]) == (
        0,
        1,
        0,
    )
