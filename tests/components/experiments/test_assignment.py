from __future__ import annotations

from collections import Counter

from components.experiments.assignment import assign
from tests.components.experiments.examples import experiment, placed


def test_a_user_stays_in_their_variant_and_a_new_salt_shuffles() -> None:
    users = [f"user-{i}" for i in range(400)]
    first = [assign(placed(experiment()), user).variant for user in users]
    assert first == [assign(placed(experiment()), user).variant for user in users]
    again = [assign(placed(experiment(salt="another")), user).variant for user in users]
    assert 120 < sum(a != b for a, b in zip(first, again, strict=True)) < 280


def test_variants_fill_by_their_weights_and_say_their_propensity() -> None:
    given = [assign(placed(experiment(control=0.9, treatment=0.1)), f"user-{i}") for i in range(10_000)]
    counts = Counter(assignment.variant for assignment in given)
    assert 850 < counts["treatment"] < 1150
    assert {assignment.propensity for assignment in given if assignment.variant == "treatment"} == {0.1}


def test_a_variant_of_weight_zero_gets_nobody() -> None:
    given = {assign(placed(experiment(control=1.0, treatment=0.0)), f"user-{i}").variant for i in range(2000)}
    assert given == {"control"}


def test_raising_a_weight_moves_nobody_out_of_the_growing_variant() -> None:
    """A canary from 5 to 25 % keeps the users it had, as buckets are cumulative in the order of the names."""
    users = [f"user-{i}" for i in range(3000)]
    small, large = (experiment(control=share, treatment=1 - share) for share in (0.05, 0.25))
    before = {user for user in users if assign(placed(small), user).variant == "control"}
    after = {user for user in users if assign(placed(large), user).variant == "control"}
    assert before < after
