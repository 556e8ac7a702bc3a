"""The gateway Bento: mounts the ASGI application and holds what it needs for as long as the process lives.

BentoML itself answers `/healthz` and `/livez`. Configuration: params.yaml, and from the environment ATELIER_API_KEYS
or ATELIER_API_KEYS_FILE, ATELIER_USER_SECRET, ATELIER_ENGINE_TOKEN, ATELIER_TEXT_URL, ATELIER_IMAGE_URL,
ATELIER_EVENTS_URL.
"""

from __future__ import annotations

import asyncio
import os
from typing import cast

import bentoml
import uvicorn.config
from bentoml.exceptions import BentoMLException

from bentos import remove_metrics, tracing
from bentos.access import require_token
from bentos.exposition import Exposition
from bentos.gateway.admission import Admission
from bentos.gateway.app import GatewayApp, Readiness
from bentos.gateway.auth import Keys
from bentos.gateway.background import Background, reap
from bentos.gateway.connections import raise_descriptors
from bentos.gateway.exchange import Gateway
from bentos.gateway.recheck import tell
from bentos.gateway.traffic import Traffic
from bentos.gateway.upstream import Upstream
from components.config import Line, load
from components.events.store import EventStore
from components.lines import LINES
from components.loopback import LOOPBACK
from components.stage import StageError

PARAMS = load()
app = GatewayApp()
# BentoML's worker, which imports this module first, leaves the choice of the protocol to uvicorn.
uvicorn.config.HTTP_PROTOCOLS["auto"] = "bentos.gateway.connections:BoundedProtocol"


def upstream_urls() -> dict[Line, list[str]]:
    """Where model Bentos may answer: from the environment (commas between), else this machine's ports of params.yaml.

    Before a line has releases, the first of its addresses is asked.
    """
    given = {name: os.environ.get(f"ATELIER_{name.upper()}_URL") for name in LINES}
    return {
        name: urls.split(",")
        if (urls := given[name])
        else [f"http://{LOOPBACK}:{getattr(PARAMS.serving, key)}" for key in line.ports.values()]
        for name, line in LINES.items()
    }


# One worker: admission bounds each line of the whole gateway. More gateways stand behind a load balancer, each with its
# own bounds.
# BentoML's own metrics are off: their label is the path, and anyone could fill the memory by asking for many paths.
@bentoml.asgi_app(app)
@bentoml.service(
    name="atelier-gateway",
    workers=1,
    traffic={"timeout": PARAMS.serving.request_timeout + 60},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},  # ours has the request's id
)
class GatewayBento:
    """OpenAI-compatible API under /v1: chat completions, image generations, models and feedback."""

    def __init__(self) -> None:
        self._keys = Keys.from_environment()

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Before any worker starts: BentoML would start a failing worker again and again."""
        require_token()
        try:
            Keys.from_environment()
        except StageError as error:
            raise BentoMLException(str(error)) from error

    @bentoml.on_startup
    async def open(self) -> None:
        """Open the events and ask who serves, before the first request; then follow both until `close`."""
        raise_descriptors()
        tracing.start("atelier-gateway")
        serving = PARAMS.serving
        url = os.environ.get("ATELIER_EVENTS_URL") or PARAMS.events.url
        events = await EventStore.open(url)
        upstream = Upstream(upstream_urls(), serving.request_timeout)
        fallbacks: list[Line] = ["text"] if serving.text_fallback else []
        traffic = Traffic(upstream, events.engine, PARAMS.release.alpha, fallbacks)
        # Before the first request: who is champion, and where, and which experiments run.
        await asyncio.gather(upstream.refresh(), traffic.refresh())
        reaping = reap(events, serving.request_timeout)
        telling = tell(events.engine)
        following = (upstream.follow(), traffic.follow(), events.watch(), reaping, telling, self._keys.follow())
        self._followers = [asyncio.create_task(follow) for follow in following]
        app.gateway = Gateway(
            serving=serving,
            feedback=PARAMS.feedback,
            keys=self._keys,
            admission={line: Admission(line, serving.max_concurrency, serving.max_queue) for line in LINES},
            upstream=upstream,
            events=events,
            traffic=traffic,
            background=Background(PARAMS.release.shadow_share),
        )

    @bentoml.on_shutdown
    async def close(self) -> None:
        if app.gateway is not None:
            for follower in self._followers:
                follower.cancel()
            await app.gateway.background.close()
            await app.gateway.upstream.close()
            await app.gateway.events.close()
            app.gateway = None
        tracing.stop()
        remove_metrics()


# The decorators have made a service of the class.
_service = cast("bentoml.Service[GatewayBento]", GatewayBento)
_service.add_asgi_middleware(Exposition)
_service.add_asgi_middleware(Readiness, gateway=app)
