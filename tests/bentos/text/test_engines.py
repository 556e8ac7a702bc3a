"""Adapters' engines: loaded in the background, given up when others are wanted, and never in a job's way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from bentos.text import engines
from bentos.text.engines import Engines
from components.artifact import read_manifest, seal
from components.runtimes.base import TextRequest, TextResult
from tests.bentos.gateway.test_chat import eventually
from tests.tiny_adapter import package_of


@pytest.fixture
def loaded(tiny_adapter: Path, tmp_path: Path) -> Iterator[Engines]:
    shutil.copytree(tiny_adapter, tmp_path / tiny_adapter.name)
    found = Engines(package_of(tiny_adapter), tmp_path)
    yield found
    found.close()


def another(folder: Path, number: int) -> str:
    """A further adapter of the same weights."""
    first = next(path for path in folder.iterdir() if path.is_dir())
    manifest = read_manifest(first)
    shutil.copytree(first, folder / "new")
    made = seal(
        folder / "new",
        line="text",
        kind="adapter",
        parents=manifest.parents,
        parameters=manifest.parameters | {"number": number},
        metrics={},
    )
    (folder / "new").rename(folder / made.digest)
    return made.digest


def test_a_job_is_answered_without_until_the_adapter_is_there(loaded: Engines, tiny_adapter: Path) -> None:
    assert loaded.pick("") == (loaded.plain, "")
    assert loaded.pick(tiny_adapter.name) == (loaded.plain, "")
    assert eventually(lambda: loaded.pick(tiny_adapter.name)[1] == tiny_adapter.name)
    assert loaded.pick(tiny_adapter.name)[0] is not loaded.plain


def test_what_cannot_be_loaded_is_answered_without_and_tried_again_later(
    loaded: Engines, tmp_path: Path, tiny_adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = "0" * 64
    assert loaded.pick(wanted) == (loaded.plain, "")
    shutil.copytree(tiny_adapter, tmp_path / wanted)  # another adapter in its place is no better than none
    monkeypatch.setattr(engines, "PATIENCE_SECONDS", 0.0)
    assert eventually(lambda: loaded._held[wanted].engine.done())
    loaded.pick(wanted)
    assert eventually(lambda: loaded._held[wanted].engine.done())
    assert loaded.pick(wanted) == (loaded.plain, "")


async def test_an_engine_that_fails_costs_nobody_an_answer(loaded: Engines, tiny_adapter: Path) -> None:
    assert eventually(lambda: loaded.pick(tiny_adapter.name)[1] == tiny_adapter.name)
    request = TextRequest((("user", "a red boat"),), max_new_tokens=8, temperature=0)
    (*_, (fitted, used)) = [item async for item in loaded.stream(request, tiny_adapter.name)]
    assert isinstance(fitted, TextResult) and used == tiny_adapter.name
    loaded.pick(tiny_adapter.name)[0].close()
    for _ in range(2):
        (*_, (plain, used)) = [item async for item in loaded.stream(request, tiny_adapter.name)]
        assert (plain, used) == (loaded.plain.generate([request])[0], "")


def test_the_one_that_was_not_asked_for_longest_makes_room(
    loaded: Engines, tmp_path: Path, tiny_adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "MOST", 2)
    monkeypatch.setattr(engines, "PATIENCE_SECONDS", 0.0)
    names = [tiny_adapter.name, another(tmp_path, 1), another(tmp_path, 2)]
    for name in names:
        assert eventually(partial(lambda name: loaded.pick(name)[1] == name, name))
    assert list(loaded._held) == names[1:]
