"""`atelier data import`: logs of other systems into the events, and, where the user asks for them, into pairs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from components.artifact import write_text
from components.config import Params
from components.learning import imported
from components.stage import StageError
from flows.environment import STATE


def bring(params: Params, files: Sequence[Path], name: str | None, like: str, as_pairs: Path | None) -> Iterator[str]:
    """Import, and say what came of it; every row that was not used is listed in `.atelier/imports`.

    Raises `StageError` where `as_pairs` exists: what a user has there is not replaced.
    """
    if as_pairs and as_pairs.exists():
        raise StageError(f"--as-pairs: {as_pairs} is there already; name another file")
    log = imported.read_files(files, name, like)
    done = imported.write_events(log, params.events.url, os.environ["ATELIER_USER_SECRET"])
    yield f"{log.format}: {done.requests} requests, {done.new_requests} of them new in the events"
    yield f"{done.reactions} likes and dislikes, {done.new_reactions} of them new"
    if better := sum(bool(reaction.better) for _, reaction in log.reactions):
        yield f"{better} better answers, which pairs alone hold"
    if log.refused:
        listed = STATE / "imports" / f"{files[0].stem}-refused.jsonl"
        rows = [{"place": place, "reason": r.reason, "details": r.details} for place, r in log.refused]
        write_text(listed, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        reasons = ", ".join(f"{count} {reason}" for reason, count in done.reasons.items())
        yield f"{len(log.refused)} rows not used: {reasons}; see {listed}"
    if as_pairs:
        rows = list(imported.pairs(log))
        write_text(as_pairs, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        yield f"{len(rows)} pairs in {as_pairs}: to learn from them, prepare.text: {{source: jsonl, path: {as_pairs}}}"
