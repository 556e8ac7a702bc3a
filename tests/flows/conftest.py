"""A temporary Prefect server, once for every test that runs a flow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flows import environment

environment.apply()  # Prefect reads the environment when it is imported


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
