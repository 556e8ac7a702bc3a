"""A model hub: a repository as it is at a commit, and what the hub says where there is none.

`HF_ENDPOINT` names another hub than huggingface_hub's own and `HF_TOKEN` who asks: a token is taken from there alone,
and goes to no address without TLS. Nothing is loaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from components.artifact import file_digest
from components.loopback import OWN_ADDRESSES
from components.models.brought import FILES, PICKLED, Source
from components.stage import StageError

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

ENDPOINT, TOKEN = "HF_ENDPOINT", "HF_TOKEN"
COMMIT = re.compile(r"[0-9a-f]{40}")
WEIGHTS = ".safetensors"
DIGEST = re.compile(r"[0-9a-f]{64}")  # SHA-256, the ETag of large files
WHOLE = ".complete"  # in a folder that holds all of a commit
SECONDS = 30.0  # for what the hub says of a repository
AGAIN = "run it again: what has come is kept"


@contextmanager
def asking(source: Source) -> Iterator[HfApi]:
    """The hub's client; what goes wrong with it inside of the block becomes a `StageError` that says what to do."""
    import httpx
    from huggingface_hub import HfApi, constants, errors

    constants.HF_HUB_OFFLINE = False  # as set for all programs: everything but this is found on this machine
    endpoint, token = os.environ.get(ENDPOINT, "").strip() or None, os.environ.get(TOKEN, "").strip()
    hub = endpoint or constants.ENDPOINT
    if urlsplit(hub).username or urlsplit(hub).password:
        raise StageError(f"{ENDPOINT} must be an address alone: it names an account, which {TOKEN} is for")
    if token and urlsplit(hub).scheme == "http" and urlsplit(hub).hostname not in OWN_ADDRESSES:
        raise StageError(f"{TOKEN} would go to {hub} unencrypted: give {ENDPOINT} as https, or unset {TOKEN}")
    try:
        yield HfApi(endpoint=endpoint, token=token or False)
    except errors.GatedRepoError as error:
        raise StageError(
            f"{source.name} asks for its licence to be accepted: do so on its page at {hub}, then set {TOKEN} "
            "to a token of that account"
        ) from error
    except errors.RepositoryNotFoundError as error:
        account = f"the account of {TOKEN} may not see it" if token else f"it is private: then set {TOKEN}"
        raise StageError(f"{hub} has no {source.name}, or {account}") from error
    except errors.RevisionNotFoundError as error:
        raise StageError(f"{source.name} at {hub} has no revision {source.revision}") from error
    except (httpx.HTTPError, httpx.InvalidURL, errors.SafetensorsParsingError, OSError, ValueError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StageError(f"{source.name} did not come from {hub}: {said}; {AGAIN}") from error


def described(hub: HfApi, source: Source) -> ModelInfo:
    """What the hub says of a repository at its revision."""
    return hub.model_info(source.name, revision=source.revision or None, timeout=SECONDS)


def download(
    source: Source,
    files: Sequence[str] = FILES,
    ignored: Sequence[str] = (),
    check: Callable[[Path], object] = lambda folder: None,
) -> Source:
    """A repository as it is at a commit, below `.atelier/models`; what is there whole is not asked for again.

    A download that was cut off goes on where it ended. `check` may refuse the model by its small files, which come
    before its weights. Raises `StageError` where the hub cannot be reached, asks for consent, has no such commit or no
    weights that may be read, and where the revision is none and so may mean another model tomorrow.
    """
    if COMMIT.fullmatch(source.revision) and (source.folder / WHOLE).exists():
        return source
    with asking(source) as hub:
        info = described(hub, source)
        if info.sha != source.revision:
            raise StageError(f"base.{source.line}.model: {moving(source, str(info.sha))}")
        weights = [pattern for pattern in files if pattern.endswith(WEIGHTS)]
        _require_weights(source, info, weights)
        bring(hub, source, info, [pattern for pattern in files if pattern not in weights], ignored)
        check(source.folder)
        bring(hub, source, info, weights, ignored)
    (source.folder / WHOLE).touch()
    return source


def moving(source: Source, commit: str) -> str:
    """That a name without a commit may mean another model tomorrow."""
    named = f"{source.name}@{source.revision}" if source.revision else source.name
    return f"{named} may be another model tomorrow; write what it is today: {source.name}@{commit}"


def bring(hub: HfApi, source: Source, info: ModelInfo, files: Sequence[str], ignored: Sequence[str]) -> Path:
    """The repository's files of these patterns, in the folder of the commit that `info` is of; returns that."""
    from huggingface_hub import hf_hub_url

    folder = replace(source, revision=str(info.sha)).folder
    for name in names(info):
        if not _matches(name, files) or _matches(name, ignored):
            continue
        _bring_file(hub, hf_hub_url(source.name, name, revision=info.sha, endpoint=hub.endpoint), folder / name)
    return folder


def _bring_file(hub: HfApi, url: str, path: Path) -> None:
    """A file, which has its name once it is whole. Raises `StageError` where its bytes are not what the hub promised.

    The library's own ways begin a file anew in each process, and take a folder to which a part has come for the whole
    where the hub goes away in between.
    """
    from huggingface_hub.file_download import http_get

    if path.is_file():
        return
    promised = hub.get_hf_file_metadata(url=url)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{sha256(str(promised.etag).encode()).hexdigest()[:16]}.part")
    if promised.size is not None and part.is_file() and part.stat().st_size > promised.size:  # two wrote to it at once
        part.unlink()
    with part.open("ab") as file:
        headers = {"authorization": f"Bearer {hub.token}"} if hub.token else {}
        http_get(url, file, resume_size=file.tell(), headers=headers, expected_size=promised.size)
    if DIGEST.fullmatch(promised.etag or "") and file_digest(part) != promised.etag:  # small files have git's
        part.unlink()
        raise StageError(f"{path}: what came is not what the hub says that it has; run it again")
    part.replace(path)


def names(info: ModelInfo) -> list[str]:
    """Of the repository's files; raises `StageError` where one would leave the folder that it is to come to."""
    found = [file.rfilename for file in info.siblings or ()]
    if astray := [name for name in found if name.startswith("/") or ".." in name.split("/")]:
        raise StageError(f"{info.id} has a file that is called {astray[0]}, outside of any folder: it is not brought")
    return found


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _require_weights(source: Source, info: ModelInfo, patterns: Sequence[str]) -> None:
    """Raise `StageError` where a repository has no file of weights that could be read."""
    if any(_matches(name, patterns) for name in names(info)):
        return
    pickled = [name for name in names(info) if name.endswith(PICKLED)]
    hint = f"{pickled[0]} is a pickle, which can run code: " if pickled else ""
    raise StageError(
        f"base.{source.line}.model: {source.name} has no {patterns[0]}: {hint}take a revision of it that is saved as "
        "safetensors"
    )
