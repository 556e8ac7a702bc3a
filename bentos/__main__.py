"""`python -m bentos <text|endpoint|image|gateway>`: serve one Bento from this tree, at its address in params.yaml.

Becomes BentoML's own worker (`exec`) after checking what that would only tell by a traceback.
"""

from __future__ import annotations

import importlib
import os
from typing import Annotated

import typer
from bentoml.exceptions import BentoMLException

from bentos.process import bind, command
from components.config import load
from components.loopback import LOOPBACK
from components.stage import StageError, run

SERVICES = {
    "text": "bentos.text.service:TextBento",
    "endpoint": "bentos.endpoint.service:EndpointBento",
    "image": "bentos.image.service:ImageBento",
    "gateway": "bentos.gateway.service:GatewayBento",
}


def check(service: str) -> None:
    """What the Bento requires of its environment; raises `StageError`, where its worker would end with a traceback."""
    module, name = service.split(":")
    try:
        getattr(importlib.import_module(module), name).inner.check()
    except BentoMLException as error:
        raise StageError(str(error)) from error


def main(
    name: Annotated[str, typer.Argument(help="text, endpoint, image or gateway")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="By default that of params.yaml.")] = 0,
) -> None:
    """Serve one Bento from this tree."""
    if name not in SERVICES:
        raise StageError(f"no Bento {name!r}; there are {', '.join(SERVICES)}")
    serving = load().serving
    own = getattr(serving, "text_port" if name == "endpoint" else f"{name}_port")
    descriptor = bind(serving.host if name == "gateway" else LOOPBACK, port or own)
    check(SERVICES[name])
    worker = command(SERVICES[name], descriptor)
    os.execv(worker[0], worker)  # noqa: S606 - a fixed command, no shell


if __name__ == "__main__":
    run(main)
