"""The ops page of this machine's stack. No flow of its own: the flows that run on schedules write it at their end."""

from __future__ import annotations

import time
from pathlib import Path

from components import engine_token
from components.config import Params
from flows.environment import provide_secrets, service_urls
from flows.stack import READY_PATHS
from monitoring.ops import write_ops


def ops(params: Params) -> Path:
    """Write the page as things stand now; returns it."""
    provide_secrets(engine_token.VARIABLE)  # model Bentos are asked what they serve
    urls = {name: url + READY_PATHS[name] for name, url in service_urls(params).items()}
    return write_ops(params, urls, time.time())
