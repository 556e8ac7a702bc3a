"""Signs of life of the programs that answer no HTTP: of Prefect's worker its own heartbeat, of housekeeping a file."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from flows.environment import STATE, ui_login

POOL = "atelier"  # of the worker
HOUSEKEEPING = STATE / "housekeeping.beat"
SECONDS = 4.0  # for an answer
# How long a program that is well gives no sign at most: the worker gives one each 30 s, housekeeping one a minute,
# after its steps. Far more than that, as a worker that is ended takes its runs with it.
STILL = {"worker": 300.0, "housekeeping": 300.0}


def housekeeping() -> float:
    """When its last minute ended (epoch s); 0 where none has."""
    return HOUSEKEEPING.stat().st_mtime if HOUSEKEEPING.exists() else 0.0


def worker(prefect: str) -> float | None:
    """When a worker last told the server at this address that it lives (epoch s), 0 where none has; None where the
    server does not say."""
    parts = urlsplit(prefect)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)
    login = os.environ.get("PREFECT_API_AUTH_STRING") or ui_login()
    headers = {"authorization": f"Basic {b64encode(login.encode()).decode()}", "content-type": "application/json"}
    try:
        connection.request("POST", f"/api/work_pools/{POOL}/workers/filter", "{}", headers)
        answer = connection.getresponse()
        workers = json.loads(answer.read()) if answer.status == 200 else None
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
    if workers is None:
        return None
    beats = [seen["last_heartbeat_time"] for seen in workers if seen["last_heartbeat_time"]]
    return max((datetime.fromisoformat(beat).timestamp() for beat in beats), default=0.0)
