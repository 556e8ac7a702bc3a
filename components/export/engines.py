"""Which engines can run a model, as the libraries here say; nothing is exported."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from components.models.pipelines import FAMILIES

TASK = "text-generation-with-past"


def text_engines(family: str) -> dict[str, str]:
    """Engine to what is known of it, for a model type of transformers."""
    return {"PyTorch": "the reference; trains", "OpenVINO GenAI": _openvino_text(family)}


def _openvino_text(family: str) -> str:
    from packaging.version import Version

    with _quietly():
        from optimum.exporters.openvino import model_configs  # noqa: F401 - fills the table that is asked
        from optimum.exporters.tasks import TasksManager

        try:
            made = TasksManager.get_exporter_config_constructor(
                "openvino", model_type=family, task=TASK, library_name="transformers"
            )
        except (KeyError, ValueError):
            return f"no: optimum-intel {version('optimum-intel')} has no export of {family}"
    here, most = version("transformers"), getattr(made.func, "MAX_TRANSFORMERS_VERSION", None)
    if most is not None and Version(here) > Version(str(most)):
        return f"no: its export takes transformers up to {most}, here is {here}"
    return "exports; parity is measured by dvc repro verify_text"


def picture_engines(pipeline: str) -> dict[str, str]:
    """The same for the class of a diffusers pipeline."""
    with _quietly():
        from optimum.intel.openvino import modeling_diffusion

    kind = f"OV{pipeline}"
    exports = hasattr(modeling_diffusion, kind)
    said = f"exports ({kind})" if exports else f"no: optimum-intel {version('optimum-intel')} has no {kind}"
    known = pipeline in FAMILIES
    onnx = (
        "exports in f32 or f16 (export.image.engine: onnxruntime)" if known else f"no: {pipeline} is of no family here"
    )
    return {"PyTorch": "the reference; trains", "OpenVINO": said, "ONNX Runtime": onnx}


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what the libraries say of themselves when they are imported."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
