"""Who calls: API keys, compared in constant time, and the key that stands for a user in events.

API keys and the secret behind users' keys come from the environment; without either the gateway does not start.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from bentos.gateway.errors import ApiError
from components.events.schema import hash_user
from components.stage import StageError

KEYS = "ATELIER_API_KEYS"
USER_SECRET = "ATELIER_USER_SECRET"  # noqa: S105 - the name of a variable


class Keys:
    """The accepted API keys, held as digests, and the secret that keeps users' hashes from being guessed."""

    def __init__(self, keys: list[str], user_secret: str) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]
        self._user_secret = user_secret

    @classmethod
    def from_environment(cls) -> Keys:
        """From ATELIER_API_KEYS (separated by commas) and ATELIER_USER_SECRET; raises `StageError` if one is empty."""
        keys = [key.strip() for key in os.environ.get(KEYS, "").split(",") if key.strip()]
        if not keys:
            raise StageError(f"{KEYS} is empty: set it to one or more API keys, separated by commas")
        secret = os.environ.get(USER_SECRET, "").strip()
        if not secret:
            reason = "set it to a long random text and keep it, or the same user counts as another one"
            raise StageError(f"{USER_SECRET} is empty: {reason}")
        return cls(keys, secret)

    def authenticate(self, authorization: str | None) -> str:
        """The caller's key, from the header `Authorization: Bearer <key>`; raises a 401 `ApiError`."""
        scheme, _, key = (authorization or "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise _refusal("no API key: send the header `Authorization: Bearer <key>`")
        digest = hashlib.sha256(key.encode("utf-8", "replace")).digest()
        # Digests of equal length, and no early exit: the time tells nothing of which key was nearly right.
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise _refusal("this API key is not known")
        return key

    def user_key(self, user: str | None, api_key: str) -> str:
        """Hash that stands for a user in events and experiments: of OpenAI's `user` field, else of the API key."""
        return hash_user(f"user:{user}" if user else f"key:{api_key}", self._user_secret)


def _refusal(message: str) -> ApiError:
    return ApiError(
        401, message, kind="authentication_error", code="invalid_api_key", headers={"www-authenticate": "Bearer"}
    )
