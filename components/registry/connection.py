"""A bounded connection to MLflow: a server that is down is named within seconds, whatever the retries of its client.

Knows addresses and nothing of models. The SQLite default needs no server; its folder is made here.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from components import config
from components.stage import StageError

CONNECT_TIMEOUT = 5.0  # seconds until an address that does not answer counts as unreachable
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
# MLflow's own defaults (7 retries of 120 s each) would hold a flow for a quarter of an hour.
BOUNDS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}


class RegistryError(StageError):
    """MLflow cannot be reached or refused what was asked; the message names the address and the reason."""


@contextmanager
def connect(settings: config.Registry) -> Iterator[MlflowClient]:
    """A client of the configured MLflow; every error of MLflow inside the block is raised as `RegistryError`."""
    uri = settings.tracking_uri
    check_reachable(uri)
    for name, value in BOUNDS.items():
        os.environ.setdefault(name, value)
    try:
        yield MlflowClient(tracking_uri=uri, registry_uri=uri)
    except (MlflowException, SQLAlchemyError) as error:
        raise RegistryError(f"MLflow at {without_credentials(uri)}: {error}") from error


def check_reachable(uri: str) -> None:
    """Raise `RegistryError` where nothing listens at a server's address; make the folder of an SQLite file."""
    parts = urlsplit(uri)
    address = without_credentials(uri)
    scheme = parts.scheme.split("+")[0]
    if scheme == "sqlite":
        Path(uri.removeprefix(f"{parts.scheme}:///")).parent.mkdir(parents=True, exist_ok=True)
        return
    if scheme not in PORTS or not parts.hostname:
        raise RegistryError(f"registry.tracking_uri {address!r}: expected sqlite, http(s) or a database")
    try:
        socket.create_connection((parts.hostname, parts.port or PORTS[scheme]), timeout=CONNECT_TIMEOUT).close()
    except OSError as error:
        raise RegistryError(
            f"MLflow at {address} is unreachable ({error}); start it or set registry.tracking_uri"
        ) from error


def without_credentials(uri: str) -> str:
    """The address as it may stand in a log: no user and no password."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def experiment_id(client: MlflowClient, settings: config.Registry) -> str:
    """The configured experiment, made if need be; files go below `artifact_root` unless a server keeps them."""
    experiment = client.get_experiment_by_name(settings.experiment)
    if experiment is not None:
        return str(experiment.experiment_id)
    location = None
    if not settings.tracking_uri.startswith("http"):
        root = settings.artifact_root
        location = (
            f"{root}/{settings.experiment}" if "://" in root else (Path(root) / settings.experiment).resolve().as_uri()
        )
    return str(client.create_experiment(settings.experiment, artifact_location=location))
