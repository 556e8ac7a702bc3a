from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from components.data.sample import Reject, Sample
from components.data.sources import pairs
from components.stage import StageError


def reason(record: Sample | Reject) -> str:
    return record.reason if isinstance(record, Reject) else ""


def test_pairs_are_read_and_bad_lines_rejected(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(
        b'\xef\xbb\xbf{"prompt": "something sweet", "completion": "cake", "label": "cake", "licence": "CC0"}\r\n'
        b"\n{broken\n"
        b'{"prompt": "x"}\n{"prompt": "\xff", "completion": "y"}\n{"prompt": "x", "completion": null}\n'
    )
    good, *bad = pairs(file)
    assert isinstance(good, Sample)
    assert (good.text, good.label) == ("something sweet", "cake")
    assert good.meta == {"completion": "cake", "licence": "CC0"}
    assert [reason(b).split(":")[0] for b in bad] == [
        "not JSON",
        "field 'completion' is missing",
        "not UTF-8",
        "field 'completion' is NoneType, not text",
    ]
    assert [b.sample.source for b in bad if isinstance(b, Reject)] == [f"pairs.jsonl:{n}" for n in (3, 4, 5, 6)]


def test_a_field_that_stages_write_themselves_is_rejected_by_name(tmp_path: Path) -> None:
    """`clean` took it for what it writes there itself, and ended in a traceback."""
    said = [{"role": "user", "content": "a fox"}, {"role": "assistant", "content": "fox: animal"}]
    rows = [
        {"prompt": "x", "completion": "y", "history": [["a", "b"]]},
        {"prompt": "x", "completion": "y", "split_group": 3},
        {"messages": said, "history": "none"},
        {"messages": said, "completion": "wolf: animal"},
        {"prompt": "x", "completion": "y", "cleaning": {}},
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bad = list(pairs(tmp_path / "pairs.jsonl"))
    assert [each.slug for each in bad if isinstance(each, Reject)] == ["reserved_field"] * 5
    assert [re.findall("'(.*)'", reason(each)) for each in bad] == [
        ["history"],
        ["split_group"],
        ["history"],
        ["completion"],
        ["cleaning"],
    ]


def test_a_missing_jsonl_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"prepare\.text\.path"):
        list(pairs(tmp_path / "nowhere.jsonl"))


def said(*messages: tuple[str, str] | tuple[str, str, object]) -> dict[str, object]:
    rows = [dict(zip(("role", "content", "weight"), message, strict=False)) for message in messages]
    return {"messages": rows}


def test_answers_of_weight_0_are_read_and_not_taught(tmp_path: Path) -> None:
    rows = [
        said(("user", "a"), ("assistant", "b", 0), ("user", "c"), ("assistant", "d", 1)),
        said(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d", 0)),
        said(("user", "a"), ("assistant", "b", 0)),
        said(("user", "a", 1), ("assistant", "b")),
        said(("user", "a"), ("assistant", "b", 0.5)),
        said(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d", 0)) | {"rejected": "e"},
    ]
    (tmp_path / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second, *rejects = pairs(tmp_path / "talk.jsonl")
    assert isinstance(first, Sample) and isinstance(second, Sample)
    assert (first.text, first.meta["completion"]) == ("c", "d")
    assert [message.get("weight") for message in first.meta["history"]] == [None, 0]
    assert (second.text, second.meta) == ("a", {"completion": "b"})  # what follows would teach nothing
    reasons = [reject.reason for reject in rejects if isinstance(reject, Reject)]
    assert reasons[0] == "every answer has the weight 0: there is none to learn"
    assert reasons[1].startswith("message 1 has the weight 1") and reasons[2].startswith("message 2 has the weight 0.5")
    assert reasons[3] == "field 'rejected' stands beside an answer with the weight 0"


def test_of_a_folder_only_files_named_as_rows_are_read_and_the_others_are_counted(tmp_path: Path) -> None:
    row = json.dumps({"prompt": "a", "completion": "b"})
    for name in ("a.jsonl", "b c.JSONL", "数据.jsonl", "sub/c.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(row)
    for name in (".cache/d.jsonl", "a.jsonl.dvc", "a.jsonl.metadata"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("outs:\n- md5\n")
    seen: Counter[str] = Counter()
    assert all(isinstance(sample, Sample) for sample in pairs(tmp_path, seen=seen))
    assert list(seen.values()) == [2, 4]
    assert any(words.startswith("files that are not read") for words in seen)


def test_a_file_whose_name_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    path.write_text(json.dumps({"prompt": "a", "completion": "b"}))
    for source in (path, tmp_path):
        with pytest.raises(StageError, match=r"caf.udce9\.jsonl': the name is not UTF-8: rename it"):
            list(pairs(source))


def test_a_saved_data_set_of_hugging_face_is_told_what_to_do(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["a"], "completion": ["b"]})
    with pa.ipc.new_stream(str(tmp_path / "data-00000-of-00001.arrow"), table.schema) as stream:
        stream.write_table(table)
    (tmp_path / "dataset_info.json").write_text('{\n  "citation": ""\n}')
    for source in (tmp_path, tmp_path / "data-00000-of-00001.arrow"):
        with pytest.raises(StageError, match="it is Arrow, as `save_to_disk` of datasets writes it: use `to_parquet`"):
            list(pairs(source))


@pytest.mark.parametrize("content", ["let me see", None])
def test_a_conversation_that_calls_tools_is_rejected_and_not_shortened(content: str | None, tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": content, "tool_calls": [{"function": {"name": "f"}}]}
    rows = [{"messages": [{"role": "user", "content": "a"}, answer]}, said(("user", "a"), ("assistant", "b"))]
    (tmp_path / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bad, good = pairs(tmp_path / "talk.jsonl")
    assert isinstance(good, Sample) and reason(bad) == "message 2 has tool_calls, which are not read"
