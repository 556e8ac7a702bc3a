from __future__ import annotations

from dataclasses import replace

from components.experiments.comparison import Verdict
from components.experiments.exposures import Exposure
from monitoring.advice import advise
from monitoring.drift import ColumnTest, Drift, Severity
from monitoring.traffic import by_line
from tests.components.experiments.examples import analysed, experiment
from tests.monitoring.examples import counted, row, running

WON = analysed(
    experiment(),
    [Exposure(str(i), float(i), ("control", "treatment")[i % 2], 0.5, {"like": float(i % 2)}) for i in range(300)],
)
UNDECIDED = analysed(experiment(), [])
ONE = by_line(counted([row("r")]), {}, 200.0)
MOVED = ColumnTest("meaning 1", True, True, "moved", windows=3)
PROMPTS = Drift("text prompts", "the training data (0123abcd)", Severity.ACT, "", 90, 90, (MOVED,))


def test_failures_come_first_with_their_statuses() -> None:
    rows = [row(f"r{i}") for i in range(18)] + [row("e", outcome="error", status=503), running("u")]
    first, *rest = advise(by_line(counted(rows), {"text": rows}, 200.0), [], [UNDECIDED], simulated=False)
    assert first.urgency == "act"
    assert "1 with status 503" in first.words
    assert any("1 text requests were accepted and have not ended" in advice.words for advice in rest)


def test_lasting_drift_from_training_asks_for_annotation_and_training() -> None:
    first = advise(ONE, [PROMPTS], [UNDECIDED], simulated=False)[0]
    assert first.urgency == "act"
    assert "meaning 1, for 3 windows in a row" in first.words
    assert first.words.count("annotated") == 1


def test_each_column_has_its_remedy() -> None:
    slow = replace(MOVED, column="latency (s)"), replace(MOVED, column="liked of those who reacted")
    words = advise(ONE, [replace(PROMPTS, name="text service", tests=slow)], [UNDECIDED], simulated=False)[0].words
    assert "add a replica" in words and "roll it back" in words
    assert "annotated" not in words


def test_drift_of_one_window_is_watched_and_missing_data_is_no_all_clear() -> None:
    drifts = [
        replace(PROMPTS, severity=Severity.WATCH),
        Drift("image prompts", "x", Severity.NOT_ENOUGH_DATA, "", 3, 90),
    ]
    found = [
        advice for advice in advise(ONE, drifts, [UNDECIDED], simulated=False) if "text: 1 of 1" not in advice.words
    ]
    assert {advice.urgency for advice in found} == {"watch"}
    assert any("Look again after the next window" in advice.words for advice in found)
    assert any("Not enough data to check drift of image prompts" in advice.words for advice in found)


def test_a_simulated_audience_never_leads_to_a_decision() -> None:
    real = [advice.words for advice in advise(ONE, [], [WON], simulated=False)]
    simulated = [advice.words for advice in advise(ONE, [], [WON], simulated=True)]
    assert any("Make it the default" in words for words in real)
    assert not any("Make it the default" in words for words in simulated)
    assert any("decide on real users only" in words for words in simulated)


def test_silence_is_advice_to_look_at_the_gateway() -> None:
    assert "No request arrived" in advise([], [], [UNDECIDED], simulated=False)[0].words


def test_a_harmful_variant_is_acted_on_whoever_the_users_were() -> None:
    harmful = replace(UNDECIDED, verdict=Verdict.HARMFUL, words="treatment harmful", reason="A guardrail is broken.")
    first = advise(ONE, [], [harmful], simulated=True)[0]
    assert first.urgency == "act"
    assert "treatment harmful" in first.words
