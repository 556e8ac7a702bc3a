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
FILES = "package"
SERVED = ("package", "endpoint")  # kinds of artifacts: with a model's weights, and where one is
MAX_VALUE = 500  # characters of a parameter kept by every MLflow backend


def model_name(settings: config.Registry, line: str) -> str:
    return f"{settings.experiment}-{line}"


def register(folder: Path, settings: config.Registry) -> ModelVersion:
    """The version of a package, registered once per digest; raises `ArtifactError` or `RegistryError`."""
    manifest = verify(folder)
    if manifest.kind not in SERVED:
        raise ArtifactError(f"{folder}: kind is {manifest.kind!r}, only {' and '.join(SERVED)} are registered")
    name = model_name(settings, manifest.line)
    with connect(settings) as client:
        if (existing := version_of(client, name, manifest.digest)) is not None:
            return existing
        run = run_of(client, experiment_id(client, settings), manifest)
        log_package(client, run, manifest, folder)
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name, tags={LINE: manifest.line})
        source = f"{run.info.artifact_uri}/{FILES}"
        made = client.create_model_version(name, source, run_id=run.info.run_id, tags=tags_of(manifest))
        client.set_terminated(run.info.run_id)
        return made


def version_of(client: MlflowClient, name: str, digest: str) -> ModelVersion | None:
    """The registered version of a digest; the oldest where somebody made a second one by hand."""
    versions = client.search_model_versions(f"name = '{name}' and tag.`{DIGEST}` = '{digest}'")
    return min(versions, key=lambda version: int(version.version), default=None)


def run_of(client: MlflowClient, experiment: str, manifest: Manifest) -> Run:
    """The run of a package: the one an interrupted registration left behind, or a new one."""
    left = client.search_runs([experiment], f"tags.`{DIGEST}` = '{manifest.digest}'", max_results=1)
    if left:
        return left[0]
    name = f"{manifest.line}-{manifest.digest[:12]}"
    return client.create_run(experiment, tags=tags_of(manifest), run_name=name)


def tags_of(manifest: Manifest) -> dict[str, str]:
    parents = {f"atelier.parent.{kind}": digest for kind, digest in manifest.parents.items()}
    return {DIGEST: manifest.digest, LINE: manifest.line, **parents}


def log_package(client: MlflowClient, run: Run, manifest: Manifest, folder: Path) -> None:
    """Parameters, metrics, signature and files; writing them a second time changes nothing."""
    time = run.info.start_time
    numbers = [(key, float(value)) for key, value in leaves(manifest.metrics) if isinstance(value, bool | int | float)]
    metrics = [Metric(key, value, time, 0) for key, value in numbers]  # truth values as 0 and 1
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
                raise ArtifactError(
                    f"version {version.version} of {version.name} holds {manifest.digest}, not {digest}"
                )
            shutil.move(files, destination)
            return manifest


def current_aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """What MLflow says now: the digest behind each alias of a registered model."""
    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return {}
        raise
    versions = {alias: client.get_model_version(name, str(number)) for alias, number in model.aliases.items()}
    return {alias: version.tags.get(DIGEST, "") for alias, version in versions.items()}


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
        versions: dict[str, ModelVersion] = {}
        for alias, digest in wanted.items():
            if (version := version_of(client, name, digest)) is None:
                raise RegistryError(f"alias {alias!r}: no registered {line} package has the digest {digest}")
            versions[alias] = version
        for alias in changes:
            if alias in versions:
                client.set_registered_model_alias(name, alias, str(versions[alias].version))
            else:
                client.delete_registered_model_alias(name, alias)
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
