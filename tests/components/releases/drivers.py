"""Real driver processes that stop before every statement and every commit until they are told to go on."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection

from sqlalchemy import Engine, event

from components.events.database import connect
from components.releases import store
from components.releases.leases import held
from components.releases.machine import NEXT, State
from components.stage import StageError
from tests.components.releases.examples import NOTE

DONE = "done"
FORK = multiprocessing.get_context("fork")  # with everything imported: thirty drivers start within a second


class Driver:
    """A process that releases one deployment step by step up to champion."""

    def __init__(self, url: str, deployment: str, seconds: float = 0.02, patience: float = 20.0) -> None:
        self._pipe, theirs = FORK.Pipe()
        self._process = FORK.Process(target=_drive, args=(url, deployment, seconds, patience, theirs))
        self._process.start()
        theirs.close()

    def next(self) -> str:
        """What it is about to do, the name of the error that ended it, or `DONE`."""
        assert self._pipe.poll(30)
        return str(self._pipe.recv())

    def go_on(self, unseen: int = 0) -> None:
        """Let it do that, and `unseen` more things before it stops again."""
        self._pipe.send(unseen)

    def until(self, word: str, times: int = 1) -> None:
        """Let it work until it is about to do something for the given time."""
        while word not in self.next() or (times := times - 1):
            self.go_on()

    def end(self) -> str:
        """Let it work to its end; returns `DONE` or the name of its error."""
        while (told := self.next()) != DONE and not told.endswith("Error"):
            self.go_on()
        self._process.join()
        return told

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _drive(url: str, deployment: str, seconds: float, patience: float, pipe: Connection) -> None:
    unseen = 0

    def stop(what: str) -> None:
        nonlocal unseen
        if unseen:
            unseen -= 1
            return
        pipe.send(what)
        unseen = pipe.recv()

    engine = connect(url)
    event.listen(engine, "before_cursor_execute", lambda _c, _k, statement, *_: stop(statement))
    event.listen(engine, "commit", lambda _: stop("COMMIT"))
    try:
        _release(engine, deployment, seconds, patience)
    except StageError as error:
        pipe.send(type(error).__name__)
    else:
        pipe.send(DONE)


def _release(engine: Engine, deployment: str, seconds: float, patience: float) -> None:
    with held(engine, "text", deployment, seconds, patience) as lease:
        release = store.register(engine, deployment, NOTE, lease.token)
        while release.state is not State.CHAMPION:
            to = NEXT[release.state]
            release = store.move(engine, release.release, release.version, to, NOTE, lease.token)
