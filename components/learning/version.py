"""The material that was learned, as files: `data/feedback/text`, sealed, taken up by the stage `prepare` of the line.

`pairs.jsonl` is what to train on, with the answer that people liked less where there is one, `preferences.jsonl` what
annotators settled of two answers, by whom and why, also where they preferred neither; `held_out.jsonl` what held-out
users thought, `rejects.jsonl` every answer that teaches nothing, with its reason. The folder is the newest
version; DVC sees that its bytes have changed, and what was made from it stays in DVC's cache. Users' words never enter
git.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.artifact import Manifest, seal, staged, write_text
from components.config import Learning
from components.data.feedback import HELD_OUT, PAIRS
from components.data.sample import PREFERRED, REACTION, WRITTEN
from components.learning.comparisons import Preference
from components.learning.harvest import Harvest, Judged, same_prompt, set_apart
from components.learning.labels import Label

PREFERENCES = "preferences.jsonl"


def pairs_of(harvest: Harvest, labels: Iterable[Label], preferences: Iterable[Preference] = ()) -> list[dict[str, str]]:
    """One row per pair in the order of ids.

    Of one phrase an annotator's prompt counts most, then the answer that annotators prefer, then the one users like.
    """
    rows = {answer.asked: _row(REACTION, answer.prompt, answer.output, _origin(answer)) for answer in harvest.pairs}
    worse = {answer.asked: answer.output for answer in harvest.disliked}
    for preference in preferences:
        if preference.pair:
            better, worse[preference.asked] = preference.pair
            phrase, origin = preference.comparison.phrase, f"comparison {preference.comparison.sample}"
            rows[preference.asked] = _row(PREFERRED, phrase, better, origin)
    rows |= {label.asked: _row(WRITTEN, label.phrase, label.completion, f"task {label.task}") for label in labels}
    for asked, row in rows.items():
        if worse.get(asked, row["completion"]) != row["completion"]:
            row["rejected"] = worse[asked]
    return sorted(rows.values(), key=lambda row: row["id"])


def _origin(answer: Judged) -> str:
    return f"response {answer.request_id} of {answer.deployment}"


def _row(kind: str, prompt: str, completion: str, origin: str) -> dict[str, str]:
    digest = hashlib.sha256(f"{prompt}\0{completion}".encode()).hexdigest()[:20]
    return {"id": f"{kind}-{digest}", "prompt": prompt, "completion": completion, "origin": origin}


def write_version(
    pairs: list[dict[str, str]],
    harvest: Harvest,
    settings: Learning,
    folder: Path,
    preferences: Iterable[Preference] = (),
) -> Manifest:
    """Put the new version in the place of the one at hand, whole or not at all.

    Held-out answers to prompts that `pairs` teach become rejects.
    """
    harvest = set_apart(harvest, {same_prompt(pair["prompt"]) for pair in pairs})
    files: dict[str, list[Any]] = {
        PAIRS: pairs,
        PREFERENCES: [asdict(preference) for preference in preferences],
        HELD_OUT: [asdict(answer) for answer in harvest.held_out],
        "rejects.jsonl": [{**asdict(r.answer), "reason": r.reason} for r in harvest.rejects],
    }
    with staged(folder) as partial:
        for name, rows in files.items():
            write_text(partial / name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        metrics = {**harvest.counts(), "pairs": len(pairs), "reasons": harvest.reasons()}
        parameters = settings.model_dump()
        return seal(partial, line="text", kind="feedback", parents={}, parameters=parameters, metrics=metrics)
