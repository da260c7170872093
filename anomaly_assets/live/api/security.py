"""Who asks, and what they may see."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Annotated, Final

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from anomaly_assets.live.api.context import Context, ContextOf
from anomaly_assets.live.gate import usable_entity
from anomaly_assets.live.posting import Network
from anomaly_assets.live.tokens import Principal, TokenError

_BEARER: Final = HTTPBearer(
    auto_error=False, description="A token made with `anomaly-assets tokens create`."
)
_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
Given = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]


async def _principal(
    request: Request, context: Context, given: HTTPAuthorizationCredentials | None
) -> Principal:
    if given is None:
        raise HTTPException(401, "send the header Authorization: Bearer <token>", _CHALLENGE)
    tokens, secret = context.tokens, given.credentials
    proxies = context.deployment.settings.live_trusted_proxies
    try:
        if not tokens.is_proven(secret):
            # Of an address that tries too many tokens none is looked up.
            tokens.failures.require(sender_address(request, proxies))
        principal = tokens.recall(secret)
        if principal is None:
            principal = await asyncio.to_thread(tokens.check, secret)
    except TokenError as error:
        tokens.failures.note(sender_address(request, proxies))
        raise HTTPException(401, str(error), _CHALLENGE) from error
    context.request_rate.take(principal.token_id, 1)
    return principal


async def writer_of(request: Request, context: Context) -> Principal:
    """Return who sends readings, for a route that FastAPI does not call.

    Raises
    ------
    HTTPException
        401 or 403, as for every other route.
    """
    return await _writer(request, context, await _BEARER(request))


async def _writer(request: Request, context: ContextOf, given: Given) -> Principal:
    principal = await _principal(request, context, given)
    if not principal.may_write:
        raise HTTPException(403, "this token may not send readings")
    return principal


async def _reader(request: Request, context: ContextOf, given: Given) -> Principal:
    principal = await _principal(request, context, given)
    if not principal.may_read:
        raise HTTPException(403, "this token may not read results")
    return principal


async def _judge(request: Request, context: ContextOf, given: Given) -> Principal:
    principal = await _principal(request, context, given)
    if not principal.may_judge:
        raise HTTPException(403, "this token may not judge; that takes one that reads and writes")
    return principal


async def _watcher(request: Request, context: ContextOf, given: Given) -> Principal | None:
    if given is None:
        return None
    principal = await _reader(request, context, given)
    if principal.entity_id is not None:
        raise HTTPException(403, "this token is one entity's; metrics are of all, or ask without")
    return principal


WriterOf = Annotated[Principal, Depends(_writer)]
ReaderOf = Annotated[Principal, Depends(_reader)]
JudgeOf = Annotated[Principal, Depends(_judge)]
WatcherOf = Annotated[Principal | None, Depends(_watcher)]


def sender_address(request: Request, proxies: Sequence[Network]) -> str:
    """Return the address a request comes from; of IPv6 the network, which one sender has whole.

    Parameters
    ----------
    request
        The request.
    proxies
        Networks of the proxies whose word about the sender is taken.
    """
    address = _address("" if request.client is None else request.client.host)
    hops = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
    while hops and address is not None and any(address in proxy for proxy in proxies):
        # Each proxy adds whom it was called by at the end; what stands before is the sender's word.
        before = _address(hops.pop().strip())
        if before is None:
            break
        address = before
    if address is None:
        return ""
    return str(IPv6Network((address, 64), strict=False)) if address.version == 6 else str(address)


def address_within(text: str, networks: Sequence[Network]) -> bool:
    """Whether an address is one of some networks."""
    address = _address(text)
    return address is not None and any(address in network for network in networks)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


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
