from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.data import duplicates
from components.data.duplicates import (
    groups,
    is_similar_picture,
    is_similar_text,
    same_key,
    similar_pictures,
    similar_texts,
    yielding,
)


@settings(deadline=None)  # the first call loads SciPy's graphs
@given(st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_pairs_share_a_group_and_groups_are_named_by_their_smallest_member(
    case: tuple[int, list[tuple[int, int]]],
) -> None:
    count, pairs = case
    found = groups(count, pairs)
    assert all(found[left] == found[right] for left, right in pairs)
    assert all(found[name] == name <= position for position, name in enumerate(found))
    assert len(set(found)) >= count - len(pairs)


def test_only_positions_with_one_key_are_joined() -> None:
    assert groups(5, same_key(["a", "", "a", "", "b"])) == [0, 1, 0, 3, 4]


def test_nearly_one_text_is_found_among_many_others() -> None:
    texts = [f"{n * 7919 % 1009} sheep jump over the {n}th fence of number {n * n}" for n in range(200)]
    texts += [
        "a rocket flies to the moon: space, launch, flat sticker",
        "A rocket flies to the moon: space, launch, flat stickers",
    ]
    found = groups(len(texts), similar_texts(texts, 0.8))
    assert found[200] == found[201] == 200


def test_texts_of_one_template_about_different_things_stay_apart() -> None:
    texts = [
        f"a sticker of {name}: {tag}" for name, tag in (("rocket", "space"), ("pizza", "food"), ("tulip", "flower"))
    ]
    assert groups(3, similar_texts(texts, 0.8)) == [0, 1, 2]


def test_texts_without_spaces_and_very_short_ones_are_compared_too() -> None:
    texts = ["我想要一个红色的苹果贴纸谢谢你", "我想要一个红色的苹果贴纸谢谢您", "ox", "ox", "dog"]
    assert groups(5, similar_texts(texts, 0.7)) == [0, 0, 2, 2, 4]


def exact_groups(texts: list[str], similarity: float) -> list[int]:
    """The same by comparing all with all."""
    sets = [{t.casefold()[i : i + 4] for i in range(max(len(t.casefold()) - 3, 1))} for t in texts]
    alike = [(a, b) for b in range(len(sets)) for a in range(b)
             if len(sets[a] & sets[b]) / len(sets[a] | sets[b]) >= similarity]  # fmt: skip
    return groups(len(texts), alike)


@given(
    st.lists(st.text("ab ", max_size=12) | st.text(max_size=8), max_size=40),
    st.sampled_from([0.3, 0.5, 2 / 3, 0.75, 0.8, 0.9, 1.0]),
)
def test_16_no_pair_at_or_above_the_similarity_is_separated_and_no_other_joined(
    texts: list[str], similarity: float
) -> None:
    assert groups(len(texts), similar_texts(texts, similarity)) == exact_groups(texts, similarity)


def test_16_long_texts_that_differ_in_a_fifth_are_joined_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(7)
    letters = np.array([*"abcdefghijklmnopqrstuvwxyz"])
    texts = ["".join(rng.choice(letters, 60)) for _ in range(120)]
    texts += [text[: 60 - cut] + "".join(rng.choice(letters, cut)) for text in texts[:60] for cut in (4, 6, 8)]
    expected = exact_groups(texts, 0.8)
    assert groups(len(texts), similar_texts(texts, 0.8)) == expected
    monkeypatch.setattr(duplicates, "_CANDIDATES", 50)
    monkeypatch.setattr(duplicates, "_VERIFIED", 7)
    assert groups(len(texts), similar_texts(texts, 0.8)) == expected


def test_equal_and_nearly_equal_pictures_are_joined_across_blocks() -> None:
    generator = np.random.default_rng(0)
    thumbnails = generator.random((1200, 48)).astype(np.float32)
    thumbnails[1100] = thumbnails[3]
    thumbnails[700] = np.clip(thumbnails[600] + 0.01, 0, 1)
    thumbnails[800] = np.clip(thumbnails[601] + 0.2, 0, 1)
    assert sorted(similar_pictures(thumbnails, 0.97)) == [(3, 1100), (600, 700)]
    assert list(similar_pictures(thumbnails, 1.0)) == [(3, 1100)]


def connected(thumbnails: NDArray[np.float32], similarity: float) -> list[int]:
    """The groups by comparing all with all."""
    apart = np.sqrt(((thumbnails[:, None] - thumbnails[None]) ** 2).mean(-1)) <= 1 - similarity + 1e-6
    return groups(len(thumbnails), [(a, b) for a, b in np.argwhere(apart).tolist()])


@given(
    st.lists(st.lists(st.integers(0, 4), min_size=2, max_size=2), min_size=1, max_size=40), st.sampled_from([1, 0.8])
)
def test_pictures_are_grouped_as_if_all_pairs_had_been_listed(values: list[list[int]], similarity: float) -> None:
    thumbnails = np.array(values, np.float32) / 5
    assert groups(len(values), similar_pictures(thumbnails, similarity - 0.01)) == connected(
        thumbnails, similarity - 0.01
    )


def test_pairs_in_parts_join_what_they_join_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = np.random.default_rng(0).integers(0, 400, (300, 2)).tolist()
    expected = groups(400, pairs)
    monkeypatch.setattr(duplicates, "_PAIRS", 7)
    assert groups(400, iter(pairs)) == expected and 100 < len(set(expected)) < 300


def peak(work: Callable[[], list[int]]) -> float:
    """MB that are held at once at most while pairs become the one group of all."""
    tracemalloc.start()
    try:
        assert set(work()) == {0}
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_what_is_all_alike_takes_no_memory_for_each_of_its_pairs() -> None:
    blank = np.ones((2000, 48), np.float32)  # 2 million pairs: 300 MB as a list of them
    assert peak(lambda: groups(len(blank), similar_pictures(blank, 0.97))) < 30
    assert peak(lambda: groups(700, ((a, b) for a in range(700) for b in range(a)))) < 10


def test_no_sample_has_no_pair() -> None:
    assert list(similar_texts([], 0.8)) == []
    assert list(similar_pictures(np.empty((0, 0), np.float32), 0.97)) == []


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30))
def test_what_gives_way_is_similar_to_a_better_one_that_stays_and_no_two_that_stay_are(values: list[int]) -> None:
    def near(one: int, other: int) -> bool:
        return abs(values[one] - values[other]) <= 2

    joined = groups(len(values), ((a, b) for b in range(len(values)) for a in range(b) if near(a, b)))
    found = dict(yielding(joined, lambda place: (-values[place], place), near))
    stay = set(range(len(values))) - found.keys()
    assert all(best in stay and near(best, place) for place, best in found.items())
    assert all((values[best], -best) > (values[place], -place) for place, best in found.items())
    assert not any(near(a, b) for a in stay for b in stay if a != b)


@given(st.text("ab ", max_size=12), st.text("ab ", max_size=12), st.sampled_from([0.5, 0.8, 1.0]))
def test_two_texts_are_similar_as_many_are(left: str, right: str, similarity: float) -> None:
    assert is_similar_text(left, right, similarity) == bool(list(similar_texts([left, right], similarity)))


def test_two_pictures_are_similar_as_many_are() -> None:
    pictures = np.random.default_rng(0).random((2, 48)).astype(np.float32) * np.float32(0.1)
    for similarity in np.linspace(0.9, 1, 50):
        assert is_similar_picture(*pictures, similarity) == bool(list(similar_pictures(pictures, similarity)))
    assert is_similar_picture(pictures[0], pictures[0], 1.0)
