"""How the models are served: one folder per Bento, and what they share.

Each server process keeps its metric files in a directory of its own. BentoML gives all servers of one home the same one
and empties it whenever one of them starts, so that they would lose their own counts and report each other's.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile

# Set by BentoML for its workers; read by prometheus_client when it is first imported.
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_own = ""

if _VARIABLE in os.environ and "prometheus_client" not in sys.modules:
    _own = os.environ[_VARIABLE] = tempfile.mkdtemp(prefix="atelier-metrics-")


def remove_metrics() -> None:
    """To be called at shutdown: uvicorn ends by the signal it was sent, which runs no `atexit`."""
    if _own:
        shutil.rmtree(_own, ignore_errors=True)
