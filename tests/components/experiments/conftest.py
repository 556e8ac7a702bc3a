"""Experiments live in the events database, and must work on the same two kinds of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from components.events.database import opened
from tests.components.events.conftest import postgresql_server as postgresql_server
from tests.components.events.conftest import url as url


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    with opened(url) as engine:
        yield engine
