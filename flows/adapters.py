"""Adapters for segments of users: trained on what a segment likes, put into an experiment among its users, kept only
where that shows that they like it more, and ended otherwise.

What serves an adapter is an experiment: where the treatment has won, another begins in which it gets nearly all of the
segment and is watched as before. Both end with the champion that the adapter was made for.
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
from components.config import Experiment, Guardrails, Params, Variant, load
from components.data import feedback
from components.data.pairs import read_pairs
from components.errors import AtelierError
from components.events import window
from components.events.database import opened
from components.events.ledger import Note
from components.events.read import get_deployment
from components.experiments import store, versions
from components.experiments.comparison import Verdict
from components.experiments.versions import Version
from components.learning import version
from components.learning.harvest import harvest, same_prompt, set_apart
from components.learning.read import judged
from components.paths import ADAPTERS, SEGMENTS, TEXT_PACKAGE
from components.releases import store as releases
from components.releases.plan import champion_of, traffic_plan
from components.stage import StageError
from flows.driver import logger, person
from flows.environment import ROOT, STATE
from flows.learn import DAY, SPLIT, of_simulated_users
from monitoring import experiments

CONTROL, TREATMENT = "control", "treatment"
SHARE, EVEN = 0.5, 0.5  # of a segment's users, of those with the adapter: while nothing is known of it
KEPT = 0.9  # of all the segment's users, once it has won; the others tell whether it stays as good
SRM_ALPHA = 0.001
ENOUGH = 10  # answers that held-out users of a segment liked, to be measured on
WON, OUTLIVED = "it won", "its champion"  # how the reasons begin after which an adapter is in force again
PACKAGE = ROOT / TEXT_PACKAGE


@flow(name="adapt", flow_run_name="adapt", persist_result=False)
def adapt(train: bool = True) -> list[str]:
    """Decide on every segment's adapter that users see; then train those that are due, and begin their experiments.

    What fails for one stops no other; all that failed is raised as one `StageError` at the end.
    """
    params, told, failed = load(), list[str](), list[str]()

    def attempt(name: str, step: Callable[[], str]) -> None:
        try:
            told.append(f"{name}: {step()}")
            logger().info("%s", told[-1])
        except AtelierError as error:
            failed.append(f"{name}: {error}")
            logger().error("%s", failed[-1])

    with opened(params.events.url) as engine:
        for name, found in tried(params).items():
            attempt(name, partial(decide, engine, params, found))
        segments = [{key: value} for key, values in params.feedback.segments.items() for value in values]
        for segment in segments if train else ():
            attempt(_named(segment), partial(_alone, engine, params, segment))
    if failed:
        raise StageError("; ".join(failed))
    return told


def tried(params: Params) -> dict[str, list[Version]]:
    """The versions of each running experiment of this flow."""
    return {
        found[-1].name: found for found in experiments.in_force(params.events.url) if adapter_of(found[-1].experiment)
    }


def decide(engine: Engine, params: Params, found: list[Version]) -> str:
    """One look at an adapter's experiment: it goes on, its adapter is kept, or it ends; says what was decided."""
    experiment, adapter = found[-1].experiment, adapter_of(found[-1].experiment)
    if not all(value in params.feedback.segments.get(key, ()) for key, value in experiment.segment.items()):
        return _end(engine, experiment, "feedback.segments lists its users no more")
    if (manifest := verify(ROOT / ADAPTERS / adapter)).digest != adapter:
        raise StageError(f"{ROOT / ADAPTERS / adapter} holds another adapter, {manifest.digest}")
    champion = champions_package(engine, params)
    if champion is None:
        return "it waits: the text line has no champion"
    if manifest.parents["package"] != champion:
        return _end(engine, experiment, f"{OUTLIVED} {manifest.parents['package'][:12]} is champion no more")
    until, kept = time.time(), experiment.weights[TREATMENT] == KEPT
    simulated = of_simulated_users(params, found[0].time, until)
    seen = experiments.report_on(params.events.url, found, until, (), simulated).analysis
    low, high = seen.interval
    turned = [c.shift for c in seen.comparisons if c.verdict is Verdict.CHANGED]
    asked, with_it = window.written_with(params.events.url, experiment.name, TREATMENT, adapter)
    users = f"{sum(arm.users for arm in seen.arms)} users, {seen.still_open} more do not count yet"
    wrote = f"it wrote {with_it} of {asked} answers of {TREATMENT}"
    words = f"{seen.reason} {100 * low:+.1f} to {100 * high:+.1f} points, {users}; {wrote}"
    if seen.verdict is Verdict.BETTER and not kept:
        _end(engine, experiment, f"{WON}: {words}")
        return _begin(engine, params, experiment.segment, adapter, words, kept=True)
    if seen.verdict in (Verdict.WORSE, Verdict.HARMFUL) or any(one is None or one.mean < 0 for one in turned):
        return _end(engine, experiment, words)
    if not kept and until - found[0].time > DAY * params.learning.window_days:
        return _end(engine, experiment, f"no gain in {params.learning.window_days} days. {words}")
    return f"{'kept' if kept else 'it goes on'}. {words}"


def _end(engine: Engine, experiment: Experiment, why: str) -> str:
    store.end(engine, experiment.name, Note(person(), why))
    return f"ended: {why}"


def _begin(
    engine: Engine, params: Params, segment: Mapping[str, str], adapter: str, why: str, *, kept: bool = False
) -> str:
    begun = experiment(params, segment, adapter, len(_earlier(engine, segment, adapter)), kept=kept)
    store.apply(engine, [begun], Note(person(), why))
    return f"{begun.name} begins: {why}"


def _earlier(engine: Engine, segment: Mapping[str, str], adapter: str) -> list[Version]:
    """The experiments of an adapter, as they ended, by when that was."""
    return [one for one in versions.newest(engine) if one.name.startswith(name_of(segment, adapter))]


def adapter_of(experiment: Experiment) -> str:
    """The adapter that an experiment of this flow tries; empty for any other experiment."""
    adapter = experiment.variants[TREATMENT].adapter if TREATMENT in experiment.variants else None
    return adapter if adapter and experiment.name.startswith(name_of(experiment.segment, adapter)) else ""


def name_of(segment: Mapping[str, str], adapter: str) -> str:
    return f"adapter-{_named(segment)}-{adapter[:8]}"


def champions_package(engine: Engine, params: Params) -> str | None:
    """Digest of what the text line's champion was built from."""
    champion = champion_of(releases.current(engine, "text"))
    record = get_deployment(params.events.url, champion.deployment) if champion else None
    return record.digest if record else None


def _alone(engine: Engine, params: Params, segment: dict[str, str]) -> str:
    """Train and try while no other training runs."""
    try:
        with FileLock(STATE / "learn.lock", timeout=0):
            return _try(engine, params, segment)
    except Timeout:
        return "nothing is trained: another training is at work"


def _try(engine: Engine, params: Params, segment: dict[str, str]) -> str:
    """Bring one segment as far as it can be: to a data version, an adapter, an experiment; repeatable at any point."""
    known = versions.newest(engine)
    if on := [one.name for one in known if one.state == "running" and one.experiment.segment == segment]:
        return f"{on[0]} runs"
    if waits := _waits(engine, params) or _learn(params, segment, _folder(segment)):
        return waits
    manifest = _adapter(params, segment)
    ended = [one.why for one in _earlier(engine, segment, manifest.digest)]
    if ended and ended[-1].startswith(WON):  # a run was killed just then
        return _begin(engine, params, segment, manifest.digest, ended[-1], kept=True)
    if ended and not ended[-1].startswith(OUTLIVED):
        return f"its adapter was tried: {ended[-1]}"
    with_it, without = manifest.metrics["validation_loss"], manifest.metrics["validation_loss_without"]
    measured = f"loss on what held-out users liked {without:.3f} without it, {with_it:.3f} with it"
    if with_it >= without:
        return f"the adapter is no better: {measured}"
    return _begin(engine, params, segment, manifest.digest, measured)


def _waits(engine: Engine, params: Params) -> str:
    """Why nothing can be trained on top of the champion now."""
    if candidate := traffic_plan("text", releases.current(engine, "text")).candidate:
        return f"nothing is trained: {candidate} is on trial"
    champion = champions_package(engine, params)
    if champion is None:
        return "nothing is trained: the text line has no champion yet"
    here = read_manifest(PACKAGE).digest
    return "" if here == champion else f"nothing is trained: {PACKAGE} is {here[:12]}, the champion's {champion[:12]}"


def _learn(params: Params, segment: dict[str, str], folder: Path) -> str:
    """Write the segment's data version, where it differs enough from the one at hand; says why there is none."""
    until = time.time()
    since = until - DAY * params.learning.window_days
    answers = judged(params.events.url, since, until, segment)
    found = harvest(answers, params.learning, of_simulated_users(params, since, until))
    pairs, enough = version.pairs_of(found, ()), params.learning.min_new
    changed = {row["id"] for row in pairs} ^ feedback.pair_ids(folder)
    if len(pairs) >= enough and len(changed) >= enough:
        taught = {row["prompt"] for row in pairs} | {pair.phrase for pair in read_pairs(SPLIT / "train.parquet")}
        apart = set_apart(found, {same_prompt(prompt) for prompt in taught})
        checks = sum(answer.liked for answer in apart.held_out)
        if checks < ENOUGH:
            return f"held-out users liked {checks} answers to other prompts, {ENOUGH} are needed to measure it on"
        version.write_version(pairs, apart, params.learning, folder)
    return f"{len(pairs)} pairs, {enough} are needed" if feedback.digest(folder) is None else ""


def _adapter(params: Params, segment: dict[str, str]) -> Manifest:
    """The adapter of the data version at hand for the champion, trained where there is none."""
    from components.training import adapter  # imports PyTorch

    wanted = segment, _folder(segment), params.train.text
    return adapter.find(*wanted) or adapter.make(*wanted)


def experiment(
    params: Params, segment: Mapping[str, str], adapter: str, earlier: int = 0, *, kept: bool = False
) -> Experiment:
    """Users of the segment with the adapter and without, by likes; it may not be slower or fail more often than a
    release may. `earlier`: how many there were of it."""
    treated = KEPT if kept else EVEN
    limits, name = params.release, name_of(segment, adapter) + (f"-{earlier + 1}" if earlier else "")
    guardrails = Guardrails(
        slo_s=limits.slow_seconds["text"],
        slow=limits.max_slow,
        failed=limits.max_failures,
        refused=limits.max_failures,
    )
    return Experiment(
        name=name,
        line="text",
        salt=name,
        segment=dict(segment),
        share=1.0 if kept else SHARE,
        variants={CONTROL: Variant(weight=1 - treated), TREATMENT: Variant(weight=treated, adapter=adapter)},
        alpha=limits.alpha,
        srm_alpha=SRM_ALPHA,
        guardrails=guardrails,
    )


def _folder(segment: Mapping[str, str]) -> Path:
    return SEGMENTS / _named(segment)


def _named(segment: Mapping[str, str]) -> str:
    return "-".join(f"{key}={value}" for key, value in segment.items())
