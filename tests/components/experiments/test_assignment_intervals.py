from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.experiments.assignment import UNITS, Intervals, allocate, in_units, owner, size

SHARES = st.lists(st.integers(1, 50), min_size=1, max_size=5).map(
    lambda parts: in_units({"abcde"[i]: part / sum(parts) for i, part in enumerate(parts)})
)


def units_of(places: dict[str, Intervals]) -> dict[int, str]:
    """Who owns each unit; nobody owns one twice."""
    owned = [(unit, name) for name, found in places.items() for start, end in found for unit in range(start, end)]
    assert len(dict(owned)) == len(owned)
    return dict(owned)


@given(st.lists(SHARES, min_size=2, max_size=5))
def test_through_any_changes_exactly_the_difference_moves_and_nobody_moves_the_other_way(
    history: list[dict[str, int]],
) -> None:
    places: dict[str, Intervals] = {}
    for before, wanted in itertools.pairwise([{}, *history]):
        old, places = units_of(places), allocate(wanted, places)
        new = units_of(places)
        assert {name: size(found) for name, found in places.items()} == wanted
        moves = [(old[unit], new[unit]) for unit in old.keys() & new.keys() if old[unit] != new[unit]]
        assert len(moves) == sum(max(before[name] - wanted.get(name, 0), 0) for name in before)
        gained, lost = {to for _, to in moves}, {source for source, _ in moves}
        assert not gained & lost


def test_shares_that_do_not_fill_the_line_leave_places_to_nobody_and_to_who_comes_next() -> None:
    first = allocate({"a": 3000, "b": 2000}, {})
    second = allocate({"a": 3000, "b": 2000, "c": 5000}, first)
    assert {name: second[name] for name in first} == first
    assert owner(first, 0.9) is None and owner(second, 0.9) == "c"
    grown = allocate({"a": 4000, "c": 5000}, second)  # b has ended: a grows into what it left
    assert grown == {"a": ((0, 4000),), "c": ((5000, 10000),)}


def test_back_to_the_old_weights_everybody_is_where_they_were() -> None:
    even = allocate({"a": 5000, "b": 5000}, {})
    assert allocate({"a": 5000, "b": 5000}, allocate({"a": 6000, "b": 4000}, even)) == even


def test_more_than_all_is_refused() -> None:
    with pytest.raises(ValueError, match="12000 units are wanted and there are 10000"):
        allocate({"a": 6000, "b": 6000}, {})


def test_thirds_are_whole_units_that_sum_to_all() -> None:
    assert sorted(in_units({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}).values()) == [3333, 3333, 3334]
    assert in_units({"a": 0.05, "b": 0.95}) == {"a": 500, "b": 9500}  # a floor stays one
    shares = np.random.default_rng(0).dirichlet(np.ones(7))
    assert sum(in_units({str(i): share for i, share in enumerate(shares)}).values()) == UNITS
