"""What is computed once is read again; a bad file is computed again and ends nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.training.cache import Cache, Tensors, key_of

KEYS = [key_of("a"), key_of("b")]


@pytest.fixture
def computed() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, computed: list[str]) -> Cache:
    def compute(key: str) -> Tensors:
        computed.append(key)
        return {"value": torch.tensor([KEYS.index(key)], dtype=torch.bfloat16), "flat": torch.tensor(1.5)}

    return Cache(tmp_path / "cache", compute)


def test_it_computes_what_is_missing_once(cache: Cache, computed: list[str]) -> None:
    assert cache.fill([*KEYS, KEYS[0]]) == 2 and cache.fill(KEYS) == 0 and computed == KEYS
    assert cache[KEYS[1]]["value"].item() == 1 and cache[KEYS[1]]["value"].dtype == torch.bfloat16 and computed == KEYS


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def of_another_program(path: Path) -> None:
    save_file(load_file(path), path)


SPOILS: list[Callable[[Path], None]] = [cut_off, flip_a_bit, of_another_program, lambda path: path.write_bytes(b"")]


@pytest.mark.parametrize("spoil", [*SPOILS, Path.unlink])
def test_a_bad_file_is_computed_again(cache: Cache, computed: list[str], spoil: Callable[[Path], None]) -> None:
    cache.fill(KEYS)
    (path,) = cache.folder.rglob(f"{KEYS[0]}.safetensors")
    spoil(path)
    assert cache[KEYS[0]]["value"].item() == 0 and computed == [*KEYS, KEYS[0]]
    spoil(path)
    assert cache.fill(KEYS) == 1 and cache.fill(KEYS) == 0


def test_a_computation_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fails(key: str) -> Tensors:
        raise RuntimeError("out of memory")

    cache = Cache(tmp_path / "cache", fails)
    with pytest.raises(RuntimeError):
        cache.fill(KEYS)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_key_names_all_that_a_value_follows_from() -> None:
    assert key_of("a", [1, 2]) == key_of("a", [1, 2]) != key_of("a", [1, 3])


def test_what_was_read_longest_ago_goes_first_and_what_is_needed_stays(cache: Cache) -> None:
    cache.fill(KEYS)
    files = {key: next(cache.folder.rglob(f"{key}.safetensors")) for key in KEYS}
    size = files[KEYS[0]].stat().st_size
    for key, read in zip(KEYS, (2, 1), strict=True):
        os.utime(files[key], (read, read))
    assert cache.prune((), 2 * size) == 0
    assert cache[KEYS[1]]["value"].item() == 1  # read just now
    assert cache.prune((), size) == 1 and not files[KEYS[0]].exists()
    assert cache.prune({KEYS[1]}, 0) == 0 and files[KEYS[1]].exists()
    assert cache.prune((), 0) == 1
