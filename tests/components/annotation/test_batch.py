"""What people are asked next is what the model is unsure of, in different places, with known ones mixed in."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.annotation import task_store
from components.annotation.batch import (
    Pool,
    add_choice,
    choose,
    expected_gain,
    identity,
    last_choice,
    likely,
    payloads,
    propose,
    read_pool,
)
from components.artifact import seal
from components.data.sample import Sample, write
from components.events.database import opened
from components.stage import StageError
from tests.bench.annotation_datasets import built_in
from tests.bench.bench_stopping import WORTH, label_until_enough
from tests.components.annotation.examples import PROJECT
from tests.components.annotation.simulated import WRONG

ANIMAL, FOOD = "Animals & Nature", "Food & Drink"


def two_places(rows: int = 200) -> tuple[Pool, np.ndarray, dict[str, str]]:
    """Samples without a label in two overlapping clouds, and what each truly is."""
    rng = np.random.default_rng(7)
    truth = np.arange(rows) % 2
    x_ND = rng.normal(size=(rows, 8)) + np.where(truth, 1.2, -1.2)[:, None] * np.eye(8)[0]
    ids = tuple(f"sample {row}" for row in range(rows))
    labels = {name: ("a", "b")[truth[row]] for row, name in enumerate(ids)}
    return Pool(ids, ("",) * rows, ids, ("a", "b")), x_ND, labels


def test_the_chooser_learns_and_asks_next_what_it_is_unsure_of() -> None:
    pool, x_ND, truth = two_places()
    untaught = likely(pool, x_ND, {}, 0.8)
    assert np.allclose(untaught, 0.5)
    assert {category for category, _ in propose(pool, untaught, dict.fromkeys(pool.ids, "")).values()} == {""}
    settled = {name: truth[name] for name in choose(pool, x_ND, untaught, set(), 20, 0.0)}
    assert len(settled) == 20
    taught = likely(pool, x_ND, settled, 0.8)
    proposed = propose(pool, taught, dict.fromkeys(pool.ids, ""))
    assert np.mean([proposed[name][0] == truth[name] for name in pool.ids]) > 0.85
    following = choose(pool, x_ND, taught, settled.keys(), 20, 0.0)
    assert not following.keys() & settled.keys()
    asked = np.isin(pool.ids, list(following))
    assert taught[asked].max(axis=1).mean() < taught.max(axis=1).mean() - 0.1
    assert following == choose(pool, x_ND, taught, settled.keys(), 20, 0.0)


def test_a_label_of_its_own_that_contradicts_the_chooser_puts_a_sample_in_doubt() -> None:
    pool, x_ND, truth = two_places()
    labels = [truth[name] for name in pool.ids]
    clear = int(np.argmax(x_ND[:, 0]))
    labels[clear] = "a"  # which it is not
    labelled = Pool(pool.ids, tuple(labels), pool.texts, pool.categories)
    settled = {name: truth[name] for name in pool.ids[:60] if name != pool.ids[clear]}
    alone, sure = (likely(one, x_ND, settled, 0.8).max(axis=1) for one in (pool, labelled))
    assert alone[clear] > 0.95 and alone[clear] > np.median(alone)
    assert sure[clear] < alone[clear] and sure[clear] < np.median(sure)


def test_gold_is_known_mixed_in_and_now_and_then_proposed_wrongly(data: Path) -> None:
    pool = read_pool(data / "split", "category")
    x_ND = np.array([[float(label == FOOD) * 9, row / 100] for row, label in enumerate(pool.labels)])
    likely_NC = likely(pool, x_ND, {}, 0.8)
    chosen = choose(pool, x_ND, likely_NC, set(), 20, 0.5)
    gold = {name: label for name, label in chosen.items() if label}
    assert (len(chosen), len(gold)) == (20, 10)
    own = dict(zip(pool.ids, pool.labels, strict=True))
    assert all(own[name] == label for name, label in gold.items())
    proposals = propose(pool, likely_NC, chosen)
    wrong = [name for name in gold if proposals[name][0] != own[name]]
    assert 0 < len(wrong) < 10
    assert {proposals[name][1] for name in chosen} == {0.8}
    assert all(proposals[name][0] == own[name] for name in chosen if name not in gold)


def test_a_task_carries_the_sample_its_picture_and_what_is_proposed(data: Path) -> None:
    pool = read_pool(data / "split", "category")
    name = pool.ids[pool.texts.index(WRONG)]
    (task,) = payloads(data / "split", propose(pool, likely(pool, np.zeros((24, 1)), {}, 0.8), {name: ""}))
    assert (task.sample_id, task.text, task.category, task.score) == (name, WRONG, FOOD, 0.8)
    assert Image.open(io.BytesIO(base64.b64decode(task.data["image"].partition(",")[2]))).size == (128, 128)


def test_the_gain_that_is_left_is_told_once_there_are_verdicts_enough() -> None:
    pool, x_ND, truth = two_places(600)
    assert expected_gain(pool, x_ND, dict(list(truth.items())[:29])) is None
    gain = expected_gain(pool, x_ND, dict(list(truth.items())[:500]))
    assert gain is not None and gain.enough(0.05) and not gain.enough(0.0)
    assert "the other 100 labels are expected to add" in str(gain)
    assert expected_gain(pool, x_ND, dict.fromkeys(pool.ids[:100], "a")) is None  # nothing can be learned of one label


def test_labelling_real_digits_stops_by_itself_and_the_labels_left_would_have_added_little() -> None:
    stopped = label_until_enough(next(built_in()), seed=0, size=100)
    assert stopped.labels < stopped.pool
    assert stopped.full - stopped.accuracy < WORTH


def test_labels_that_are_all_alike_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [Sample("1", "apple", label="food"), Sample("2", "bread")])
    seal(tmp_path, line="image", kind="data", parents={}, parameters={}, metrics={})
    with pytest.raises(StageError, match="1 different labels; annotation needs samples of at least two"):
        read_pool(tmp_path, "category")


def test_a_sample_keeps_the_id_by_which_people_know_it() -> None:
    assert identity(Sample("content", "x", meta={"atelier_id": "first"})) == "first"
    assert identity(Sample("content", "x", meta={"atelier_id": 5})) == "content"


def test_a_choice_is_remembered_with_what_was_expected_of_it(url: str) -> None:
    with opened(url) as engine:
        assert last_choice(engine, PROJECT) == (-1, "")
        assert add_choice(engine, PROJECT, {"cat": "", "dog": "animal"}, 0, "") == 2
        assert add_choice(engine, PROJECT, {"cat": ""}, 3, "little is left") == 0
        assert last_choice(engine, PROJECT) == (3, "little is left")
        assert [task.gold for task in task_store.read_tasks(engine, PROJECT)] == ["", "animal"]
