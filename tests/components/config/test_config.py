"""Wrong parameters are refused by full name, value and what was expected."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import load_yaml

from components.config import ConfigError, Params, load
from components.config.document import read_yaml, write_yaml

ROOT = Path(__file__).resolve().parents[3]
ONNX = {"engine": "onnxruntime", "calibration": 1}
JUDGE = {"model": "j", "samples": 2}


def load_with(folder: Path, key: str, value: Any) -> Params:
    """The project's parameters with one key changed."""
    document = read_yaml(ROOT / "params.yaml")
    node = document
    *parents, last = key.split(".")
    for name in parents:
        node = node[int(name) if isinstance(node, list) else name]
    node[last] = value
    path = folder / "params.yaml"
    write_yaml(path, document)
    return load(path)


def test_the_projects_own_parameters_are_valid_and_frozen() -> None:
    params = load(ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.tune.trials = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.text.lora_rnak", 8, "train.text.lora_rnak: there is no such parameter (got 8)"),
        ("train.image.max_steps", 0, "train.image.max_steps: Input should be greater than or equal to 1 (got 0)"),
        ("train.image.max_steps", 1.5, "train.image.max_steps: Input should be a valid integer"),
        ("serving.gateway_port", "3000", "serving.gateway_port: Input should be a valid integer (got '3000')"),
        ("train.text.learning_rate", float("nan"), "train.text.learning_rate: Input should be a finite number"),
        ("train.text.strategy", "magic", "train.text.strategy: Input should be 'auto', 'ddp'"),
        (
            "experiments.0.variants.control.steps",
            9,
            "experiments.0: Value error, variant control sets steps, which the text line has not",
        ),
        (
            "experiments.0.variants.control.weight",
            0.9,
            "experiments.0: Value error, variant weights of text-temperature sum to 1.4",
        ),
        ("experiments.0.share", 0.33333, "share 0.33333 of text-temperature is no multiple of 0.0001"),
        (
            "experiments.0.attribution_hours",
            0.001,
            "attribution_hours of text-temperature are 3.6 s: no request can be found slower than slo_s (5 s) within",
        ),
        ("release.attribution_seconds", 0, "release.attribution_seconds: Input should be greater than 0 (got 0)"),
        ("experiments.0.floor", 0.6, "experiments.0.floor: Input should be less than or equal to 0.5"),
        ("annotation.url", "127.0.0.1:8080", "annotation.url: String should match pattern"),
        ("train.image.start_from_base", False, "train.image: Value error, lora_rank adapts a base"),
        ("train.text.adapter", "qlora", "train.text.adapter: Input should be 'lora', 'dora' or 'full'"),
        ("train.text.overflow", "cut", "train.text.overflow: Input should be 'refuse', 'leave_out' or 'split'"),
        ("prepare.image.path", None, "prepare.image.path: Input should be a valid string (got None)"),
        ("base.text.endpoint", "http://api.example.com/v1", "must begin with https"),
        ("base.text.endpoint", "https://me:word@api.example.com/v1", "the key comes from the environment"),
        ("base.text.endpoint", "api.example.com", "is no http(s) URL"),
        ("evaluate.text.judge", JUDGE | {"url": "http://judge.example.com/v1"}, "must begin with https"),
        ("evaluate.text.judge", JUDGE | {"url": "https://me:word@judge.example.com"}, "ATELIER_JUDGE_KEY"),
        ("base.text.omit", ["seed"], "price and omit say something of an endpoint"),
        ("export.image", ONNX | {"weight_format": "int8"}, "onnxruntime takes pipelines in f32 or f16"),
    ],
)
def test_a_wrong_parameter_is_named(tmp_path: Path, key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_with(tmp_path, key, value)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"salt": "b"}, "experiments: name 'text-temperature' is given twice"),
        ({"name": "b"}, "experiments: salt 'text-temperature-1' is given twice"),
        (
            {"name": "b", "salt": "b", "share": 0.5},
            "experiments: shares of text users sum to 1.5, over 1: 1 (text-temperature) + 0.5 (b)",
        ),
        (
            {"name": "b", "salt": "b", "segment": {"plan": "golden"}},
            "experiments: b: feedback.segments has no plan=golden",
        ),
    ],
)
def test_experiments_that_do_not_go_together_are_refused_by_name(
    tmp_path: Path, second: dict[str, Any], message: str
) -> None:
    (first,) = read_yaml(ROOT / "params.yaml")["experiments"]
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_with(tmp_path, "experiments", [first, first | second])


def test_15_the_declared_experiment_compares_what_is_served_with_one_change() -> None:
    for experiment in load(ROOT / "params.yaml").experiments:
        control, treatment = experiment.variants.values()
        assert control.model_dump(exclude_none=True).keys() == {"weight"}
        assert len(treatment.model_dump(exclude_none=True)) == 2


def test_15_stages_rerun_for_the_sampling_that_they_read_and_for_nothing_else_of_serving() -> None:
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    serving = {
        name: {key for key in (stage.get("do") or stage).get("params", []) if key.startswith("serving")}
        for name, stage in stages.items()
    }
    text = {"serving.text_max_new_tokens", "serving.text_temperature", "serving.text_top_p"}
    image = {"serving.image_steps", "serving.image_guidance"}
    of_image = (
        "evaluate_image",
        "evaluate_forgetting",
        "evaluate_prompts",
        "export_image",
        "export_base",
        "verify_image",
    )
    assert {name: keys for name, keys in serving.items() if keys} == {"evaluate_text": text} | dict.fromkeys(
        of_image, image
    )


@pytest.mark.parametrize(
    "key",
    [
        "evaluate.text.temperature",
        "evaluate.text.max_new_tokens",
        "evaluate.image.steps",
        "evaluate.image.guidance",
        "verify.image.steps",
    ],
)
def test_15_what_is_served_is_sampled_everywhere_and_set_nowhere_else(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(key)):
        load_with(tmp_path, key, 1)


def test_there_may_be_no_experiment(tmp_path: Path) -> None:
    assert load_with(tmp_path, "experiments", []).experiments == ()


def load_edited(folder: Path, old: str, new: str) -> Params:
    """The project's parameters with a piece of their file replaced, as a user edits it."""
    text = (ROOT / "params.yaml").read_text()
    assert old in text
    (folder / "params.yaml").write_text(text.replace(old, new, 1))
    return load(folder / "params.yaml")


@pytest.mark.parametrize(
    ("written", "number"), [("1e-4", 1e-4), ("2E-3", 2e-3), ("1.", 1.0), ("010", 10.0), ("1_0.5", 10.5)]
)
def test_38_a_number_is_what_dvc_reads(tmp_path: Path, written: str, number: float) -> None:
    params = load_edited(tmp_path, "learning_rate: 0.002", f"learning_rate: {written}")
    assert params.train.text.learning_rate == number
    assert load_yaml(tmp_path / "params.yaml")["train"]["text"]["learning_rate"] == number


@pytest.mark.parametrize("written", ["on", "off", "yes", "no", "y"])
def test_38_words_are_text_as_for_dvc_and_a_switch_says_what_it_takes(tmp_path: Path, written: str) -> None:
    (tmp_path / "text").mkdir()
    text = load_edited(tmp_path / "text", "plan: [free, paid]", f"plan: [{written}]")
    assert text.feedback.segments == {"plan": [written]}
    with pytest.raises(ConfigError, match=rf"release\.canary: .*boolean, true or false \(got '{written}'\)"):
        load_edited(tmp_path, "canary: false", f"canary: {written}")


def test_38_a_date_is_refused_by_its_full_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"prepare\.image\.path is the date 2024-05-01.*quotes"):
        load_edited(tmp_path, "path: data/example", "path: 2024-05-01")


def test_38_a_key_that_stands_twice_is_refused_by_name_and_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'line 3: found duplicate key "drawings"'):
        (tmp_path / "params.yaml").write_text("example:\n  drawings: 5\n  drawings: 6\n")
        load(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("lora_dropout", "lora_droput", "did you mean train.text.lora_dropout?"),
        (
            "treatment: {weight: 0.5, temperature",
            "treatment: {weight: 0.5, temprature",
            "did you mean experiments.0.variants.treatment.temperature?",
        ),
        ("expected: {annotate", "expcted: {annotate", "did you mean annotation.tiers.expected?"),
        ("evaluate:", "evalaute:", "evalaute: there is no such parameter; did you mean evaluate?"),
        ("tune:", "caption_dropout: 0.1\ntune:", "did you mean train.image.caption_dropout?"),
        ("tune:", "learning_rate: 1\ntune:", "did you mean train.text.learning_rate or train.image.learning_rate?"),
        ("tune:", "zzz: 1\ntune:", "zzz: there is no such parameter (got 1)"),
    ],
)
def test_38_a_misspelt_or_misplaced_key_names_the_nearest_right_one(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        load_edited(tmp_path, old, new)


def test_38_what_is_written_is_read_again(tmp_path: Path) -> None:
    document = {"text": ["1e-4", "on", "010", "2024-05-01", "a: b", "é 🦊", "", "~"], "b": {"z": 1e-5, "a": None}}
    write_yaml(tmp_path / "params.yaml", document)
    assert read_yaml(tmp_path / "params.yaml") == document
    assert list(read_yaml(tmp_path / "params.yaml")["b"]) == ["z", "a"]


def test_every_wrong_key_is_listed_at_once(tmp_path: Path) -> None:
    document = read_yaml(ROOT / "params.yaml")
    document["tune"] |= {"trials": -1, "sede": 3}
    write_yaml(tmp_path / "params.yaml", document)
    with pytest.raises(ConfigError, match=r"tune\.trials.*tune\.sede"):
        load(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["a: [", "- 1", "", "fetch: \x00"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"params\.yaml"):
        load(tmp_path / "params.yaml")


@pytest.mark.parametrize("name", ["图", "a\nb", " a", "a ", "é", "a" * 101])
def test_33_a_name_that_no_header_carries_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"experiments.*is no name|at most 100 characters"):
        load_with(tmp_path, "experiments.0.name", name)
    variants = {name: {"weight": 0.5}, "b": {"weight": 0.5}}
    with pytest.raises(ConfigError, match=r"experiments: .*is no name"):
        load_with(tmp_path, "experiments.0.variants", variants)


def test_what_null_leaves_open_of_the_image_line_follows_the_model() -> None:
    shipped = load(ROOT / "params.yaml").train.image
    names = ("learning_rate", "rehearsed", "keep_step", "strength")

    def decided(built_in: bool, **changes: object) -> tuple[object, ...]:
        settings = shipped.model_copy(update=changes).decided(built_in=built_in)
        return tuple(getattr(settings, name) for name in names)

    assert decided(True) == (1e-3, 0.25, "best", None)
    assert decided(True, rehearsed=0.0, keep_step="last", strength=1.0) == (1e-3, 0.0, "last", 1.0)
    assert decided(True, start_from_base=False, lora_rank=None) == (1e-3, 0.0, "best", 1.0)
    assert decided(False) == (1e-4, 0.0, "last", 1.0)
