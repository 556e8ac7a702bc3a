"""Adapters for segments of users: trained on what a segment likes, put into an experiment among its users, kept only
where that shows that they like it more, and ended otherwise.

An experiment whose treatment has won and got all the weight is what serves an adapter: in force, ended and recorded
like any other. It ends with the champion that the adapter was made for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock, Timeout
from prefect import flow
from sqlalchemy import Engine

from components.artifact import ArtifactError, Manifest, read_manifest
from components.config import Experiment, Guardrails, Params, Variant, load
from components.events.read import get_deployment
from components.events.transactions import opened
from components.experiments import store, versions
from components.experiments.versions import Version
from components.learning import version
from components.learning.harvest import harvest, same_prompt, set_apart
from components.learning.read import judged
from components.releases.schema import Note
from flows.environment import ROOT, STATE
from flows.learn import DAY, of_simulated_users
from flows.releases import logger, person, plan
from monitoring import trials

CONTROL, TREATMENT = "control", "treatment"
SHARE = 0.5  # of the segment's users, while it is not known whether it is any good
SRM_ALPHA = 0.001
ENOUGH = 10  # answers that held-out users of a segment liked, to be measured on
ADAPTERS = ROOT / "artifacts/text/adapters"


@flow(name="adapt", flow_run_name="adapt", persist_result=False)
def adapt(train: bool = True) -> list[str]:
    """Decide on every segment's adapter that users see; then train those that are due, and begin their experiments."""
    params = load()
    told = decide(params)
    if train:
        try:
            with FileLock(STATE / "learn.lock", timeout=0):
                told += _train(params)
        except Timeout:
            told.append("nothing is trained: `atelier learn` is at work")
    for words in told:
        logger().info("%s", words)
    return told


def decide(params: Params) -> list[str]:
    """One look at each adapter's experiment: it goes on, its adapter is kept, or it ends."""
    with opened(params.events.url) as engine:
        package = champions_package(engine, params)
        found = [one for one in trials.in_force(params.events.url) if adapter_of(one[-1].experiment)]
        return [_decide(engine, params, one, package) for one in found]


def _decide(engine: Engine, params: Params, found: list[Version], package: str | None) -> str:
    experiment, adapter = found[-1].experiment, adapter_of(found[-1].experiment)
    try:
        made_for = read_manifest(ADAPTERS / adapter).parents["package"]
    except ArtifactError as error:  # it serves nobody then
        return _end(engine, experiment.name, str(error))
    if made_for != package:
        return _end(engine, experiment.name, f"it was made for the model {made_for[:12]}, which is champion no more")
    if kept(experiment):
        return f"{experiment.name}: kept since {found[-1].why}"
    told = trials.told(params.events.url, found, time.time(), ()).analysis
    low, high = told.interval
    seen = f"{told.reason} Likes {100 * low:+.1f} to {100 * high:+.1f} points, {sum(a.users for a in told.arms)} users"
    if told.verdict == f"{TREATMENT} better":
        everyone = experiment.weighted({CONTROL: 0.0, TREATMENT: 1.0}).model_copy(update={"share": 1.0})
        store.apply(engine, [everyone], Note(person(), seen))
        return f"{experiment.name}: kept for all of its segment. {seen}"
    if told.verdict != "inconclusive":
        return _end(engine, experiment.name, seen)
    if time.time() - found[0].time > DAY * params.learning.window_days:
        return _end(engine, experiment.name, f"no gain in {params.learning.window_days} days. {seen}")
    return f"{experiment.name} goes on. {seen}"


def _end(engine: Engine, name: str, why: str) -> str:
    store.end(engine, name, Note(person(), why))
    return f"{name} has ended: {why}"


def adapter_of(experiment: Experiment) -> str:
    """The adapter that an experiment of this flow tries; empty for any other experiment."""
    adapter = experiment.variants[TREATMENT].adapter if TREATMENT in experiment.variants else None
    return adapter if adapter and experiment.name == name_of(experiment.segment, adapter) else ""


def kept(experiment: Experiment) -> bool:
    return experiment.weights[TREATMENT] == 1


def name_of(segment: Mapping[str, str], adapter: str) -> str:
    return "-".join(["adapter", *(f"{key}-{value}" for key, value in segment.items()), adapter[:8]])


def champions_package(engine: Engine, params: Params) -> str | None:
    """Digest of what the text line's champion was built from."""
    champion = plan("text", params).champion
    record = get_deployment(params.events.url, champion) if champion else None
    return record.digest if record else None


def _train(params: Params) -> list[str]:
    """An adapter for each segment that is due one, and its experiment; in words, what was done and what was not."""
    with opened(params.events.url) as engine:
        if candidate := plan("text", params).candidate:
            return [f"no adapter is trained: {candidate} is on trial"]
        here, champion = read_manifest(ROOT / "artifacts/text/package").digest, champions_package(engine, params)
        if here != champion:
            return [f"no adapter is trained: the model here, {here[:12]}, is not the champion's, {champion}"]
        segments = [{key: value} for key, values in params.feedback.segments.items() for value in values]
        return [f"{_named(segment)}: {_try(engine, params, segment)}" for segment in segments]


def _try(engine: Engine, params: Params, segment: dict[str, str]) -> str:
    """Bring one segment as far as it can be: to a data version, an adapter, an experiment; repeatable at any point."""
    known = {one.name: one for one in versions.newest(engine)}
    if on := [one.name for one in known.values() if one.state == "running" and one.experiment.segment == segment]:
        return f"{on[0]} runs"
    folder = version.FEEDBACK / "segments" / "-".join(*segment.items())
    if refused := _learn(params, segment, folder):
        return refused
    manifest = _adapter(params, segment, folder)
    name = name_of(segment, manifest.digest)
    if name in known:
        return f"{name} was tried: {known[name].why}"
    with_it, without = manifest.metrics["validation_loss"], manifest.metrics["validation_loss_without"]
    measured = f"loss on what held-out users liked {without:.3f} without it, {with_it:.3f} with it"
    if with_it >= without:
        return f"the adapter is no better: {measured}"
    store.apply(engine, [experiment(params, segment, manifest.digest)], Note(person(), measured))
    return f"{name} begins: {measured}"


def _learn(params: Params, segment: dict[str, str], folder: Path) -> str:
    """Write the segment's data version, where it differs enough from the one at hand; says why there is none."""
    until = time.time()
    since = until - DAY * params.learning.window_days
    answers = judged(params.events.url, since, until, segment)
    found = harvest(answers, params.learning, of_simulated_users(params, since, until))
    pairs = version.pairs_of(found, ())
    if len({row["id"] for row in pairs} ^ version.known_pairs(folder)) >= params.learning.min_new:
        apart = set_apart(found, {same_prompt(row["prompt"]) for row in pairs})
        checks = sum(answer.liked for answer in apart.held_out)
        if checks < ENOUGH:
            return f"held-out users liked {checks} answers to other prompts, {ENOUGH} are needed to measure it on"
        version.write_version(pairs, found, params.learning, folder)
    if version.digest(folder) is None:
        return f"{len(pairs)} pairs, {params.learning.min_new} are needed"
    return ""


def _adapter(params: Params, segment: dict[str, str], folder: Path) -> Manifest:
    """The adapter of the data version at hand for the champion, trained where there is none."""
    from components.training import adapter  # imports PyTorch

    return adapter.known(adapter.parents_of(folder)) or adapter.make(segment, folder, params.train.text)


def experiment(params: Params, segment: dict[str, str], adapter: str) -> Experiment:
    """Half of the segment's users, half of those with the adapter, by likes; it may not be slower or fail more often
    than a release may."""
    limits = params.release
    guardrails = Guardrails(
        slo_s=limits.slow_seconds["text"],
        slow=limits.max_slow,
        failed=limits.max_failures,
        refused=limits.max_failures,
    )
    return Experiment(
        name=name_of(segment, adapter),
        line="text",
        salt=name_of(segment, adapter),
        segment=segment,
        share=SHARE,
        variants={CONTROL: Variant(weight=0.5), TREATMENT: Variant(weight=0.5, adapter=adapter)},
        alpha=limits.alpha,
        srm_alpha=SRM_ALPHA,
        guardrails=guardrails,
    )


def _named(segment: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in segment.items())
