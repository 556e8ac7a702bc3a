"""Experiments live in the events database, and must work on the same two kinds of it."""

from __future__ import annotations

from tests.components.events.conftest import postgresql_server as postgresql_server
from tests.components.events.conftest import url as url
