"""`POST /v1/feedback`: a user's reaction to an earlier response, stored before it is acknowledged."""

from __future__ import annotations

import time
import uuid

from starlette.responses import JSONResponse, Response
from starlette.types import Send

from bentos.gateway.errors import ApiError
from bentos.gateway.exchange import Gateway, known, store
from bentos.gateway.schemas import FeedbackRequest, parse
from components.events.schema import Feedback
from monitoring import metrics


async def feedback(gateway: Gateway, api_key: str, body: bytes, send: Send) -> Response:
    """201 for a new reaction, 200 for one whose idempotency key was already stored, 404 where nothing was answered."""
    request = parse(FeedbackRequest, body)
    if not await known(gateway, request.request_id):
        message = f"request_id: no response `{request.request_id}` is on record here; send the id of an answer"
        raise ApiError(404, message, param="request_id", code="response_not_found")
    user = gateway.keys.user_key(request.user, api_key)
    # The sender's own key is bound to the user, so that no other user's key can be taken by guessing.
    key = f"{user}:{request.key}" if request.key else uuid.uuid4().hex
    event = Feedback(
        key=key,
        request_id=request.request_id,
        time=time.time(),
        user_key=user,
        kind=request.kind,
        value=float(request.value),
    )
    new = await store(gateway, event)
    metrics.FEEDBACK.inc(int(new))
    answer = {"object": "feedback", "request_id": request.request_id, "kind": request.kind, "new": new}
    return JSONResponse(answer, 201 if new else 200)
