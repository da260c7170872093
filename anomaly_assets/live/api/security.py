"""Who asks, and what they may see."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from anomaly_assets.live.api.context import Context, ContextOf
from anomaly_assets.live.gate import usable_entity
from anomaly_assets.live.tokens import Principal, TokenError

_BEARER: Final = HTTPBearer(
    auto_error=False, description="A token made with `anomaly-assets tokens create`."
)
_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
Given = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]


async def _principal(context: Context, given: HTTPAuthorizationCredentials | None) -> Principal:
    if given is None:
        raise HTTPException(401, "send the header Authorization: Bearer <token>", _CHALLENGE)
    try:
        principal = context.tokens.recall(given.credentials)
        if principal is None:
            principal = await asyncio.to_thread(context.tokens.check, given.credentials)
    except TokenError as error:
        raise HTTPException(401, str(error), _CHALLENGE) from error
    context.request_rate.take(principal.token_id, 1)
    return principal


async def _writer(context: ContextOf, given: Given) -> Principal:
    principal = await _principal(context, given)
    if not principal.may_write:
        raise HTTPException(403, "this token may not send readings")
    return principal


async def _reader(context: ContextOf, given: Given) -> Principal:
    principal = await _principal(context, given)
    if not principal.may_read:
        raise HTTPException(403, "this token may not read results")
    return principal


WriterOf = Annotated[Principal, Depends(_writer)]
ReaderOf = Annotated[Principal, Depends(_reader)]


def visible_entity(principal: Principal, entity_id: str | None) -> str | None:
    """Return whose results are asked for: one entity's, or None for everybody's.

    Raises
    ------
    HTTPException
        403 if the token is another entity's, 422 if there can be no such entity.
    """
    if entity_id is None:
        return principal.entity_id
    name = usable_entity(entity_id)
    if not name:
        raise HTTPException(422, "entity_id: give 1 to 200 printable characters")
    if not principal.allows(name, write=False):
        raise HTTPException(403, "this token is not good for that entity")
    return name
