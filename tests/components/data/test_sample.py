from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.sample import REJECT_SCHEMA, Reject, Sample, count_slugs, iterate, read, require, write
from components.stage import StageError
from tests.components.data.rejects import read_rejects

SAMPLES = [
    Sample(
        id=f"s{n}", text="pizza 🍕", image=bytes([n % 256]), label="food", source="x:1", meta={"tags": ["ü"], "n": n}
    )
    for n in range(4500)
]


def test_samples_come_back_equal_and_in_order_over_row_groups(tmp_path: Path) -> None:
    assert write(tmp_path / "deep" / "samples.parquet", SAMPLES) == 4500
    assert read(tmp_path / "deep" / "samples.parquet") == SAMPLES
    assert require(tmp_path / "deep" / "samples.parquet") == 4500
    assert pq.ParquetFile(tmp_path / "deep" / "samples.parquet").num_row_groups == 3


def test_equal_samples_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, SAMPLES[:10])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_big_pictures_end_a_row_group_early(tmp_path: Path) -> None:
    big = bytes(2**25)
    write(tmp_path / "big", (Sample(id=str(n), text="x", image=big) for n in range(3)))
    assert pq.ParquetFile(tmp_path / "big").num_row_groups == 2
    assert [sample.id for sample in iterate(tmp_path / "big")] == list("012")


def test_rejects_keep_sample_and_reason(tmp_path: Path) -> None:
    rejects = [
        Reject(Sample(id="a", text="", meta={"k": 1}), "empty_text", "text is empty"),
        Reject(SAMPLES[0], "cheese", "too much cheese"),
    ]
    write(tmp_path / "rejects.parquet", rejects, REJECT_SCHEMA)
    assert read_rejects(tmp_path / "rejects.parquet") == rejects
    assert count_slugs(tmp_path / "rejects.parquet") == {"empty_text": 1, "cheese": 1}


def test_no_samples_is_a_readable_file(tmp_path: Path) -> None:
    assert write(tmp_path / "none", []) == 0
    assert read(tmp_path / "none") == []


def test_a_missing_damaged_or_foreign_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"nowhere.*run the stage"):
        read(tmp_path / "nowhere")
    (tmp_path / "junk").write_bytes(b"not parquet at all")
    with pytest.raises(StageError, match="junk"):
        read(tmp_path / "junk")
    pq.write_table(pa.table({"id": ["a"], "text": ["b"]}), tmp_path / "foreign")
    with pytest.raises(StageError, match="'image'"):
        read(tmp_path / "foreign")
