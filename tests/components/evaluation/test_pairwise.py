"""The judge, against a loopback stand-in for an OpenAI-compatible endpoint: no real judge answers here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import pytest
from scipy.stats import binom

from components.config import TextJudge
from components.data.pairs import Pair
from components.evaluation import pairwise
from components.evaluation.pairwise import compare, in_words, settled, summary, verdict
from components.stage import StageError

PAIRS = [Pair(f"What is {n} + 1?", str(n + 1)) for n in range(8)]
WRONG, RIGHT = ["no idea"] * 8, [pair.completion for pair in PAIRS]


@dataclass
class StandIn:
    """Answers as `judge` says; the first `failures` requests with these status codes instead."""

    judge: Callable[[dict[str, Any]], Any]
    failures: list[int] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    url: str = ""

    def reply(self, body: bytes, key: str) -> tuple[int, Any]:
        self.asked.append(json.loads(body))
        self.keys.append(key)
        if self.failures:
            return self.failures.pop(0), {"error": {"message": f"refused for {key}"}}
        said = self.judge(json.loads(self.asked[-1]["messages"][1]["content"]))
        return 200, {"choices": [{"message": {"content": said}}]} if isinstance(said, str) else said


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    endpoint, lock = StandIn(by_reference), Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                status, document = endpoint.reply(body, self.headers["Authorization"].removeprefix("Bearer "))
            sent = json.dumps(document).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", "retry-after-ms": "1"}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
        yield endpoint
        server.shutdown()


def by_reference(shown: dict[str, Any]) -> str:
    """Prefers what is the reference."""
    return f"I compared.\nVERDICT: {'A' if shown['answer_A'] == shown['reference'] else 'B'}"


def settings(stand_in: StandIn, samples: int = 8) -> TextJudge:
    return TextJudge(url=stand_in.url, model="stand-in", samples=samples)


def test_a_better_answer_wins_in_both_orders_and_few_pairs_leave_the_rate_uncertain(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(pairwise.KEY, "a key")
    row = compare(PAIRS, WRONG, RIGHT, settings(stand_in, 5))
    assert (row["pairs"], row["wins"], row["losses"], row["win_rate"]) == (5, 5, 0, 1.0)
    assert row["win_rate_lower"] == pytest.approx(0.05 ** (1 / 5)) and row["win_rate_upper"] == 1
    assert len(stand_in.asked) == 10 and set(stand_in.keys) == {"a key"}
    shown = [json.loads(body["messages"][1]["content"]) for body in stand_in.asked]
    assert Counter(one["answer_A"] == "no idea" for one in shown) == {True: 5, False: 5}
    assert compare(PAIRS, RIGHT, WRONG, settings(stand_in))["losses"] == 8
    assert "wins 5 and loses 0 (100% of the decided; 55% to 100%" in in_words(row)


def test_a_judge_that_prefers_a_place_decides_nothing_and_equal_answers_are_not_sent(stand_in: StandIn) -> None:
    stand_in.judge = lambda _: "VERDICT: A"
    row = compare(PAIRS, [*WRONG[:6], *RIGHT[6:]], RIGHT, settings(stand_in))
    assert (row["contradicted"], row["ties"], row["wins"], row["losses"]) == (6, 2, 0, 0)
    assert row["win_rate"] is None and (row["win_rate_lower"], row["win_rate_upper"]) == (0.0, 1.0)
    assert len(stand_in.asked) == 12 and "none decided" in in_words(row)


@pytest.mark.parametrize("said", ["both are fine", "", {"choices": []}, {"error": "none"}, {}, []])
def test_what_cannot_be_read_is_counted_and_not_left_out(stand_in: StandIn, said: Any) -> None:
    stand_in.judge = lambda shown: by_reference(shown) if "What is 0" in str(shown) else said
    row = compare(PAIRS, WRONG, RIGHT, settings(stand_in))
    assert (row["pairs"], row["wins"], row["unparsed"]) == (8, 1, 7)


def test_a_busy_endpoint_is_asked_again_and_one_that_stays_so_named_without_the_key(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.failures = [429, 500, 503]
    assert compare(PAIRS, WRONG, RIGHT, settings(stand_in))["wins"] == 8 and len(stand_in.asked) == 19
    monkeypatch.setenv(pairwise.KEY, "sk-secret")
    stand_in.asked.clear()
    stand_in.failures = [429] * 1000
    with pytest.raises(StageError, match=r"evaluate\.text\.judge: http://127.* stand-in: .*429") as raised:
        compare(PAIRS[:1], WRONG[:1], RIGHT[:1], settings(stand_in))
    assert len(stand_in.asked) == 1 + pairwise.RETRIES and "sk-secret" not in str(raised.value)


def test_a_refused_key_and_nobody_there_are_said(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(pairwise.KEY, raising=False)
    stand_in.failures = [401] * 100
    with pytest.raises(StageError, match=r"401 .*\(ATELIER_JUDGE_KEY is not set\)"):
        compare(PAIRS, WRONG, RIGHT, settings(stand_in))
    monkeypatch.setattr(pairwise, "RETRIES", 0)
    nobody = TextJudge(url="http://127.0.0.1:9/v1", model="m", samples=2)
    with pytest.raises(StageError, match=r"127\.0\.0\.1:9/v1, m: Connection error"):
        compare(PAIRS, WRONG, RIGHT, nobody)


def test_a_verdict_is_the_last_line_that_is_one() -> None:
    replies = {"VERDICT: A": "A", "verdict: **B**.": "B", "b": "B", "VERDICT: a tie": "tie", "Verdict:\nTIE": "tie"}
    replies |= {"VERDICT: A\nNo, on second thoughts:\nVERDICT: Answer B": "B"}
    assert {reply: verdict(reply) for reply in replies} == replies
    assert [verdict(reply) for reply in ("", "A is better", "the verdict: a clear win for B")] == [None] * 3
    assert [settled("A", "B"), settled("B", "A"), settled("A", "tie"), settled("tie", "tie")] == [
        "wins", "losses", "contradicted", "ties"
    ]  # fmt: skip
    assert settled("A", None) == "unparsed"


def test_the_interval_is_exact() -> None:
    row = summary(Counter(wins=14, losses=6, ties=30))
    assert binom.sf(13, 20, row["win_rate_lower"]) == pytest.approx(0.05)
    assert binom.cdf(14, 20, row["win_rate_upper"]) == pytest.approx(0.05)
    assert row["pairs"] == 50 and row["win_rate"] == 0.7
