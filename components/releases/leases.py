"""Who drives a line's releases: a lease per line, whose token grows with every new holder.

The expiry only says when another may take over, and rests on the machines' clocks; what keeps a late holder from
moving anything is the token, which every move checks in its own transaction.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, select, update
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from components.events.database import writing
from components.releases.machine import LeaseHeldError, StaleTokenError, UnknownReleaseError
from components.releases.schema import LEASES, Lease

POLL = 0.05  # seconds between two looks at a lease that is waited for: SQLite tells nobody that a row has changed


def take(engine: Engine, line: str, holder: str, seconds: float, patience: float = 0.0) -> Lease:
    """Become the driver of a line for `seconds`; raises `LeaseHeldError` while another is, after `patience` seconds."""
    waiting = Retrying(
        stop=stop_after_delay(patience),
        wait=wait_fixed(POLL),
        retry=retry_if_exception_type(LeaseHeldError),
        reraise=True,
    )
    return waiting(_take, engine, line, holder, seconds)


def _take(engine: Engine, line: str, holder: str, seconds: float) -> Lease:
    with writing(engine, f"lease of line {line} for {holder}") as connection:
        lease, now = _lock(connection, line), time.time()
        if lease.expires > now:
            left = lease.expires - now
            raise LeaseHeldError(
                f"{lease.holder} drives the releases of {line} for {left:.1f} s more; wait, or ask them"
            )
        taken = Lease(line, holder, lease.token + 1, now + seconds)
        connection.execute(update(LEASES).where(LEASES.c.line == line).values(vars(taken)))
        return taken


def give_back(engine: Engine, lease: Lease) -> None:
    """Let the next driver begin at once; nothing where another has taken over already."""
    with writing(engine, f"end of the lease of line {lease.line}") as connection:
        mine = (LEASES.c.line == lease.line) & (LEASES.c.token == lease.token)
        connection.execute(update(LEASES).where(mine).values(expires=0.0))


@contextmanager
def held(engine: Engine, line: str, holder: str, seconds: float, patience: float = 0.0) -> Iterator[Lease]:
    """A lease for the length of a block."""
    lease = take(engine, line, holder, seconds, patience)
    try:
        yield lease
    finally:
        give_back(engine, lease)


def fence(connection: Connection, line: str, token: int) -> None:
    """Lock a line until the transaction ends; raises `StaleTokenError` unless `token` is the newest."""
    newest = _lock(connection, line)
    if token != newest.token:
        raise StaleTokenError(
            f"token {token} no longer drives the releases of {line}: {newest.holder or 'nobody'} holds token "
            f"{newest.token}; take the lease again and read the release's state"
        )


def _lock(connection: Connection, line: str) -> Lease:
    row = connection.execute(select(LEASES).where(LEASES.c.line == line).with_for_update()).mappings().first()
    if row is None:
        raise UnknownReleaseError(f"no line {line!r} has releases; a line begins with a row in the table leases")
    return Lease(**row)
