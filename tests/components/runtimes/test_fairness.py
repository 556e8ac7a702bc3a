"""Who is next: keys have equal shares, then a key's users, whatever any of them sends."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from components.runtimes.fairness import admissible


@dataclass(frozen=True)
class Job:
    name: str
    share: str
    unread: int
    cost: int = 0


def job(name: str, share: str, tokens: int) -> Job:
    return Job(name, share, tokens, tokens + 10)


def names(jobs: list[Job]) -> str:
    return " ".join(job.name for job in jobs)


def test_26_a_short_prompt_goes_before_the_next_long_one_of_another_user() -> None:
    reading = [job("a1", "k/a", 1000)]
    waiting = [job("a2", "k/a", 1000), job("a3", "k/a", 1000), job("b1", "k/b", 20)]
    assert admissible(waiting, reading, 512) == []
    read = [Job("a1", "k/a", 0, 1010)]
    assert names(admissible(waiting, read, 512)) == "b1"
    assert names(admissible(waiting[:2], read, 512)) == "a2"


def test_26_a_key_with_many_users_has_no_more_than_a_key_with_one() -> None:
    waiting = [job(f"a{i}", f"k/{i}", 100) for i in range(8)] + [job(f"b{i}", "l/0", 100) for i in range(3)]
    assert names(admissible(waiting, [], 600)) == "a0 b0 a1 b1 a2 b2"


def test_26_equals_come_in_order_and_a_prompt_beyond_the_budget_alone() -> None:
    waiting = [job("a", "", 600), job("b", "", 10), job("c", "", 10)]
    assert names(admissible(waiting, [], 512)) == "a"
    assert names(admissible(waiting[1:], [], 512)) == "b c"


def test_26_in_the_writers_turn_the_next_long_prompt_waits_for_users_with_far_less_in_work() -> None:
    writing = [Job("a1", "k/a", 0, 1100), Job("b1", "k/b", 0, 30)]
    waiting = [job("a2", "k/a", 1000), job("c1", "k/c", 20)]
    assert names(admissible(waiting, writing, 512)) == "c1"
    assert names(admissible(waiting[:1], writing, 512)) == "a2"
    assert names(admissible(waiting[:1], writing, 512, writers_turn=True)) == ""
    assert names(admissible(waiting, writing, 512, writers_turn=True)) == "c1"
    first = [job("d1", "k/d", 1000), job("c1", "k/c", 20)]  # nobody else has less in work than d, who came first
    assert names(admissible(first, writing[:1], 512, writers_turn=True)) == "c1"


def test_26_in_the_writers_turn_nobody_waits_for_equals_for_their_own_work_or_for_nobody() -> None:
    for writing in ([], [Job("a1", "k/a", 0, 30)], [Job("b1", "k/b", 0, 600)]):
        assert names(admissible([job("a2", "k/a", 1000)], writing, 512, writers_turn=True)) == "a2"
    other_key = [Job("b1", "l/b", 0, 30), Job("a1", "k/c", 0, 1100)]  # where keys differ, they are compared
    assert names(admissible([job("a2", "k/a", 300)], other_key, 512, writers_turn=True)) == ""


def test_26_a_long_prompt_that_waits_for_writers_is_not_overtaken_by_other_long_ones() -> None:
    """Else these would begin one writers' turn after the other, and it would wait for ever."""
    writing = [Job("b1", "k/b", 0, 30)]
    waiting = [job("a1", "k/a", 1000), job("c1", "k/c", 100), job("d1", "k/d", 20)]
    assert names(admissible(waiting, writing, 512, writers_turn=True)) == "d1"


JOBS = st.lists(
    st.builds(Job, st.just(""), st.sampled_from(["k/a", "k/b", "l/a", ""]), st.integers(1, 900)), max_size=9
)


@settings(max_examples=60, deadline=None)
@given(JOBS)
def test_26_everybody_is_admitted_in_the_end(waiting: list[Job]) -> None:
    rounds = 0
    while waiting:
        admitted = admissible(waiting, [], 512)
        assert admitted and (len(admitted) == 1 or sum(job.unread for job in admitted) <= 512)
        for job in admitted:
            waiting.remove(job)
        rounds += 1
    assert rounds <= 9
