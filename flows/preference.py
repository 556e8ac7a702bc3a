"""Where answers to compare come from: what the service wrote to users, and what the champion writes beside it.

`components/annotation/comparisons.py` makes labelling tasks of them; what is settled teaches with `atelier learn run`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import Engine

from components.annotation import phrase_queue
from components.annotation.comparisons import Candidate, ComparisonSource
from components.annotation.task_store import Task
from components.config import Params
from components.events import window
from components.learning.harvest import for_annotators
from components.runtimes.base import TextRequest
from components.runtimes.chat import conversation
from components.stage import StageError

# Two draws at that temperature differ for 98 % of 43 phrases, at the service's own of 0.33 for 65 %.
TEMPERATURE, DRAWS = 0.7, 3


def comparison_source(params: Params, engine: Engine, tasks: Sequence[Task]) -> ComparisonSource:
    """Users' phrases, each with two answers: disliked ones first, and those that wait for an annotator's prompt."""
    return ComparisonSource(
        params.annotation,
        engine,
        tasks,
        candidates=lambda: service_answers(params, engine),
        generate=lambda phrases: generate(params, phrases),
    )


def service_answers(params: Params, engine: Engine) -> tuple[list[Candidate], list[Candidate]]:
    """The service's answers within the learning window to users who may teach: those to compare first, and all."""
    from flows.learn import DAY, of_simulated_users  # imports what builds Bentos

    until = time.time()
    since, url = until - DAY * params.learning.window_days, params.events.url
    sample = window.sample(url, since, until, line="text", rows=params.monitor.sample_rows)
    rows = for_annotators(sample, params.learning, of_simulated_users(params, since, until))
    reactions = window.reactions_to(url, [row["request_id"] for row in rows])
    disliked = {reaction["request_id"] for reaction in reactions if reaction["value"] <= 0}
    answers = {
        row["request_id"]: Candidate(
            row["prompt"], row["output"], f"response {row['request_id']} of {row['deployment']}"
        )
        for row in rows
    }
    urgent = [answer for request, answer in answers.items() if request in disliked]
    urgent += [
        Candidate(task.phrase, task.written, f"labelling task {task.task}") for task in phrase_queue.open_tasks(engine)
    ]
    return urgent, [*answers.values()]


def generate(params: Params, phrases: Sequence[str]) -> list[Candidate]:
    """Have the champion answer each phrase `DRAWS` times; raises `StageError` where no text model is deployed."""
    from components.runtimes.text import load_text
    from flows.release import champion_folder
    from flows.releases import plan
    from flows.slots import served

    champion = served("text", plan("text", params).champion)
    if champion is None:
        raise StageError(
            "no text model is deployed that could write a second answer; run `atelier release start` first"
        )
    tokens, top_p = params.serving.text_max_new_tokens, params.serving.text_top_p
    draws = [(phrase, seed) for phrase in phrases for seed in range(DRAWS)]
    runtime = load_text(champion_folder(champion, params.registry))
    try:
        results = runtime.generate(
            [TextRequest(conversation(p), tokens, TEMPERATURE, top_p, seed) for p, seed in draws]
        )
    finally:
        runtime.close()
    origin = f"{champion.deployment} at temperature {TEMPERATURE}, seed"
    return [Candidate(p, result.text, f"{origin} {seed}") for (p, seed), result in zip(draws, results, strict=True)]
