"""The driver: a release goes on or back by what is on record, once, and says why; MLflow and the slot follow."""

from __future__ import annotations

import logging
import time
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from components.events.database import opened
from components.events.ledger import Note
from components.events.schema import Accepted, CandidateCall, Event, Feedback, Finished, Outcome
from components.events.store import commit
from components.releases import evidence, store
from components.releases.leases import held
from components.releases.machine import WAY, State
from components.releases.schema import Move, Release
from components.stage import StageError
from flows import canary, cli, commands, driver, release, stack
from tests.flows.releasing import Machine
from tests.flows.releasing import machine as machine

NUMBERS = count()
NOTE = Note("ada", "try")


class Trials:
    """text-a is champion; text-b serves in the second slot and is on trial; rows are written as a gateway would."""

    def __init__(self, machine: Machine, patch: pytest.MonkeyPatch) -> None:
        self.machine = machine
        self.stopped: list[str] = []
        rules = machine.params.release.model_copy(update={"min_requests": 5, "min_seconds": 0, "max_less_liked": 1.0})
        self.params = machine.params.model_copy(update={"release": rules})
        patch.setattr(driver, "logger", lambda: logging.getLogger("releases"))
        patch.setattr(canary, "logger", lambda: logging.getLogger("releases"))
        patch.setattr(stack, "running", lambda: {"text", "text-b"})
        patch.setattr(stack, "control", lambda _, program: self.stopped.append(program))
        release.record_release.fn("text", machine.deploy("a"), self.params)
        machine.deploy("b")
        stack.place("text-b", stack.require_deployed("text"))
        machine.deploy("a")
        release.record_candidate.fn("text", "text-b", self.params)

    @property
    def release(self) -> Release:
        with opened(self.params.events.url) as engine:
            return next(r for r in store.current(engine, "text") if r.deployment == "text-b")

    def at(self, state: State) -> None:
        """Move it on by hand."""
        with opened(self.params.events.url) as engine, held(engine, "text", "ada", 30) as lease:
            for to in WAY[WAY.index(self.release.state) + 1 : WAY.index(state) + 1]:
                found = self.release
                store.move(engine, found.release, found.version, to, NOTE, lease.token)

    def write(self, *events: Event) -> None:
        with opened(self.params.events.url) as engine:
            commit(engine, events)

    def answer(self, deployment: str, *, status: int = 200, latency: float = 0.1, like: float | None = None) -> None:
        number = next(NUMBERS)
        identifier, at = f"r{number}", self.release.since + number / 1000
        rows: list[Event] = [
            Accepted(
                request_id=identifier,
                time=at,
                user_key=f"u{number}",
                line="text",
                deployment=deployment,
                model="m",
            ),
            Finished(
                request_id=identifier,
                time=at + latency,
                latency_s=latency,
                outcome=Outcome.OK if status == 200 else Outcome.ERROR,
                status=status,
            ),
        ]
        if like is not None:
            rows.append(
                Feedback(request_id=identifier, time=at, key=identifier, user_key=f"u{number}", kind="like", value=like)
            )
        self.write(*rows)

    def trial(self, kind: str, reason: str, request_id: str | None = None, latency: float = 0.1) -> None:
        self.write(
            CandidateCall(
                request_id=request_id or f"t{next(NUMBERS)}",
                time=self.release.since + 0.001,
                kind=kind,  # type: ignore[arg-type]
                line="text",
                deployment="text-b",
                reason=reason,
                latency_s=latency,
            )
        )

    def step(self) -> str:
        return canary.step("text", self.params)

    def last(self) -> Move:
        with opened(self.params.events.url) as engine:
            return store.history(engine, "text")[-1]


@pytest.fixture
def trials(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Trials:
    return Trials(machine, monkeypatch)


def test_good_copies_take_it_out_of_the_shadow_with_the_evidence_on_record(trials: Trials) -> None:
    assert trials.machine.mlflow == {"champion": "a" * 64, "candidate": "b" * 64}
    assert trials.step() == "text: text-b.1 holds: shadow has 0 of 5 calls and 0 of 0 s"
    for _ in range(5):
        trials.trial("shadow", "")
    assert trials.step().startswith("text: text-b.1 is canary_1: shadow → canary_1: 0 of 5 calls failed")
    assert trials.last().evidence["failures"] == {"count": 0, "of": 5, "low": 0.0}
    # The copies were another state's.
    assert trials.step() == "text: text-b.1 holds: canary_1 has 0 of 5 calls and 0 of 0 s"


def test_through_all_states_it_becomes_champion_and_nothing_is_restarted(trials: Trials) -> None:
    for _ in range(5):
        trials.trial("shadow", "slow", latency=0.2)  # far above the champion, and within the line's own bound
    trials.step()
    while trials.release.state is not State.CHAMPION:
        for _ in range(5):
            trials.answer("text-b", like=1.0)
            trials.answer("text-a", like=1.0)
        assert " holds: " not in trials.step()
    assert trials.machine.mlflow == {"champion": "b" * 64}
    assert (trials.machine.restarted, trials.stopped) == ([], [])
    assert stack.slot_of("text", "text-b") == "text-b"
    assert trials.step() == "text: no candidate on trial"


def sent_back(trials: Trials, why: str) -> None:
    assert why in trials.step()
    assert trials.release.state is State.ROLLED_BACK
    assert trials.machine.mlflow == {"champion": "a" * 64}
    assert (trials.stopped, stack.occupied()) == (["text-b"], ["text"])


def test_failures_that_the_champion_made_good_send_it_back(trials: Trials) -> None:
    trials.at(State.CANARY_5)
    for _ in range(4):
        trials.answer("text-b")
        trials.trial("failure", "internal", f"r{next(NUMBERS) - 1}")
    sent_back(trials, "text-b.1 is rolled_back: failed in 4 of 4 calls")


def test_an_open_breaker_sends_it_back_at_the_next_step(trials: Trials) -> None:
    trials.at(State.CANARY_1)
    trials.trial("breaker", "timeout", trials.release.release)
    sent_back(trials, "a gateway's breaker opened in canary_1: timeout")


def test_slow_answers_send_it_back(trials: Trials) -> None:
    trials.at(State.CANARY_25)
    for _ in range(10):
        trials.answer("text-b", latency=trials.params.release.slow_seconds["text"] + 1)
    sent_back(trials, "slow in 10 of 10 calls")


def test_less_liked_it_goes_back_by_the_drivers_decision(
    trials: Trials, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Likes at 30 % against 60 %: how many users that takes is printed."""
    trials.at(State.AB)
    later = SimpleNamespace(time=lambda: time.time() + 3600.0)  # by then everybody's attribution window has closed
    monkeypatch.setattr(evidence, "time", later)
    keep = trials.params.release.model_copy(update={"min_requests": 100_000})
    trials.params = trials.params.model_copy(update={"release": keep})
    rng, users = np.random.default_rng(7), 0
    while trials.release.state is State.AB and users < 2000:
        for _ in range(20):
            candidate = bool(rng.random() < 0.5)
            liked = float(rng.random() < (0.3 if candidate else 0.6))
            trials.answer("text-b" if candidate else "text-a", like=liked)
        users += 20
        told = trials.step()
    with capsys.disabled():
        print(f"\nlikes at 30 % against 60 %: sent back after {users} users")
    assert "liked less than the champion, by" in told and users <= 600


def test_who_was_sent_back_by_hand_makes_room_too(trials: Trials) -> None:
    from flows.rollback import rollback

    rollback("text", "it is rude", trials.params)
    assert (trials.stopped, stack.occupied(), trials.machine.restarted) == (["text-b"], ["text"], [])


def test_a_second_candidate_is_refused_before_it_is_deployed(trials: Trials) -> None:
    with pytest.raises(
        StageError, match="text-b is on trial on line text: wait for it, or `atelier release rollback text` first"
    ):
        release.require_no_other_on_trial("text", "text-c", trials.params)
    release.require_no_other_on_trial("text", "text-b", trials.params)
    release.require_no_other_on_trial("image", "image-c", trials.params)


def test_while_another_drives_the_line_a_step_does_nothing(trials: Trials) -> None:
    with opened(trials.params.events.url) as engine, held(engine, "text", "bob", 30):
        assert "bob drives the releases of text" in trials.step()


def test_the_command_makes_one_step_of_each_line(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "load", lambda: trials.params)
    answer = CliRunner().invoke(cli.app, ["release", "step"])
    text, image = answer.output.splitlines()
    assert text.startswith("text: text-b.1 holds: shadow") and image == "image: no candidate on trial"
