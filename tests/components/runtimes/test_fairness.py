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
