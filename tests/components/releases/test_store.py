"""Moves happen whole, once and in order, whoever moves, dies or runs out of disk; and a line keeps its one champion."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import Engine, event, insert, text
from sqlalchemy.exc import IntegrityError

from components.events import database
from components.events.database import DatabaseError, connect, opened
from components.events.ledger import Note, OvertakenError
from components.releases import store
from components.releases.leases import take
from components.releases.machine import OPEN, IllegalMoveError, Kind, StaleTokenError, State, UnknownReleaseError
from components.releases.schema import RELEASES, Release
from tests.components.releases.drivers import DONE, Driver
from tests.components.releases.examples import NOTE, check, record, release_directly

KILLS = 30


def test_a_promotion_retires_the_champion_and_a_rollback_reinstates_it(url: str) -> None:
    record(url, "text-1", "text-2")
    with opened(url) as engine:
        release_directly(engine, "text-1")
        release_directly(engine, "text-2")
        check(store.current(engine, "text"), store.history(engine, "text"))
        assert store.gone(engine, "text") == {"text-1"} and store.gone(engine, "image") == set()
        token = take(engine, "text", "ada", 30).token
        assert store.rollback(engine, "text", Note("bob", "odd\x00 pictures"), token).release == "text-1.1"
        moves = store.history(engine, "text")
        check(store.current(engine, "text"), moves)
        assert [(m.release, m.target, m.kind) for m in moves[-4:]] == [
            ("text-1.1", State.RETIRED, Kind.DEMOTION),
            ("text-2.1", State.CHAMPION, Kind.DIRECT),
            ("text-2.1", State.ROLLED_BACK, Kind.WITHDRAWAL),
            ("text-1.1", State.CHAMPION, Kind.REINSTATEMENT),
        ]
        assert (moves[-1].who, moves[-1].why, moves[-1].token) == ("bob", "odd\ufffd pictures", token)
        assert moves[0].evidence == {"kid": 0.01}
        with pytest.raises(UnknownReleaseError, match=r"no champion before text-1\.1"):
            store.rollback(engine, "text", NOTE, token)
        assert store.gone(engine, "text") == {"text-2"}
        again = store.register(engine, "text-2", NOTE, token)  # what was rolled back may be tried anew
        assert (again.release, again.version) == ("text-2.2", 1)
        assert store.register(engine, "text-2", NOTE, token) == again and store.gone(engine, "text") == set()


def test_what_is_refused_says_why_and_changes_nothing(url: str) -> None:
    record(url, "text-1", "text-2")
    with opened(url) as engine:
        release_directly(engine, "text-1")
        token = take(engine, "text", "ada", 30).token
        store.register(engine, "text-2", NOTE, token)
        before = store.current(engine, "text"), store.history(engine, "text")
        refused: list[tuple[type[Exception], str, tuple[str, int, State, int]]] = [
            (
                OvertakenError,
                r"text-2\.1 was changed meanwhile, by ada: it is better\. .* `atelier release history LINE`",
                ("text-2.1", 7, State.VALIDATED, token),
            ),
            (StaleTokenError, "token 1 no longer", ("text-2.1", 1, State.VALIDATED, token - 1)),
            (StaleTokenError, "token 99 no longer", ("text-2.1", 1, State.VALIDATED, 99)),
            (IllegalMoveError, "not to champion", ("text-2.1", 1, State.CHAMPION, token)),
            (IllegalMoveError, "is a withdrawal", ("text-1.1", 3, State.ROLLED_BACK, token)),
            (UnknownReleaseError, "no release 'text-9'", ("text-9", 1, State.VALIDATED, token)),
        ]
        for kind, words, (release, version, to, given) in refused:
            with pytest.raises(kind, match=words):
                store.move(engine, release, version, to, NOTE, given)
        with pytest.raises(UnknownReleaseError, match="no deployment 'text-9' is recorded"):
            store.register(engine, "text-9", NOTE, token)
        assert (store.current(engine, "text"), store.history(engine, "text")) == before


@pytest.mark.parametrize("states", [(State.CHAMPION, State.CHAMPION), (State.SHADOW, State.AB)])
def test_the_database_itself_refuses_a_second_of_what_there_is_one_of(url: str, states: tuple[State, State]) -> None:
    record(url, "text-1")
    with opened(url) as engine, engine.begin() as connection:
        rows = [vars(Release(f"r{i}", "text", "text-1", state, 1, 0.0)) for i, state in enumerate(states)]
        connection.execute(insert(RELEASES).values(rows[0]))
        with pytest.raises(IntegrityError):
            connection.execute(insert(RELEASES).values(rows[1]))


def test_of_two_moves_from_the_same_version_one_wins(url: str) -> None:
    record(url, "text-1")
    with opened(url) as engine:
        token = take(engine, "text", "ada", 30).token
        begun = store.register(engine, "text-1", NOTE, token)
        together = Barrier(2)

        def attempt(to: State) -> State | None:
            together.wait()
            try:
                return store.move(engine, begun.release, begun.version, to, NOTE, token).state
            except OvertakenError:
                return None

        with ThreadPoolExecutor(2) as pool:
            won = [*pool.map(attempt, (State.VALIDATED, State.ROLLED_BACK))]
        assert won.count(None) == 1
        (now,) = store.current(engine, "text")
        assert (now.state in won, now.version) == (True, 2)


def test_drivers_killed_anywhere_leave_one_champion_and_a_whole_history(url: str) -> None:
    chance = random.Random(7)
    record(url, "text-1", "text-2")
    with opened(url) as engine:
        release_directly(engine, "text-1")
        number, kills = 2, 0
        while kills < KILLS:
            driver = Driver(url, f"text-{number}")
            driver.next()
            driver.go_on(chance.randint(0, 43))
            if driver.next() == DONE:
                number += 1
                record(url, f"text-{number}")
            else:
                driver.go_on()
                kills += 1
            driver.kill()  # while the statement or the commit that it was just told to go on with is under way
            check(store.current(engine, "text"), store.history(engine, "text"))
        assert number > 3  # killed drivers' work was carried on to the end, more than once
        assert Driver(url, f"text-{number}").end() == DONE
        releases = store.current(engine, "text")
        check(releases, store.history(engine, "text"))
        assert (releases[-1].deployment, releases[-1].state) == (f"text-{number}", State.CHAMPION)


def test_a_driver_killed_before_any_statement_of_a_promotion_leaves_the_old_champion(url: str) -> None:
    record(url, "text-1", "text-2")
    with opened(url) as engine:
        release_directly(engine, "text-1")
        token = take(engine, "text", "ada", 0).token
        release = store.register(engine, "text-2", NOTE, token)
        for to in OPEN[1:]:
            release = store.move(engine, release.release, release.version, to, NOTE, token)
        before, statements = store.history(engine, "text"), 8  # before these it takes the lease
        while store.history(engine, "text") == before:
            driver = Driver(url, "text-2")
            driver.next()
            driver.go_on(statements - 1)
            driver.next()
            driver.kill()
            statements += 1
        check(store.current(engine, "text"), store.history(engine, "text"))
        assert [m.target for m in store.history(engine, "text")[len(before) :]] == [State.RETIRED, State.CHAMPION]


def test_a_locked_database_is_an_error_in_words(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient = ("SET LOCAL lock_timeout = '50ms'",)
    monkeypatch.setitem(database.BEGIN, "postgresql", impatient)
    record(url, "text-1")
    with opened(url) as engine, opened(url) as other:
        impatiently(engine)
        token = take(engine, "text", "ada", 30).token
        with database.writing(other, "another's work") as connection:
            connection.execute(text("UPDATE leases SET holder = 'other'"))
            with pytest.raises(DatabaseError, match=r"release of text-1 is not recorded: .*(lock)"):
                store.register(engine, "text-1", NOTE, token)
        assert store.register(engine, "text-1", NOTE, token).version == 1


def impatiently(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        engine.dispose()
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=50"))


def test_a_full_database_is_an_error_in_words_and_no_half_move(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    record(url, "text-1", "text-2")
    with opened(url) as engine:
        release_directly(engine, "text-1")
        token = take(engine, "text", "ada", 30).token
        begun = store.register(engine, "text-2", NOTE, token)
        begun = store.move(engine, begun.release, begun.version, State.VALIDATED, NOTE, token)
        full = connect(url)
        event.listen(full, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count=1"))
        before = store.current(engine, "text"), store.history(engine, "text")
        big = Note("ada", "x" * 100_000)
        with pytest.raises(DatabaseError, match=r"move of text-2\.1 to champion is not recorded: .* full"):
            store.move(full, begun.release, begun.version, State.CHAMPION, big, token, direct=True)
        full.dispose()
        assert (store.current(engine, "text"), store.history(engine, "text")) == before
        check(*before)


def test_a_database_of_newer_code_is_an_error_in_words(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    with opened(url) as engine, engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseError, match="made by newer code"), opened(url):
        pass
