"""Bringing a model from a hub, a stand-in on loopback: what comes, what is said where it does not, and who is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.models import hub
from components.models.brought import FILES, WEIGHTS, Source
from components.models.described import card_of
from components.models.hub import download
from components.stage import StageError
from tests.hub_standin import COMMIT, NAME, Hub, hub_standin
from tests.tiny_language import write_tiny_base

TOKEN = "hf_of_nobody"
NAMED = f"{NAME}@{COMMIT}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_base(tmp_path_factory.mktemp("hub") / "model")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (folder / "notes.pdf").write_bytes(b"nothing that a model is read from")
    return folder


@pytest.fixture
def standin(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # put back afterwards
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    (tmp_path / "token").write_text("hf_of_who_has_signed_in")
    monkeypatch.delenv(hub.TOKEN, raising=False)
    with hub_standin(Path(shutil.copytree(model, tmp_path / "hub"))) as standin:
        monkeypatch.setenv(hub.ENDPOINT, standin.url)
        yield standin


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for pattern in FILES for file in folder.glob(pattern)}


def test_what_a_model_is_read_from_comes_once(standin: Hub) -> None:
    source = download(Source.of(NAMED))
    assert files(source.folder) == files(standin.folder) and not (source.folder / "notes.pdf").exists()
    asked = len(standin.seen)
    assert download(source) == source and len(standin.seen) == asked


def test_a_token_is_the_environments_alone_and_stays_there(
    standin: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Source.of(NAMED)
    download(source)
    assert not any("authorization" in headers for _, _, headers in standin.seen)
    shutil.rmtree(source.folder)
    standin.seen.clear()
    monkeypatch.setenv(hub.TOKEN, TOKEN)
    download(source)
    assert {headers["authorization"] for _, _, headers in standin.seen} == {f"Bearer {TOKEN}"}
    assert TOKEN not in "".join(capsys.readouterr())
    assert not any(TOKEN.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_a_token_goes_to_nobody_unencrypted(standin: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hub.TOKEN, TOKEN)
    monkeypatch.setenv(hub.ENDPOINT, "http://hub.example")
    with pytest.raises(StageError, match=r"HF_TOKEN would go to http://hub.example unencrypted") as refused:
        download(Source.of(NAMED))
    assert TOKEN not in str(refused.value)


def test_a_download_that_was_cut_off_goes_on_where_it_ended(standin: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1024)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    standin.mode = "cut"
    source = Source.of(NAMED)
    with pytest.raises(StageError, match="run it again: what has come is kept"):
        download(source)
    assert not (source.folder / WEIGHTS).exists() and (source.folder / "config.json").exists()
    standin.mode = "ok"
    standin.seen.clear()
    assert files(download(source).folder) == files(standin.folder)
    (asked,) = standin.asked(WEIGHTS)
    assert int(asked["range"].removeprefix("bytes=").rstrip("-")) > 0
    assert standin.asked("config.json") == []


def test_a_hub_that_goes_away_in_between_leaves_nothing_that_looks_whole(standin: Hub) -> None:
    def go_away(folder: Path) -> None:
        standin.mode = "broken"

    source = Source.of(NAMED)
    with pytest.raises(StageError, match="did not come from"):
        download(source, check=go_away)
    standin.mode = "ok"
    assert files(download(source).folder) == files(standin.folder)


def test_bytes_that_are_not_those_of_the_hub_are_not_kept(standin: Hub) -> None:
    source = Source.of(NAMED)
    standin.mode = "altered"
    with pytest.raises(StageError, match="what came is not what the hub says that it has"):
        download(source)
    assert not (source.folder / WEIGHTS).exists()
    standin.mode = "ok"
    assert files(download(source).folder) == files(standin.folder)


@pytest.mark.parametrize(
    ("mode", "named", "words"),
    [
        ("gated", NAMED, f"{NAME} asks for its licence to be accepted: do so on its page at .*set HF_TOKEN"),
        ("missing", NAMED, f"has no {NAME}, or it is private: then set HF_TOKEN"),
        ("broken", NAMED, f"{NAME} did not come from .*500.*run it again"),
        ("slow", NAMED, f"{NAME} did not come from .*timed out.*run it again"),
        ("ok", f"{NAME}@{COMMIT[::-1]}", f"{NAME} at .* has no revision {COMMIT[::-1]}"),
        ("ok", NAME, f"{NAME} may be another model tomorrow; write what it is today: {NAMED}"),
        ("ok", f"{NAME}@main", f"{NAME}@main may be another model tomorrow; write what it is today: {NAMED}"),
    ],
)
def test_a_hub_that_gives_no_model_is_told_in_words(
    standin: Hub, monkeypatch: pytest.MonkeyPatch, mode: str, named: str, words: str
) -> None:
    monkeypatch.setattr(hub, "SECONDS", 0.2)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    standin.mode = mode
    with pytest.raises(StageError, match=f"(?s){words}"):
        download(Source.of(named))
    assert standin.asked(WEIGHTS) == []


def test_a_hub_that_is_not_there_is_told_in_words(standin: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hub.ENDPOINT, "http://127.0.0.1:9")
    for asking in (lambda: download(Source.of(NAMED)), lambda: card_of(NAMED)):
        with pytest.raises(StageError, match=f"{NAME} did not come from http://127.0.0.1:9: .*refused"):
            asking()


def test_pickled_weights_are_refused_before_anything_comes(standin: Hub) -> None:
    (standin.folder / WEIGHTS).rename(standin.folder / "pytorch_model.bin")
    with pytest.raises(StageError, match=r"has no \*.safetensors: pytorch_model.bin is a pickle, which can run code"):
        download(Source.of(NAMED))
    assert standin.asked("config.json") == []


@pytest.mark.parametrize("name", ["../config.json", "/tmp/config.json", "a/../../config.json"])
def test_a_file_that_would_lie_elsewhere_is_refused(standin: Hub, name: str) -> None:
    standin.astray = (name,)
    with pytest.raises(StageError, match=rf"a file that is called {name}, outside of any folder"):
        download(Source.of(NAMED))


@pytest.mark.parametrize("named", [NAME, NAMED])
def test_a_repository_is_described_without_its_weights(standin: Hub, named: str) -> None:
    found = card_of(named)
    assert found.shape == card_of(str(standin.folder)).shape
    said = f"{NAME} may be another model tomorrow; write what it is today: {NAMED}"
    assert found.missing == ([] if "@" in named else [said])
    folder = Source.of(NAMED).folder
    assert json.loads((folder / "config.json").read_bytes())["model_type"] == "llama"
    assert not (folder / WEIGHTS).exists() and all("range" in asked for asked in standin.asked(WEIGHTS))
