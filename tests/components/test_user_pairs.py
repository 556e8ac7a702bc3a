"""A user's file of prompts and completions through the real stages: what a model learns to write is what it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from components import config
from components.config.document import read_yaml, write_yaml
from components.data import clean, prepare, split
from components.data.pairs import Pair, read_pairs
from components.data.sample import REJECTS
from components.models.language import IGNORED
from components.training import text as training
from tests.components.data.rejects import read_rejects
from tests.conftest import ROOT
from tests.tiny_language import tiny_chat

# Every kind of white space and Unicode form that normalising would change.
TARGETS = {
    "write python": "def f(x):\n    if x:\n\treturn 0\n    return None\n",
    "write a list": "\n- one\n- two\n\n  - three  ",
    "two paragraphs, from Windows": "One.\r\n\r\nTwo.\r\n",
    "an accent in two signs": "cafe\u0301 a\u030a",
    "spaces of print": "10\u00a0000\u2009€\u3000。",
    "odd lines": "a\u2028b\u2029c\x0bd\x0ce\x85f\x1bg",
    "fix this:\n    x = 1\n\ty = 2": "x = 1\ny  =  2",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder like a clone of this project whose text line learns from `pairs.jsonl` in it."""
    document = read_yaml(ROOT / "params.yaml")
    document["prepare"]["text"] = {"source": "jsonl", "path": "pairs.jsonl", "limit": None}
    write_yaml(tmp_path / "params.yaml", document)
    monkeypatch.chdir(tmp_path)
    config.load.cache_clear()  # it remembers by relative path
    yield tmp_path
    config.load.cache_clear()


def split_pairs() -> dict[str, Pair]:
    """The pairs of all sides, by phrase, after the data stages."""
    prepare.main("text")
    clean.main("text")
    split.main("text")
    return {pair.phrase: pair for side in split.SIDES for pair in read_pairs(training.SPLIT / f"{side}.parquet")}


def test_43_what_a_model_learns_to_write_is_byte_for_byte_what_the_file_holds(project: Path, tiny_base: Path) -> None:
    rows = [{"prompt": p, "completion": c, "rejected": f"{c}\n  worse\n"} for p, c in TARGETS.items()]
    rows += [{"prompt": f"thing {n * 7919}", "completion": f"word\n{n * 104729}\n"} for n in range(20)]
    (project / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = split_pairs()
    assert {p: (found[p].completion, found[p].rejected) for p in TARGETS} == {
        row["prompt"]: (row["completion"], row["rejected"]) for row in rows[: len(TARGETS)]
    }
    chat = tiny_chat(tiny_base)
    for prompt, completion in TARGETS.items():
        ids, targets = chat.encode(found[prompt])
        assert chat.tokenizer.decode([t for t in targets if t != IGNORED], skip_special_tokens=True) == completion
        assert prompt in chat.tokenizer.decode(ids)


def test_43_what_differs_by_white_space_alone_is_one_sample_and_the_first_stays_as_it_is(project: Path) -> None:
    rows = [{"prompt": f"thing {n * 7919}", "completion": f"word\n{n * 104729}\n"} for n in range(30)]
    twin = {"prompt": rows[3]["prompt"], "completion": rows[3]["completion"].replace("\n", " ")}
    (project / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, twin]))
    found = split_pairs()
    (reject,) = read_rejects(Path("data/text/clean") / REJECTS)
    assert "duplicate of " in reject.reason and len(found) == 30
    assert {found[rows[3]["prompt"]].completion, reject.sample.meta["completion"]} == {
        rows[3]["completion"], twin["completion"]
    }  # fmt: skip
