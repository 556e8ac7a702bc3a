"""The stack refuses what cannot work, in words."""

from __future__ import annotations

import socket

import pytest

from components.config import load
from components.stage import StageError
from flows import stack


def test_a_port_in_use_is_named_with_the_program_that_wants_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        params = load()
        params = params.model_copy(update={"serving": params.serving.model_copy(update={"gateway_port": port})})
        with pytest.raises(StageError, match=f"port {port} for gateway is in use"):
            stack.require_free_ports(params, ["gateway"])
