"""Wrong parameters are refused by full name, value and what was expected."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.config import ConfigError, Params, load

ROOT = Path(__file__).resolve().parents[2]


def load_with(folder: Path, key: str, value: Any) -> Params:
    """The project's parameters with one key changed."""
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    node = document
    *parents, last = key.split(".")
    for name in parents:
        node = node[int(name) if isinstance(node, list) else name]
    node[last] = value
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(document))
    return load(path)


def test_the_projects_own_parameters_are_valid_and_frozen() -> None:
    params = load(ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.tune.trials = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.text.lora_rnak", 8, "train.text.lora_rnak: Extra inputs are not permitted (got 8)"),
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
        ("prepare.image.path", None, "prepare.image.path: Input should be a valid string (got None)"),
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
    (first,) = yaml.safe_load((ROOT / "params.yaml").read_text())["experiments"]
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_with(tmp_path, "experiments", [first, first | second])


def test_there_may_be_no_experiment(tmp_path: Path) -> None:
    assert load_with(tmp_path, "experiments", []).experiments == ()


def test_every_wrong_key_is_listed_at_once(tmp_path: Path) -> None:
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    document["tune"] |= {"trials": -1, "sede": 3}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(document))
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
