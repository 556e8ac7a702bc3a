from __future__ import annotations

from dataclasses import replace

import pytest

from components.experiments.comparison import Verdict
from components.lines import PROGRAMS
from components.releases.decide import Action, Decision
from components.releases.machine import Kind, State
from components.releases.plan import TrafficPlan
from components.releases.schema import Move, Release
from monitoring.concerns import concerns, verdict
from monitoring.history import Look, Run
from monitoring.probes import Alert, Metrics, Service
from monitoring.severity import Past
from monitoring.situation import LineState, Numbers, Situation, Standing
from tests.monitoring.test_history import drift

NOW = 1_000_000.0
DAY = 86_400.0
PLAN = TrafficPlan("text", 3, "text-1", None, 0.0, False, "")
CHAMPION = Release("text-1.1", "text", "text-1", State.CHAMPION, 3, NOW - 9 * DAY)
STANDING = Standing(CHAMPION, None, PLAN, None, [])
PLACE = Service("text", "http://here/", "", "text-1")
EMPTY = Service("text-b", "http://here/", "nothing listens on its port")
LINE = LineState("text", [PLACE, EMPTY], STANDING, Numbers(100, 0, 0.5, "5 min"))
LOOK = Look(
    "colours",
    "control",
    "treatment",
    9,
    0.1,
    (-0.1, 0.3),
    Verdict.INCONCLUSIVE,
    "inconclusive",
    "It contains 0.",
    False,
)
RUN = Run("run", Past(NOW - 4000, NOW - 400, (drift(0.05),)), "none", 90, 0, (LOOK,), ())
SERVICES = {
    **{name: Service(name, "http://here/", "") for name in ("gateway", *PROGRAMS, "mlflow", "prefect")},
    "prometheus": Service("prometheus", "http://here/", "", Metrics({}, {}, [])),
    "alertmanager": Service("alertmanager", "http://here/", "", []),
}
WELL = Situation(NOW, SERVICES, [LINE], "", [RUN])


def told(situation: Situation) -> tuple[str, list[tuple[str, str]]]:
    found = concerns(situation)
    return verdict(found), [(concern.urgency, concern.message) for concern in found]


def with_line(**changes: object) -> Situation:
    return replace(WELL, lines=[replace(LINE, **changes)])  # type: ignore[arg-type]


def fires(*alerts: Alert) -> Situation:
    return replace(WELL, services=SERVICES | {"alertmanager": Service("alertmanager", "http://here/", "", [*alerts])})


def test_all_is_well_with_an_empty_second_place_and_an_undecided_experiment() -> None:
    assert told(WELL) == ("All well", [])


def test_a_line_that_nobody_serves_or_another_deployment_serves_is_looked_at_now() -> None:
    down = replace(PLACE, problem="no answer within 2 s", answer=None)
    assert told(with_line(places=[down, EMPTY])) == (
        "Look at the text line",
        [("act", "No text model answers (no answer within 2 s).")],
    )
    ((urgency, words),) = told(with_line(places=[replace(PLACE, answer="text-0"), EMPTY]))[1]
    assert (urgency, words[:54]) == ("act", "text is served by text-0, not by its champion text-1: ")


def test_a_candidate_that_nobody_serves_or_that_is_to_go_back_is_looked_at() -> None:
    candidate = Release("text-2.1", "text", "text-2", State.CANARY_5, 5, NOW - 60)
    plan = replace(PLAN, candidate="text-2", share=0.05)
    bad = replace(STANDING, candidate=candidate, plan=plan, decision=Decision(Action.ROLL_BACK, "failed in 9 of 20"))
    assert [urgency for urgency, _ in told(with_line(standing=bad))[1]] == ["act", "watch"]
    held = replace(bad, decision=Decision(Action.HOLD, "too few"))
    both = [PLACE, replace(EMPTY, problem="", answer="text-2")]
    assert told(with_line(standing=held, places=both))[0] == "All well"


@pytest.mark.parametrize(
    ("requests", "failed", "urgency"), [(19, 19, []), (100, 0.9, []), (100, 1, ["watch"]), (100, 5, ["act"])]
)
def test_failures_count_from_twenty_requests_on(requests: float, failed: float, urgency: list[str]) -> None:
    seen = told(with_line(numbers=Numbers(requests, failed, None, "1 h")))[1]
    assert [each for each, _ in seen] == urgency


def test_pages_come_first_and_what_is_held_back_is_no_concern() -> None:
    ticket = Alert("Slow", "image", "ticket", "image: late.", NOW - 60)
    page = Alert("Down", "text", "page", "No text process answers.", NOW - 30)
    silent = Alert("Other", "text", "page", "follows from it.", NOW - 10, held_back=True)
    words, seen = told(fires(ticket, silent, page))
    assert words == "Look at Down and Slow"
    assert seen == [("act", "Down: No text process answers."), ("watch", "Slow: image: late.")]


def test_without_alertmanager_prometheus_says_what_fires() -> None:
    firing, over = (
        Alert("Down", "text", "page", "", NOW - 300, NOW - 5),
        Alert("Slow", "text", "page", "", NOW - 900, NOW - 600),
    )
    services = {
        "prometheus": replace(SERVICES["prometheus"], answer=Metrics({}, {}, [firing, over])),
        "alertmanager": Service("alertmanager", "http://here/", "nothing listens on its port"),
    }
    situation = replace(WELL, services=SERVICES | services)
    assert (situation.firing, situation.over) == ([replace(firing, until=None)], [over])
    assert told(situation)[0] == "Look at Down and Alertmanager"


def test_a_rollback_is_a_concern_for_a_day() -> None:
    sent = Move("text-2.1", 4, State.CANARY_1, State.ROLLED_BACK, Kind.ROLLBACK, NOW - DAY + 9, "ada", "rude", {}, 3)
    assert told(with_line(standing=replace(STANDING, moves=[sent])))[1] == [
        ("watch", "text-2.1 was rolled back by ada: rude")
    ]
    assert told(replace(with_line(standing=replace(STANDING, moves=[sent])), now=NOW + 10))[0] == "All well"


@pytest.mark.parametrize(
    ("changes", "urgency"),
    [
        ({"verdict": Verdict.BETTER}, "watch"),
        ({"verdict": Verdict.HARMFUL}, "act"),
        ({"verdict": Verdict.CHANGED}, "act"),
        ({"srm": True}, "act"),
    ],
)
def test_an_experiment_that_has_decided_or_harms_is_looked_at(changes: dict[str, object], urgency: str) -> None:
    run = replace(RUN, looks=(LOOK, replace(LOOK, **changes)))  # type: ignore[arg-type]
    words, ((found, _),) = told(replace(WELL, runs=[run]))
    assert (words, found) == ("Look at the experiment", urgency)


def test_drift_is_one_concern_and_so_are_old_reports() -> None:
    moved = replace(RUN, past=replace(RUN.past, drifts=(drift(0.5, True), drift(0.05))))
    assert told(replace(WELL, runs=[moved])) == ("Look at drift", [("watch", "Drift of text prompts (watch).")])
    assert told(replace(WELL, now=NOW + 3 * 3600))[0] == "Look at the reports"
    assert told(replace(WELL, runs=[]))[0] == "Look at the reports"


def test_a_long_verdict_names_three_things() -> None:
    services = {name: replace(service, problem="is away") for name, service in SERVICES.items()}
    assert told(replace(WELL, services=services))[0] == "Look at the gateway, Prometheus, Alertmanager and 2 more"
