"""MLflow stores in SQLite for tests, copies of one whose schema is made once for the session: it takes seconds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from components.config import Registry

Store = Callable[[Path], Registry]


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Makes an empty store in a folder, `mlflow.db` and its files, and returns its settings."""
    from components.registry.connection import connect

    def of(folder: Path) -> Registry:
        uri, files = f"sqlite:///{folder}/mlflow.db", str(folder / "files")
        return Registry(tracking_uri=uri, artifact_root=files, experiment="atelier")

    empty = tmp_path_factory.mktemp("mlflow") / "state"  # which the connection makes
    with connect(of(empty)) as client:
        client.search_experiments()

    def copied(folder: Path) -> Registry:
        shutil.copy(empty / "mlflow.db", folder)
        return of(folder)

    return copied
