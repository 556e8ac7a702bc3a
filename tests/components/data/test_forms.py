from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from components.data.sample import Reject, Sample
from components.data.sources import pairs
from components.stage import StageError

ANSWER = "def f():\n\treturn 1\n\n"
ASKED, ANSWERED = {"role": "user", "content": "q"}, {"role": "assistant", "content": ANSWER}
SYSTEM = {"role": "system", "content": "s"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "q"}]}


def read(path: Path, *rows: dict[str, Any], fields: dict[str, str] | None = None) -> list[Sample | Reject]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(pairs(path, fields))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "completion": ANSWER},
        {"messages": [ASKED, ANSWERED]},
        {"messages": [PARTS, ANSWERED]},
        {"prompt": [ASKED], "completion": [ANSWERED]},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": ANSWER}]},
        {"conversations": json.dumps([ASKED, ANSWERED])},
        {"instruction": "q", "input": "", "output": ANSWER},
        {"instruction": "q", "output": ANSWER},
        {"prompt": "q", "chosen": ANSWER, "rejected": "no"},
        {"prompt": "q", "chosen": [ANSWERED], "rejected": [{"role": "assistant", "content": "no"}]},
        {"prompt": [ASKED], "chosen": [ANSWERED], "rejected": [{"role": "assistant", "content": "no"}]},
        {"prompt": "q", "chosen": [ASKED, ANSWERED], "rejected": [ASKED, {"role": "assistant", "content": "no"}]},
        {"chosen": [ASKED, ANSWERED], "rejected": [ASKED, {"role": "assistant", "content": "no"}]},
    ],
)
def test_a_row_of_any_form_is_the_same_pair_byte_for_byte(row: dict[str, Any], tmp_path: Path) -> None:
    (sample,) = read(tmp_path / "a.jsonl", row | {"licence": "CC0"})
    assert isinstance(sample, Sample)
    rest = {"rejected": "no"} if "rejected" in row else {}
    assert (sample.text, sample.meta) == ("q", {"completion": ANSWER, "licence": "CC0"} | rest)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [SYSTEM | {"role": "developer"}, ASKED, ANSWERED]},
        {"system": "s", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": ANSWER}]},
        {"system": "s", "instruction": "q", "input": "", "output": ANSWER},
    ],
)
def test_what_the_system_says_leads_the_conversation(row: dict[str, Any], tmp_path: Path) -> None:
    (sample,) = read(tmp_path / "a.jsonl", row)
    assert isinstance(sample, Sample) and sample.meta == {"completion": ANSWER, "history": [SYSTEM]}


def test_an_input_stands_below_its_instruction(tmp_path: Path) -> None:
    (sample,) = read(tmp_path / "a.jsonl", {"instruction": "translate", "input": " a\nb", "output": "c"})
    assert isinstance(sample, Sample) and sample.text == "translate\n\n a\nb"


def test_fields_of_other_names_are_read_as_params_say(tmp_path: Path) -> None:
    row = {"question": "q", "answer": ANSWER}
    with pytest.raises(StageError, match=r"its fields are question, answer, .*prepare\.text\.fields, as \{prompt: "):
        read(tmp_path / "a.jsonl", *[row] * 300)
    (sample,) = read(tmp_path / "a.jsonl", row, fields={"prompt": "question", "completion": "answer"})
    assert isinstance(sample, Sample) and (sample.text, sample.meta) == ("q", {"completion": ANSWER})
    swapped = {"prompt": "completion", "completion": "prompt"}
    (sample,) = read(tmp_path / "a.jsonl", {"prompt": ANSWER, "completion": "q"}, fields=swapped)
    assert isinstance(sample, Sample) and (sample.text, sample.meta) == ("q", {"completion": ANSWER})
    with pytest.raises(StageError, match="'prompt' beside 'question'"):
        read(tmp_path / "a.jsonl", row | {"prompt": "x", "completion": "y"}, fields={"prompt": "question"})


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"conversations": 3}, "'conversations' is int"),
        ({"conversations": [{"from": "tool", "value": "x"}]}, "has the role 'tool'"),
        ({"conversations": ["x"]}, "message 1 has no text"),
        ({"instruction": 3, "output": "x"}, "instruction or input is int"),
        ({"instruction": "x", "output": 3}, "'completion' is int"),
        ({"chosen": "x", "rejected": "y"}, "'prompt' is missing"),
        ({"prompt": "p", "chosen": [], "rejected": []}, "neither two texts nor two lists"),
        ({"chosen": [ASKED, ANSWERED], "rejected": [PARTS | {"role": "system"}, ANSWERED]}, "differ before"),
        ({"prompt": [ASKED], "completion": "x"}, "'prompt' is list"),
    ],
)
def test_an_unfit_row_is_rejected_beside_its_reason(row: dict[str, Any], words: str, tmp_path: Path) -> None:
    good, bad = read(tmp_path / "a.jsonl", {"prompt": "p", "completion": "c"}, row)
    assert isinstance(good, Sample) and isinstance(bad, Reject) and words in bad.reason


def test_what_was_read_as_what_is_counted(tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "completion": "c"},
        {"instruction": "i", "output": "o"},
        {"instruction": "j", "output": "o"},
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    seen: Counter[str] = Counter()
    assert len(list(pairs(tmp_path / "a.json", seen=seen))) == 3
    assert list(seen.values()) == [1, 2] and any(re.search("JSON array as Alpaca", words) for words in seen)


def test_a_folder_of_files_is_read_in_order_and_a_file_of_another_form_is_named(tmp_path: Path) -> None:
    for name in "ba":
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": name, "completion": "c"}))
    (tmp_path / "README.md").write_text("hello")
    seen: Counter[str] = Counter()
    assert [record.text for record in pairs(tmp_path, seen=seen) if isinstance(record, Sample)] == ["a", "b"]
    assert any("README.md" in words for words in seen)
    (tmp_path / "c.csv").write_text("prompt\nx\ny\n")  # a column that is missing in one file
    with pytest.raises(StageError, match=r"c\.csv: its first 2 rows are rejected, .*'completion' is missing"):
        list(pairs(tmp_path))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", "prompt,completion\na,b\n", "it begins with 'prompt,completion': a file of CSV is named .csv"),
        ("a.json", '{\n "prompt": "x",\n "completion": "y"\n}\n', "JSON over several lines"),
        ("a.jsonl", '{"prompt": "x", "completion": 3}\n' * 200, "first 100 rows are rejected"),
    ],
)
def test_a_file_of_which_nothing_can_be_read_is_one_sentence(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(StageError) as caught:
        list(pairs(tmp_path / name))
    assert words in str(caught.value)


@pytest.mark.parametrize("answer", ["completion", "chosen"])
def test_json_that_is_no_conversation_is_text(answer: str, tmp_path: Path) -> None:
    row = {"prompt": '[{"a": 1}]', answer: '[{"b": 2}]\n'} | ({"rejected": '[{"b": 3}]'} if answer == "chosen" else {})
    (sample,) = read(tmp_path / "a.jsonl", row)
    assert isinstance(sample, Sample)
    assert (sample.text, sample.meta["completion"]) == ('[{"a": 1}]', '[{"b": 2}]\n')
