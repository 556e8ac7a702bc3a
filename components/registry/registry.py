"""Packaged artifacts as MLflow model versions, one per manifest digest, and aliases that mirror the release state.

Files are copied, so that a version outlives the working folder it came from and can be brought back for a rollback.
Registering is idempotent: whatever was interrupted, the next call completes it. One process registers at a time (the
release flow's business). Aliases are a projection of our own release state and decide nothing: MLflow's setter knows no
expected version, so what changed in between is reported to the caller.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

from components import config
from components.artifact import ArtifactError, Manifest, verify
from components.registry.connection import RegistryError, connect, experiment_id
from components.stage import StageError

DIGEST = "atelier.digest"
LINE = "atelier.line"
PARENT = "atelier.parent."
FILES = "package"
MAX_VALUE = 500  # characters of a parameter kept by every MLflow backend


@dataclass(frozen=True)
class Version:
    """One registered model version and the digest of the package it holds."""

    name: str
    number: int
    run_id: str
    digest: str


def model_name(settings: config.Registry, line: str) -> str:
    """The registered model of a line."""
    return f"{settings.experiment}-{line}"


def register(folder: Path, settings: config.Registry) -> Version:
    """The version of a package, registered once per digest; raises `ArtifactError` or `RegistryError`."""
    manifest = verify(folder)
    if manifest.kind != "package":
        raise ArtifactError(f"{folder}: kind is {manifest.kind!r}, only a package is registered")
    name = model_name(settings, manifest.line)
    with connect(settings) as client:
        existing = version_of(client, name, manifest.digest)
        if existing is not None:
            return existing
        run = run_of(client, experiment_id(client, settings), manifest)
        log_package(client, run, manifest, folder)
        create_model(client, name, manifest.line)
        source = f"{run.info.artifact_uri}/{FILES}"
        tags = {DIGEST: manifest.digest, LINE: manifest.line, **parent_tags(manifest)}
        made = client.create_model_version(name, source, run_id=run.info.run_id, tags=tags)
        client.set_terminated(run.info.run_id)
        return as_version(made)


def version_of(client: MlflowClient, name: str, digest: str) -> Version | None:
    """The registered version of a digest; the oldest where somebody made a second one by hand."""
    versions = client.search_model_versions(f"name = '{name}' and tag.`{DIGEST}` = '{digest}'")
    return min(map(as_version, versions), key=lambda version: version.number, default=None)


def as_version(version: ModelVersion) -> Version:
    return Version(version.name, int(version.version), str(version.run_id), version.tags.get(DIGEST, ""))


def run_of(client: MlflowClient, experiment: str, manifest: Manifest) -> Run:
    """The run of a package: the one an interrupted registration left behind, or a new one."""
    left = client.search_runs([experiment], f"tags.`{DIGEST}` = '{manifest.digest}'", max_results=1)
    if left:
        return left[0]
    tags = {DIGEST: manifest.digest, LINE: manifest.line, **parent_tags(manifest)}
    return client.create_run(experiment, tags=tags, run_name=f"{manifest.line}-{manifest.digest[:12]}")


def parent_tags(manifest: Manifest) -> dict[str, str]:
    return {f"{PARENT}{kind}": digest for kind, digest in manifest.parents.items()}


def log_package(client: MlflowClient, run: Run, manifest: Manifest, folder: Path) -> None:
    """Parameters, metrics, signature and files; writing them a second time changes nothing."""
    time = run.info.start_time
    metrics = [Metric(key, value, time, 0) for key, value in numbers(manifest.metrics)]
    params = [Param(key, str(value)[:MAX_VALUE]) for key, value in leaves(manifest.parameters)]
    signature = signature_of(manifest.line)
    tags = [RunTag("atelier.signature", json.dumps(signature.to_dict()))]
    client.log_batch(run.info.run_id, metrics=metrics, params=params, tags=tags)
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "MLmodel"
        Model(signature=signature, model_uuid=manifest.digest[:32], metadata={"digest": manifest.digest}).save(model)
        client.log_artifact(run.info.run_id, str(model), FILES)
    client.log_artifacts(run.info.run_id, str(folder), f"{FILES}/files")


def leaves(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values of a nested mapping by dotted key; lists stay whole."""
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def numbers(document: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numeric leaves, truth values as 0 and 1."""
    for key, value in leaves(document):
        if isinstance(value, bool | int | float):
            yield key, float(value)


def create_model(client: MlflowClient, name: str, line: str) -> None:
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, tags={LINE: line})


def fetch(line: str, digest: str, destination: Path, settings: config.Registry) -> Manifest:
    """Bring a registered package back into a new folder `destination`, every digest checked, whole or not at all."""
    if destination.exists():
        raise ArtifactError(f"{destination} exists already")
    with connect(settings) as client:
        version = version_of(client, model_name(settings, line), digest)
        if version is None:
            raise RegistryError(f"no registered {line} package has the digest {digest}")
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as scratch:
            files = Path(client.download_artifacts(version.run_id, f"{FILES}/files", scratch))
            manifest = verify(files)
            if manifest.digest != digest:
                raise ArtifactError(f"version {version.number} of {version.name} holds {manifest.digest}, not {digest}")
            shutil.move(files, destination)
            return manifest


def aliases(line: str, settings: config.Registry) -> dict[str, str]:
    """What MLflow says now: the digest behind each alias of a line's model."""
    with connect(settings) as client:
        return current_aliases(client, model_name(settings, line))


def current_aliases(client: MlflowClient, name: str) -> dict[str, str]:
    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return {}
        raise
    versions = {alias: client.get_model_version(name, str(number)) for alias, number in model.aliases.items()}
    return {alias: as_version(version).digest for alias, version in versions.items()}


def project_aliases(
    line: str, wanted: Mapping[str, str], settings: config.Registry
) -> dict[str, tuple[str | None, str | None]]:
    """Make MLflow's aliases (`candidate`, `champion`) equal to `wanted`, digests by alias.

    Returns what had to change, as (digest before, digest after) by alias, so that the caller, who knows which changes
    it expected, can raise an alarm about edits made by hand.
    """
    name = model_name(settings, line)
    with connect(settings) as client:
        before = current_aliases(client, name)
        changes = {
            alias: (before.get(alias), wanted.get(alias))
            for alias in sorted(before.keys() | wanted.keys())
            if before.get(alias) != wanted.get(alias)
        }
        numbers_by_alias = {alias: version_of(client, name, digest) for alias, digest in wanted.items()}
        for alias, digest in wanted.items():
            if numbers_by_alias[alias] is None:
                raise RegistryError(f"alias {alias!r}: no registered {line} package has the digest {digest}")
        for alias in changes:
            version = numbers_by_alias.get(alias)
            if version is None:
                client.delete_registered_model_alias(name, alias)
            else:
                client.set_registered_model_alias(name, alias, str(version.number))
        return changes


def signature_of(line: str) -> ModelSignature:
    """Inputs as in `components.runtimes.base`; outputs: pictures [batch, height, width, 3], or text."""
    if line == "image":
        names = {"prompt": DataType.string, "seed": DataType.long, "steps": DataType.long, "guidance": DataType.double}
        outputs = Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3), "pictures")])
    elif line == "text":
        names = {"messages": DataType.string, "max_new_tokens": DataType.long, "temperature": DataType.double}
        outputs = Schema([ColSpec(DataType.string, "text")])
    else:
        raise StageError(f"line {line!r} has no signature: expected 'text' or 'image'")
    return ModelSignature(Schema([ColSpec(kind, name) for name, kind in names.items()]), outputs)
