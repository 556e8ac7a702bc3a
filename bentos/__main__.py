"""`python -m bentos <text|image|gateway>`: serve one Bento from this tree, at its address in params.yaml.

Becomes BentoML's own server (`exec`) after checking what that would only tell by a traceback.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Annotated

import typer

from components.config import Serving, load
from components.stage import StageError, run

SERVICES = {
    "text": "bentos.text.service:TextBento",
    "image": "bentos.image.service:ImageBento",
    "gateway": "bentos.gateway.service:GatewayBento",
}


def port_of(name: str, serving: Serving) -> int:
    """The parameter's port; raises `StageError` for a Bento that does not exist."""
    ports = {"text": serving.text_port, "image": serving.image_port, "gateway": serving.gateway_port}
    if name not in ports:
        raise StageError(f"no Bento {name!r}; there are {', '.join(SERVICES)}")
    return ports[name]


def require_free(host: str, port: int) -> None:
    """Raise `StageError` where nothing could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = f"{error.strerror}; stop what uses it, or give another --port"
            raise StageError(f"port {port} of {host} cannot be used: {reason}") from error


def main(
    name: Annotated[str, typer.Argument(help="text, image or gateway")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="By default that of params.yaml.")] = 0,
) -> None:
    """Serve one Bento from this tree."""
    serving = load().serving
    default = port_of(name, serving)
    require_free(serving.host, port or default)
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    address = ["--host", serving.host, "--port", str(port or default)]
    command = [sys.executable, "-m", "bentoml", "serve", SERVICES[name], *address]
    os.execv(command[0], command)  # noqa: S606 - a fixed command, no shell


if __name__ == "__main__":
    run(main)
