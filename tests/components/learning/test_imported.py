"""Logs of other systems: what each format's rows become, once; what is refused, and why; what may be learned."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from components.config import load
from components.data.sources import pairs as read_pairs
from components.events.schema import Event
from components.events.store import finish_lost
from components.learning import imported
from components.learning.harvest import for_annotators, read_judged_answers
from components.learning.imported import Imported, Log
from components.stage import StageError
from tests.components.events.examples import read, requests

ASKED = [{"role": "system", "content": "Draw."}, {"role": "user", "content": "a fox"}]
EPISODE, INFERENCE = "01932c58-0000-7000-8000-000000000000", "01932c59-0000-7000-8000-000000000001"
SECONDS = 0x01932C590000 / 1000  # of the inference's UUIDv7
OPENAI = {
    "object": "chat.completion",
    "id": "chatcmpl-1",
    "created": 1_731_600_000,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "fox: animal"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
    "metadata": {"user_id": "ann", "like": "1"},
    "messages": {"object": "list", "data": [{**message, "id": "m"} for message in ASKED]},
}
TENSORZERO = {
    "id": INFERENCE,
    "function_name": "draw",
    "variant_name": "mini",
    "episode_id": EPISODE,
    "input": json.dumps(
        {"system": "Draw.", "messages": [{"role": "user", "content": [{"type": "text", "text": "a fox"}]}]}
    ),
    "output": json.dumps([{"type": "text", "text": "fox: animal"}]),
    "processing_time_ms": 700,
    "tags": {"user_id": "ann"},
}
LANGFUSE = {
    "id": "obs-1",
    "trace_id": "trace-1",
    "type": "GENERATION",
    "start_time": "2024-11-14 16:00:00.000000",
    "end_time": "2024-11-14 16:00:01.500000",
    "input": json.dumps(ASKED),
    "output": json.dumps({"role": "assistant", "content": "fox: animal"}),
    "provided_model_name": "gpt-4o-mini",
    "usage_details": {"input": 9, "output": 3, "total": 12},
    "user_id": "ann",
}
SCORE = {"id": "s-1", "timestamp": "2024-11-14 16:05:00.000000", "trace_id": "trace-1", "observation_id": None}
JSONL = {"id": "1", "time": "2024-11-14T16:00:00Z", "user": "ann", "messages": ASKED, "answer": "fox: animal"}


def write(folder: Path, *rows: Any, name: str = "log.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def bring(folder: Path, *rows: Any, name: str | None = None) -> tuple[Log, Imported, str]:
    url = f"sqlite:///{folder / 'events.db'}"
    log = imported.read_files([write(folder, *rows)], name, "like")
    return log, imported.write_events(log, url, "secret"), url


FEEDBACK = {"id": "01932c5a-0000-7000-8000-000000000002", "metric_name": "like", "target_id": EPISODE, "value": True}


@pytest.mark.parametrize(
    ("rows", "name", "began", "latency", "tokens", "model"),
    [
        ([OPENAI], "openai", 1_731_600_000.0, 0.0, (9, 3), "gpt-4o-mini"),
        ([TENSORZERO, FEEDBACK], "tensorzero", SECONDS, 0.7, (0, 0), "mini"),
        (
            [LANGFUSE, SCORE | {"name": "like", "value": 1, "data_type": "BOOLEAN"}],
            "langfuse",
            1_731_600_000.0,
            1.5,
            (9, 3),
            "gpt-4o-mini",
        ),
        ([JSONL | {"like": True}], "jsonl", 1_731_600_000.0, 0.0, (0, 0), "unknown"),
    ],
)
def test_a_request_becomes_an_event_once_with_its_own_time_and_its_users_word(
    tmp_path: Path, rows: list[Any], name: str, began: float, latency: float, tokens: tuple[int, int], model: str
) -> None:
    _, first, url = bring(tmp_path, *rows)
    assert first == Imported(1, 1, 1, 1, {})
    (event,) = requests(url)
    assert (event["time"], event["deployment"], event["model"]) == (began, f"imported-{name}", model)
    assert (event["prompt"], event["output"], event["latency_s"]) == ("a fox", "fox: animal", latency)
    assert (event["prompt_tokens"], event["completion_tokens"]) == tokens
    (liked,) = read(url, "feedback")
    assert (liked["value"], liked["user_key"], liked["request_id"]) == (1.0, event["user_key"], event["request_id"])
    _, again, _ = bring(tmp_path, *rows)
    assert again == Imported(1, 0, 1, 0, {}) and len(requests(url)) == 1 and len(read(url, "feedback")) == 1


def test_a_reaction_may_come_after_its_answer_and_not_without(tmp_path: Path) -> None:
    bring(tmp_path, TENSORZERO)
    log, later, _ = bring(tmp_path, FEEDBACK | {"target_id": INFERENCE}, FEEDBACK | {"target_id": EPISODE})
    assert (later.reactions, later.new_reactions) == (1, 1)
    assert later.reasons == {"a reaction to an unknown answer": 1} and log.refused[0][0] == "log.jsonl:2"


@pytest.mark.parametrize(
    ("row", "name", "reason"),
    [
        ("[1]", "jsonl", "not a JSON object"),
        (JSONL | {"time": None}, "jsonl", "no time"),
        (JSONL | {"time": float("inf")}, "jsonl", "not JSON"),
        (JSONL | {"answer": " "}, "jsonl", "an empty answer"),
        (JSONL | {"answer": "\ud800"}, "jsonl", "not JSON"),
        (JSONL | {"messages": [{"role": "tool", "content": "x"}]}, "jsonl", "a role that is not read"),
        ({key: value for key, value in OPENAI.items() if key != "messages"}, "openai", "no messages"),
        (LANGFUSE | {"type": "SPAN"}, "langfuse", "no generation"),
        (FEEDBACK | {"metric_name": "rating", "value": 0.7}, "tensorzero", "another metric"),
        (FEEDBACK | {"value": 0.7}, "tensorzero", "neither liked nor disliked"),
        (TENSORZERO | {"output": json.dumps([{"type": "tool_call"}])}, "tensorzero", "an answer that is not text"),
        ({"id": "x", "raw_request": "y"}, "tensorzero", "another table"),
    ],
)
def test_what_cannot_be_used_is_refused_by_place_and_reason(tmp_path: Path, row: Any, name: str, reason: str) -> None:
    log, done, _ = bring(tmp_path, row, name=name)
    assert done.reasons == {reason: 1} and not done.requests and log.refused[0][0].startswith("log.jsonl:")


def test_a_format_that_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"cannot be told \(question\); name it: --format openai"):
        imported.read_files([write(tmp_path, {"question": "?"})], None, "like")
    with pytest.raises(StageError, match="holds no row"):
        imported.read_files([write(tmp_path)], None, "like")


def test_an_array_is_read_as_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    path.write_text(json.dumps([JSONL, JSONL | {"id": "2"}], indent=1))
    assert set(imported.read_files([path], None, "like").answers) == {"1", "2"}


def test_logs_may_be_packed_or_in_utf_16(tmp_path: Path) -> None:
    asked = [JSONL, JSONL | {"id": "2"}]
    packed, wide = tmp_path / "log.jsonl.gz", tmp_path / "log.json"
    packed.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in asked).encode()))
    wide.write_text(json.dumps(asked), encoding="utf-16")
    for path in (packed, wide):
        assert set(imported.read_files([path], None, "like").answers) == {"1", "2"}


def test_a_line_is_read_whole_and_byte_for_byte_or_refused(tmp_path: Path) -> None:
    said = "one\u2028two\u0085three"
    rows = [JSONL | {"id": "1", "answer": said}, JSONL | {"id": "2"}]
    raw = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\r\n" for row in rows)
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + raw + raw.replace(b"fox", b"f\xf6x").splitlines()[-1])
    log = imported.read_files([path], None, "like")
    assert [answer.answer for answer in log.answers.values()] == [said, JSONL["answer"]]
    assert [(place, refused.reason) for place, refused in log.refused] == [("log.jsonl:3", "not UTF-8")]


def test_a_running_gateway_never_sees_a_request_without_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its minute task ends what was accepted long ago and has no end as lost."""
    commit = imported.commit

    def committed(engine: Engine, events: Sequence[Event]) -> list[bool]:
        new = commit(engine, events)
        assert finish_lost(engine, before=1e12, now=1e12) == 0
        return new

    monkeypatch.setattr(imported, "commit", committed)
    monkeypatch.setattr(imported, "GROUP", 4)
    _, done, url = bring(tmp_path, *(JSONL | {"id": str(n)} for n in range(5)))
    assert (done.requests, done.new_requests) == (5, 5)
    assert {event["output"] for event in requests(url)} == {JSONL["answer"]}


def test_nothing_imported_teaches_by_itself_or_is_shown_to_annotators(tmp_path: Path) -> None:
    _, _, url = bring(tmp_path, JSONL | {"like": True})
    assert list(read_judged_answers(url, 0.0, 1e12)) == []
    assert for_annotators([{**row} for row in requests(url)], load().learning, frozenset()) == []


def test_pairs_are_what_the_data_stage_reads_without_what_was_disliked(tmp_path: Path) -> None:
    rows = [
        JSONL,
        JSONL | {"id": "2", "like": False},
        JSONL | {"id": "3", "like": 0, "better": "fox: red animal"},
    ]
    log, _, _ = bring(tmp_path, *rows)
    path = write(tmp_path, *imported.pairs(log), name="pairs.jsonl")
    kept = list(read_pairs(path))
    assert [sample.meta["completion"] for sample in kept] == ["fox: animal", "fox: red animal"]  # type: ignore[union-attr]
    assert kept[1].meta["rejected"] == "fox: animal"  # type: ignore[union-attr]
    assert kept[0].meta["history"] == [ASKED[0]] and kept[0].text == "a fox"  # type: ignore[union-attr]
