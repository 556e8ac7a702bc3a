"""One driver of a line at a time: others are told, can wait, and a late one can move nothing."""

from __future__ import annotations

import pytest

from components.events.database import opened
from components.releases import store
from components.releases.leases import give_back, held, take
from components.releases.machine import LeaseHeldError, StaleTokenError, State, UnknownReleaseError
from tests.components.releases.drivers import DONE, Driver
from tests.components.releases.examples import NOTE, check, record, release_directly


def test_a_lease_is_one_holders_until_it_ends_or_is_given_back(url: str) -> None:
    with opened(url) as engine:
        first = take(engine, "text", "ada", 30)
        with pytest.raises(LeaseHeldError, match=r"ada drives the releases of text for (30|29)\.\d s more"):
            take(engine, "text", "bob", 30)
        assert take(engine, "image", "bob", 30).token == 1  # each line has its own
        give_back(engine, first)
        second = take(engine, "text", "bob", 0)
        assert second.token == first.token + 1
        third = take(engine, "text", "eve", 30)  # bob's is over
        with pytest.raises(StaleTokenError, match=r"token 2 no longer drives .* text: eve holds token 3"):
            store.rollback(engine, "text", NOTE, second.token)
        give_back(engine, second)  # bob has nothing to give: eve keeps hers
        with pytest.raises(LeaseHeldError):
            take(engine, "text", "ada", 30)
        give_back(engine, third)
        with pytest.raises(UnknownReleaseError, match="no line 'sound'"):
            take(engine, "sound", "ada", 30)


def test_of_two_releases_at_once_one_wins_and_the_other_is_told_and_can_wait(url: str) -> None:
    record(url, "text-1", "text-2")
    with opened(url) as engine:
        winner = Driver(url, "text-1", seconds=30)
        winner.until("INSERT INTO releases")
        winner.go_on()
        winner.until("COMMIT")
        winner.go_on()
        assert Driver(url, "text-2", patience=0).end() == "LeaseHeldError"
        waiting = Driver(url, "text-2", patience=30)
        waiting.until("leases")  # it asks while the other drives
        waiting.go_on()
        assert winner.end() == DONE
        assert waiting.end() == DONE
        releases, moves = store.current(engine, "text"), store.history(engine, "text")
    check(releases, moves)
    assert [(r.deployment, r.state) for r in releases] == [("text-1", State.RETIRED), ("text-2", State.CHAMPION)]


def test_a_driver_that_was_paused_and_comes_back_moves_nothing(url: str) -> None:
    record(url, "text-1", "text-2")
    with opened(url) as engine:
        release_directly(engine, "text-1")
        paused = Driver(url, "text-2")
        paused.until("COMMIT", times=2)  # lease and registration
        paused.go_on()
        assert paused.next().startswith(("BEGIN", "SET LOCAL"))  # about to validate
        with held(engine, "text", "successor", 30, patience=20) as lease:
            release = store.current(engine, "text")[-1]
            store.move(engine, release.release, release.version, State.ROLLED_BACK, NOTE, lease.token)
            before = store.history(engine, "text")
            paused.go_on()
            assert paused.end() == "StaleTokenError"
        assert store.history(engine, "text") == before
        check(store.current(engine, "text"), before)
