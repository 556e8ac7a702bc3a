from __future__ import annotations

import pytest

from components.releases.machine import MOVES, NEXT, OPEN, SHARES, TRIAL, WAY, IllegalMoveError, Kind, State, kind_of


def test_the_way_leads_from_registered_to_champion_and_each_state_of_it_can_be_left_backwards() -> None:
    state, seen = State.REGISTERED, [State.REGISTERED]
    while state is not State.CHAMPION:
        state = NEXT[state]
        seen.append(state)
    assert tuple(seen) == WAY
    assert {source for (source, to), kind in MOVES.items() if kind is Kind.ROLLBACK} == set(OPEN)


def test_what_was_rolled_back_stays_so_and_shares_never_fall_on_the_way() -> None:
    assert not [source for source, _ in MOVES if source is State.ROLLED_BACK]
    shares = [SHARES.get(state, 0.0) for state in TRIAL]
    assert shares == sorted(shares) == [0, 0.01, 0.05, 0.25, 0.5, 0.5]


@pytest.mark.parametrize(
    ("source", "to", "words"),
    [
        (State.REGISTERED, State.CHAMPION, "goes from registered to validated, rolled_back, not to champion"),
        (State.ROLLED_BACK, State.REGISTERED, "goes from rolled_back to nowhere"),
        (State.VALIDATED, State.CHAMPION, "is a direct, and this call makes only: step, rollback"),
        (State.CHAMPION, State.RETIRED, "is a demotion"),
        (State.CHAMPION, State.ROLLED_BACK, "is a withdrawal"),
        (State.RETIRED, State.CHAMPION, "is a reinstatement"),
    ],
)
def test_a_move_that_is_not_allowed_says_which_are(source: State, to: State, words: str) -> None:
    with pytest.raises(IllegalMoveError, match=words):
        kind_of(source, to, (Kind.STEP, Kind.ROLLBACK))
