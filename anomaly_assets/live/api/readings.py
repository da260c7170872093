"""``POST /v1/readings``: readings in; the answer comes when they are durable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Annotated, Final

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError
from starlette.routing import Match, Route
from starlette.types import Scope

from anomaly_assets.live.api.answers import Tally
from anomaly_assets.live.api.context import Context, ContextOf, context_of
from anomaly_assets.live.api.documents import READINGS_BODY
from anomaly_assets.live.api.models import Problem, TakenModel
from anomaly_assets.live.api.once import answered_once
from anomaly_assets.live.api.security import WriterOf, writer_of
from anomaly_assets.live.bodies import (
    JSON_TYPE,
    BodyError,
    json_rows,
    media_type,
    ndjson_rows,
    require_size,
    unpacked,
)
from anomaly_assets.live.gate import usable_entity
from anomaly_assets.live.limits import OverloadedError
from anomaly_assets.live.readings import RawReading, Row
from anomaly_assets.live.tokens import Principal

router = APIRouter(tags=["readings"])

SOURCE: Final = "api"
PATH: Final = "/v1/readings"
#: Largest NDJSON stream; its rows are stored while it comes.
STREAM_BYTES: Final = 1 << 30
_STREAMED_ROWS: Final = 2000
#: Rows between two looks at other requests.
_ROWS_AT_ONCE: Final = 1000
_PIECE: Final = 64 << 10
_PAUSE_SECONDS: Final = 30.0
_LONGEST_WAIT_SECONDS: Final = 10.0
_MOST_LOOKS: Final = 10_000
_SWITCH: Final = TypeAdapter(bool)


@router.post(
    PATH,
    status_code=202,
    response_model=TakenModel,
    responses={
        401: {"model": Problem, "description": "the token is missing or refused"},
        403: {"model": Problem, "description": "the token is not good for these readings"},
        408: {"model": Problem, "description": "the body stopped coming"},
        409: {"model": Problem, "description": "a request with this key is being answered"},
        413: {"model": Problem, "description": "the body is too large"},
        415: {"model": Problem, "description": "neither JSON nor NDJSON, or packed otherwise"},
        422: {"description": "the body is unreadable, or every row of it was refused"},
        429: {"model": Problem, "description": "too much at once; see Retry-After"},
        503: {"model": Problem, "description": "not stored; see Retry-After"},
    },
    openapi_extra=READINGS_BODY,
)
async def take_readings(
    request: Request,
    context: ContextOf,
    principal: WriterOf,
    first_looks: Annotated[  # noqa: FBT002 - a switch in the address
        bool, Query(description="tell what each reading looks like, of at most 10,000")
    ] = False,
) -> Response:
    """Take readings in: one JSON object, an array of them, or NDJSON; gzip and zstd are understood.

    The answer 202 comes when every accepted reading is on disk. Rows that are no readings are
    refused one by one, with their numbers. Sending a reading again does no harm, so whatever was
    not answered with 202 may be sent again. An NDJSON stream is stored while it comes, however long
    it is; a JSON document is stored as a whole.
    """
    headers = request.headers
    kind = media_type(headers.get("content-type", ""))
    key = headers.get("idempotency-key")
    whole = kind == JSON_TYPE or key is not None
    limit = context.deployment.settings.live_max_body_bytes if whole else STREAM_BYTES
    length = headers.get("content-length", "")
    if length.isascii() and length.isdecimal():
        require_size(int(length[:19]), limit)
    pieces = unpacked(_patiently(request), headers.get("content-encoding", ""), limit=limit)
    tally = Tally(most_looks=_MOST_LOOKS if first_looks else 0)
    if not whole:
        await _take_stream(context, principal, pieces, tally)
        return tally.response()
    with context.memory.share() as share:
        body = bytearray()
        async for piece in pieces:
            share.take(len(piece))
            body += piece

        async def take() -> Response:
            rows = await _rows_of(context, kind, body)
            tally.single = kind == JSON_TYPE and len(rows) == 1
            await _take(context, principal, rows, tally)
            return tally.response()

        if key is None:
            return await take()
        return await answered_once(context, principal, key, body, take)


class DirectRoute(Route):
    """``POST /v1/readings`` without FastAPI in between, whose work was over a third of a request's.

    It stands before the route above, which describes it in the API's document.
    """

    def __init__(self) -> None:
        super().__init__(PATH, _take_directly, methods=["POST"])

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Say which route it is, as FastAPI's do: requests are counted by it."""
        match, child = super().matches(scope)
        return match, {**child, "route": self}


async def _take_directly(request: Request) -> Response:
    context = await context_of(request)
    principal = await writer_of(request, context)
    looks = False
    if request.scope["query_string"]:
        try:
            looks = _SWITCH.validate_python(request.query_params.get("first_looks", False))
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from error
    return await take_readings(request, context, principal, looks)


async def _rows_of(context: Context, kind: str, body: bytearray) -> list[Row]:
    limit = context.deployment.settings.live_max_rows
    rows: list[Row] = []
    if kind == JSON_TYPE:
        for row in json_rows(body, limit=limit):
            rows.append(row)
            if not len(rows) % _ROWS_AT_ONCE:
                await asyncio.sleep(0)
        return rows
    async for some in ndjson_rows(_whole(body)):
        rows += some
        if len(rows) > limit:
            msg = f"more than {limit} rows with an idempotency key; send them in parts"
            raise BodyError(413, msg)
    return rows


async def _whole(body: bytearray) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE):
        yield bytes(body[start : start + _PIECE])


async def _take_stream(
    context: Context, principal: Principal, pieces: AsyncIterator[bytes], tally: Tally
) -> None:
    async for rows in ndjson_rows(pieces):
        for some in _parts(rows):
            await _take_when_possible(context, principal, some, tally)


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), _STREAMED_ROWS):
        yield rows[start : start + _STREAMED_ROWS]


async def _take_when_possible(
    context: Context, principal: Principal, rows: Sequence[Row], tally: Tally
) -> None:
    """Hold a stream up rather than break it off when it comes too fast."""
    waited = 0.0
    while True:
        try:
            await _take(context, principal, rows, tally)
        except OverloadedError as error:
            if waited + error.retry_after > _LONGEST_WAIT_SECONDS:
                raise
            waited += error.retry_after
            await asyncio.sleep(error.retry_after)
        else:
            return


async def _take(context: Context, principal: Principal, rows: Sequence[Row], tally: Tally) -> None:
    owned = [_owned(row, principal) for row in rows]
    context.reading_rate.take(principal.token_id, len(owned))
    taken = await context.intake.take_rows(
        owned,
        source=SOURCE,
        first_row=tally.rows + 1,
        look=tally.single or len(tally.looks) < tally.most_looks,
    )
    tally.add(taken)


def _owned(row: Row, principal: Principal) -> Row:
    if not isinstance(row, RawReading):
        return row
    if principal.entity_id is None:
        return row
    if not row.entity_id:
        return row._replace(entity_id=principal.entity_id)
    if not principal.allows(usable_entity(row.entity_id), write=True):
        raise HTTPException(403, "this token is good for the readings of one entity only")
    return row


async def _patiently(request: Request) -> AsyncIterator[bytes]:
    async with aclosing(request.stream()) as stream:
        while True:
            try:
                async with asyncio.timeout(_PAUSE_SECONDS):
                    piece = await anext(stream, None)
            except TimeoutError as error:
                msg = f"nothing came for {_PAUSE_SECONDS:g} s in the middle of the body"
                raise BodyError(408, msg) from error
            if piece is None:
                return
            yield piece
