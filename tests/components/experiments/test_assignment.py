from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

from components.config import Experiment, Variant
from components.experiments.assignment import Placed, allocate, assign, inside, place, variant_of
from tests.components.experiments.examples import experiment, placed

USERS = [f"user-{i}" for i in range(10_000)]


def weighted(**weights: float) -> Experiment:
    variants = {name: Variant(weight=weight, temperature=0.5) for name, weight in weights.items()}
    return experiment().model_copy(update={"variants": variants})


def variants(running: Placed) -> dict[str, str]:
    return {user: assign(running, user).variant for user in USERS}


def test_a_user_stays_in_their_variant_and_a_new_salt_shuffles() -> None:
    first = variants(placed(experiment()))
    assert first == variants(placed(experiment()))
    again = variants(placed(experiment(salt="another")))
    assert 4700 < sum(first[user] != again[user] for user in USERS) < 5300


def test_variants_fill_by_their_weights_and_say_their_propensity() -> None:
    given = [assign(placed(experiment(control=0.9, treatment=0.1)), user) for user in USERS]
    assert 850 < Counter(assignment.variant for assignment in given)["treatment"] < 1150
    assert {assignment.propensity for assignment in given if assignment.variant == "treatment"} == {0.1}


def test_a_variant_of_weight_zero_gets_nobody() -> None:
    assert set(variants(placed(experiment(control=1.0, treatment=0.0))).values()) == {"control"}


@pytest.mark.parametrize(
    ("before", "after", "ways"),
    [
        ({"a": 0.5, "b": 0.5}, {"a": 0.6, "b": 0.4}, {("b", "a")}),
        ({"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 0.5, "b": 0.4, "c": 0.1}, {("c", "b")}),
        ({"a": 0.4, "b": 0.3, "c": 0.3}, {"a": 0.5, "b": 0.25, "c": 0.25}, {("b", "a"), ("c", "a")}),
        ({"a": 0.5, "b": 0.5}, {"a": 0.45, "b": 0.45, "c": 0.1}, {("a", "c"), ("b", "c")}),
    ],
)
def test_a_changed_weight_moves_the_tenth_that_it_must_and_nobody_the_other_way(
    before: Mapping[str, float], after: Mapping[str, float], ways: set[tuple[str, str]]
) -> None:
    old = placed(weighted(**before))
    new = place(weighted(**after), old.users, old.variants)
    was, now = variants(old), variants(new)
    moves = Counter((was[user], now[user]) for user in USERS if was[user] != now[user])
    assert set(moves) == ways
    assert 900 < moves.total() < 1100
    assert {assign(new, user).propensity for user in USERS} == set(after.values())


def named(name: str, users: tuple[tuple[int, int], ...], line: str = "text") -> Placed:
    return place(experiment(salt=name).model_copy(update={"name": name, "line": line}), users)


def test_a_user_of_a_line_is_in_one_experiment_at_most_and_lines_are_independent() -> None:
    places = allocate({"a": 4000, "b": 3000}, {})
    running = [*(named(name, users) for name, users in places.items()), named("c", ((0, 5000),), "image")]
    texts, images = ({user: inside(running, line, user, {}) for user in USERS} for line in ("text", "image"))
    counts = Counter(found.experiment.name if found else "" for found in texts.values())
    assert [3800 < counts["a"] < 4200, 2800 < counts["b"] < 3200, 2800 < counts[""] < 3200] == [True] * 3
    both = sum(found is not None and texts[user] is running[0] for user, found in images.items())
    assert 1850 < both < 2150  # of a's users, half
    outside = next(user for user, found in texts.items() if found is None)
    assert variant_of(inside(running, "text", outside, {}), outside) == (None, None)


def test_variants_do_not_depend_on_the_place_on_the_line() -> None:
    running = [named("a", ((0, 5000),))]
    mine = [user for user in USERS if inside(running, "text", user, {})]
    given = Counter(assign(running[0], user).variant for user in mine)
    assert abs(given["control"] - given["treatment"]) < 300


def test_a_segment_s_experiment_comes_before_that_of_all_and_takes_nobody_else() -> None:
    paid = named("p", ((0, 5000),))
    paid = place(paid.experiment.model_copy(update={"segment": {"plan": "paid"}}), paid.users)
    running = [named("a", ((0, 10_000),)), paid]

    def counts(segments: dict[str, str], *chosen: str) -> Counter[str]:
        found = (inside(running, "text", user, segments, set(chosen)) for user in USERS)
        return Counter(one.experiment.name for one in found if one)

    assert counts({}) == counts({"plan": "free"}) == {"a": len(USERS)}
    mixed = counts({"plan": "paid", "country": "de"})
    assert set(mixed) == {"a", "p"} and abs(mixed["p"] - mixed["a"]) < 300
    assert not counts({"plan": "paid"}, "temperature")  # both compare temperatures
