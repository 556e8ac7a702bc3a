"""Which key goes to an OpenAI-compatible endpoint, and where it is kept by the endpoint's address."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

KEY = "ATELIER_ENDPOINT_KEY"  # of the endpoint that is released; unset: it asks for none
KEYS_FOLDER = "ATELIER_ENDPOINT_KEYS"  # where there is such a folder, its keys alone are used


def key_file(folder: Path, url: str) -> Path:
    """One provider's key must not go to another's address."""
    return folder / f"{urlsplit(url).netloc.lower()}.key"


def key_of(url: str) -> str:
    """The key for an endpoint, by this process' environment; empty where it has none."""
    if folder := os.environ.get(KEYS_FOLDER):
        file = key_file(Path(folder), url)
        return file.read_text().strip() if file.is_file() else ""
    return os.environ.get(KEY, "").strip()
