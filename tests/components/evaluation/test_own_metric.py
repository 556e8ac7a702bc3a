"""A user's own metric runs in a process of its own, and whatever goes wrong in it is named."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from components.data.pairs import Pair
from components.evaluation import own_metric
from components.evaluation.own_metric import described, measure
from components.stage import StageError

PAIRS = [
    Pair("capital of France?", "Paris", id="fr", meta={"area": "Europe"}),
    Pair("capital of Chad?", "N'Djamena", id="td", meta={"area": "Africa"}),
]
TEXTS = {"after": ["Paris", "Lagos"], "echo": ["capital of France?", "capital of Chad?"]}


@pytest.fixture
def scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scoring").mkdir()
    return tmp_path / "scoring"


def write(scoring: Path, body: str, function: str = "right") -> str:
    (scoring / "mine.py").write_text(f"def {function}(messages, answer, reference, meta):\n    {body}\n")
    return f"scoring/mine.py:{function}"


def test_it_sees_prompt_answer_reference_and_meta_and_files_beside_it(scoring: Path) -> None:
    (scoring / "helper.py").write_text("def same(a, b):\n    return a == b\n")
    body = "import helper; print('scored'); in_europe = meta['area'] == 'Europe' and messages[-1]['role'] == 'user'"
    body += "; return {'right': helper.same(answer, reference), 'europe': 0.5 * in_europe}"
    scores = measure(write(scoring, body), PAIRS, TEXTS)
    assert scores["after"]["right"].tolist() == [1, 0] and scores["echo"]["right"].tolist() == [0, 0]
    assert scores["after"]["europe"].tolist() == [0.5, 0]
    assert {path.name for path in scoring.iterdir()} == {"helper.py", "mine.py"}  # a stray file would re-run the stage


def test_a_number_is_called_as_the_function_is_and_the_record_names_file_and_digest(scoring: Path) -> None:
    metric = write(scoring, "return len(answer)", function="length")
    assert measure(metric, PAIRS, TEXTS)["after"]["length"].tolist() == [5, 5]
    before = described(metric)
    assert before["function"] == metric and before != described(write(scoring, "return 1.0", function="length"))


def test_no_secret_of_the_environment_is_in_its_process(scoring: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ATELIER_JUDGE_KEY", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "http_proxy"):
        monkeypatch.setenv(name, "a secret in it")
    metric = write(scoring, "import os; return sum('a secret' in value for value in os.environ.values())")
    assert measure(metric, PAIRS, TEXTS)["after"]["right"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return {'Paris': 1.0}[answer]", r"sample td, answer of after: KeyError: 'Lagos' \(line 2\)"),
        ("return float('nan')", "sample fr, answer of after: ValueError: returned nan as right, not a finite number"),
        ("return 'good'", "returned 'good' as right, not a finite number"),
        ("return None", "returned None as right"),
        ("return {}", r"returned \[\], where each answer needs the same figures"),
        ("return {answer.lower(): 1.0}", r"sample td, .* needs the same figures: \['paris'\]"),
        ("return {'chrf': 1.0}", "'chrf' is the name of another figure"),
        ("return {'my_lower': 1.0}", "'my_lower' is the name of another figure"),
        ("return {'Right!': 1.0}", "'Right!' is no name for a figure"),
        ("import os; os._exit(3)", "its process ended with exit code 3: it said nothing"),
        ("raise SystemExit('stop')", "sample fr, answer of after: SystemExit: stop"),
        ("1 +", r"it cannot be loaded: SyntaxError: invalid syntax"),
    ],
)
def test_a_failure_names_the_sample_and_the_last_line(scoring: Path, body: str, message: str) -> None:
    with pytest.raises(StageError, match=message) as raised:
        measure(write(scoring, body), PAIRS, TEXTS)
    assert str(raised.value).startswith("evaluate.text.metric: scoring/mine.py:right: ")


def test_one_that_does_not_end_is_stopped_with_what_it_has_started(
    scoring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_metric, "SECONDS", 1)
    body = "import subprocess; subprocess.run(['sh', '-c', 'sleep 2; touch scoring/late'])"
    with pytest.raises(StageError, match="took longer than 1 s for 4 answers"):
        measure(write(scoring, body), PAIRS, TEXTS)
    time.sleep(1.5)
    assert not (scoring / "late").exists()


def test_what_is_not_there_is_named_and_what_dvc_does_not_watch_refused(scoring: Path) -> None:
    write(scoring, "return 1.0")
    (scoring.parent / "mine.py").write_text("")
    for metric, message in {
        "scoring/mine.py:wrong": "there is no function 'wrong' in it",
        "scoring/none.py:right": r"there is no file scoring/none\.py",
        "mine.py:right": r"mine\.py is not below scoring/: move it there",
        "scoring/../mine.py:right": "is not below scoring/",
    }.items():
        with pytest.raises(StageError, match=message):
            measure(metric, PAIRS, TEXTS)
