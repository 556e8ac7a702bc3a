from __future__ import annotations

from monitoring.outcomes import exposures
from tests.monitoring.examples import like, row


def test_a_request_is_liked_by_its_own_user_and_their_last_word_counts() -> None:
    requests = [row("a"), row("b"), row("c"), row("d"), row("other", experiment="")]
    feedback = [like("a"), like("b", at=1.0), like("b", 0.0, at=2.0), like("c", user="stranger"), like("other")]
    assert [exposure.liked for exposure in exposures("colours", requests, feedback)] == [1.0, 0.0, 0.0, 0.0]
