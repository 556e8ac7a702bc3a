"""The shared secret between model Bentos and who may ask them: `Authorization: Bearer <ATELIER_ENGINE_TOKEN>`.

Being on the same machine or network is no permission: other users are there too, and web pages in their browsers.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from components.stage import StageError

VARIABLE = "ATELIER_ENGINE_TOKEN"


def require() -> str:
    """The token of this process' environment; raises `StageError` where there is none."""
    token = os.environ.get(VARIABLE, "").strip()
    if not token:
        raise StageError(f"{VARIABLE} is empty: set it to a long random text, the same for the gateway and its models")
    return token


def headers() -> dict[str, str]:
    """What a request to a model Bento carries; nothing where there is no token, which the Bento then refuses."""
    token = os.environ.get(VARIABLE, "").strip()
    return {"authorization": f"Bearer {token}"} if token else {}


def matches(authorization: str, token: str) -> bool:
    """Whether a header carries the token; digests are compared, so that the time tells nothing of it."""
    scheme, _, given = authorization.partition(" ")
    digests = [hashlib.sha256(text.strip().encode("utf-8", "replace")).digest() for text in (given, token)]
    return scheme.lower() == "bearer" and hmac.compare_digest(*digests)
