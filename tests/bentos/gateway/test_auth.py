"""API keys and the key that stands for a user."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bentos.gateway import auth
from bentos.gateway.auth import Keys
from bentos.gateway.errors import ApiError
from components.api_keys import DEFAULT
from components.events.schema import hash_user
from components.stage import StageError


def keys(secret: str = "a secret") -> Keys:
    return Keys({"one": DEFAULT, "two": DEFAULT, "three": "acme", "four": "acme"}, secret)


def test_every_accepted_key_authenticates_whatever_the_scheme_is_written_like() -> None:
    assert [keys().authenticate(f"{scheme} one ") for scheme in ("Bearer", "bearer", "BEARER")] == ["one"] * 3
    assert keys().authenticate("Bearer two") == "two"


@pytest.mark.parametrize("header", [None, "", "one", "Basic one", "Bearer", "Bearer  ", "Bearer five", "Bearer \ud800"])
def test_anything_else_is_a_401_that_names_the_scheme(header: str | None) -> None:
    with pytest.raises(ApiError) as caught:
        keys().authenticate(header)
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
    assert caught.value.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("variable", "other"), [("ATELIER_API_KEYS", "ATELIER_USER_SECRET"), ("ATELIER_USER_SECRET", "ATELIER_API_KEYS")]
)
def test_an_empty_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, other: str) -> None:
    monkeypatch.setenv(other, "something")
    for value in ("", " "):
        monkeypatch.setenv(variable, value)
        with pytest.raises(StageError, match=f"{variable} is empty"):
            Keys.from_environment()


def test_a_users_key_is_lasting_and_unguessable_without_the_secret() -> None:
    assert keys().user_key("ann", "one") == keys().user_key("ann", "two")
    assert keys().user_key("ann", "one") != keys("another secret").user_key("ann", "one")
    assert keys().user_key("one", "two") != keys().user_key(None, "one")  # a name that looks like a key
    assert "ann" not in keys().user_key("ann", "one")


def test_33_each_tenant_has_users_of_its_own_and_those_of_a_single_key_stay_who_they_are() -> None:
    assert keys().user_key("1", "three") == keys().user_key("1", "four") != keys().user_key("1", "one")
    assert keys().user_key("1", "one") == hash_user("user:1", "a secret")  # as before there were tenants
    others = Keys({"three": "other"}, "a secret")
    assert others.user_key("1", "three") != keys().user_key("1", "three")


async def test_33_a_key_that_is_withdrawn_from_the_file_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "accepted-keys"
    file.write_text("default:one,default:two")
    monkeypatch.setenv("ATELIER_API_KEYS_FILE", str(file))
    monkeypatch.setenv("ATELIER_API_KEYS", "withdrawn long ago")
    monkeypatch.setenv("ATELIER_USER_SECRET", "a secret")
    monkeypatch.setattr(auth, "LOOK_SECONDS", 0.001)
    found = Keys.from_environment()
    with pytest.raises(ApiError):
        found.authenticate("Bearer withdrawn long ago")
    following = asyncio.create_task(found.follow())
    file.write_text("two")
    await refused(found, "one")
    assert found.authenticate("Bearer two") == "two"
    with pytest.raises(ApiError):
        found.user_key("ann", "one")
    file.write_text("two,three")
    while "stay as they are" not in caplog.text:
        await asyncio.to_thread(lambda: None)
    assert found.authenticate("Bearer two") == "two" and "two" not in caplog.text
    following.cancel()


async def refused(found: Keys, key: str) -> None:
    """Returns once the key is not accepted."""
    while True:
        try:
            found.authenticate(f"Bearer {key}")
        except ApiError:
            return
        await asyncio.to_thread(lambda: None)
