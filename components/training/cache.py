"""Tensors that cost much to compute, kept as safetensors by the digest of what they are computed from.

A file is written whole or not at all. One that is cut off, damaged or another thing is computed again: a bad file costs
time and never ends a run. What nobody has read for longest goes first where there is too much. Knows nothing of what
the tensors mean.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from components.artifact import canonical

Tensors = dict[str, Tensor]
LAYOUT = 1


def key_of(*parts: object) -> str:
    """The digest that names what is computed from these parts."""
    return hashlib.sha256(canonical([LAYOUT, *parts]).encode()).hexdigest()


class Cache:
    """A folder of tensors. `compute(key)` gives what a key names, one at a time: a batch would change the last bits."""

    def __init__(self, folder: Path, compute: Callable[[str], Tensors]) -> None:
        self.folder, self.compute = folder, compute

    def fill(self, keys: Iterable[str]) -> int:
        """Compute what is not here, or not whole; returns how many that were."""
        missing = [key for key in dict.fromkeys(keys) if self._read(key) is None]
        for key in missing:
            self._write(key, self.compute(key))
        return len(missing)

    def prune(self, needed: Collection[str], most: int) -> int:
        """Remove what was read longest ago until the folder holds `most` bytes, but nothing that is `needed`.

        Returns how many files went. Another training that needs them computes them again.
        """
        found = [(path.stat(), path) for path in self.folder.glob("*/*.safetensors")]
        left, gone = sum(stat.st_size for stat, _ in found), 0
        for stat, path in sorted(found, key=lambda pair: pair[0].st_mtime):
            if left <= most:
                break
            if path.stem not in needed:
                path.unlink(missing_ok=True)
                left, gone = left - stat.st_size, gone + 1
        return gone

    def __getitem__(self, key: str) -> Tensors:
        found = self._read(key)
        if found is None:  # lost or damaged since it was written
            found = self.compute(key)
            self._write(key, found)
        return found

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def _read(self, key: str) -> Tensors | None:
        """What the file holds; None where it is not there or not what was written."""
        try:
            with safe_open(self._path(key), "pt") as file:
                stated = (file.metadata() or {}).get("sha256")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError):
            return None
        if stated != _digest(tensors):
            return None
        with suppress(OSError):  # one that may not be written to, or that another training has just removed
            os.utime(self._path(key))  # `prune` goes by when a file was read last
        return tensors

    def _write(self, key: str, tensors: Tensors) -> None:
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            whole = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
            save_file(whole, partial, {"sha256": _digest(whole)})
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _digest(tensors: Tensors) -> str:
    """SHA-256 of names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
