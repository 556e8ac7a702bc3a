from __future__ import annotations

from pathlib import Path

import pytest

from components.events.database import DatabaseError
from components.events.read import get_deployment, record_deployment
from tests.components.events.examples import DEPLOYMENT, read


def test_a_deployment_is_recorded_once_and_found_again(url: str) -> None:
    record_deployment(url, DEPLOYMENT)
    record_deployment(url, DEPLOYMENT.model_copy(update={"time": 9.0}))
    assert get_deployment(url, "text-1") == DEPLOYMENT
    assert get_deployment(url, "text-2") is None
    assert len(read(url, "deployments")) == 1


def test_a_deployment_id_never_changes_its_meaning(url: str) -> None:
    record_deployment(url, DEPLOYMENT)
    with pytest.raises(DatabaseError, match="text-1 already stands for"):
        record_deployment(url, DEPLOYMENT.model_copy(update={"digest": "b" * 64}))


def test_reading_makes_no_database(tmp_path: Path) -> None:
    path = tmp_path / "nothing" / "events.db"
    with pytest.raises(DatabaseError, match="no events database at"):
        read(f"sqlite:///{path}", "accepted")
    assert not path.parent.exists()
