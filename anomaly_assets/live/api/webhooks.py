"""``/v1/webhooks``: addresses that results are posted to; a token of one entity sees its own."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Path, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anomaly_assets.errors import InputError
from anomaly_assets.live.api.context import ContextOf
from anomaly_assets.live.api.models import REFUSALS, Problem
from anomaly_assets.live.api.results import EntityId
from anomaly_assets.live.api.security import ReaderOf, WriterOf, visible_entity
from anomaly_assets.live.bodies import BodyError, require_size
from anomaly_assets.live.gate import usable_entity
from anomaly_assets.live.posting import WebhookError
from anomaly_assets.live.tokens import Principal
from anomaly_assets.live.webhooks import DEFAULT_EVENTS, own_secret, register_webhook
from anomaly_assets.storage.database import Connection
from anomaly_assets.storage.webhooks import (
    Webhook,
    WebhookEvent,
    find_webhook,
    list_webhooks,
    remove_webhook,
    resume_webhook,
)

router = APIRouter(tags=["webhooks"], responses=REFUSALS)
_NOT_FOUND: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": Problem, "description": "there is none, or not for this token"}
}
_LARGEST_BODY: Final = 16_384
_BODY_SECONDS: Final = 30.0

Number = Annotated[int, Path(ge=1, le=2**63 - 1, description="number of the webhook")]


class NewWebhook(BaseModel):
    """An address that wants to be told of results."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(description="https://host/path", min_length=1, max_length=2000)
    entity_id: str | None = Field(
        None, max_length=200, description="whose; default: all that the token is good for"
    )
    events: list[WebhookEvent] = Field(
        sorted(DEFAULT_EVENTS), min_length=1, max_length=10, description="of what it is told"
    )


class WebhookModel(BaseModel):
    """A webhook, and how it fares; of its address only the host is shown."""

    webhook_id: int
    address: str
    entity_id: str | None = Field(description="whose results; null: everybody's")
    events: list[WebhookEvent]
    created_at: datetime
    in_use: bool = Field(description="false: paused, or the token it was made with has ended")
    disabled_at: datetime | None = Field(description="since when it is paused")
    failures: int = Field(description="deliveries in a row that did not arrive")
    last_error: str | None
    last_success_at: datetime | None


class MadeWebhookModel(WebhookModel):
    """A new webhook, with the secret that its posts are signed with."""

    secret: str | None = Field(
        description="shown only now; null: that of the deployment, ask whoever runs it"
    )


class WebhooksModel(BaseModel):
    """Webhooks in the order they were made."""

    webhooks: list[WebhookModel]


@router.post(
    "/v1/webhooks",
    status_code=201,
    responses={
        408: {"model": Problem, "description": "the body stopped coming"},
        413: {"model": Problem, "description": "the body is too large"},
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": NewWebhook.model_json_schema()}},
        }
    },
)
async def add(request: Request, context: ContextOf, principal: WriterOf) -> MadeWebhookModel:
    """Have results posted to an address; the token must allow to write, and to read what is posted.

    The answer holds the secret that every post is signed with. An address of a private network is
    refused, unless the deployment allows it.
    """
    wish = await _wish(request)
    whose = _whose(principal, wish.entity_id)
    try:
        made = await register_webhook(
            context.deployment,
            wish.url,
            wish.events,
            entity_id=whose,
            created_by=principal.token_id,
        )
    except (InputError, WebhookError) as error:
        raise HTTPException(422, f"the webhook is refused: {error}") from error
    common = context.deployment.settings.webhook_secret is not None
    # One secret of all webhooks would let each receiver forge what the others get.
    secret = None if common else own_secret(context.deployment, made)
    return MadeWebhookModel(**_model(made).model_dump(), secret=secret)


@router.get("/v1/webhooks")
def webhooks(context: ContextOf, principal: ReaderOf, entity_id: EntityId = None) -> WebhooksModel:
    """Return the webhooks that the token may see, and how they fare."""
    whose = visible_entity(principal, entity_id)
    with context.deployment.database.connect() as connection:
        found = list_webhooks(connection, entity_id=whose)
    return WebhooksModel(webhooks=[_model(one) for one in found])


@router.delete("/v1/webhooks/{webhook_id}", status_code=204, responses=_NOT_FOUND)
def remove(context: ContextOf, principal: WriterOf, webhook_id: Number) -> None:
    """Post nothing more to an address; a running server notices within ten seconds."""
    with context.deployment.database.connect() as connection:
        _find(connection, principal, webhook_id)
        remove_webhook(connection, webhook_id)


@router.post("/v1/webhooks/{webhook_id}/resume", responses=_NOT_FOUND)
def resume(context: ContextOf, principal: WriterOf, webhook_id: Number) -> WebhookModel:
    """Use a webhook again that was paused because too many posts did not arrive."""
    with context.deployment.database.connect() as connection:
        _find(connection, principal, webhook_id)
        resumed = resume_webhook(connection, webhook_id)
    if resumed is None:
        raise _missing()
    return _model(resumed)


async def _wish(request: Request) -> NewWebhook:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                require_size(len(body), _LARGEST_BODY)
    except TimeoutError as error:
        msg = f"the body had not come within {_BODY_SECONDS:g} s"
        raise BodyError(408, msg) from error
    try:
        return NewWebhook.model_validate_json(bytes(body))
    except ValidationError as error:
        # What was given stays out of the answer: it may be what no JSON can hold.
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        told = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in problems[:5]
        )
        raise HTTPException(422, told.encode("ascii", "backslashreplace").decode()) from error


def _whose(principal: Principal, entity_id: str | None) -> str | None:
    """Return whose results are wanted, if this token may send them somewhere."""
    if entity_id is None:
        name = principal.entity_id
    else:
        name = usable_entity(entity_id)
        if not name:
            raise HTTPException(422, "entity_id: give 1 to 200 printable characters")
    if not (principal.allows(name, write=True) and principal.allows(name, write=False)):
        raise HTTPException(403, "this token may not have the results of that entity posted")
    return name


def _find(connection: Connection, principal: Principal, webhook_id: int) -> Webhook:
    found = find_webhook(connection, webhook_id)
    # Of another entity's not even its existence is told.
    if found is None or not principal.allows(found.entity_id, write=True):
        raise _missing()
    return found


def _missing() -> HTTPException:
    return HTTPException(404, "no webhook of that number")


def _model(webhook: Webhook) -> WebhookModel:
    return WebhookModel(
        webhook_id=webhook.webhook_id,
        address=webhook.shown,
        entity_id=webhook.entity_id,
        events=sorted(webhook.events),
        created_at=webhook.created_at,
        in_use=webhook.in_use,
        disabled_at=webhook.disabled_at,
        failures=webhook.failures,
        last_error=webhook.last_error,
        last_success_at=webhook.last_success_at,
    )
