from components.data.concept import concept, draw


def test_variants_of_tone_gender_direction_and_presentation_are_one_concept() -> None:
    variants = ["1F3C3", "1F3C3-1F3FD", "1F3C3-200D-2640-FE0F", "1f3c3-1f3fb-200d-2642-fe0f-200d-27a1-fe0f"]
    assert {concept(code) for code in variants} == {"1F3C3"}


def test_man_woman_and_person_of_one_role_are_one_concept() -> None:
    assert concept("1F468-200D-1F680") == concept("1F469-1F3FB-200D-1F680") == concept("1F9D1-200D-1F680")


def test_different_things_stay_different_concepts() -> None:
    assert len({concept(code) for code in ("1F680", "1F355", "1F1E8-1F1F7", "0031-FE0F-20E3", "1F3FB")}) == 5


def test_clock_faces_are_one_concept() -> None:
    assert concept("1F550") == concept("1F567") != concept("1F568")


def test_draws_depend_on_key_and_seed_and_spread_evenly() -> None:
    draws = [draw(str(key), 7) for key in range(2000)]
    assert draws == [draw(str(key), 7) for key in range(2000)]
    assert draw("1F680", 7) != draw("1F680", 8)
    assert 0.08 < sum(number < 0.1 for number in draws) / len(draws) < 0.12
