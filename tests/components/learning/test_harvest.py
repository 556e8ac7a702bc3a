"""What reactions teach: each judged answer is used or dropped with a reason, and nobody can teach too much.

Answers are read with the asker's own newest reaction, where an answer was given.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from components.events.database import opened
from components.events.schema import Event, Outcome
from components.events.store import commit
from components.learning.harvest import Harvest, JudgedAnswer, Reason, harvest, read_judged_answers, set_apart
from tests.components.events.examples import accepted, finished, like
from tests.components.learning.examples import SETTINGS, answer


def taught(found: Harvest) -> list[tuple[str, str]]:
    return [(pair.prompt, pair.output) for pair in found.pairs]


def test_a_liked_answer_becomes_a_pair_and_a_disliked_one_what_not_to_write() -> None:
    found = harvest(
        [
            answer("a boat", "boat: sea", True),
            answer(" A  boat ", "car: road", False, "bob"),
            answer("fog", "x", False),
        ],
        SETTINGS,
    )
    assert taught(found) == [("a boat", "boat: sea")]
    assert [answer.output for answer in found.disliked] == ["car: road", "x"] and not found.rejects
    apart = set_apart(found, {"a boat"})
    assert [answer.output for answer in apart.disliked] == ["car: road"]
    assert [r.reason for r in apart.rejects] == [Reason.NO_BETTER_ANSWER]


def test_what_more_users_dislike_than_like_teaches_nothing() -> None:
    votes = [("ada", True), ("bob", False), ("eve", False)]
    found = harvest([answer("a boat", "boat", liked, user) for user, liked in votes], SETTINGS)
    assert not found.pairs and len(found.disliked) == 1 and len(found.rejects) == 2


def test_one_like_may_be_chance() -> None:
    settings = SETTINGS.model_copy(update={"min_likes": 2})
    likes = [
        answer("a boat", "boat", True, "ada"),
        answer("fog", "fog", True, "ada"),
        answer("a boat", "boat", True, "bob"),
    ]
    found = harvest(likes, settings)
    assert taught(found) == [("a boat", "boat")] and found.reasons()["liked by too few"] == 1


def test_a_user_who_asks_again_counts_once_with_the_newest_answer() -> None:
    found = harvest([answer("a boat", "boat", True), answer("A boat", "ship", True)], SETTINGS)
    assert taught(found) == [("A boat", "ship")]
    assert [r.reason for r in found.rejects] == [Reason.REPEATED]


def test_a_program_that_likes_everything_fast_teaches_nothing() -> None:
    fast = [answer(f"thing {n}", "x", n % 2 == 0, "robot", time=1000 + n) for n in range(31)]
    slow = [answer(f"thing {n}", "y", n % 2 == 0, "person", time=1000 + 3 * n) for n in range(31)]
    found = harvest([*fast, *slow], SETTINGS)
    assert {pair.user_key for pair in found.pairs} == {"person"}
    assert {r.answer.user_key for r in found.rejects if r.reason is Reason.PROGRAM} == {"robot"}


def test_reactions_that_are_all_alike_say_nothing_once_there_are_many() -> None:
    few = harvest([answer(f"thing {n}", "x", True) for n in range(19)], SETTINGS)
    many = harvest([answer(f"thing {n}", "x", True) for n in range(20)], SETTINGS)
    assert len(few.pairs) == 19 and not many.pairs
    assert many.reasons() == {"uninformative": 20}


def test_one_user_teaches_a_bounded_number_of_pairs_the_newest() -> None:
    settings = SETTINGS.model_copy(update={"max_per_user": 3})
    found = harvest([answer(f"thing {n}", "x", n != 0) for n in range(8)], settings)
    assert taught(found) == [(f"thing {n}", "x") for n in (5, 6, 7)]


def test_held_out_users_teach_nothing_and_stay_held_out() -> None:
    settings = SETTINGS.model_copy(update={"held_out_users": 0.3})
    answers = [answer(f"thing {n}", "x", True, f"user-{n}") for n in range(200)]
    found = harvest(answers, settings)
    assert 30 < len(found.held_out) < 90
    assert {a.user_key for a in found.held_out}.isdisjoint(p.user_key for p in found.pairs)
    assert len(found.held_out) + len(found.pairs) == 200
    later = harvest([answer("new", "y", True, a.user_key) for a in found.held_out], settings)
    assert not later.pairs


def test_a_simulated_audience_teaches_nothing_unless_it_is_asked_to() -> None:
    one = answer("a boat", "boat", True)
    assert harvest([one], SETTINGS, {one.request_id}).reasons() == {"simulated audience": 1}


ANSWERS = st.lists(
    st.builds(
        answer,
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["x", "y", " "]),
        st.booleans(),
        st.sampled_from(["u", "v", "w"]),
        st.floats(0, 500),
    ),
    max_size=60,
)


@given(ANSWERS)
def test_every_answer_is_used_once_or_dropped_with_a_reason(answers: list[JudgedAnswer]) -> None:
    found = harvest(answers, SETTINGS)
    used = [pair.request_id for pair in found.pairs] + [answer.request_id for answer in found.disliked]
    dropped = [r.answer.request_id for r in found.rejects]
    assert sorted(used + dropped) == sorted(a.request_id for a in answers)
    assert all(r.text for r in found.rejects)


def test_the_newest_reaction_of_who_asked_counts(url: str) -> None:
    events: list[Event] = [
        *(
            accepted(name, at=at, user=f"u-{name}")
            for name, at in (("old", 1.0), ("a", 10.0), ("b", 11.0), ("c", 12.0))
        ),
        *(finished(name) for name in ("old", "a", "b")),
        finished("c").model_copy(update={"outcome": Outcome.ERROR}),
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
    found = list(read_judged_answers(url, 5.0, 100.0))
    assert [(a.request_id, a.liked) for a in found] == [("a", False), ("b", True)]
    assert found[1].prompt == "a fox" and found[1].output == "fox: animal" and found[1].user_key == "u-b"


def test_a_segment_s_answers_alone_are_read_where_it_is_named(url: str) -> None:
    plans = {"a": '{"plan": "paid"}', "b": '{"plan": "free"}', "c": "{}", "d": '{"country": "de", "plan": "paid"}'}
    with opened(url) as engine:
        for name, segments in plans.items():
            asked = accepted(name, at=10.0, user=name).model_copy(update={"segments": segments})
            commit(engine, [asked, finished(name), like(name, f"k-{name}", user=name)])
    assert {found.request_id for found in read_judged_answers(url, 5.0, 100.0, {"plan": "paid"})} == {"a", "d"}
    assert len(list(read_judged_answers(url, 5.0, 100.0))) == 4
