from __future__ import annotations

from dataclasses import replace

from components.experiments.statistics import Exposure, analyse
from monitoring.advice import advise
from monitoring.drift import Drift
from monitoring.traffic import by_line
from tests.components.experiments.examples import experiment
from tests.monitoring.examples import row, running

WON = analyse(
    experiment(),
    [Exposure(str(i), float(i), ("control", "treatment")[i % 2], 0.5, float(i % 2)) for i in range(300)],
)
UNDECIDED = analyse(experiment(), [])


def test_failures_come_first_with_their_statuses() -> None:
    rows = [row(f"r{i}") for i in range(18)] + [row("e", outcome="error", status=503), running("u")]
    first, *rest = advise(by_line(rows), [], UNDECIDED, simulated=False)
    assert first.urgency == "act"
    assert "1 with status 503" in first.words
    assert any("1 text requests were accepted and have not ended" in advice.words for advice in rest)


def test_drift_from_training_asks_for_annotation_and_training() -> None:
    drift = Drift("text prompts", "the training data", True, True, "", 90)
    first = advise(by_line([row("r")]), [drift], UNDECIDED, simulated=False)[0]
    assert first.urgency == "act"
    assert "annotated" in first.words


def test_a_simulated_audience_never_leads_to_a_decision() -> None:
    real = [advice.words for advice in advise(by_line([row("r")]), [], WON, simulated=False)]
    simulated = [advice.words for advice in advise(by_line([row("r")]), [], WON, simulated=True)]
    assert any("Make it the default" in words for words in real)
    assert not any("Make it the default" in words for words in simulated)
    assert any("decide on real users only" in words for words in simulated)


def test_silence_is_advice_to_look_at_the_gateway() -> None:
    assert "No request arrived" in advise([], [], UNDECIDED, simulated=False)[0].words


def test_a_harmful_variant_is_acted_on_whoever_the_users_were() -> None:
    harmful = replace(UNDECIDED, verdict="treatment harmful", reason="A guardrail is broken.")
    first = advise(by_line([row("r")]), [], harmful, simulated=True)[0]
    assert first.urgency == "act"
    assert "treatment harmful" in first.words
