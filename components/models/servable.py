"""What keeps a model from being served here, known before it is trained; no weights are read, nothing is exported."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from components.host_memory import host_memory

FLOAT = 4  # bytes of a parameter as evaluation, export and verification hold it
TASK = "text-generation-with-past"
NO = "no: "


def openvino_text(family: str) -> str:
    """What is known of a language model of this type in the engine that serves; begins with `NO` where it does not."""
    from packaging.version import Version

    with quietly():
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


def unservable(family: str) -> Iterator[str]:
    """Why the engine that serves runs no language model of this type; nothing where it does."""
    if (said := openvino_text(family)).startswith(NO):
        yield f"OpenVINO GenAI, which serves, does not run it: {said.removeprefix(NO)}"


def too_large(parameters: int, each: int = FLOAT, held: str = "as export and verification hold it") -> Iterator[str]:
    """Why a model of so many parameters is none for this machine, by the least that it takes."""
    needed, there = parameters * each, host_memory()[1]
    if needed > there:
        yield (
            f"it has {parameters / 1e6:,.0f} M parameters, of {each} bytes each {held}: {needed / 1e9:.2f} GB, and "
            f"this machine has {there / 1e9:.2f} GB of memory: take a smaller model, or a larger machine"
        )


@contextmanager
def quietly() -> Iterator[None]:
    """Without what the libraries say of themselves when they are imported."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
