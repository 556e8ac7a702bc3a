"""Every family at every precision on every engine: paints what is stored, and is refused with a fault in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from components.config import ExportImage, load
from components.evaluation.verify_pipeline import apart
from components.export.pipeline import write_pipeline
from components.models.pipelines import family_of
from components.runtimes.base import ImageRequest
from components.runtimes.image import load_pipeline
from components.runtimes.reference import trajectory
from tests.components.export.pipelines import Made
from tests.conftest import ROOT
from tests.tiny_pipelines import WRITERS, write_tiny_sd3

STEPS = 12  # as params.yaml is shipped


@pytest.mark.parametrize("name", [*WRITERS])
@pytest.mark.parametrize("weight_format", ["f32", "f16", "int8"])
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_what_is_stored_is_painted_and_faults_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    engine: Literal["openvino", "onnxruntime"],
    weight_format: Literal["f32", "f16", "int8"],
) -> None:
    if (engine, weight_format) == ("onnxruntime", "int8"):
        pytest.skip("refused by the configuration")
    parameters = ExportImage(weight_format=weight_format, calibration=1, engine=engine)
    made = Made(tmp_path, name, parameters, STEPS)
    document = made.measured()
    row = document["parity"][engine]
    print(name, engine, weight_format, json.dumps(row))
    assert document["passed"], row
    request = ImageRequest("a cat", 1, 2, 3.0, size=32)  # smaller than its own
    assert load_pipeline(made.export).generate([request])[0].shape == (32, 32, 3)
    for fault in made.faults(monkeypatch):
        document = made.measured()
        print("  ", fault, json.dumps(document["parity"][engine]))
        assert not document["passed"], fault


def test_sd3_without_t5_paints_what_its_reference_paints(tmp_path: Path) -> None:
    base = write_tiny_sd3(tmp_path / "base")
    index = json.loads((base / "model_index.json").read_text())
    index |= {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}
    (base / "model_index.json").write_text(json.dumps(index))
    family, request = family_of(base), ImageRequest("a cat", 1, 2, 2.0)
    serving, parameters = load(ROOT / "params.yaml").serving, ExportImage(weight_format="f32", calibration=1)
    runtime = write_pipeline(lambda: family.read(base), family, base, parameters, serving, tmp_path / "export")
    expected, _ = trajectory(family.read(base), request, 64)
    assert apart(runtime.trajectory(request)[0], expected) < 1e-4
