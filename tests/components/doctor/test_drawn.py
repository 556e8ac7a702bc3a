"""The sample is even, the same each time, and read as `prepare` reads; the rest of the source is counted, not read."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from components.config import Prepare
from components.data import prepare, rows
from components.data.sample import Reject, Sample
from components.doctor.drawn import draw
from components.stage import StageError


def source(path: Path, count: int, copies: int = 0) -> Prepare:
    written = [json.dumps({"prompt": f"question {n}", "completion": f"answer {n}"}) for n in range(count)]
    path.write_text("\n".join([*written, *written[:copies]]) + "\n")
    return Prepare(source="jsonl", path=path, limit=None)


def test_a_sample_is_even_and_reads_a_small_part_of_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, read = source(tmp_path / "rows.jsonl", 20_000, copies=37), Counter[str]()
    parse = rows.json_object

    def counted(line: bytes, place: str) -> rows.Row | Reject:
        read[place] += 1
        return parse(line, place)

    monkeypatch.setattr(rows, "json_object", counted)
    drawn = draw("text", settings, 500, seed=7)
    assert (drawn.rows, len(drawn.records), drawn.copies, drawn.is_whole) == (20_037, 500, 37, False)
    assert len(read) < 4_000
    places = [int(record.source.split(":")[1]) for record in drawn.records if isinstance(record, Sample)]
    assert places == sorted(places)
    quarters = Counter(place * 4 // 20_038 for place in places)
    assert min(quarters.values()) > 85  # of 125 expected; below 4 standard deviations
    assert draw("text", settings, 500, seed=7).records == drawn.records
    assert draw("text", settings, 500, seed=8).records != drawn.records
    assert drawn.about(5) == "about 200"


def test_a_small_source_is_read_whole_and_as_the_stage_reads_it(tmp_path: Path) -> None:
    settings = source(tmp_path / "rows.jsonl", 30)
    drawn = draw("text", settings, 500, seed=7)
    assert drawn.records == list(prepare.records("text", settings, Counter()))
    assert (drawn.is_whole, drawn.about(5)) == (True, "5")
    limited = draw("text", settings.model_copy(update={"limit": 12}), 500, seed=7)
    assert limited.records == drawn.records[:12]


def test_a_file_that_prepare_refuses_is_refused_in_its_words(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"frage": "a", "antwort": "b"}\n' * 5_000)
    settings = Prepare(source="jsonl", path=path, limit=None)
    with pytest.raises(StageError) as refused:
        prepare.prepare("text", settings, tmp_path / "out")
    assert draw("text", settings, 10, seed=7).ends == str(refused.value)
    assert "frage, antwort" in str(refused.value)


def test_pictures_outside_of_the_sample_are_not_missed_by_their_captions(tmp_path: Path) -> None:
    for n in range(40):
        Image.new("RGB", (8, 8), (n, n, n)).save(tmp_path / f"{n}.png")
        (tmp_path / f"{n}.txt").write_text(f"a grey of {n}")
    (tmp_path / "alone.txt").write_text("a caption without a picture")
    settings = Prepare(source="folder", path=tmp_path, limit=None)
    drawn = draw("image", settings, 10, seed=7)
    assert (drawn.rows, len(drawn.records), drawn.total) == (41, 10, 41)
    everything = draw("image", settings, 100, seed=7).records
    assert [record.sample.source for record in everything if isinstance(record, Reject)] == ["alone.txt"]
    assert all(record in everything for record in drawn.records)


@pytest.mark.parametrize("name", ["rows.json", "rows.csv", "rows.parquet"])
def test_other_formats_are_sampled_too(name: str, tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"prompt": [f"q {n}" for n in range(900)], "completion": [f"a {n}" for n in range(900)]})
    frame.loc[899] = frame.loc[0]
    path = tmp_path / name
    if name.endswith("json"):
        path.write_text(json.dumps(frame.to_dict("records")))
    else:
        frame.to_csv(path, index=False) if name.endswith("csv") else frame.to_parquet(path)
    settings = Prepare(source="jsonl", path=path, limit=None)
    drawn = draw("text", settings, 50, seed=7)
    assert (drawn.rows, len(drawn.records), drawn.copies) == (900, 50, 1)
    whole = list(prepare.records("text", settings, Counter()))
    assert all(record in whole for record in drawn.records)
