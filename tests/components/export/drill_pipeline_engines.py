"""Every family at every precision on every engine: paints what is stored, and is refused with a fault in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from components.config import ExportImage
from components.runtimes.base import ImageRequest
from components.runtimes.image import load_pipeline
from tests.components.export.pipelines import Made
from tests.tiny_pipelines import WRITERS

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
