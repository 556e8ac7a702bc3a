from __future__ import annotations

from pathlib import Path

import pytest

from tests.components.annotation.simulated import write_data, write_set
from tests.components.events.conftest import postgresql_server as postgresql_server
from tests.components.events.conftest import url as url


@pytest.fixture(scope="session")
def data(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`prepared`, `clean` and `split` of a small image folder with one wrong label."""
    folder = tmp_path_factory.mktemp("annotation")
    return write_data(write_set(folder / "set"), folder / "data")
