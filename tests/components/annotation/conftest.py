from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.annotation.label_studio import TOKEN
from tests.components.annotation.faulty import Faulty, faulty
from tests.components.annotation.simulated import write_data, write_set
from tests.components.events.conftest import postgresql_server as postgresql_server
from tests.components.events.conftest import url as url
from tests.label_studio_server import Server


@pytest.fixture(scope="session")
def data(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`prepared`, `clean` and `split` of a small image folder with one wrong label."""
    folder = tmp_path_factory.mktemp("annotation")
    return write_data(write_set(folder / "set"), folder / "data")


@pytest.fixture
def token(label_studio: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, label_studio.token)


@pytest.fixture
def proxy(label_studio: Server, token: None) -> Iterator[Faulty]:
    """A way to the server on which faults can be made up."""
    with faulty(label_studio.url) as running:
        yield running
