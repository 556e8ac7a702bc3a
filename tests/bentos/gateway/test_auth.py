"""API keys and the key that stands for a user."""

from __future__ import annotations

import pytest

from bentos.gateway.auth import Keys
from bentos.gateway.errors import ApiError
from components.stage import StageError


def keys(secret: str = "a secret") -> Keys:
    return Keys(["one", "two"], secret)


def test_every_accepted_key_authenticates_whatever_the_scheme_is_written_like() -> None:
    assert [keys().authenticate(f"{scheme} one ") for scheme in ("Bearer", "bearer", "BEARER")] == ["one"] * 3
    assert keys().authenticate("Bearer two") == "two"


@pytest.mark.parametrize(
    "header", [None, "", "one", "Basic one", "Bearer", "Bearer  ", "Bearer three", "Bearer \ud800"]
)
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
