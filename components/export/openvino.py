"""ONNX graphs to OpenVINO's intermediate representation, int8 by post-training quantisation where asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov
from numpy.typing import NDArray

Inputs = dict[str, NDArray[Any]]


def export_openvino(graph: Path, path: Path, calibration: Sequence[Inputs] | None) -> None:
    """Convert the ONNX file `graph` and write `path` (.xml with its .bin); with calibration inputs, in int8.

    Weights that stay floating point are stored in half precision, as OpenVINO does by default.
    """
    model = ov.convert_model(graph)
    if calibration is not None:
        with _global_seed_kept():
            model = nncf.quantize(
                model,
                nncf.Dataset(list(calibration)),
                model_type=nncf.ModelType.TRANSFORMER,
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(calibration),
            )
    _name_by_position(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(model, path)


def _name_by_position(model: ov.Model) -> None:
    """Name layers by their place in the graph: the counter in their own names depends on what ran before."""
    for position, operation in enumerate(model.get_ordered_ops()):
        if operation.get_type_name() != "Parameter":
            operation.set_friendly_name(f"{operation.get_type_name()}_{position}")


@contextmanager
def _global_seed_kept() -> Iterator[None]:
    """NNCF samples with numpy's global generator: seed it for equal bytes and leave it as it was."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(state)
