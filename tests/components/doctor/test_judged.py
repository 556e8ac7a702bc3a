"""What the doctor predicts is what the stages then do."""

from __future__ import annotations

import json
import random
from pathlib import Path

from components.config import Params, load
from components.data.clean import clean
from components.data.prepare import prepare
from components.data.sample import REJECTS, Sample, count_slugs
from components.data.split import split
from components.doctor.drawn import Drawn, draw
from components.doctor.judged import Judged, judge, leaks
from tests.conftest import ROOT

WORDS = (
    "harbour",
    "ledger",
    "violin",
    "copper",
    "meadow",
    "lantern",
    "glacier",
    "pepper",
    "orbit",
    "saddle",
    "quartz",
    "willow",
    "engine",
    "ribbon",
)


def params_of(path: Path) -> Params:
    params = load(ROOT / "params.yaml")
    source = params.prepare.text.model_copy(update={"source": "jsonl", "path": path})
    return params.model_copy(update={"prepare": params.prepare.model_copy(update={"text": source})})


def hostile(path: Path) -> Path:
    """Pairs of which some are copies, nearly copies, empty, too long or no JSON."""
    drawn = random.Random(7)
    rows = [{"prompt": " ".join(drawn.choices(WORDS, k=9)), "completion": " ".join(drawn.choices(WORDS, k=20))}
            for _ in range(120)]  # fmt: skip
    rows += [rows[3], rows[4], {"prompt": rows[5]["prompt"] + " now", "completion": rows[5]["completion"]}]
    rows += [{"prompt": " ", "completion": "x"}, {"prompt": "x", "completion": "y " * 3000}, {"prompt": "only"}]
    path.write_text("\n".join([*map(json.dumps, rows), "{broken"]) + "\n")
    return path


def judged(params: Params) -> tuple[Drawn, Judged]:
    drawn = draw("text", params.prepare.text, 1_000, seed=7)
    return drawn, judge("text", drawn, params)


def test_predicted_drops_are_those_of_the_stages(tmp_path: Path) -> None:
    params = params_of(hostile(tmp_path / "rows.jsonl"))
    _, found = judged(params)
    prepare("text", params.prepare.text, tmp_path / "prepared")
    clean("text", params.clean.text, tmp_path / "prepared", tmp_path / "clean")
    split("text", params.split.text, tmp_path / "clean", tmp_path / "split")
    for stage, folder in (("prepare", "prepared"), ("clean", "clean"), ("split", "split")):
        slugs = [row["slug"] for own, row in found.rejects if own == stage]
        assert {slug: slugs.count(slug) for slug in slugs} == count_slugs(tmp_path / folder / REJECTS)
    assert {row["slug"] for _, row in found.rejects} >= {"wrong_field", "not_json", "empty_text", "duplicate"}
    assert found.ends == "" and len(found.pairs) == len(found.kept)
    assert [pair.phrase for pair in found.pairs] == [sample.text for sample in found.kept]
    assert [len(group) for group in found.groups()] == [2]


def test_a_set_that_a_stage_refuses_is_refused_in_its_words(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "one question", "completion": "one answer"}\n' * 40)
    _, found = judged(params_of(path))
    assert found.ends.startswith("split.text: 1 samples, of which 1 differ; at least 10 are needed")


def test_leaks_are_the_held_out_samples_with_a_near_copy_in_training() -> None:
    params = load(ROOT / "params.yaml")
    alike = [Sample(str(n), "x", meta={"split_group": "a"}) for n in range(200)]
    apart = [Sample(f"other {n}", "x", meta={"split_group": f"b{n}"}) for n in range(200)]
    shares = params.split.text.test + params.split.text.validation
    assert abs(leaks(Judged([], alike + apart), params, "text") - shares * 200) < 20
    assert leaks(Judged([], apart), params, "text") == 0
