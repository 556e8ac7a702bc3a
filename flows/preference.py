"""What people are asked about the text line: which of two answers to a user's phrase is better.

The answers are what the service wrote; where it wrote one only, the champion writes another. What is settled teaches
with the next `atelier learn run`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Engine

from components.annotation import label_studio, preference, tier_store
from components.annotation.tier_schema import Task
from components.annotation.tier_send import short
from components.chat import conversation
from components.config import Params
from components.events import window
from components.events.database import opened
from components.learning import comparisons
from components.learning.comparisons import CHOICES, Given, compared, different
from components.learning.labels import unanswered
from components.runtimes.base import TextRequest
from components.stage import StageError

# Two draws at that temperature differ for 98 % of 43 phrases, at the service's own of 0.33 for 65 %.
TEMPERATURE, DRAWS = 0.7, 3


class Comparisons:
    """Users' phrases, each with two answers: disliked ones first, and those that wait for somebody to write one."""

    labels = CHOICES

    def __init__(self, params: Params, engine: Engine, known: Sequence[Task]) -> None:
        self.params, self.engine, self.known = params, engine, known

    def add(self) -> str:
        """Add a batch where annotators run short; returns nothing, as what answers are worth nobody knows before."""
        settings = self.params.annotation
        if short(self.known, settings.batch):
            known = comparisons.known(self.engine)
            new = [given for name, given in self._answers().items() if name not in known][: settings.batch]
            lone = [given[0].phrase for given in new if len(given) == 1]
            written = drawn(self.params, lone) if lone else []
            whole = different([one for given in new for one in given], written)
            # One answer twice: the model is sure. It is kept, so that it is not tried again, and nobody is asked.
            made = [compared(name, *(given * 2)[:2]) for name, given in whole.items()]
            comparisons.keep(self.engine, made)
            asked = {c.sample: "" for c in [*known.values(), *made] if c.left != c.right}
            tier_store.add(self.engine, label_studio.title(settings), asked, "the chooser")
        return ""

    def tasks(self, missing: Sequence[Task]) -> list[label_studio.Task]:
        """What annotators see of these tasks; nothing of a comparison that was deleted to forget a user."""
        known = comparisons.known(self.engine)
        return [preference.task(known[one.sample]) for one in missing if one.sample in known]

    def _answers(self) -> dict[str, list[Given]]:
        """What the service answered, within the learning window, to users who may teach: by comparison."""
        from flows.learn import DAY, askable, of_simulated_users

        until = time.time()
        since, url = until - DAY * self.params.learning.window_days, self.params.events.url
        sample = window.sample(url, since, until, line="text", rows=self.params.monitor.sample_rows)
        rows = askable(sample, self.params, of_simulated_users(self.params, since, until))
        reactions = window.reactions_to(url, [row["request_id"] for row in rows])
        disliked = {reaction["request_id"] for reaction in reactions if reaction["value"] <= 0}
        urgent = [_given(row) for row in rows if row["request_id"] in disliked]
        urgent += [Given(one.phrase, one.written, f"labelling task {one.task}") for one in unanswered(self.engine)]
        return different(urgent, [_given(row) for row in rows])


def _given(row: window.Row) -> Given:
    return Given(row["prompt"], row["output"], f"response {row['request_id']} of {row['deployment']}")


def drawn(params: Params, phrases: Sequence[str]) -> list[Given]:
    """What the champion writes to each phrase, `DRAWS` times; raises `StageError` where no text model is deployed."""
    from components.runtimes.text import load_text
    from flows.driver import plan
    from flows.release import champion_folder
    from flows.stack import served

    champion = served("text", plan("text", params).champion)
    if champion is None:
        raise StageError(
            "no text model is deployed that could write a second answer; run `atelier release start` first"
        )
    tokens, top_p = params.serving.text_max_new_tokens, params.serving.text_top_p
    asked = [(phrase, seed) for phrase in phrases for seed in range(DRAWS)]
    runtime = load_text(champion_folder(champion, params.registry))
    try:
        written = runtime.generate(
            [TextRequest(conversation(p), tokens, TEMPERATURE, top_p, seed) for p, seed in asked]
        )
    finally:
        runtime.close()
    origin = f"{champion.deployment} at temperature {TEMPERATURE}, seed"
    return [Given(p, result.text, f"{origin} {seed}") for (p, seed), result in zip(asked, written, strict=True)]


def told_settled(params: Params) -> str:
    """What is settled so far, in words."""
    with opened(params.events.url) as engine:
        settled = preference.settled(engine, params.annotation)
    if not settled:
        return "nothing is settled yet"
    counts = Counter(one.choice or "discarded" for one in settled)
    told = ", ".join(f"{count} {choice}" for choice, count in counts.most_common())
    pairs = sum(one.pair is not None for one in settled)
    return f"{len(settled)} settled ({told}): {pairs} pairs for the next `atelier learn run`"
