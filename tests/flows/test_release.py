"""Releasing: real Bentos that hold all they import, built once; deployments recorded once, restarted only when new."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.logging import disable_run_logger

from components.artifact import ArtifactError, read_manifest, seal, verify, write_text
from components.config import Line, Params, Registry, load
from components.events.database import opened
from components.events.schema import Deployment
from components.experiments.versions import history
from components.registry.registry import DIGEST, register
from components.stage import StageError
from flows import driver, release, stack
from flows.environment import ROOT
from flows.experiments import declare
from tests.components.events.examples import read
from tests.mlflow_store import Store
from tests.tiny_language import write_tiny_base, write_tiny_export, write_tiny_pairs


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Bento store of this module's own."""
    return tmp_path_factory.mktemp("bentoml")


@pytest.mark.parametrize("name", ["gateway", "text", "endpoint", "image"])
def test_a_built_bento_holds_all_that_its_service_imports(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(store))
    with disable_run_logger():
        assert release.build_bento.fn(name, "v1") == f"atelier-{name}:v1"
        assert release.build_bento.fn(name, "v1") == f"atelier-{name}:v1"  # there already
    source = shutil.copytree(store / "bentos" / f"atelier-{name}" / "v1" / "src", tmp_path / "src")
    code = f"""
import sys
sys.path.insert(0, "{source}")
import bentos.{name}.service
ours = ("bentos", "components", "monitoring", "flows")
files = [module.__file__ for name, module in sys.modules.items() if name.split(".")[0] in ours]
print([file for file in files if not file.startswith("{source}")])
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "[]"


def test_a_model_that_holds_less_than_requests_may_be_long_is_refused(
    tiny_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "package_folder", lambda line: tiny_export)
    with pytest.raises(ArtifactError, match=r"text_max_prompt_tokens 1024 .* holds 512 tokens"):
        release.require_text_fits(load())


def package_that_takes(seconds: float, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package of a pipeline whose picture took so long when it was verified."""
    metrics = {"verify": {"parity": {"openvino": {"seconds_per_picture": seconds}}}}
    seal(folder, line="image", kind="package", parents={}, parameters={}, metrics=metrics)
    monkeypatch.setattr(release, "package_folder", lambda line: folder)


@pytest.mark.parametrize("seconds", [60.0, 300.0])
def test_a_pipeline_whose_picture_nobody_would_wait_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    package_that_takes(seconds, tmp_path, monkeypatch)
    with pytest.raises(StageError, match=r"serving.image_max_latency_ms is 30000 ms") as refused:
        release.require_pictures_in_time(load(), canary=False)
    assert ("serving.request_timeout is 120 s" in str(refused.value)) == (seconds > 120)


def test_a_pipeline_that_would_go_back_as_too_slow_is_not_put_on_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package_that_takes(25.0, tmp_path, monkeypatch)
    with disable_run_logger():
        release.require_pictures_in_time(load(), canary=False)
        monkeypatch.setattr(release, "plan", lambda line, params: SimpleNamespace(champion=None))
        release.require_pictures_in_time(load(), canary=True)  # the first one goes on no trial
        monkeypatch.setattr(release, "plan", lambda line, params: SimpleNamespace(champion="image-1"))
        with pytest.raises(StageError, match=r"took 25 s .* release.slow_seconds.image is 20 s: .* too slow"):
            release.require_pictures_in_time(load(), canary=True)


def test_a_build_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    with disable_run_logger(), pytest.raises(StageError, match=r"bentoml build of atelier-audio:v1 .*exit code"):
        release.build_bento.fn("audio", "v1")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Params, list[str]]:
    """Parameters and a packaged text artifact in an empty folder; what would be restarted is listed instead."""
    restarted: list[str] = []
    monkeypatch.setattr(release, "STATE", tmp_path)
    monkeypatch.setattr(stack, "STATE", tmp_path)
    monkeypatch.setattr(release, "package_folder", lambda line: tmp_path / "package")
    monkeypatch.setattr(stack, "running", lambda: set(restarted))
    monkeypatch.setattr(stack, "restart", lambda params, program: restarted.append(program))
    (tmp_path / "package" / "openvino").mkdir(parents=True)
    (tmp_path / "package" / "openvino" / "config.json").write_text('{"max_position_embeddings": 2048}')
    (tmp_path / "package" / "weights").write_bytes(b"1")
    seal(tmp_path / "package", line="text", kind="package", parents={}, parameters={}, metrics={})
    params = load()
    events = params.events.model_copy(update={"url": f"sqlite:///{tmp_path / 'events.db'}"})
    return params.model_copy(update={"events": events}), restarted


def test_deploying_again_records_and_restarts_nothing(machine: tuple[Params, list[str]]) -> None:
    params, restarted = machine
    with disable_run_logger():
        names = [release.deploy.fn("text", "atelier-text", "3", "atelier-text:abc", params, "text") for _ in range(2)]
    assert names == ["text-abc", "text-abc"]
    assert restarted == ["text"]
    (row,) = read(params.events.url, "deployments")
    record = stack.require_deployed("text")
    assert row == record.model_dump()
    assert record.digest == release.read_manifest(release.package_folder("text")).digest


def test_22_deployments_are_looked_up_in_the_database_of_the_setting(
    machine: tuple[Params, list[str]], tmp_path: Path
) -> None:
    params, restarted = machine
    elsewhere = params.events.model_copy(update={"url": f"sqlite:///{tmp_path / 'elsewhere' / 'events.db'}"})
    params = params.model_copy(update={"events": elsewhere})
    with disable_run_logger():
        for _ in range(2):
            release.deploy.fn("text", "atelier-text", "3", "atelier-text:abc", params, "text")
    (row,) = read(params.events.url, "deployments")
    assert stack.require_deployed("text").model_dump() == row and restarted == ["text"]


def test_a_new_bento_replaces_the_running_one(machine: tuple[Params, list[str]]) -> None:
    params, restarted = machine
    with disable_run_logger():
        for tag in ("atelier-text:abc", "atelier-text:def"):
            release.deploy.fn("text", "atelier-text", "3", tag, params, "text")
    assert restarted == ["text", "text"]
    assert stack.require_deployed("text").deployment == "text-def"
    assert len(read(params.events.url, "deployments")) == 2


def test_a_candidate_is_deployed_beside_the_champion_and_put_on_trial(
    machine: tuple[Params, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    params, restarted = machine
    recorded: list[tuple[str, str]] = []
    record_release = release.record_release.fn

    def promote(line: Line, deployment: str, params: Params) -> None:
        recorded.append(("champion", deployment))
        record_release(line, deployment, params)

    monkeypatch.setattr(release, "load", lambda: params)
    monkeypatch.setattr(release, "register_package", lambda line: ("atelier-text", "3"))
    monkeypatch.setattr(release, "compare", lambda *_: None)
    monkeypatch.setattr(release, "build_bento", lambda name, version: f"atelier-{name}:{version}")
    monkeypatch.setattr(release, "deploy", release.deploy.fn)
    monkeypatch.setattr(release, "record_release", promote)
    monkeypatch.setattr(release, "record_candidate", release.record_candidate.fn)
    monkeypatch.setattr(release, "update_aliases", lambda *_: [])

    def offer(weights: bytes, canary: bool | None = None) -> tuple[str, list[str]]:
        """The deployment, and what was restarted for it."""
        before = len(restarted)
        (release.package_folder("text") / "weights").write_bytes(weights)
        seal(release.package_folder("text"), line="text", kind="package", parents={}, parameters={}, metrics={})
        with disable_run_logger():
            return release.release.fn(["text"], canary=canary)["text"], restarted[before:]

    first, anew = offer(b"1", canary=True)  # there is nobody to be compared with yet
    assert (recorded, anew) == ([("champion", first)], ["text", "gateway"])
    second, anew = offer(b"2", canary=True)
    assert (anew, stack.slot_of("text", first), stack.slot_of("text", second)) == (["text-b"], "text", "text-b")
    assert driver.plan("text", params).candidate == second
    assert offer(b"2", canary=True) == (second, [])  # as after a kill
    with pytest.raises(StageError, match=f"{second} is on trial"):
        offer(b"3", canary=True)
    third, anew = offer(b"3")  # by the direct path, in the champion's place and not in the candidate's
    assert (anew, stack.slot_of("text", third)) == (["text", "gateway"], "text")
    assert (driver.plan("text", params).champion, driver.plan("text", params).candidate) == (third, second)
    with opened(params.events.url) as engine:  # once, whatever number of releases
        assert [(v.name, v.why) for v in history(engine)] == [("text-temperature", "declared in params.yaml")]


def test_an_api_is_asked_and_served_by_a_bento_of_its_own_with_its_price_on_record(
    machine: tuple[Params, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    params, restarted = machine
    base = params.base.text.model_copy(update={"endpoint": "https://api.example.com/v1"})
    params = params.model_copy(update={"base": params.base.model_copy(update={"text": base})})
    price = {"input": 1.0, "output": 2.0, "currency": "USD"}
    asked: list[list[str]] = []

    def ask(what: str, command: list[str], tail: int) -> str:
        parameters = {"price": price}
        seal(tmp_path / "package", line="text", kind="endpoint", parents={}, parameters=parameters, metrics={})
        asked.append(command)
        return "asked"

    def silent(slot: str, of: Params) -> None:
        raise StageError(f"{slot} does not answer")

    monkeypatch.setenv("ATELIER_ENDPOINT_KEYS", "")  # the flow sets it for what it starts: put back afterwards
    monkeypatch.setattr(release, "load", lambda: params)
    monkeypatch.setattr(release, "require_answer", silent)
    monkeypatch.setattr(release, "call", ask)
    monkeypatch.setattr(release, "register_package", lambda line: ("atelier-text", "3"))
    monkeypatch.setattr(release, "compare", lambda *_: None)
    monkeypatch.setattr(release, "build_bento", lambda name, version: f"atelier-{name}:{version}")
    monkeypatch.setattr(release, "deploy", release.deploy.fn)
    monkeypatch.setattr(release, "record_release", release.record_release.fn)
    monkeypatch.setattr(release, "update_aliases", lambda *_: [])
    with disable_run_logger():
        for _ in range(2):  # the second finds its process at work
            with pytest.raises(StageError, match="text does not answer"):
                release.release.fn(["text"])
        assert driver.plan("text", params).champion is None
        monkeypatch.setattr(release, "require_answer", lambda slot, of: None)
        name = release.release.fn(["text"])["text"]
    record = stack.require_deployed("text")
    assert (record.deployment, json.loads(record.price)) == (name, price)
    assert record.bento == f"atelier-endpoint:{name.removeprefix('text-')}" and restarted == ["text", "gateway"]
    assert [command[-1] for command in asked] == ["components.export.endpoint"] * 3


def test_an_experiment_that_would_be_spoilt_stops_a_release_before_anything_is_deployed(
    machine: tuple[Params, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    params, restarted = machine
    declare(params)
    (running,) = params.experiments
    spoilt = params.model_copy(update={"experiments": (running.model_copy(update={"salt": "new"}),)})
    monkeypatch.setattr(release, "load", lambda: spoilt)
    with disable_run_logger(), pytest.raises(StageError, match="text-temperature runs, and its salt cannot change"):
        release.release.fn(["text"])
    assert restarted == []


def test_before_the_first_release_nothing_is_deployed(machine: tuple[Params, list[str]]) -> None:
    assert stack.deployed("image") is None
    with pytest.raises(StageError, match="no image model is deployed yet"):
        stack.require_deployed("image")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two tiny text packages, one surer of its random guesses and so the worse."""
    folder = tmp_path_factory.mktemp("packages")
    base = write_tiny_base(folder / "base")
    made = {"good": 1.0, "worse": 4.0}
    return {name: write_tiny_export(base, folder / name, "package", certainty) for name, certainty in made.items()}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, mlflow_store: Store) -> Registry:
    return mlflow_store(tmp_path_factory.mktemp("mlflow"))


class Project:
    """A folder with the code, parameters and held-out pairs of its own, and which packages are there."""

    def __init__(self, root: Path, packages: dict[str, Path], registry: Registry) -> None:
        (root / "components").symlink_to(ROOT / "components")
        shutil.copyfile(ROOT / "params.yaml", root / "params.yaml")
        write_tiny_pairs(root / "data" / "text" / "split", ("apple", "heart", "rocket", "dog"))
        self.root, self.packages, self.registry = root, packages, registry

    def serve(self, name: str) -> str:
        """Record a registered package as the one that serves; returns its digest."""
        digest = register(self.packages[name], self.registry).tags[DIGEST]
        self.record(name, digest)
        return digest

    def record(self, name: str, digest: str) -> None:
        record = Deployment(
            deployment=f"text-{name}", line="text", digest=digest, model="text", version="1", bento="text:1", time=0.0
        )
        write_text(self.root / "deployed" / "text.json", record.model_dump_json())

    def offer(self, name: str) -> str:
        """Make a package the candidate; returns its digest."""
        shutil.copytree(self.packages[name], self.root / "artifacts" / "text" / "package")
        return read_manifest(self.packages[name]).digest

    def compare(self, candidate: str, force: str | None = None) -> None:
        release.compare("text", candidate, self.registry, force)

    @property
    def evidence(self) -> list[Path]:
        return list((self.root / "comparisons").rglob("*.json"))


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    packages: dict[str, Path],
    registry: Registry,
    prefect_server: None,
) -> Project:
    params = load()
    events = params.events.model_copy(update={"url": f"sqlite:///{tmp_path / 'events.db'}"})
    serving = params.serving.model_copy(update={"text_max_prompt_tokens": None})  # the tiny model holds few
    params = params.model_copy(update={"registry": registry, "events": events, "serving": serving})
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    monkeypatch.setattr(release, "load", lambda: params)
    monkeypatch.setattr(release, "ROOT", tmp_path)
    monkeypatch.setattr(release, "STATE", tmp_path)
    monkeypatch.setattr(stack, "STATE", tmp_path)
    return Project(tmp_path, packages, registry)


def test_a_worse_model_is_refused_in_words_and_the_champion_goes_on(project: Project) -> None:
    champion, candidate = project.serve("good"), project.offer("worse")
    refusal = r"may be worse than text-good, which goes on serving: perplexity_ratio_upper is .*--force"
    with pytest.raises(StageError, match=refusal):
        release.release(["text"])
    assert stack.require_deployed("text").digest == champion
    assert not (project.root / "bentoml").exists()
    assert verify(project.root / "champions" / "text" / champion[:12]).digest == champion
    (evidence,) = project.evidence
    assert evidence.name == f"{candidate[:12]}-{champion[:12]}.json"
    project.compare(candidate, force="a safer model is worth it")
    document = json.loads(evidence.read_bytes())
    assert document["forced"] == "a safer model is worth it" and document["passed"] is False


def test_a_better_model_passes_and_a_damaged_copy_of_the_champion_is_brought_again(project: Project) -> None:
    champion, candidate = project.serve("worse"), project.offer("good")
    copy = project.root / "champions" / "text" / champion[:12]
    copy.mkdir(parents=True)
    project.compare(candidate)
    assert verify(copy).digest == champion
    (evidence,) = project.evidence
    assert json.loads(evidence.read_bytes())["passed"] is True


def test_a_comparison_that_fails_says_why(project: Project) -> None:
    project.serve("good")
    candidate = project.offer("worse")
    shutil.rmtree(project.root / "data")
    with pytest.raises(StageError, match=r"candidate with text-good ended .*\n.*data/text/split: no manifest"):
        project.compare(candidate)


def test_a_champion_that_the_registry_has_lost_is_named_with_the_way_out(project: Project) -> None:
    project.record("lost", "0" * 64)
    with pytest.raises(StageError, match=r"text-lost cannot be brought back .*has the digest 0+; .*--force"):
        project.compare(project.offer("worse"))


@pytest.mark.parametrize("served", [[], ["good"]])
def test_without_another_champion_there_is_nothing_to_compare(project: Project, served: list[str]) -> None:
    for name in served:
        project.serve(name)
    project.compare(project.offer("good"))
    assert project.evidence == []


def test_by_schedule_no_line_is_released_that_nobody_has_released(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], bool]] = []

    def of_lines(lines: list[str], *, canary: bool) -> dict[str, str]:
        asked.append((lines, canary))
        return {}

    monkeypatch.setattr(release, "release", of_lines)
    monkeypatch.setattr(release, "served", lambda line, _champion: line == "text")
    release.renew.fn()
    monkeypatch.setattr(release, "served", lambda _line, _champion: False)
    release.renew.fn()
    assert asked == [(["text"], True)]
