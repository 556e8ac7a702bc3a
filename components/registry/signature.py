"""Signatures of the two lines' packages as MLflow shows them: what a request holds and what an answer holds."""

from __future__ import annotations

import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

from components.stage import StageError


def signature_of(line: str) -> ModelSignature:
    """Inputs as in `components.runtimes.base`; outputs: pictures [batch, height, width, 3], or text."""
    if line == "image":
        names = {"prompt": DataType.string, "seed": DataType.long, "steps": DataType.long, "guidance": DataType.double}
        outputs = Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3), "pictures")])
    elif line == "text":
        names = {"messages": DataType.string, "max_new_tokens": DataType.long, "temperature": DataType.double}
        outputs = Schema([ColSpec(DataType.string, "text")])
    else:
        raise StageError(f"line {line!r} has no signature: expected 'text' or 'image'")
    return ModelSignature(Schema([ColSpec(kind, name) for name, kind in names.items()]), outputs)
