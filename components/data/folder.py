"""A user's folder of pictures: described by a file of rows, by captions beside them, or by the names of sub-folders.

Every picture that nothing describes and every description without a picture is a reject. Pictures are read as bytes and
never decoded here.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

from components.artifact import file_digest
from components.data import formats, forms, rows
from components.data.rows import Row, Wanted, every, judged
from components.data.sample import METADATA, Reject, Sample
from components.data.sources import MASK, identity, reserved, rest, string, unlike, utf8_name
from components.stage import StageError

# No picture worth training on is larger as a file; a row that names a disk image must not fill the memory.
_MAX_BYTES = 2**28
# By name, as what a folder holds is counted before anything is opened.
_PICTURES = {".png", ".apng", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
_PICTURES |= {".heic", ".heif", ".jxl", ".jp2", ".svg", ".psd"}  # which are not read, and named
# Files that hold one picture's caption, as other tools write them.
_CAPTIONS = (".txt", ".caption", ".json")
_READ = {*_PICTURES, *_CAPTIONS}
# What other tools call these fields.
_NAMES = {"file_name": ("filename", "file", "image", "path"), "text": ("caption", "captions")}
_FEWEST_LABELS = 2  # the name of one folder around all pictures says nothing of any


def image_folder(
    folder: Path,
    key: str = "prepare.image.path",
    fields: Mapping[str, str] | None = None,
    seen: Counter[str] | None = None,
    wanted: Wanted = every,
) -> Iterator[Sample | Reject]:
    """The samples of a folder, one for each caption of a picture; further fields of a row are kept in `meta`.

    `key`: what names the folder in params.yaml, for errors. `fields`: name here → name in the rows. `seen` counts what
    was read as what. A picture, or a row of several, that is not `wanted` is not opened.
    """
    seen = Counter() if seen is None else seen
    files = _files(folder, key, seen)
    if metadata := _metadata(folder, files):
        unread = [name for name in files if name.suffix.lower() not in _PICTURES and folder / name != metadata]
        _count(seen, "files that are not read", unread)
        return _described(folder, metadata, files, fields or {}, seen, wanted)
    pictures = [name for name in files if name.suffix.lower() in _PICTURES]
    _count(seen, "files that are not read", [name for name in files if name.suffix.lower() not in _READ])
    captions = {name.with_suffix(""): name for name in files if name.suffix.lower() in _CAPTIONS}
    if any(picture.with_suffix("") in captions for picture in pictures) and not _misspelt(files):
        beside = [name for name in files if name.suffix.lower() in _CAPTIONS and captions[name.with_suffix("")] != name]
        _count(seen, "captions that are not read, with another beside the same picture", beside)
        return _captioned(folder, pictures, captions, seen, wanted)
    labels = {picture.parent for picture in pictures}
    if len(labels) >= _FEWEST_LABELS and PurePosixPath() not in labels and not _misspelt(files):
        return _labelled(folder, pictures, seen, wanted)
    raise StageError(
        f"{folder}: no {METADATA}; {_content(files)}; write {METADATA}: one JSON object with file_name and text per "
        "line, per picture; or write each picture's caption beside it, as cat.txt beside cat.png"
    )


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of what describes the pictures: of the metadata, or of all captions and names together."""
    files = _files(folder)
    if metadata := _metadata(folder, files):
        return {metadata.name: file_digest(metadata)}
    digest = hashlib.sha256()
    for name in files:
        caption = file_digest(folder / name) if name.suffix.lower() in _CAPTIONS else ""
        digest.update(f"{name}\0{caption}\n".encode())
    return {folder.name: digest.hexdigest()}


def _files(folder: Path, key: str = "prepare.image.path", seen: Counter[str] | None = None) -> list[PurePosixPath]:
    """The names in a folder and its sub-folders in order, without hidden ones; raises `StageError` as `utf8_name`."""
    if not folder.is_dir():
        raise StageError(f"{key}: {folder} is not a folder")
    found, linked = [], []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        linked += [str(Path(parent, name).relative_to(folder)) for name in folders if Path(parent, name).is_symlink()]
        found += [PurePosixPath((Path(parent) / name).relative_to(folder)) for name in names if name[0] != "."]
    for name in found:
        utf8_name(name)
    _count(seen, "folders that are symbolic links, not followed", sorted(linked))
    return sorted(found)


def _metadata(folder: Path, files: list[PurePosixPath]) -> Path | None:
    """The file of rows that describes the pictures; raises `StageError` for several, or one of a sub-folder."""
    found = [name for name in files if name.name.startswith("metadata.") and formats.holds_rows(name)]
    if len(found) > 1:
        raise StageError(f"{folder}: it holds {' and '.join(map(str, found))}: leave one of them in it")
    if found and found[0].parent.name:
        raise StageError(f"{folder}: {found[0]} describes a sub-folder: give {folder / found[0].parent} as the folder")
    return folder / found[0] if found else None


def _described(
    folder: Path,
    metadata: Path,
    files: list[PurePosixPath],
    fields: Mapping[str, str],
    seen: Counter[str],
    wanted: Wanted,
) -> Iterator[Sample | Reject]:
    """The rows of metadata, then the pictures that no row names."""
    named: set[str] = set()
    format = formats.recognise(metadata)

    def records() -> Iterator[Sample | Reject]:
        for place, row in rows.rows(metadata, format):
            if isinstance(row, Reject):
                yield row
                continue
            try:
                row, words = _plain(forms.renamed(row, fields))
            except ValueError as error:
                yield Reject(Sample(id=place, text=string(row, "text"), source=place), "wrong_field", str(error))
                continue
            seen[f"rows of {metadata.name} ({format}): {words}"] += 1
            named.update(_below(folder, row[name]) for name in ("file_name", MASK) if isinstance(row.get(name), str))
            if wanted(place, place):
                yield from _pictures(folder, row, place)

    yield from judged(metadata, records())
    for name in files:
        if name.suffix.lower() in _PICTURES and str(name) not in named and wanted(str(name), name):
            yield _unpaired(name, "no_row", f"no row of {metadata.name} names it")


def _below(folder: Path, name: str) -> str:
    """A picture's name as the folder has it, where a row names it by a whole path or in a roundabout way."""
    return os.path.relpath(folder / name, folder)


def _captioned(
    folder: Path,
    pictures: list[PurePosixPath],
    captions: dict[PurePosixPath, PurePosixPath],
    seen: Counter[str],
    wanted: Wanted,
) -> Iterator[Sample | Reject]:
    """The pictures with captions beside them, then the captions without a picture."""
    for picture in pictures:
        caption = captions.get(picture.with_suffix(""))
        if not wanted(str(caption or picture), picture):
            continue
        if caption is None:
            yield _unpaired(
                picture, "no_caption", f"no caption is beside {picture}: write {picture.with_suffix('.txt')}"
            )
            continue
        row = _beside(folder, caption)
        if isinstance(row, Reject):
            yield row
            continue
        seen[f"pictures with the caption beside them, in {caption.suffix}"] += 1
        label = {"label": picture.parent.name} if picture.parent.name else {}
        yield from _pictures(folder, {**label, **row, "file_name": str(picture)}, str(caption))
    taken = {picture.with_suffix("") for picture in pictures}
    for stem, caption in captions.items():
        if stem not in taken and wanted(str(caption), caption):
            yield _unpaired(caption, "no_file", "no picture is beside it")


def _labelled(
    folder: Path, pictures: list[PurePosixPath], seen: Counter[str], wanted: Wanted
) -> Iterator[Sample | Reject]:
    for picture in pictures:
        if not wanted(str(picture), picture):
            continue
        if not picture.parent.name:
            yield _unpaired(picture, "no_caption", f"{picture} lies in no sub-folder that names it")
            continue
        seen["pictures with their folder's name as label and caption"] += 1
        text = " ".join(picture.parent.name.replace("_", " ").split())
        row = {"file_name": str(picture), "text": text, "label": picture.parent.name}
        yield from _pictures(folder, row, str(picture))


def _beside(folder: Path, caption: PurePosixPath) -> Row | Reject:
    """The row that a caption's file stands for: its text, or the object of a `.json`."""
    broken = Sample(id=str(caption), text="", source=str(caption))
    try:
        data = _file(folder, "caption", str(caption))
        if caption.suffix.lower() == ".json":
            row = rows.json_object(data, str(caption))
            return row if isinstance(row, Reject) else _plain(row)[0]
        return {"text": data.decode(formats.marked(data) or "utf-8-sig").strip()}
    except UnicodeDecodeError as error:
        return Reject(broken, "not_utf8", f"not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}")
    except ValueError as error:
        return Reject(broken, "no_file", str(error))


def _plain(row: Row) -> tuple[Row, str]:
    """A row under the names of this project, and what was read as what in words."""
    taken: dict[str, str] = {}
    for ours, others in _NAMES.items():
        if ours not in row and (theirs := next((name for name in others if name in row), "")):
            taken[theirs] = ours
    read_as = {ours: f"{theirs} → {ours}" for theirs, ours in taken.items()}
    words = ", ".join(read_as.get(ours, ours) for ours in _NAMES)
    return {taken.get(name, name): value for name, value in row.items()}, words


def _pictures(folder: Path, row: Row, place: str) -> Iterator[Sample | Reject]:
    """A sample for each caption of a row."""
    texts = row.get("text")
    for text in texts if isinstance(texts, list) and texts else [texts]:
        yield _picture(folder, row if text is texts else {**row, "text": text}, place)


def _picture(folder: Path, row: dict[str, Any], place: str) -> Sample | Reject:
    sample = Sample(id=place, text=string(row, "text"), label=string(row, "label"), source=place)
    if problem := unlike(row, ("file_name", "text")):
        return Reject(sample, "wrong_field", problem)
    if problem := reserved(row):
        return Reject(sample, "reserved_field", problem)
    try:
        data = _file(folder, "file_name", row["file_name"])
        mask = _file(folder, MASK, row[MASK]) if row.get(MASK) else None
    except ValueError as error:
        return Reject(sample, "no_file", str(error))
    return replace(
        sample, id=identity(data, row["text"].encode()), image=data, mask=mask, meta=rest(row, ("text", "label"))
    )


def _file(folder: Path, field: str, name: str) -> bytes:
    """The bytes of a file that a row names; raises `ValueError`, which says what is wrong with it."""
    path = folder / name
    try:
        if not path.resolve(strict=True).is_relative_to(folder.resolve()):
            fault = "points outside the folder"
        elif not path.is_file():
            fault = "is not a file"
        elif path.stat().st_size > _MAX_BYTES:
            fault = f"is larger than {_MAX_BYTES} bytes"
        else:
            return path.read_bytes()
    except FileNotFoundError:
        fault = "does not exist"
    except (OSError, ValueError, RuntimeError) as error:
        fault = f"cannot be read: {error}"
    raise ValueError(f"{field} {name!r} {fault}")


def _unpaired(name: PurePosixPath, slug: str, reason: str) -> Reject:
    return Reject(Sample(id=str(name), text="", source=str(name)), slug, reason)


def _misspelt(files: list[PurePosixPath]) -> list[str]:
    """Names that may be meant as the metadata's: neither pictures nor what stands beside one, as its caption does."""
    pictures = {name.with_suffix("") for name in files if name.suffix.lower() in _PICTURES}
    others = [name.name for name in files if not name.parent.name and name.with_suffix("") not in pictures]
    return [name for name in others if get_close_matches(name.lower(), [METADATA])]


def _content(files: list[PurePosixPath]) -> str:
    """What a folder without captions as they are read here holds instead, in words."""
    pictures = [name for name in files if name.suffix.lower() in _PICTURES]
    folders = {picture.parent for picture in pictures if picture.parent.name}
    parts = [f"{name}, not read," for name in _misspelt(files)]
    parts += [_counted(len(pictures), "picture")] if pictures else []
    held = " and ".join(parts) or _counted(len(files), "file") + " and no picture"
    return f"it holds {held}{', all in ' + str(min(folders)) if len(folders) == 1 else ''}"


def _count(seen: Counter[str] | None, words: str, names: Sequence[object]) -> None:
    if seen is not None and names:
        seen[f"{words}, as {names[0]}"] = len(names)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
