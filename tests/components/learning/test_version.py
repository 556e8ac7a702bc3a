"""The learned material as files: sealed, the newest in the place of the one before, taken up as samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.artifact import ArtifactError
from components.data import feedback
from components.learning import version
from components.learning.comparisons import BOTH_BAD, LEFT, RIGHT, Comparison, Preference
from components.learning.harvest import harvest
from components.learning.labels import Label
from tests.components.learning.examples import SETTINGS, answer


def test_pairs_become_samples_of_the_line_and_annotators_overrule_reactions(tmp_path: Path) -> None:
    liked = [answer("A boat", "boat", True), answer("a car", "car", True)]
    found = harvest([*liked, answer("fog", "x", False), answer("a boat", "bus", False, "bob")], SETTINGS)
    pairs = version.pairs_of(found, [Label("t1", "a boat", "boat: sea, ship", "eve")])
    manifest = version.write_version(pairs, found, SETTINGS, tmp_path / "text")
    samples = {s.text: s for s in feedback.samples(tmp_path / "text")}
    assert {text: s.meta["completion"] for text, s in samples.items()} == {"a boat": "boat: sea, ship", "a car": "car"}
    assert samples["a boat"].source == "written" and samples["a car"].source == "reaction"
    assert samples["a boat"].meta["rejected"] == "bus" and "rejected" not in samples["a car"].meta
    assert samples["a boat"].meta["origin"] == "task t1" and "text-1" in samples["a car"].meta["origin"]
    assert manifest.metrics["read"] == 4 and manifest.metrics["disliked"] == 1
    rejects = (tmp_path / "text" / "rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in rejects] == ["disliked, with no better answer"]


def preferred(phrase: str, left: str, right: str, choice: str) -> Preference:
    return Preference(Comparison("c1", phrase, left, right, "r1", "r2"), choice, ("1", "7"), "accept", "plain", 5.0)


def test_what_annotators_prefer_counts_more_than_likes_and_less_than_what_they_write(tmp_path: Path) -> None:
    found = harvest([answer("a boat", "bus", True), answer("a hen", "egg", False)], SETTINGS)
    preferences = [
        preferred("A boat", "boat: sea", "bus", LEFT),
        preferred("a hen", "egg", "hen: bird", LEFT),  # the user who disliked the egg is overruled
        preferred("fog", "x", "fog: y", RIGHT),
        preferred("a car", "u", "v", BOTH_BAD),
    ]
    pairs = version.pairs_of(found, [Label("t1", "fog", "fog: grey", "eve")], preferences)
    version.write_version(pairs, found, SETTINGS, tmp_path / "text", preferences)
    samples = {s.text: s for s in feedback.samples(tmp_path / "text")}
    assert {text: (s.source, s.meta["completion"], s.meta["rejected"]) for text, s in samples.items()} == {
        "A boat": ("preferred", "boat: sea", "bus"),
        "a hen": ("preferred", "egg", "hen: bird"),
        "fog": ("written", "fog: grey", "x"),
    }
    assert samples["A boat"].meta["origin"] == "comparison c1"
    rows = [json.loads(line) for line in (tmp_path / "text" / version.PREFERENCES).read_text().splitlines()]
    assert [row["choice"] for row in rows] == [LEFT, LEFT, RIGHT, BOTH_BAD]
    assert (rows[3]["people"], rows[3]["kind"], rows[3]["why"]) == (["1", "7"], "accept", "plain")
    assert rows[3]["comparison"]["phrase"] == "a car"


def test_equal_material_is_the_same_version(tmp_path: Path) -> None:
    folder = tmp_path / "text"
    assert feedback.pair_ids(folder) == set() and feedback.digest(folder) is None
    first = version.write_version([], harvest([], SETTINGS), SETTINGS, folder)
    assert version.write_version([], harvest([], SETTINGS), SETTINGS, folder).digest == first.digest


def test_whatever_users_write_can_be_read_again(tmp_path: Path) -> None:
    odd = "a\u2028boat\u2029in\u0085fog"
    settings = SETTINGS.model_copy(update={"held_out_users": 0.5})
    found = harvest([answer(f"{odd} {n}", odd, True, f"u{n}") for n in range(20)], settings)
    version.write_version(version.pairs_of(found, []), found, settings, tmp_path / "text")
    held_out, learned = feedback.held_out(tmp_path / "text"), list(feedback.samples(tmp_path / "text"))
    assert held_out and learned and len(held_out) + len(learned) == 20
    assert {row["output"] for row in held_out} == {odd} == {s.meta["completion"] for s in learned}


def test_what_others_taught_tests_nobody(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"held_out_users": 0.5})
    found = harvest([answer("a boat", "boat", True, f"u{n}") for n in range(20)], settings)
    assert found.held_out
    manifest = version.write_version(version.pairs_of(found, []), found, settings, tmp_path / "text")
    assert feedback.held_out(tmp_path / "text") == [] and manifest.metrics["reasons"]["taught by others"] > 0


def test_a_changed_file_is_refused_and_nothing_learned_gives_no_samples(tmp_path: Path) -> None:
    assert list(feedback.samples(tmp_path / "text")) == []
    found = harvest([answer("a car", "car", True)], SETTINGS)
    version.write_version(version.pairs_of(found, []), found, SETTINGS, tmp_path / "text")
    (tmp_path / "text" / feedback.PAIRS).write_text("")
    with pytest.raises(ArtifactError, match=r"pairs\.jsonl was changed"):
        list(feedback.samples(tmp_path / "text"))
