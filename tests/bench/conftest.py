"""The servers of other folders' tests that benches need too."""

from __future__ import annotations

from tests.bentos.gateway.conftest import gateway as gateway
from tests.bentos.gateway.conftest import standin as standin
from tests.components.annotation.conftest import token as token
from tests.components.events.conftest import postgresql_server as postgresql_server
from tests.components.events.conftest import url as url
