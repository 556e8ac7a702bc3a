"""A Bento as one process: BentoML's own worker, on a socket that it inherits.

`bentoml serve` puts a master (circus) over it, which starts the worker in a process group of its own, where no signal
of a supervisor reaches it, and opens a control port to everyone on the machine. Here a supervisor is the master.
Nothing of a Bento is imported here: each brings its own code.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile

from components.stage import StageError

WORKER = "_bentoml_impl.worker.service"  # of BentoML 1.4; what `bentoml serve` itself starts


def bind(host: str, port: int) -> int:
    """The descriptor of a bound socket, which outlives `exec`; it refuses connections until the worker listens on it.

    Raises `StageError` where the port cannot be used.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, port))
        except OSError as error:
            reason = f"{error.strerror}; stop what uses it, or give another port"
            raise StageError(f"port {port} of {host} cannot be used: {reason}") from error
        bound.set_inheritable(True)
        return bound.detach()


def command(bento: str, descriptor: int) -> list[str]:
    """The command that serves a Bento (its tag, or `module:Service`) on a socket from `bind`; to be run by `exec`."""
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    # The worker expects one; `bentos/__init__.py` replaces it by a folder of its own.
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.gettempdir())
    return [sys.executable, "-m", WORKER, bento, "--fd", str(descriptor), "--worker-id", "1"]
