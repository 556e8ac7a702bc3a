"""Wrong parameters are refused by full name, value and what was expected."""

from __future__ import annotations

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
        node = node[name]
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
            "experiment.variants.control.steps",
            9,
            "experiment: Value error, variant control sets steps, which the text line has not",
        ),
        ("experiment.variants.control.weight", 0.9, "experiment: Value error, variant weights sum to 1.4"),
        ("annotation.url", "127.0.0.1:8080", "annotation.url: String should match pattern"),
        ("train.image.start_from_base", False, "train.image: Value error, lora_rank adapts a base"),
        ("prepare.image.path", None, "prepare.image.path: Input should be a valid string (got None)"),
    ],
)
def test_a_wrong_parameter_is_named(tmp_path: Path, key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_with(tmp_path, key, value)
    assert message in str(refused.value)


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
