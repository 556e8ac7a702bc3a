"""A user's own metric: a function of theirs, called in a process of its own for every answer of every writer.

`evaluate.text.metric` names it as `scoring/file.py:function`. It is called with the messages of the prompt
(dictionaries of role and content), the answer, the wanted answer and the sample's `meta`, and returns a number, or a
dictionary of numbers by name; more is better. The process gets no variable of the environment but what a program needs
to run, and ends after `SECONDS`. DVC watches the folder `scoring`, so that a change of the function, or of what it
imports from there, runs the evaluation again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import numpy as np

from components.artifact import file_digest
from components.data.pairs import Pair
from components.evaluation import metric_process
from components.evaluation.answers import METRICS, Scores
from components.paths import SCORING
from components.stage import StageError

SECONDS = 600  # for all answers together
KEPT = (
    *("PATH", "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
    *("PYTHONPATH", "OMP_NUM_THREADS"),
)
# What the evaluation and the gate write beside the user's figures.
TAKEN = {*METRICS, "naming", "similarity", "loss", "perplexity", "lower", "over", "win_rate"}


def measure(metric: str, pairs: Sequence[Pair], texts: Mapping[str, Sequence[str]]) -> dict[str, Scores]:
    """Each writer's scores by the user's metric; `texts` are the writers' answers to the pairs.

    Raises `StageError` where the function is not found, fails, takes too long or returns no finite number.
    """
    path, function = located(metric)
    calls = [
        {
            "of": f"sample {pair.id or number}, answer of {writer}",
            "messages": [{"role": role, "content": content} for role, content in pair.messages],
            "answer": answers[number],
            "reference": pair.completion,
            "meta": dict(pair.meta),
        }
        for writer, answers in texts.items()
        for number, pair in enumerate(pairs)
    ]
    found = _called(metric, path, function, calls)
    if wrong := [name for name in found[0] if name in TAKEN or name.endswith(("_gain", "_lower"))]:
        _fail(
            metric, f"{wrong[0]!r} is the name of another figure of the evaluation, or ends as one; call it otherwise"
        )
    rows, scores = iter(found), dict[str, Scores]()
    for writer in texts:
        own = [next(rows) for _ in pairs]
        scores[writer] = {name: np.array([row[name] for row in own]) for name in own[0]}
    return scores


def described(metric: str) -> dict[str, str]:
    """Which function scored, for the record."""
    return {"function": metric, "sha256": file_digest(located(metric)[0])}


def located(metric: str) -> tuple[Path, str]:
    """The file and the function's name; raises `StageError` where there is no such file below `SCORING`."""
    name, _, function = metric.rpartition(":")
    path = Path(name)
    if not path.resolve().is_relative_to(SCORING.resolve()):
        raise StageError(
            f"evaluate.text.metric: {path} is not below {SCORING}/: move it there, where a change of it runs the "
            "evaluation again"
        )
    if not path.is_file():
        raise StageError(f"evaluate.text.metric: there is no file {path}")
    return path, function


def _called(metric: str, path: Path, function: str, calls: list[dict[str, Any]]) -> list[dict[str, float]]:
    """What the function returns for each call, from a process of its own."""
    environment = {name: os.environ[name] for name in KEPT if name in os.environ} | {"PYTHONDONTWRITEBYTECODE": "1"}
    with TemporaryDirectory() as folder:
        given, found = Path(folder, "calls.json"), Path(folder, "scores.json")
        given.write_text(json.dumps(calls), encoding="utf-8")
        command = [sys.executable, "-m", metric_process.__name__, str(path), function, str(given), str(found)]
        with subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True
        ) as process:
            try:
                _, errors = process.communicate(timeout=SECONDS)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)  # what the function has started, too
                if isinstance(error, subprocess.TimeoutExpired):
                    _fail(metric, f"took longer than {SECONDS} s for {len(calls)} answers")
                raise
        if errors:
            print(errors.rstrip(), file=sys.stderr)
        if not found.exists():
            last = errors.rstrip().rpartition("\n")[2]
            _fail(metric, f"its process ended with exit code {process.returncode}: {last or 'it said nothing'}")
        document = json.loads(found.read_bytes())
    if failed := document.get("failed"):
        _fail(metric, failed)
    return document["scores"]


def _fail(metric: str, why: str) -> NoReturn:
    raise StageError(f"evaluate.text.metric: {metric}: {why}")
