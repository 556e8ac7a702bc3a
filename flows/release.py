"""The release flow: packaged artifacts become MLflow versions, Bentos, recorded deployments and running services.

Nothing is built or deployed before every line's candidate is known not to be worse than what serves now. Every step is
idempotent by the artifact's digest, so that after deleting local state, or a kill, running it again restores what was
there. A release goes on trial, driven by `flows.canary` from then on, or becomes champion by the direct path and says
so; the rules of that are in `components.releases`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import Request

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from sqlalchemy import Engine

from bentos import build
from bentos.protocol import TextJob
from components import engine_token
from components.artifact import ArtifactError, canonical, read_manifest, verify, write_text
from components.config import Line, Params, Registry, load
from components.endpoint_keys import KEY
from components.errors import AtelierError
from components.evaluation.gate import refusals
from components.events.database import opened
from components.events.ledger import Note
from components.events.read import get_deployment, record_deployment
from components.events.schema import Deployment
from components.lines import LINES
from components.paths import ARTIFACTS
from components.releases import store
from components.releases.machine import State
from components.releases.plan import champion_of
from components.releases.schema import Release
from components.stage import StageError
from flows import stack
from flows.driver import digest_of, driving, person, plan, update_aliases
from flows.environment import ROOT, STATE, keep_endpoint_key, service_urls
from flows.experiments import declare
from flows.stack import deployed, place, served, slot_beside, slot_of

BUILD_TAIL = 15
DIRECT = "no canary was asked for"
OVERRULE = "to replace the champion all the same: atelier release start --force 'the reason'"


@flow(name="release", flow_run_name="release", persist_result=False)
def release(lines: list[Line] | None = None, force: str | None = None, canary: bool | None = None) -> dict[str, str]:
    """Release the packaged artifact of each line and, last, the gateway; returns line → deployment id.

    `force`, a reason in words, releases what cannot be compared with the champion or may be worse. `canary` puts it on
    trial beside the champion, where there is one, instead of in its place; by default as params.yaml says.
    """
    params = load()
    canary = params.release.canary if canary is None else canary
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    if "text" in (lines or LINES) and bento_of("text") == "endpoint":
        keep_endpoint_key(params)
        said = call("asking the endpoint", [sys.executable, "-m", "components.export.endpoint"], tail=1)
        get_run_logger().info("%s", said)
    digests = {line: verify(package_folder(line)).digest for line in lines or LINES}
    tags = {line: f"{digest[:12]}-{build.digest(bento_of(line))}" for line, digest in digests.items()}
    if "text" in digests and bento_of("text") == "text":
        require_text_fits(params)
    if "image" in digests:
        require_pictures_in_time(params, canary)
    for line, tag in tags.items():
        require_not_rolled_back(line, f"{line}-{tag}", params)
        if canary:
            require_no_other_on_trial(line, f"{line}-{tag}", params)
    for message in declare(params):
        get_run_logger().info("%s", message)
    versions = {line: register_package(line) for line in digests}
    for line, digest in digests.items():
        compare(line, digest, params.registry, force)
    deployments: dict[str, str] = {}
    for line in digests:
        tag = build_bento(bento_of(line), tags[line])
        now = plan(line, params)
        beside = now.champion if canary else now.candidate
        deployments[line] = deploy(line, *versions[line], tag, params, slot_beside(line, beside))
        on_trial = canary and now.champion not in (None, deployments[line])
        (record_candidate if on_trial else record_release)(line, deployments[line], params)
    deploy_gateway(build_bento("gateway", build.digest("gateway")), params, even_unchanged=not canary)
    return deployments


@flow(name="renew", flow_run_name="renew", persist_result=False)
def renew() -> dict[str, str]:
    """Put what was packaged anew on trial, of the lines that are served; nobody watches when this runs by schedule."""
    lines = [line for line in LINES if served(line, None)]
    return release(lines, canary=True) if lines else {}


def bento_of(line: str) -> str:
    """The folder of `bentos` that serves what a line is to release."""
    return "endpoint" if line == "text" and load().base.text.endpoint else line


def package_folder(line: str) -> Path:
    """What a line is to release: what the graph has packaged, or where the API is that serves it."""
    return ROOT / ARTIFACTS / line / ("endpoint" if bento_of(line) == "endpoint" else "package")


def require_text_fits(params: Params) -> None:
    """Refuse, before anything is deployed, a text model that holds less than what requests may be long."""
    from components.runtimes.text import require_context

    serving = params.serving
    require_context(package_folder("text"), serving.text_max_prompt_tokens, serving.text_max_new_tokens)


def require_pictures_in_time(params: Params, canary: bool) -> None:
    """Refuse, before anything is deployed, a pipeline whose picture nobody would wait for, by what verification took,
    or which would go back as too slow. Raises `StageError` naming the parameter.
    """
    parity = read_manifest(package_folder("image")).metrics.get("verify", {}).get("parity", {})
    seconds = max((row.get("seconds_per_picture", 0.0) for row in parity.values()), default=0.0)
    serving = params.serving
    limits = {
        "serving.request_timeout": (serving.request_timeout, f"{serving.request_timeout:g} s"),
        "serving.image_max_latency_ms": (serving.image_max_latency_ms / 1000, f"{serving.image_max_latency_ms} ms"),
    }
    if canary and plan("image", params).champion:
        slow = params.release.slow_seconds["image"]
        limits["release.slow_seconds.image"] = (slow, f"{slow:g} s")
    if short := [f"{name} is {words}" for name, (limit, words) in limits.items() if seconds > limit]:
        raise StageError(
            f"a picture took {seconds:.0f} s when it was verified, and {' and '.join(short)}: every request would "
            "fail, or count as too slow; raise these, or lower serving.image_steps"
        )
    if seconds > (late := serving.late_seconds["image"]):
        words = "a picture took %.0f s; from serving.late_seconds.image, %g s, on it is late and alerts fire: raise it"
        get_run_logger().warning(words, seconds, late)


def require_not_rolled_back(line: Line, deployment: str, params: Params) -> None:
    """Refuse, before anything is deployed, what somebody took back: the nightly flow would bring it in again."""
    with opened(params.events.url) as engine:
        moves = [m for m in store.history(engine, line) if m.release.rpartition(".")[0] == deployment]
    if moves and moves[-1].target is State.ROLLED_BACK:
        last = moves[-1]
        raise StageError(
            f"{deployment} was rolled back by {last.who}: {last.why}; release another package or other code"
        )


def require_no_other_on_trial(line: Line, deployment: str, params: Params) -> None:
    """Refuse, before anything is deployed, a second candidate: users are compared between two."""
    on_trial = plan(line, params).candidate
    if on_trial not in (None, deployment):
        instead = f"wait for it, or `atelier release rollback {line}` first"
        raise StageError(f"{on_trial} is on trial on line {line}: {instead}")


@task(task_run_name="register-{line}", retries=2, retry_delay_seconds=5, persist_result=False)
def register_package(line: Line) -> tuple[str, str]:
    """Register the package of a line with MLflow; returns its registered model and version."""
    from components.registry.registry import DIGEST, register

    version = register(package_folder(line), load().registry)
    get_run_logger().info("%s is version %s of %s", version.tags[DIGEST][:12], version.version, version.name)
    return version.name, str(version.version)


@task(task_run_name="compare-{line}", persist_result=False)
def compare(line: Line, digest: str, registry: Registry, force: str | None) -> None:
    """Raise `StageError` where a candidate may be worse than what serves now, unless forced; both go on record."""
    champion, logger = served(line, plan(line, load()).champion), get_run_logger()
    if champion is None or champion.digest == digest:
        logger.info("nothing to compare: %s", "no champion yet" if champion is None else "the champion itself")
        return
    evidence = comparison_file(line, digest, champion.digest)
    if force:
        before = json.loads(evidence.read_bytes()) if evidence.exists() else {}
        forced = {"candidate": digest, "champion": champion.digest, "forced": force}
        write_text(evidence, canonical(before | forced))
        logger.warning("%s replaces %s without being compared: %s", digest[:12], champion.deployment, force)
        return
    packages = [str(package_folder(line)), str(champion_folder(champion, registry))]
    program = [sys.executable, "-m", "components.evaluation.champion", line, *packages, str(evidence)]
    call(f"comparing the {line} candidate with {champion.deployment}", program, tail=1)
    document = json.loads(evidence.read_bytes())
    create_table_artifact(key=f"champion-{line}", table=document["checks"], description=f"evidence: `{evidence}`")
    if not document["passed"]:
        raise StageError(
            f"the {line} model {digest[:12]} may be worse than {champion.deployment}, which goes on serving: "
            f"{'; '.join(refusals(document))}; see {evidence}; {OVERRULE}"
        )
    logger.info("%s is not worse than %s", digest[:12], champion.deployment)


def comparison_file(line: str, digest: str, champion: str) -> Path:
    """Where the comparison of two packages is kept."""
    return STATE / "comparisons" / line / f"{digest[:12]}-{champion[:12]}.json"


def champion_folder(champion: Deployment, registry: Registry) -> Path:
    """The package that serves now, brought back from the registry unless a whole copy is here already."""
    from components.registry.registry import fetch

    folder = STATE / "champions" / champion.line / champion.digest[:12]
    with suppress(ArtifactError):
        if verify(folder).digest == champion.digest:
            return folder
    shutil.rmtree(folder, ignore_errors=True)
    try:
        fetch(champion.line, champion.digest, folder, registry)
    except AtelierError as error:
        raise StageError(
            f"{champion.deployment} cannot be brought back to compare with: {error}; {OVERRULE}"
        ) from error
    return folder


@task(task_run_name="bento-{name}", persist_result=False)
def build_bento(name: str, version: str) -> str:
    """Build the Bento of `bentos/<name>` under `version` unless the store has it; returns its tag."""
    tag = f"atelier-{name}:{version}"
    if subprocess.run(["bentoml", "get", tag], cwd=ROOT, capture_output=True, check=False).returncode == 0:
        get_run_logger().info("%s is built already", tag)
        return tag
    command = ["bentoml", "build", "-f", f"bentos/{name}/bentofile.yaml", "--version", version, "."]
    call(f"bentoml build of {tag}", command, BUILD_TAIL)
    get_run_logger().info("built %s", tag)
    return tag


def call(what: str, command: list[str], tail: int) -> str:
    """What a command says in the project's root; raises `StageError` with its last `tail` lines where it fails."""
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        lines = "\n".join((ended.stdout + ended.stderr).splitlines()[-tail:])
        raise StageError(f"{what} ended with exit code {ended.returncode}:\n{lines}")
    return ended.stdout.strip()


@task(task_run_name="deploy-{line}", persist_result=False)
def deploy(line: Line, model: str, version: str, tag: str, params: Params, slot: str) -> str:
    """Record the deployment, then replace what runs in the slot by it, unless a slot has it; returns its id."""
    manifest = read_manifest(package_folder(line))
    identifier = f"{line}-{tag.rpartition(':')[2]}"
    with opened(params.events.url):  # made where there is none
        record = get_deployment(params.events.url, identifier)
    if record is None:
        record = Deployment(
            deployment=identifier,
            line=line,
            digest=manifest.digest,
            model=model,
            version=version,
            bento=tag,
            time=time.time(),
            price=json.dumps(manifest.parameters.get("price") or {}),
        )
        record_deployment(params.events.url, record)
    slot = slot_of(line, identifier) or slot
    changed = deployed(slot) != record
    place(slot, record)
    if changed or slot not in stack.running():
        stack.restart(params, slot)
    if tag.startswith("atelier-endpoint:"):
        require_answer(slot, params)
    get_run_logger().info("%s serves %s", line, identifier)
    return identifier


def require_answer(slot: str, params: Params) -> None:
    """Ask what a slot serves one phrase: its process may have no key, or another, than who released it.

    Raises `StageError` where no answer comes.
    """
    serving = params.serving
    job = TextJob(messages=[("user", "Hello")], max_new_tokens=8, temperature=serving.text_temperature)
    headers = {"content-type": "application/json", **engine_token.headers()}
    request = Request(f"{service_urls(params)[slot]}/generate", job.model_dump_json().encode(), headers)  # noqa: S310 - ours
    try:
        stack.DIRECT.open(request, timeout=serving.request_timeout).close()
    except OSError as error:
        raise StageError(
            f"{slot} runs and does not answer: {error}; its log has the endpoint's words; where that asks for a key, "
            f"set {KEY} and release again"
        ) from error


@task(task_run_name="try-{line}", persist_result=False)
def record_candidate(line: Line, deployment: str, params: Params) -> None:
    """Put a deployment that serves in the second slot on trial, unless it is."""
    with driving(line, params) as (engine, token):
        before = store.current(engine, line)
        seen = evidence(line, deployment, champion_of(before), params)
        begun = validate(engine, deployment, seen, token)
        if begun.state is State.VALIDATED:
            note = Note(person(), "its slot answers", seen)
            store.move(engine, begun.release, begun.version, State.SHADOW, note, token)
        update_aliases(line, before, store.current(engine, line), params)


@task(task_run_name="record-{line}", persist_result=False)
def record_release(line: Line, deployment: str, params: Params) -> None:
    """Make a deployment that serves now the champion of its line, unless it is; goes on where a killed flow stopped."""
    with driving(line, params) as (engine, token):
        before = store.current(engine, line)
        champion = champion_of(before)
        if champion is None or champion.deployment != deployment:
            promote(engine, deployment, evidence(line, deployment, champion, params), token)
        update_aliases(line, before, store.current(engine, line), params)


def promote(engine: Engine, deployment: str, seen: dict[str, Any], token: int) -> None:
    """Registered → validated → champion, the second by the direct path."""
    begun = validate(engine, deployment, seen, token)
    note = Note(person(), DIRECT, seen)
    store.move(engine, begun.release, begun.version, State.CHAMPION, note, token, direct=True)


def validate(engine: Engine, deployment: str, seen: dict[str, Any], token: int) -> Release:
    """Registered → validated; a release that is further already stays where it is."""
    begun = store.register(engine, deployment, Note(person(), "released by the flow"), token)
    if begun.state is not State.REGISTERED:
        return begun
    passed = Note(person(), "gate and parity passed; the service answers", seen)
    return store.move(engine, begun.release, begun.version, State.VALIDATED, passed, token)


def evidence(line: Line, deployment: str, champion: Release | None, params: Params) -> dict[str, Any]:
    """The digest that was released and, where one was made, its comparison with the champion it replaces."""
    digest = digest_of(params, deployment)
    if champion is None:
        return {"digest": digest, "comparison": "no champion to compare with"}
    file = comparison_file(line, digest, digest_of(params, champion.deployment))
    return {"digest": digest, "comparison": json.loads(file.read_bytes()) if file.exists() else "none was made"}


def deploy_gateway(tag: str, params: Params, *, even_unchanged: bool) -> None:
    """Replace the gateway; a release on trial leaves one alone that has not changed, and with it its users."""
    record = STATE / "deployed" / "gateway.txt"
    changed = not record.exists() or record.read_text() != tag
    write_text(record, tag)
    if changed or even_unchanged or "gateway" not in stack.running():
        stack.restart(params, "gateway")


@flow(name="gateway", flow_run_name="gateway", persist_result=False)
def gateway() -> None:
    """Have the gateway of this code serve: the database may have been brought to its schema, which older code refuses.

    It speaks with model Bentos of the code before.
    """
    deploy_gateway(build_bento("gateway", build.digest("gateway")), load(), even_unchanged=False)
