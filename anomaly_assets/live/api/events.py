"""``GET /v1/events``: results as they come, as server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Final

import psycopg
from fastapi import APIRouter, Header, HTTPException
from fastapi.responses import StreamingResponse

from anomaly_assets.live.api.context import Context, ContextOf
from anomaly_assets.live.api.models import Problem
from anomaly_assets.live.api.results import EntityId, Score
from anomaly_assets.live.api.security import Given, ReaderOf, visible_entity
from anomaly_assets.live.api.sharing import require_here, told_here
from anomaly_assets.live.ownership import Ownership
from anomaly_assets.live.subscriptions import Event, encode, server_sent_events
from anomaly_assets.live.tokens import TokenError

router = APIRouter(tags=["results"])

_MOST_LISTENERS: Final = 200
#: How often the token of an open stream is looked at again.
_CHECK_SECONDS: Final = 30.0
_EVENT_STREAM: Final = "text/event-stream"


@router.get(
    "/v1/events",
    response_class=StreamingResponse,
    responses={
        200: {"content": {_EVENT_STREAM: {}}, "description": "events, until either side ends it"},
        401: {"model": Problem, "description": "the token is missing or refused"},
        403: {"model": Problem, "description": "the token is not good for this"},
        421: {"model": Problem, "description": "another instance scores this entity"},
        429: {"model": Problem, "description": "too many questions or listeners"},
        503: {"model": Problem, "description": "no streaming pipeline here, or it stands by"},
    },
)
async def events(  # noqa: PLR0913, PLR0917 - the filters a person may set
    context: ContextOf,
    principal: ReaderOf,
    given: Given,
    entity_id: EntityId = None,
    min_score: Score = 0.0,
    anomalies_only: bool = False,  # noqa: FBT001, FBT002 - a switch in the address
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> StreamingResponse:
    """Send results as they come: ``window``, ``anomaly``, ``explanation``, and ``missed``.

    Where several instances share the entities, one tells those it scores, and says so first
    (``shards``); of an entity that another one scores it answers 421, or 503 if it stands by.

    A client that reconnects sends Last-Event-ID, as browsers do by themselves, and gets what it
    missed as far as that is still kept.
    """
    whose = visible_entity(principal, entity_id)
    if context.intake.pipeline is None or context.events.closed:
        raise HTTPException(503, "no streaming pipeline here", {"Retry-After": "60"})
    require_here(context.intake.ownership, whose)
    if context.listeners >= _MOST_LISTENERS:
        raise HTTPException(429, f"{_MOST_LISTENERS} listeners already", {"Retry-After": "30"})

    def wanted(event: Event) -> bool:
        score = event.data.get("score")
        return (
            (whose is None or event.entity_id == whose)
            and (not anomalies_only or bool(event.data.get("is_anomaly")))
            and (min_score <= 0.0 or (score is not None and score >= min_score))
        )

    body = server_sent_events(context.events, wanted, last_event_id=last_event_id)
    secret = "" if given is None else given.credentials
    return StreamingResponse(
        _as_long_as_allowed(context, secret, whose, body),
        media_type=_EVENT_STREAM,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _as_long_as_allowed(
    context: Context, secret: str, whose: str | None, body: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """Send events until the token has expired or was revoked, or they are told elsewhere."""
    context.listeners += 1
    checked = time.monotonic()
    ownership = context.intake.ownership
    told: dict[str, object] | None = None
    try:
        async for piece in body:
            if ownership is not None and whose is not None and not _told(ownership, whose):
                return
            here = told_here(ownership) if whose is None else None
            if here != told:
                told = here
                yield encode("shards", here or {"reason": "all events are told here now"})
            if time.monotonic() - checked > _CHECK_SECONDS:
                if not await asyncio.to_thread(_still_good, context, secret):
                    return
                checked = time.monotonic()
            yield piece
    finally:
        context.listeners -= 1


def _told(ownership: Ownership, entity_id: str) -> bool:
    return not ownership.wanted or ownership.owns(entity_id)


def _still_good(context: Context, secret: str) -> bool:
    try:
        context.tokens.check(secret)
    except TokenError:
        return False
    except psycopg.Error:
        return True  # the database is away; what is sent was said before
    return True
