from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from components.events.schema import hash_user
from tests.components.events.examples import accepted, like


def test_a_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValidationError, match="finite"):
        like("r1", "k", value=math.nan)


def test_events_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        accepted("r1").variant = "treatment"  # type: ignore[misc]


def test_a_user_is_known_by_a_key_that_depends_on_the_secret() -> None:
    assert hash_user("ada@example.org", "s1") == hash_user("ada@example.org", "s1")
    assert hash_user("ada@example.org", "s1") != hash_user("ada@example.org", "s2")
    assert "ada" not in hash_user("ada@example.org", "s1")
