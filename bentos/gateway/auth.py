"""Who calls: API keys, compared in constant time, the tenant of each, and the key that stands for a user in events.

API keys come from a file or the environment, the secret behind users' keys from the environment; without either the
gateway does not start. The file is read again when it changes, so that a key that is withdrawn ends at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from bentos.gateway.errors import ApiError
from components.api_keys import DEFAULT, KEYS, KEYS_FILE, accepted_keys
from components.events.schema import hash_user
from components.stage import StageError

USER_SECRET = "ATELIER_USER_SECRET"  # noqa: S105 - the name of a variable
LOOK_SECONDS = 1.0
log = logging.getLogger("bentoml.gateway")


def _read() -> dict[str, str]:
    """From the file that ATELIER_API_KEYS_FILE names, where there is one, else from ATELIER_API_KEYS."""
    path = Path(os.environ.get(KEYS_FILE) or os.devnull)
    return accepted_keys(path.read_text() if path.is_file() else os.environ.get(KEYS, ""))


class Keys:
    """The accepted API keys, held as digests, their tenants, and the secret that keeps users from being guessed."""

    def __init__(self, tenants: Mapping[str, str], user_secret: str) -> None:
        self._user_secret = user_secret
        self._tenants = _by_digest(tenants)

    @classmethod
    def from_environment(cls) -> Keys:
        """Raises `StageError` where there is no key, or ATELIER_USER_SECRET is empty."""
        tenants = _read()
        secret = os.environ.get(USER_SECRET, "").strip()
        if not secret:
            reason = "set it to a long random text and keep it, or the same user counts as another one"
            raise StageError(f"{USER_SECRET} is empty: {reason}")
        return cls(tenants, secret)

    async def follow(self) -> None:
        """Accept what the file says whenever it has changed, until cancelled; one that is wrong changes nothing."""
        reported = ""
        while True:
            try:
                self._tenants = _by_digest(await asyncio.to_thread(_read))
                reported = ""
            except (StageError, OSError) as error:
                if str(error) != reported:
                    log.error("the API keys stay as they are: %s", error)
                reported = str(error)
            await asyncio.sleep(LOOK_SECONDS)

    def authenticate(self, authorization: str | None) -> str:
        """The caller's key, from the header `Authorization: Bearer <key>`; raises a 401 `ApiError`."""
        scheme, _, key = (authorization or "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise _refusal("no API key: send the header `Authorization: Bearer <key>`")
        self._tenant(key)
        return key

    def _tenant(self, key: str) -> str:
        """Raises a 401 `ApiError` for a key that is not accepted."""
        digest = _digest(key)
        # Digests of equal length, and no early exit: the time tells nothing of which key was nearly right.
        matches = [tenant for accepted, tenant in self._tenants.items() if hmac.compare_digest(digest, accepted)]
        if not matches:
            raise _refusal("this API key is not known")
        return matches[0]

    def user_key(self, user: str | None, api_key: str) -> str:
        """Hash that stands for a user in events and experiments: of OpenAI's `user` field, else of the API key.

        Users of two tenants are two, whatever they are called. Raises a 401 `ApiError` for a key withdrawn meanwhile.
        """
        tenant = self._tenant(api_key)
        named = f"user:{user}" if tenant == DEFAULT else f"tenant:{tenant}:user:{user}"
        return hash_user(named if user else f"key:{api_key}", self._user_secret)


def _by_digest(tenants: Mapping[str, str]) -> dict[bytes, str]:
    return {_digest(key): tenant for key, tenant in tenants.items()}


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def _refusal(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
