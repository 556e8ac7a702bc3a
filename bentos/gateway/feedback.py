"""`POST /v1/feedback`: a user's reaction to an earlier response, stored before it is acknowledged.

A response's id is random and leaves a gateway only after its request is on disk, in the one database that all gateways
share. So feedback never comes before its request: whoever sends an unknown id has guessed it, and is refused at once
instead of being kept until a request turns up. Feedback may come in any order: of a user's reactions of one kind to
one response, the one that they made last counts (`components.events.schema.NEWEST`).
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from typing import Literal

from starlette.responses import JSONResponse, Response
from starlette.types import Send

from bentos.gateway.errors import ApiError
from bentos.gateway.exchange import Gateway, events_required
from bentos.gateway.schemas import FeedbackRequest, parse
from components.events.schema import Feedback
from monitoring import metrics

DAY_S = 86_400.0
# To a response, by the one user who may react: minds change, and dwelling is reported again and again.
MAX_REACTIONS = 100


async def feedback(gateway: Gateway, api_key: str, body: bytes, send: Send) -> Response:
    """201 for a new reaction, 200 for one that is stored already.

    404 where nothing was answered, 403 where someone else was, 410 where that is too long ago, 429 after too many.
    """
    request, now = parse(FeedbackRequest, body), time.time()
    user = gateway.keys.user_key(request.user, api_key)
    at = await _asked_by(gateway, request, user)
    if now - at > DAY_S * gateway.feedback.max_age_days:
        message = f"request_id: the response is {(now - at) / DAY_S:.1f} days old; feedback is taken for"
        message = f"{message} {gateway.feedback.max_age_days:g} days (feedback.max_age_days)"
        raise ApiError(410, message, param="request_id", code="feedback_too_late")
    when, clock = dated(request.time, at, now)
    event = Feedback(
        key=_key(request, user),
        request_id=request.request_id,
        time=when,
        user_key=user,
        kind=request.kind,
        value=request.value,
        received=now,
        clock=clock,
    )
    new = await _stored(gateway, event)
    metrics.FEEDBACK.inc(int(new))
    answer = {"object": "feedback", "request_id": request.request_id, "kind": request.kind, "new": new}
    return JSONResponse(answer, 201 if new else 200)


async def _asked_by(gateway: Gateway, request: FeedbackRequest, user: str) -> float:
    """When `user` asked for the response (epoch s); raises an `ApiError` where they did not."""
    with events_required():
        record = await gateway.events.who_asked(request.request_id)
    if record is None:
        message = f"request_id: no response `{request.request_id}` is on record here; send the id of an answer"
        raise ApiError(404, message, param="request_id", code="response_not_found")
    whose, at = record
    if whose != user:
        message = "user: the response was given to another user; send the `user` (or the API key) that asked for it"
        raise ApiError(403, message, param="user", code="not_your_response")
    return at


async def _stored(gateway: Gateway, event: Feedback) -> bool:
    """Whether the reaction is new; raises a 429 `ApiError` where its response takes no more, those in work included."""
    working = gateway.reacting
    beside = working[event.request_id]
    working[event.request_id] += 1
    try:
        with events_required():
            stored, again = await gateway.events.reactions(event.request_id, event.key)
        if stored + beside >= MAX_REACTIONS and not again:
            message = f"request_id: the response has {MAX_REACTIONS} reactions, and takes no more"
            raise ApiError(429, message, param="request_id", code="too_many_reactions")
        with events_required():
            return await gateway.events.append(event)
    finally:
        working[event.request_id] -= 1
        if not working[event.request_id]:
            del working[event.request_id]


def dated(claimed: float | None, asked: float, now: float) -> tuple[float, Literal["", "ahead", "before"]]:
    """(when the user reacted, what was wrong with the time claimed); it lies between the request and now (epoch s).

    Where this gateway's clock was set back behind the request, the request's time is the earliest that can be true.
    """
    when = now if claimed is None else claimed
    if when < asked:
        return asked, "before"
    return (when, "") if when <= max(now, asked) else (max(now, asked), "ahead")


def _key(request: FeedbackRequest, user: str) -> str:
    """Bound to user, response and kind: no user can take another's key, and no reaction swallows a different one."""
    if request.key is None:
        return uuid.uuid4().hex
    named = json.dumps([user, request.request_id, request.kind, request.key])
    return hashlib.blake2b(named.encode(), digest_size=16).hexdigest()
