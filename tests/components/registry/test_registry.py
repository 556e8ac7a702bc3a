"""The registry keeps one version per digest whatever is interrupted, gives packages back, and mirrors aliases."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.artifact import ArtifactError, read_manifest, seal
from components.config import Registry
from components.registry import registry
from components.registry.connection import RegistryError, connect
from tests.mlflow_store import Store


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, mlflow_store: Store) -> Registry:
    return mlflow_store(tmp_path_factory.mktemp("mlflow"))


def package(folder: Path, content: str, line: str = "image") -> str:
    (folder / "denoiser").mkdir(parents=True)
    (folder / "denoiser" / "weights").write_text(content)
    parents = {"data": "d" * 64, "checkpoint": "c" * 64}
    parameters = {"train": {"seed": 7, "model": {"layers": 6}}}
    metrics = {"kid": 0.12, "speed": {"openvino": 5.5}, "network": "MiniLM", "passed": True}
    sealed = seal(folder, line=line, kind="package", parents=parents, parameters=parameters, metrics=metrics)
    return sealed.digest


def said(line: str, settings: Registry) -> dict[str, str]:
    """MLflow's aliases of a line's model."""
    with connect(settings) as client:
        return registry.current_aliases(client, registry.model_name(settings, line))


def test_registering_twice_gives_one_version_with_everything_that_describes_it(
    tmp_path: Path, settings: Registry
) -> None:
    digest = package(tmp_path / "package", "one")
    first = registry.register(tmp_path / "package", settings)
    assert registry.register(tmp_path / "package", settings).version == first.version
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    [version] = client.search_model_versions(f"name = 'atelier-image' and tag.`atelier.digest` = '{digest}'")
    assert version.tags["atelier.parent.checkpoint"] == "c" * 64
    run = client.get_run(first.run_id)
    assert run.data.params == {"train.seed": "7", "train.model.layers": "6"}
    assert run.data.metrics == {"kid": 0.12, "speed.openvino": 5.5, "passed": 1.0}
    assert "guidance" in run.data.tags["atelier.signature"]


@pytest.mark.parametrize("interrupted", ["log_artifacts", "create_model_version"])
def test_an_interrupted_registration_is_completed_by_the_next(
    tmp_path: Path, settings: Registry, monkeypatch: pytest.MonkeyPatch, interrupted: str
) -> None:
    digest = package(tmp_path / "package", interrupted)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowClient, interrupted, lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        registry.register(tmp_path / "package", settings)
    version = registry.register(tmp_path / "package", settings)
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    runs = client.search_runs(
        [client.get_experiment_by_name("atelier").experiment_id], f"tags.`atelier.digest` = '{digest}'"
    )
    assert [run.info.run_id for run in runs] == [version.run_id]
    assert registry.fetch("image", digest, tmp_path / "back", settings).digest == digest


def test_a_registered_package_comes_back_after_its_folder_has_changed(tmp_path: Path, settings: Registry) -> None:
    digest = package(tmp_path / "package", "kept")
    registry.register(tmp_path / "package", settings)
    (tmp_path / "package" / "denoiser" / "weights").write_text("overwritten by the next run")
    registry.fetch("image", digest, tmp_path / "back", settings)
    assert (tmp_path / "back" / "denoiser" / "weights").read_text() == "kept"
    assert read_manifest(tmp_path / "back").digest == digest
    with pytest.raises(RegistryError, match="no registered image package has the digest 000"):
        registry.fetch("image", "000", tmp_path / "other", settings)


def test_a_damaged_package_and_another_kind_are_refused(tmp_path: Path, settings: Registry) -> None:
    package(tmp_path / "package", "whole")
    (tmp_path / "package" / "denoiser" / "weights").write_text("damaged")
    with pytest.raises(ArtifactError, match="denoiser/weights was changed"):
        registry.register(tmp_path / "package", settings)
    seal(tmp_path / "package", line="image", kind="export", parents={}, parameters={}, metrics={})
    with pytest.raises(ArtifactError, match="kind is 'export'"):
        registry.register(tmp_path / "package", settings)


def test_aliases_follow_the_release_state_and_outside_edits_are_reported(tmp_path: Path, settings: Registry) -> None:
    old, new = package(tmp_path / "old", "text 1", "text"), package(tmp_path / "new", "text 2", "text")
    assert said("text", settings) == {}
    for name in ("old", "new"):
        registry.register(tmp_path / name, settings)
    assert registry.project_aliases("text", {"champion": old, "candidate": new}, settings) == {
        "candidate": (None, new),
        "champion": (None, old),
    }
    assert registry.project_aliases("text", {"champion": old, "candidate": new}, settings) == {}
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    client.set_registered_model_alias("atelier-text", "champion", "2")  # somebody's edit
    assert registry.project_aliases("text", {"champion": old}, settings) == {
        "candidate": (new, None),
        "champion": (new, old),
    }
    assert said("text", settings) == {"champion": old}
    with pytest.raises(RegistryError, match="alias 'champion': no registered text package"):
        registry.project_aliases("text", {"champion": "f" * 64}, settings)


def test_an_endpoint_is_registered_and_comes_back_like_a_package(tmp_path: Path, settings: Registry) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "answers.json").write_text("{}")
    parameters = {"url": "https://api.example.com/v1", "price": None}
    sealed = seal(tmp_path / "api", line="text", kind="endpoint", parents={}, parameters=parameters, metrics={})
    registry.register(tmp_path / "api", settings)
    assert registry.fetch("text", sealed.digest, tmp_path / "back", settings) == sealed


def test_an_unreachable_server_and_a_wrong_address_are_named_at_once(tmp_path: Path) -> None:
    package(tmp_path / "package", "one")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        for uri in (f"http://user:secret@127.0.0.1:{port}", f"postgresql://user:secret@127.0.0.1:{port}/mlflow"):
            start = time.monotonic()
            with pytest.raises(RegistryError, match=f"127.0.0.1:{port}.* is unreachable") as caught:
                registry.register(
                    tmp_path / "package", Registry(tracking_uri=uri, artifact_root="x", experiment="atelier")
                )
            assert time.monotonic() - start < 6
            assert "secret" not in str(caught.value)
    with pytest.raises(RegistryError, match="expected sqlite"):
        said("image", Registry(tracking_uri="ftp://x", artifact_root="x", experiment="atelier"))


@pytest.fixture
def server(tmp_path: Path, mlflow_store: Store) -> Iterator[str]:
    """A real MLflow server process on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = mlflow_store(tmp_path).tracking_uri
    store = ["--backend-store-uri", uri, "--artifacts-destination", str(tmp_path / "served")]
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    process = subprocess.Popen([sys.executable, "-m", "mlflow", "server", *store, *address])
    try:
        yield answering(f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        process.wait(timeout=30)


def answering(uri: str, process: subprocess.Popen[bytes], limit: float = 90.0) -> str:
    """The address, once its health check answers."""
    end = time.monotonic() + limit
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return uri
        except OSError:
            time.sleep(0.2)  # polling another process: there is nothing to wait on
    raise AssertionError(f"MLflow did not answer at {uri}")


def test_a_real_server_keeps_one_version_and_its_files(tmp_path: Path, server: str) -> None:
    settings = Registry(tracking_uri=server, artifact_root="unused", experiment="atelier")
    digest = package(tmp_path / "package", "over http")
    first = registry.register(tmp_path / "package", settings)
    assert registry.register(tmp_path / "package", settings).version == first.version
    registry.project_aliases("image", {"champion": digest}, settings)
    assert said("image", settings) == {"champion": digest}
    registry.fetch("image", digest, tmp_path / "back", settings)
    assert (tmp_path / "back" / "denoiser" / "weights").read_text() == "over http"
