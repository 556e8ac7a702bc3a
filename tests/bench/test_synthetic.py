from __future__ import annotations

import statistics

from tests.bench.synthetic import KINDS, LONGER, Planted, Row, requests

PAIRS = [("a fox", "fox: animal"), ("a hen", "hen: bird")]


def simulated(planted: Planted, seed: int = 1) -> list[tuple[Row, Row | None]]:
    return list(requests([seed], PAIRS, 2000, 100.0, 200.0, "text", planted))


def liked(planted: Planted) -> float:
    return statistics.mean(reaction["value"] for _, reaction in simulated(planted) if reaction)


def test_traffic_without_a_drift_sends_known_phrases_within_its_window() -> None:
    rows = [row for row, _ in simulated(Planted())]
    assert {row["prompt"] for row in rows} == {"a fox", "a hen"}
    assert all(100 <= row["time"] < 200 for row in rows)
    assert len({row["request_id"] for row in rows}) == 2000
    assert simulated(Planted()) == simulated(Planted())
    assert simulated(Planted())[0] != simulated(Planted(), seed=2)[0]


def test_each_planted_drift_changes_what_it_says() -> None:
    def share(planted: Planted, mark: str) -> float:
        return statistics.mean(mark in row["prompt"] for row, _ in simulated(planted))

    topic, longer, language, disliked, slower = KINDS.values()
    assert abs(share(topic, " on ") - 0.3) < 0.05
    assert abs(share(longer, LONGER) - 0.3) < 0.05
    assert abs(1 - share(language, "a fox") - share(language, "a hen") - 0.2) < 0.05
    assert liked(Planted()) - liked(disliked) > 0.1
    times = [statistics.median(row["latency_s"] for row, _ in simulated(one)) for one in (Planted(), slower)]
    assert abs(times[1] / times[0] - 1.3) < 1e-9
