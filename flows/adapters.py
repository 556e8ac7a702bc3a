"""Adapters for segments of users: trained on what a segment likes, tried in an experiment among its users, kept while
they like it more, and ended otherwise. `components/learning/adapter_experiment.py` says what decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from prefect import flow
from sqlalchemy import Engine

from components.artifact import Manifest, read_manifest, verify
from components.config import Experiment, Params, load
from components.data.pairs import read_pairs
from components.errors import AtelierError
from components.events import window
from components.events.database import opened
from components.events.ledger import Note
from components.experiments import store, versions
from components.experiments.versions import Version
from components.learning.adapter_experiment import (
    TREATMENT,
    Decision,
    EndReason,
    adapter_experiment,
    adapter_of,
    describe,
    end_reason,
    experiment_name,
    has_won,
    segment_name,
    write_segment_version,
)
from components.learning.adapter_experiment import decide as decide_by
from components.learning.harvest import read_judged_answers
from components.paths import ADAPTERS, SEGMENTS, TEXT_PACKAGE
from components.releases import store as releases
from components.releases.plan import champion_of, traffic_plan
from components.stage import StageError
from flows.driver import digest_of, logger, person
from flows.environment import ROOT, STATE
from flows.learn import DAY, SPLIT, of_simulated_users
from monitoring import experiments

PACKAGE = ROOT / TEXT_PACKAGE


@flow(name="adapt", flow_run_name="adapt", persist_result=False)
def adapt(train: bool = True) -> list[str]:
    """Decide on every segment's adapter that users see; then train those that are due, and begin their experiments.

    A failure of one stops no other; all failures are raised as one `StageError` at the end.
    """
    params, done, failed = load(), list[str](), list[str]()

    def attempt(name: str, step: Callable[[], str]) -> None:
        try:
            done.append(f"{name}: {step()}")
            logger().info("%s", done[-1])
        except AtelierError as error:
            failed.append(f"{name}: {error}")
            logger().error("%s", failed[-1])

    with opened(params.events.url) as engine:
        for history in experiments.in_force(params.events.url):
            if adapter_of(history[-1].experiment):
                attempt(history[-1].name, partial(decide, engine, params, history))
        segments = [{key: value} for key, values in params.feedback.segments.items() for value in values]
        for segment in segments if train else ():
            attempt(segment_name(segment), partial(_train_alone, engine, params, segment))
    if failed:
        raise StageError("; ".join(failed))
    return done


def decide(engine: Engine, params: Params, history: list[Version]) -> str:
    """One look at an adapter's experiment: it goes on, its adapter is kept, or it ends; says what was decided."""
    experiment, adapter = history[-1].experiment, adapter_of(history[-1].experiment)
    if not all(value in params.feedback.segments.get(key, ()) for key, value in experiment.segment.items()):
        return _end(engine, experiment, "feedback.segments lists its users no more")
    if (manifest := verify(ROOT / ADAPTERS / adapter)).digest != adapter:
        raise StageError(f"{ROOT / ADAPTERS / adapter} holds another adapter, {manifest.digest}")
    champion = champions_package(engine, params)
    if champion is None:
        return "it waits: the text line has no champion"
    if (package := manifest.parents["package"]) != champion:
        return _end(engine, experiment, f"{EndReason.CHAMPION_GONE} {package[:12]} is champion no more")
    until, won_before = time.time(), has_won(experiment)
    simulated = of_simulated_users(params, history[0].time, until)
    analysis = experiments.report_on(params.events.url, history, until, (), simulated).analysis
    outcome = describe(analysis, *window.written_with(params.events.url, experiment.name, TREATMENT, adapter))
    expired = until - history[0].time > DAY * params.learning.window_days
    match decide_by(analysis, won_before=won_before, expired=expired):
        case Decision.WON:
            _end(engine, experiment, f"{EndReason.WON}: {outcome}")
            return _begin(engine, params, experiment.segment, adapter, outcome, won_before=True)
        case Decision.END:
            return _end(engine, experiment, outcome)
        case Decision.NO_GAIN:
            return _end(engine, experiment, f"no gain in {params.learning.window_days} days. {outcome}")
    return f"{'kept' if won_before else 'it goes on'}. {outcome}"


def _end(engine: Engine, experiment: Experiment, why: str) -> str:
    store.end(engine, experiment.name, Note(person(), why))
    return f"ended: {why}"


def _begin(
    engine: Engine, params: Params, segment: Mapping[str, str], adapter: str, why: str, *, won_before: bool = False
) -> str:
    earlier = len(_earlier(engine, segment, adapter))
    begun = adapter_experiment(params.release, segment, adapter, earlier, won_before=won_before)
    store.apply(engine, [begun], Note(person(), why))
    return f"{begun.name} begins: {why}"


def _earlier(engine: Engine, segment: Mapping[str, str], adapter: str) -> list[Version]:
    """The experiments of an adapter, as they ended, by when that was."""
    return [v for v in versions.newest(engine) if v.name.startswith(experiment_name(segment, adapter))]


def champions_package(engine: Engine, params: Params) -> str | None:
    """Digest of what the text line's champion was built from; raises `StageError` where that is not recorded."""
    champion = champion_of(releases.current(engine, "text"))
    return digest_of(params, champion.deployment) if champion else None


def _train_alone(engine: Engine, params: Params, segment: dict[str, str]) -> str:
    """Train and try while no other training runs."""
    try:
        with FileLock(STATE / "learn.lock", timeout=0):
            return _train(engine, params, segment)
    except Timeout:
        return "nothing is trained: another training is at work"


def _train(engine: Engine, params: Params, segment: dict[str, str]) -> str:
    """Bring one segment as far as it can be: to a data version, an adapter, an experiment; repeatable at any point."""
    newest = versions.newest(engine)
    if on := [v.name for v in newest if v.state == "running" and v.experiment.segment == segment]:
        return f"{on[0]} runs"
    if obstacle := _obstacle(engine, params) or _write_version(params, segment):
        return obstacle
    manifest = _adapter(params, segment)
    ended = [version.why for version in _earlier(engine, segment, manifest.digest)]
    reason = end_reason(ended[-1]) if ended else None
    if reason is EndReason.WON:  # a run was killed just then
        return _begin(engine, params, segment, manifest.digest, ended[-1], won_before=True)
    if ended and reason is None:
        return f"its adapter was tried: {ended[-1]}"
    loss, before = manifest.metrics["validation_loss"], manifest.metrics["validation_loss_without"]
    measured = f"loss on what held-out users liked {before:.3f} without it, {loss:.3f} with it"
    if loss >= before:
        return f"the adapter is no better: {measured}"
    return _begin(engine, params, segment, manifest.digest, measured)


def _obstacle(engine: Engine, params: Params) -> str:
    """Why nothing can be trained on top of the champion now."""
    if candidate := traffic_plan("text", releases.current(engine, "text")).candidate:
        return f"nothing is trained: {candidate} is on trial"
    champion = champions_package(engine, params)
    if champion is None:
        return "nothing is trained: the text line has no champion yet"
    if not PACKAGE.is_dir():
        return f"nothing is trained: there is no {PACKAGE}, as where an endpoint serves the line; that takes no adapter"
    here = read_manifest(PACKAGE).digest
    return "" if here == champion else f"nothing is trained: {PACKAGE} is {here[:12]}, the champion's {champion[:12]}"


def _write_version(params: Params, segment: dict[str, str]) -> str:
    """Write the segment's data version, where it differs enough from the one at hand; says why there is none."""
    until = time.time()
    since = until - DAY * params.learning.window_days
    answers = read_judged_answers(params.events.url, since, until, segment)
    simulated = of_simulated_users(params, since, until)
    return write_segment_version(
        answers,
        params.learning,
        simulated,
        lambda: [pair.phrase for pair in read_pairs(SPLIT / "train.parquet")],
        _folder(segment),
    )


def _adapter(params: Params, segment: dict[str, str]) -> Manifest:
    """The adapter of the data version at hand for the champion, trained where there is none."""
    from components.training import adapter  # imports PyTorch

    wanted = segment, _folder(segment), params.train.text
    return adapter.find(*wanted) or adapter.make(*wanted)


def _folder(segment: Mapping[str, str]) -> Path:
    return SEGMENTS / segment_name(segment)
