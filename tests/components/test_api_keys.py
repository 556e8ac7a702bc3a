"""How API keys are written down."""

from __future__ import annotations

import pytest

from components.api_keys import accepted_keys
from components.stage import StageError


def test_33_a_single_key_needs_no_tenant_and_of_several_each_has_one() -> None:
    assert accepted_keys(" k-1 ,") == {"k-1": "default"}
    assert accepted_keys("acme:k-1") == {"k-1": "acme"}
    assert accepted_keys("default:k-1, default:k-2,acme:k:3") == {"k-1": "default", "k-2": "default", "k:3": "acme"}


@pytest.mark.parametrize("text", ["", " , ", "k-1,k-2", "default:k-1,k-2", "Ac me:k-1", "a:k-1,b:k-1", "acme:"])
def test_33_what_would_leave_open_whose_users_a_key_speaks_for_is_refused(text: str) -> None:
    with pytest.raises(StageError, match="ATELIER_API_KEYS") as caught:
        accepted_keys(text)
    assert "k-1" not in str(caught.value) and "k-2" not in str(caught.value)
