from __future__ import annotations

import random

import pytest

from components.data import duplicates, minhash
from components.data.duplicates import groups, is_similar_text

LATIN = ["".join(random.Random(n).choices("abcdefghijklmnopqrstuvwxyz", k=3 + n % 7)) for n in range(900)]
HAN = [chr(0x4E00 + number) for number in range(900)]


@pytest.mark.parametrize(("words", "space"), [(LATIN, " "), (HAN, "")])
@pytest.mark.parametrize("similarity", [0.6, 0.8, 0.95])
def test_16_planted_pairs_are_found_and_no_others(words: list[str], space: str, similarity: float) -> None:
    rng = random.Random(7)
    rows = [rng.choices(words, k=60) for _ in range(1500)]
    for row in rows[:1000]:
        copy = row.copy()
        for place in rng.sample(range(60), rng.choice([0, 1, 2, 3, 5])):
            copy[place] = rng.choice(words)
        rows.append(copy)
    texts = [space.join(row) for row in rows]
    planted = {(n, 1500 + n) for n in range(1000) if is_similar_text(texts[n], texts[1500 + n], similarity)}
    found = set(minhash.similar_texts(texts, similarity))
    assert 200 < len(planted) <= 1000 and len(planted & found) >= 0.99 * len(planted)
    assert found <= planted


def test_16_a_planted_cluster_is_joined_as_by_comparing_all() -> None:
    rng = random.Random(7)
    texts = [" ".join(rng.choices(LATIN, k=30)) for _ in range(300)]
    texts += [f"{texts[n % 20]} {LATIN[n]}" for n in range(200)] + ["OX", "ox", "o x", ""]
    expected = groups(len(texts), duplicates.similar_texts(texts, 0.8))
    assert groups(len(texts), minhash.similar_texts(texts, 0.8)) == expected
    assert len(set(expected)) < 310


@pytest.mark.timeout(60)
def test_texts_that_are_all_alike_or_share_a_band_take_no_square_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    alike = ["a sticker of a red fox in the snow, flat"] * 20_000
    assert set(groups(len(alike), minhash.similar_texts(alike, 0.8))) == {0}
    compared = 0

    def unlike(*_: object) -> bool:
        nonlocal compared
        compared += 1
        return False

    monkeypatch.setattr(minhash, "is_similar_text", unlike)
    assert list(minhash.similar_texts(alike[:3000], 0.8)) == []
    assert compared == 3000 * 4 - 10  # each once with each of four neighbours, whatever the number of bands


def test_no_text_and_one_have_no_pair() -> None:
    assert list(minhash.similar_texts([], 0.8)) == list(minhash.similar_texts(["a"], 0.8)) == []
