from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from components.events import window
from components.events.database import DatabaseError, bounded
from components.events.schema import KINDS, Event
from components.events.store import EventStore
from tests.components.events.examples import accepted, finished, like

# The three smallest MD5 of r0 to r29, found with another program: md5sum.
SMALLEST = ["r15", "r25", "r13"]


def fill(url: str, events: Sequence[Event]) -> str:
    async def write() -> None:
        store = await EventStore.open(url)
        await asyncio.gather(*(store.append(event) for event in events))
        await store.close()

    asyncio.run(write())
    return url


def traffic(url: str, requests: int = 30) -> str:
    """One request a second from time 0, the last of which has not ended; every third is liked, after a dislike."""
    events: list[Event] = [accepted(f"r{i}", at=float(i)) for i in range(requests)]
    events += [finished(f"r{i}", at=i + 0.5) for i in range(requests - 1)]
    for i in range(0, requests, 3):
        events += [like(f"r{i}", f"a{i}", at=i + 1.0, value=0.0), like(f"r{i}", f"b{i}", at=i + 2.0)]
    return fill(url, events)


def test_the_sample_is_the_smallest_hashes_on_every_database(url: str) -> None:
    traffic(url)
    rows = window.sample(url, 0, 30, line="text", rows=3)
    assert [row["request_id"] for row in rows] == SMALLEST
    assert rows[0]["outcome"] == "ok"
    assert [row["request_id"] for row in window.sample(url, 0, 30, line="text", rows=2)] == SMALLEST[:2]
    assert len(window.sample(url, 10, 20, line="text", rows=100, deployment="text-1")) == 10
    assert window.sample(url, 0, 30, line="text", rows=3, deployment="another") == []


def test_the_database_counts_every_request_once(url: str) -> None:
    traffic(url)
    first, width, rows = window.counts(url, 0, 30, 10)
    assert (first, width) == (0.0, pytest.approx(2.9))
    assert sum(row["requests"] for row in rows) == 30
    assert sum(row["requests"] for row in rows if row["outcome"] is None) == 1
    assert sorted({row["slice"] for row in rows}) == list(range(11))
    assert sum(row["backwards"] for row in rows) == 0
    assert window.counts(url, 100, 200, 10)[2] == []


def test_each_deployment_counts_for_what_it_answered_with_its_tokens_and_likes(url: str) -> None:
    traffic(url)
    told = finished("told", at=3.5).model_copy(update={"answered_by": "text-2"})
    tokens = {"prompt_tokens": 7, "completion_tokens": 5}
    fill(url, [accepted("told", at=3.0), told.model_copy(update=tokens), like("told", "no", value=0.0)])
    first, second = window.by_deployment(url, 0, 30)
    assert first == {
        "line": "text",
        "deployment": "text-1",
        "requests": 30,
        "reactions": 10,
        "liked": 10,
        "counted": 0,
        "prompt_tokens": 0,
        "completion_tokens": 0,
    }
    assert second == dict.fromkeys(("requests", "reactions", "counted"), 1) | tokens | {
        "line": "text",
        "deployment": "text-2",
        "liked": 0,
    }
    assert window.by_deployment(url, 100, 200) == []


def test_a_clock_that_jumps_is_counted(url: str) -> None:
    fill(url, [accepted("r", at=50.0), finished("r", at=20.0), accepted("ahead", at=1e9)])
    assert sum(row["backwards"] for row in window.counts(url, 0, 100, 10)[2]) == 1
    assert window.later(url, 100) == 1


def test_the_last_word_of_each_user_counts(url: str) -> None:
    traffic(url)
    assert window.reactions(url, 0, 30) == (10, 10)
    assert window.reactions(url, 0, 10) == (4, 4)
    assert [row["value"] for row in window.reactions_to(url, ["r3", "r4"])] == [0.0, 1.0]


def test_ids_are_looked_up_in_parts(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic(url)
    monkeypatch.setattr(window, "BATCH", 7)
    assert window.count_accepted(url, [f"r{i}" for i in range(25)], 10, 30) == 15


def test_an_experiment_is_streamed_in_order(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic(url)
    monkeypatch.setattr(window, "BATCH", 7)
    rows = list(window.experiment_requests(url, "colours", "text", 20))
    assert [row["request_id"] for row in rows] == [f"r{i}" for i in range(20)]
    assert [row["like"] for row in rows[:4]] == [1.0, None, None, 1.0]
    assert list(window.experiment_requests(url, "shapes", "text", 20)) == []


def test_an_experiment_s_users_come_with_their_past_and_how_their_requests_ended(url: str) -> None:
    outside = {"experiment": "", "variant": "", "propensity": 1.0}
    before, stranger, image, between = (
        accepted(name, at=at, user=user).model_copy(update=outside | {"line": line})
        for name, at, user, line in (
            ("before", 1.0, "u", "text"),
            ("stranger", 2.0, "v", "text"),
            ("image", 1.5, "u", "image"),
            ("between", 3.5, "u", "text"),
        )
    )
    answers = [finished("before", output=" \n fox"), finished("blank", output=" \n"), finished("stranger")]
    inside = [accepted("blank", at=3.0), accepted("open", at=4.0)]
    said = [like("before", "a", at=2.9), like("before", "b", at=3.1, value=0.0), like("blank", "c", at=9.0)]
    fill(url, [before, stranger, image, between, *inside, *answers, *said])
    rows = list(window.experiment_requests(url, "colours", "text", 20))
    assert [(row["request_id"], row["outcome"], row["output"], row["like"]) for row in rows] == [
        ("before", "ok", "f", 1.0),  # the dislike came when a variant had been seen
        ("blank", "ok", "", 1.0),
        ("open", None, None, None),
    ]


def test_06_what_came_after_a_user_s_window_is_left_out_and_counted(url: str) -> None:
    inside = [accepted("first", at=1.0), accepted("second", at=9.0), accepted("after", at=11.0)]
    ends = [finished("first", at=2.0), finished("second", at=12.0)]
    said = [
        like("first", "a", at=2.0),
        like("second", "b", at=9.5).model_copy(update={"received": 11.5}),  # dated back by its client
        like("after", "c", at=12.0),
    ]
    fill(url, [*inside, *ends, *said])
    rows = list(window.experiment_requests(url, "colours", "text", 20, attribution_s=10.0))
    assert [(row["request_id"], row["outcome"], row["like"], row["closes"]) for row in rows] == [
        ("first", "ok", 1.0, 11.0),
        ("second", None, None, 11.0),
    ]
    assert window.after_closing(url, "colours", 20, 10.0) == (1, 1)
    (open_,) = window.experiment_requests(url, "colours", "text", 5, attribution_s=10.0)
    assert (open_["like"], open_["closes"]) == (1.0, 5.0)


def test_a_deployment_s_first_request_is_found(url: str) -> None:
    traffic(url)
    assert window.first_request(url, "text-1", 3.5) == 4.0
    assert window.first_request(url, "text-2", 0.0) is None


def test_a_locked_database_is_waited_for_as_long_as_its_url_says_and_said_in_words(tmp_path: Path) -> None:
    url = traffic(f"sqlite:///{tmp_path / 'events.db'}")
    with sqlite3.connect(tmp_path / "events.db") as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with pytest.raises(DatabaseError, match="another process keeps it locked; try again"):
            window.reactions(bounded(url, 1), 0, 30)
        assert 1 <= time.monotonic() - began < 5
    other.close()


def test_of_each_kind_the_newest_word_of_who_asked_is_joined_to_their_request(url: str) -> None:
    def said(key: str, kind: str, value: float, **changes: object) -> Event:
        return like("r1", key, value=value).model_copy(update={"kind": kind} | changes)

    events = [
        said("a", "like", 1.0, time=5.0, received=5.0),
        said("b", "like", 0.0, time=5.0, received=6.0),  # the same time: what was received last
        said("c", "like", 1.0, time=4.0, received=9.0),
        said("d", "save", 1.0, user_key="forger"),
        said("e", "dwell", 7.5),
        said("f", "click", 1.0, time=99.0),
    ]
    fill(url, [accepted("r1").model_copy(update={"segments": '{"plan": "paid"}'}), accepted("r2"), *events])
    first, second = sorted(
        window.experiment_requests(url, "colours", "text", 20), key=lambda row: str(row["request_id"])
    )
    assert first["segments"] == '{"plan": "paid"}'
    assert {kind: first[kind] for kind in KINDS} == dict(zip(KINDS, (0.0, None, None, None, 7.5), strict=True))
    assert [second[kind] for kind in KINDS] == [None] * 5


def test_reactions_are_tallied_by_user_and_variant(url: str) -> None:
    asked = [
        accepted("a1", user="a"),
        accepted("a2", user="a"),
        accepted("a3", user="a", variant="treatment"),  # moved there
        accepted("b1", user="b"),
        accepted("c1", user="c", variant="treatment"),
        accepted("late", at=9.0, user="d"),
    ]
    said = [
        like("a1", "k1", user="a"),
        like("a2", "k2", user="a", value=0.0),
        like("a3", "k3", user="a", at=3.0),
        like("a3", "k4", user="a", at=4.0, value=0.0),  # a changed mind
        like("c1", "k5", user="b"),  # somebody else's answer
        like("c1", "k6", user="c", value=3.0).model_copy(update={"kind": "dwell"}),
        like("late", "k7", user="d"),
    ]
    fill(url, [*asked, *said])
    assert window.tallies(url, "colours", "like", 1.0, 9.0) == {"control": (0.5, 2), "treatment": (0.0, 2)}
    assert window.tallies(url, "colours", "dwell", 2.0, 9.0)["treatment"] == (1.0, 2)
    assert window.tallies(url, "shapes", "like", 1.0, 9.0) == {}
