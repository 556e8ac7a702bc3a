"""The unattended proof: `make proof`. Users drift and the service recovers; a bad model is released and goes back.

Every part is the one that production runs: the real stack, flows, gates, gateway and driver. SIMULATED are the users
(`flows.demo.audience`), who begin to write German, and the annotators (`flows.demo.annotators`). The bad model is one
trained as if nothing had been learned: on its own data it passes every gate. Only what waits for days elsewhere is
shortened (`CHANGES`). It runs in a workspace of its own and ends with exit code 1 where anything expected did not
happen; its timeline is `.atelier/reports/proof.html` there.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from components.annotation import phrase_queue
from components.config import Params
from components.data.pairs import read_pairs
from components.evaluation.gate import read_metrics
from components.events.database import opened
from components.learning.harvest import read_judged_answers
from components.paths import METRICS as ALL_METRICS
from components.paths import TEXT_SPLIT as SPLIT
from components.releases import store
from components.releases.machine import State
from components.releases.plan import champion_of
from components.releases.schema import Move
from components.stage import StageError
from flows import environment, stack
from flows.canary import on_trial, step
from flows.demo import german
from flows.demo.annotators import answer_all
from flows.demo.audience import run_audience
from flows.demo.timeline import Timeline
from flows.demo.workspace import change, create, run
from flows.learn import FOLDER, learn, prompts_drift, prompts_moved
from flows.monitor import monitor
from flows.pipeline import pipeline
from flows.release import release

METRICS = environment.ROOT / ALL_METRICS / "text"
# What takes days with real users: a state of a release lasts half a minute instead of ten and a user counts after ten
# seconds instead of two minutes; a window lasts a minute.
CHANGES: dict[str, dict[str, Any]] = {
    "release": {"canary": True, "min_requests": 5, "min_seconds": 30, "attribution_seconds": 10},
    "learning": {"simulated": True},
    "monitor": {"window_minutes": 1},
    "audience": {"image_share": 0.02},
}
WINDOW = 60.0
PATIENCE = 10  # windows to wait for "act", which takes three
ROUNDS = 60  # visits of the audience to wait for a release's end
BANNER = (
    "Users, their change of language and the annotators are simulated, and waiting is shortened. "
    "Servers, models, training, gates, gateway, release driver and reports are the real ones."
)


@dataclass
class Proof:
    """The run's timeline, and the seeds that make each visit of the audience one of new users."""

    params: Params
    timeline: Timeline
    meant: dict[str, str]
    seeds: Iterator[int] = field(default_factory=lambda: itertools.count(1000))
    sent: int = 0
    failed: int = 0

    def visit(self, drift: float) -> None:
        """One visit of new simulated users, of whose requests the share `drift` is German."""
        audience = self.params.audience.model_copy(update={"seed": next(self.seeds)})
        traffic = run_audience(self.params.model_copy(update={"audience": audience}), drift, self.meant)
        self.sent += len(traffic.request_ids) + traffic.failed
        self.failed += traffic.failed

    def window(self, drift: float) -> Path:
        """Visits for as long as a window takes, and the monitoring flow's report of it."""
        until = time.monotonic() + WINDOW
        while time.monotonic() < until:
            self.visit(drift)
        return Path(monitor())

    def liked(self, since: float, without: Collection[str] = ()) -> NDArray[np.float64]:
        """Of every user who has judged an answer since then, the share of those they liked; not of some prompts."""
        users: dict[str, list[bool]] = {}
        for answer in read_judged_answers(self.params.events.url, since, time.time()):
            if answer.prompt not in without:
                users.setdefault(answer.user_key, []).append(answer.liked)
        return np.array([np.mean(likes) for likes in users.values()])

    def trial(self, deployment: str) -> State:
        """Audience and driver in turn until the release on trial has ended; its moves go into the timeline."""
        for _ in range(ROUNDS):
            self.visit(drift=1.0)
            step("text", self.params)
            with opened(self.params.events.url) as engine:
                trial, moves = on_trial(store.current(engine, "text")), store.history(engine, "text")
            if trial is None:
                break
        own = moves_of_newest(deployment, moves)
        for move in own:
            self.timeline.add(f"{move.release}: {move.target}", f"{move.why} (by {move.who})", at=move.time)
        return own[-1].target


def prove(params: Params, page: Path) -> Timeline:
    """Run the whole story; nothing of the stack may run before, and nothing does afterwards."""
    proof = Proof(params, Timeline("Atelier: unattended proof", BANNER, page), german.phrases())
    try:
        begin(proof)
        before = drift(proof)
        recover(proof, before)
        harm(proof)
        failures = f"{proof.failed} of {proof.sent} requests failed, of all that the simulated audience sent"
        proof.timeline.add("end", failures, expected="no request failed", held=proof.failed == 0)
    except StageError as error:
        proof.timeline.add("stopped", str(error), expected="every step can be taken", held=False)
    finally:
        stack.stop()
    return proof.timeline


def begin(proof: Proof) -> None:
    """The stack with both models, made where DVC's cache has none."""
    stack.start(proof.params, ["prefect", "mlflow"])
    pipeline()
    deployments = release()
    proof.timeline.add("service runs", f"champions: {', '.join(deployments.values())}")
    since = time.time()
    prompts = prompts_drift(proof.window(drift=0.0))
    proof.timeline.add(
        "usual traffic", f"liked: {described(proof.liked(since))}; drift {prompts['severity']}: {prompts['words']}"
    )


def drift(proof: Proof) -> NDArray[np.float64]:
    """Users write German until the monitoring flow has acted on it; returns how much each of them liked."""
    since = time.time()
    proof.timeline.add("drift begins", "from now on all simulated users write German", at=since)
    acted = False
    for number in range(1, PATIENCE + 1):
        report = proof.window(drift=1.0)
        acted, prompts = prompts_moved(report), prompts_drift(report)
        proof.timeline.add(f"window {number} of the drift", f"{prompts['severity']}: {prompts['words']}")
        if acted:
            break
    disliked = proof.liked(since)
    result = f"after {time.time() - since:.0f} s; liked since it began: {described(disliked)}"
    proof.timeline.add("drift detected", result, expected=f"detected within {PATIENCE} windows", held=acted)
    return disliked


def recover(proof: Proof, before: NDArray[np.float64]) -> None:
    """Label, learn, release on trial; then see whether users like the answers more than before."""
    with opened(proof.params.events.url) as engine:
        waiting = len(phrase_queue.open_tasks(engine))
    proof.timeline.add("samples selected", f"{waiting} phrases wait for annotators", expected="some", held=waiting > 0)
    pairs = [pair for side in ("train", "validation", "test") for pair in read_pairs(SPLIT / f"{side}.parquet")]
    prompts = {pair.concept: pair.completion for pair in pairs}
    right = {phrase: prompts[concept] for phrase, concept in proof.meant.items()}
    answers = answer_all(proof.params.events.url, right, seed=proof.params.learning.seed)
    proof.timeline.add("simulated annotators answer", f"{answers['answered']} answers", answers)
    with opened(proof.params.events.url) as engine:
        labelled = {label.phrase for label in phrase_queue.read_labels(engine)}
    learned = learn()
    proof.timeline.add("learned", learned.message)
    if learned.deployment is None:
        raise StageError(learned.message)
    ended = proof.trial(learned.deployment)
    promoted = ended is State.CHAMPION
    proof.timeline.add("trial of what was learned", f"ended as {ended}", expected="champion", held=promoted)
    since = time.time()
    proof.window(drift=1.0)
    after, unseen = proof.liked(since), proof.liked(since, without=labelled)
    low, high = stats.ttest_ind(after, before, equal_var=False).confidence_interval(0.95)
    result = f"liked: {described(after)}, of phrases that nobody labelled {described(unseen)}; "
    result += f"{low:+.1%} to {high:+.1%} (95 %) against the drift before"
    proof.timeline.add("recovery", result, expected="users like the answers more", held=bool(low > 0))


def harm(proof: Proof) -> None:
    """A model trained as if nothing had been learned passes every offline gate; users have to send it back."""
    shutil.rmtree(FOLDER)
    # As long as the champion, for its English to be as good: fewer steps, and the comparison offline refuses it.
    steps = int(read_metrics(METRICS / "train.json")["steps"])
    settings = proof.params.train.text.model_copy(update={"max_steps": steps})
    change(environment.ROOT, {"train": {"text": settings.model_dump()}})
    pipeline(["package@text"])
    passed = bool(read_metrics(METRICS / "gate.json")["passed"])
    result = (
        f"what was learned is deleted; the model trained on the rest in {steps} steps is verified, gated and packaged"
    )
    proof.timeline.add("a model that knows no German", result, expected="the offline gates pass it", held=passed)
    with opened(proof.params.events.url) as engine:
        champion = champion_of(store.current(engine, "text"))
    deployment = release(["text"], canary=True)["text"]
    ended = proof.trial(deployment)
    with opened(proof.params.events.url) as engine:
        same = champion_of(store.current(engine, "text")) == champion
    result = f"ended as {ended}; the champion is {'the one' if same else 'another than'} before it"
    held = ended is State.ROLLED_BACK and same
    proof.timeline.add("trial of that model", result, expected="it goes back by itself", held=held)


def moves_of_newest(deployment: str, moves: Sequence[Move]) -> list[Move]:
    """The moves of a deployment's newest release: it may have been champion before, under another number."""
    own = [move for move in moves if move.release.rpartition(".")[0] == deployment]
    return [move for move in own if move.release == own[-1].release]


def described(shares: NDArray[np.float64]) -> str:
    interval = stats.t.interval(0.95, len(shares) - 1, shares.mean(), stats.sem(shares))
    low, high = np.clip(interval, 0, 1)
    return f"{shares.mean():.1%} [{low:.1%}, {high:.1%}] of {len(shares)} users"


def in_workspace() -> int:
    """Run the proof in a workspace made for it; returns its exit code."""
    return run(create("proof", CHANGES), "flows.cli", "proof", "--workspace")


def proof(params: Params) -> Path:
    """Run it here, in its workspace, and print the timeline; returns its page. Raises `StageError` with what failed."""
    if environment.ROOT.parent.name != environment.STATE.name:
        raise StageError(f"{environment.ROOT} is no workspace of a proof, and it would lose what it has learned")
    page = environment.ROOT / params.monitor.report / "proof.html"
    timeline = prove(params, page)
    for entry in timeline.steps:
        mark = {None: " ", True: "+", False: "-"}[entry.held]
        print(f"{mark} {time.strftime('%H:%M:%S', time.gmtime(entry.time))} {entry.title}: {entry.words}")
    if timeline.broken:
        raise StageError(f"not as expected: {', '.join(entry.title for entry in timeline.broken)}; see {page}")
    return page
