"""Judged answers from the database: the asker's own newest reaction, of answers that were given."""

from __future__ import annotations

from components.events.database import opened
from components.events.schema import Event
from components.events.store import commit
from components.learning.read import judged
from tests.components.events.examples import accepted, finished, like


def test_the_newest_reaction_of_who_asked_counts(url: str) -> None:
    events: list[Event] = [
        *(
            accepted(name, at=at, user=f"u-{name}")
            for name, at in (("old", 1.0), ("a", 10.0), ("b", 11.0), ("c", 12.0))
        ),
        *(finished(name) for name in ("old", "a", "b")),
        finished("c").model_copy(update={"outcome": "error"}),
        like("a", "k1", at=20.0, user="u-a", value=1.0),
        like("a", "k2", at=21.0, user="u-a", value=0.0),
        like("a", "k3", at=22.0, user="somebody else", value=1.0),
        *(like(name, f"k-{name}", user=f"u-{name}") for name in ("old", "b", "c")),
        accepted("said", at=13.0, user="u-said").model_copy(update={"messages": 2}),
        finished("said"),
        like("said", "k-said", user="u-said"),
        like("b", "k5", user="u-b").model_copy(update={"kind": "click", "time": 90.0, "value": 0.0}),
    ]
    with opened(url) as engine:
        commit(engine, events)
    found = list(judged(url, 5.0, 100.0))
    assert [(a.request_id, a.liked) for a in found] == [("a", False), ("b", True)]
    assert found[1].prompt == "a fox" and found[1].output == "fox: animal" and found[1].user_key == "u-b"


def test_a_segment_s_answers_alone_are_read_where_it_is_named(url: str) -> None:
    plans = {"a": '{"plan": "paid"}', "b": '{"plan": "free"}', "c": "{}", "d": '{"country": "de", "plan": "paid"}'}
    with opened(url) as engine:
        for name, segments in plans.items():
            asked = accepted(name, at=10.0, user=name).model_copy(update={"segments": segments})
            commit(engine, [asked, finished(name), like(name, f"k-{name}", user=name)])
    assert {found.request_id for found in judged(url, 5.0, 100.0, {"plan": "paid"})} == {"a", "d"}
    assert len(list(judged(url, 5.0, 100.0))) == 4
