"""The material that was learned, as files: `data/feedback/text`, sealed, read by the stage `prepare` of the text line.

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

from components.annotation.comparisons import Preference
from components.annotation.phrase_queue import Label, prompt_key
from components.artifact import Manifest, seal, staged, write_text
from components.config import Learning
from components.data.feedback import HELD_OUT, PAIRS, pair_ids
from components.data.sample import PREFERRED, REACTION, WRITTEN
from components.learning.harvest import Harvest, JudgedAnswer, set_apart

PREFERENCES = "preferences.jsonl"


def pairs_of(harvest: Harvest, labels: Iterable[Label], preferences: Iterable[Preference] = ()) -> list[dict[str, str]]:
    """One row per pair in the order of ids.

    Of one phrase an annotator's prompt counts most, then the answer that annotators prefer, then the one users like.
    """
    rows = {answer.key: _row(REACTION, answer.prompt, answer.output, _origin(answer)) for answer in harvest.pairs}
    worse = {answer.key: answer.output for answer in harvest.disliked}
    for preference in preferences:
        if preference.pair:
            better, worse[preference.key] = preference.pair
            phrase, origin = preference.comparison.phrase, f"comparison {preference.comparison.sample}"
            rows[preference.key] = _row(PREFERRED, phrase, better, origin)
    rows |= {label.key: _row(WRITTEN, label.phrase, label.completion, f"task {label.task}") for label in labels}
    for key, row in rows.items():
        if worse.get(key, row["completion"]) != row["completion"]:
            row["rejected"] = worse[key]
    return sorted(rows.values(), key=lambda row: row["id"])


def _origin(answer: JudgedAnswer) -> str:
    return f"response {answer.request_id} of {answer.deployment}"


def _row(kind: str, prompt: str, completion: str, origin: str) -> dict[str, str]:
    digest = hashlib.sha256(f"{prompt}\0{completion}".encode()).hexdigest()[:20]
    return {"id": f"{kind}-{digest}", "prompt": prompt, "completion": completion, "origin": origin}


def changed_pairs(pairs: Iterable[dict[str, str]], folder: Path) -> int:
    """By how many pairs these differ from the version at hand; a pair taken back changes it as much as a new one."""
    return len({pair["id"] for pair in pairs} ^ pair_ids(folder))


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
    harvest = set_apart(harvest, {prompt_key(pair["prompt"]) for pair in pairs})
    files: dict[str, list[Any]] = {
        PAIRS: pairs,
        PREFERENCES: [asdict(preference) for preference in preferences],
        HELD_OUT: [asdict(answer) for answer in harvest.held_out],
        "rejects.jsonl": [{**asdict(r.answer), "reason": r.text} for r in harvest.rejects],
    }
    with staged(folder) as partial:
        for name, rows in files.items():
            write_text(partial / name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        metrics = {**harvest.counts(), "pairs": len(pairs), "reasons": harvest.reasons()}
        parameters = settings.model_dump()
        return seal(partial, line="text", kind="feedback", parents={}, parameters=parameters, metrics=metrics)
