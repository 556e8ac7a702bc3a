"""What a client may send, checked without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.gateway.errors import ApiError
from bentos.gateway.schemas import ChatRequest, FeedbackRequest, ImagesRequest, max_new_tokens, parse, side_of
from bentos.protocol import MAX_SIDE, sides

CHAT: dict[str, Any] = {"model": "atelier-text", "messages": [{"role": "user", "content": "hi"}]}


def chat(**changes: Any) -> ChatRequest:
    return parse(ChatRequest, json.dumps(CHAT | changes).encode())


def test_values_that_mean_off_are_accepted() -> None:
    off = {"n": 1, "stop": None, "logprobs": False, "presence_penalty": 0, "response_format": {"type": "text"}}
    assert chat(**off).messages == chat().messages


@pytest.mark.parametrize(
    "on", [{"n": 2}, {"stop": "."}, {"logprobs": True}, {"presence_penalty": 1}, {"response_format": {"type": "json"}}]
)
def test_what_would_be_ignored_is_refused_by_name(on: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        chat(**on)
    assert caught.value.status == 400
    assert (caught.value.param or "").startswith(next(iter(on)))


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a red"}, {"type": "text", "text": "boat"}]
    assert chat(messages=[{"role": "user", "content": parts}]).messages[0].content == "a red\nboat"


def test_the_newer_name_of_max_tokens_wins_and_both_are_bounded() -> None:
    assert max_new_tokens(chat(), 64) == 64
    assert max_new_tokens(chat(max_tokens=9), 64) == 9
    assert max_new_tokens(chat(max_tokens=9, max_completion_tokens=5), 64) == 5
    with pytest.raises(ApiError, match="at most 64 here"):
        max_new_tokens(chat(max_completion_tokens=65), 64)


@given(st.integers(1, MAX_SIDE), st.integers(0, 9999))
def test_a_size_is_a_bounded_multiple_of_the_models_own_or_refused(native: int, side: int) -> None:
    if 0 < side <= MAX_SIDE and side % native == 0:
        assert side_of(f"{side}x{side}", native) == side
    else:
        with pytest.raises(ApiError):
            side_of(f"{side}x{side}", native)
    assert side_of("auto", native) is side_of(None, native) is None


def test_a_pipeline_paints_smaller_pictures_too_and_its_own_however_large() -> None:
    assert sides(1024, 64)[:2] == [512, 576] and sides(1024, 64)[-1] == side_of("1024x1024", 1024, 64) == 1024
    assert sides(64, 16) == [32, 48, *range(64, MAX_SIDE + 1, 64)]
    with pytest.raises(ApiError, match="is not one of auto, 512x512, 576x576"):
        side_of("500x500", 1024, 64)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_an_honest_400(body: bytes) -> None:
    for model in (ChatRequest, ImagesRequest, FeedbackRequest):
        with pytest.raises(ApiError) as caught:
            parse(model, body)
        assert caught.value.status == 400
