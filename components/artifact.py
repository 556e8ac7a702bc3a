"""Artifact directories: files beside a `manifest.json` that binds them by SHA-256 to each other and to their parents.

The manifest's own digest names the artifact everywhere (registry, Bento, deployment, event). It holds nothing that
changes from run to run, so equal inputs give an equal digest. Knows nothing of what the files contain.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from components.errors import AtelierError

MANIFEST = "manifest.json"


class ArtifactError(AtelierError):
    """An artifact directory is incomplete or its bytes are not those of its manifest."""


class Manifest(BaseModel):
    """What an artifact is: SHA-256 per file, its line and kind, how it was made, and the digests of its parents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: str
    kind: str
    files: dict[str, str]
    parents: dict[str, str]
    parameters: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the manifest's canonical JSON."""
        return hashlib.sha256(canonical(self.model_dump()).encode()).hexdigest()


def canonical(document: object) -> str:
    """JSON with sorted keys and no NaN: equal documents give equal text."""
    return json.dumps(document, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder`, by POSIX path relative to it, without the manifest."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): file_digest(p) for p in files if p != folder / MANIFEST}


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: a killed or full-disk write leaves the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a table, for plots: the names of the columns, which a table without rows has too, then the rows."""
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, table.getvalue())


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """An empty sibling of `folder` to fill: it takes the folder's place when the block ends, is removed when it fails.

    What a killed run left is removed by the next one, so a stage's output is complete or not there.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(folder)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def link(source: str, target: str) -> str:
    """A second name of a file, as `shutil.copytree` copies: artifacts are replaced and never written in place.

    A copy where the file system has no such names, or `target` is on another one.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def seal(
    folder: Path, *, line: str, kind: str, parents: dict[str, str], parameters: dict[str, Any], metrics: dict[str, Any]
) -> Manifest:
    """Write the manifest of `folder` last, so that a directory with a manifest is a complete one."""
    files = tree_digests(folder)
    manifest = Manifest(line=line, kind=kind, files=files, parents=parents, parameters=parameters, metrics=metrics)
    write_text(folder / MANIFEST, canonical(manifest.model_dump()))
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone, with no file digested; raises `ArtifactError` where there is none or it is damaged."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError(f"{folder}: no {MANIFEST}; the stage that makes it has not finished") from error
    except ValidationError as error:
        raise ArtifactError(f"{folder / MANIFEST}: damaged: {error}") from error


def verify(folder: Path) -> Manifest:
    """Check every file against the manifest; raises `ArtifactError` naming each missing, changed or extra file."""
    manifest = read_manifest(folder)
    digests = tree_digests(folder)
    wrong = [f"{name} is missing" for name in sorted(manifest.files.keys() - digests.keys())]
    wrong += [f"{name} is not in the manifest" for name in sorted(digests.keys() - manifest.files.keys())]
    both = sorted(digests.keys() & manifest.files.keys())
    wrong += [f"{name} was changed" for name in both if digests[name] != manifest.files[name]]
    if wrong:
        raise ArtifactError(f"{folder}: {'; '.join(wrong)}; fetch or build the artifact again")
    return manifest
