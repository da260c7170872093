"""A request with a key is answered once, and its repetition gets the same answer."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg
from fastapi import HTTPException, Response

from anomaly_assets.errors import InputError
from anomaly_assets.storage import idempotency
from anomaly_assets.storage.idempotency import Claim, Standing

if TYPE_CHECKING:
    from anomaly_assets.live.api.context import Context
    from anomaly_assets.live.tokens import Principal

logger = logging.getLogger(__name__)

_JSON: Final = "application/json"
_SOON: Final = {"Retry-After": "1"}


async def answered_once(
    context: Context,
    principal: Principal,
    key: str,
    body: bytes | bytearray,
    answer: Callable[[], Awaitable[Response]],
) -> Response:
    """Return the answer to a request, or the one that was given to it before.

    Parameters
    ----------
    context, principal
        Where, and who asks.
    key
        The request's ``Idempotency-Key``.
    body
        Its body, unpacked.
    answer
        Does what it asks. An error it raises, or an answer of 500 and above, is not remembered.

    Raises
    ------
    HTTPException
        409 while the same is being answered, 422 for an unusable key or one of another request.
    """
    digest = hashlib.sha256(body).digest()
    claim = await asyncio.to_thread(_claim, context, principal, key, digest)
    if claim.standing is Standing.ANSWERED and claim.status is not None:
        return Response(claim.response or b"", claim.status, {"Idempotent-Replay": "true"}, _JSON)
    if claim.standing is Standing.IN_FLIGHT:
        raise HTTPException(409, "a request with this Idempotency-Key is being answered", _SOON)
    if claim.standing is Standing.OTHER_REQUEST:
        raise HTTPException(422, "this Idempotency-Key was used with another body")
    remembered = False
    try:
        response = await answer()
        if response.status_code < 500:
            await asyncio.to_thread(_remember, context, principal, key, response)
            remembered = True
        return response
    finally:
        if not remembered:
            await asyncio.to_thread(_release, context, principal, key)


def _claim(context: Context, principal: Principal, key: str, digest: bytes) -> Claim:
    deployment = context.deployment
    try:
        with deployment.database.connect() as connection:
            return idempotency.claim(
                connection,
                principal.token_id,
                key,
                digest,
                keep=deployment.settings.idempotency_span,
            )
    except InputError as error:
        raise HTTPException(422, str(error)) from error


def _remember(context: Context, principal: Principal, key: str, response: Response) -> None:
    number, body = principal.token_id, bytes(response.body)
    with _harmless(key), context.deployment.database.connect() as connection:
        idempotency.answer(connection, number, key, response.status_code, body)


def _release(context: Context, principal: Principal, key: str) -> None:
    with _harmless(key), context.deployment.database.connect() as connection:
        idempotency.release(connection, principal.token_id, key)


@contextmanager
def _harmless(key: str) -> Iterator[None]:
    """Let the request have its answer even if the key cannot be noted: the claim grows stale."""
    try:
        yield
    except psycopg.Error as error:
        logger.warning("idempotency key %r stays claimed for a minute: %s", key, error)
