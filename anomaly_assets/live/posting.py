"""One POST to an address that somebody else has chosen: to public machines, and those allowed.

What a name means is decided by whoever owns it, and may be another machine a moment later. So the
name is resolved here, each address is checked, and the connection goes to one that was checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from anomaly_assets.errors import AnomalyAssetsError

Network = IPv4Network | IPv6Network

_PORTS: Final = {"http": 80, "https": 443}
#: Of a name with more addresses the first are tried.
_MOST_ADDRESSES: Final = 4
#: Threads that wait for the names' servers: apart from all others, since a name may take its time.
_RESOLVERS: Final = 8
_LONGEST_LINE: Final = 8192
#: Lines of an answer before its status is known, such as those of ``103 Early Hints``.
_MOST_LINES: Final = 200
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n")
#: What of an answer is read, so that the receiver may end its sentence.
_READ_ON_BYTES: Final = 65536
_READ_ON_SECONDS: Final = 1.0
_NAT64: Final = IPv6Network("64:ff9b::/96")


class WebhookError(AnomalyAssetsError):
    """A result could not be posted; the message does not hold the address."""


def may_be_posted_to(address: str, networks: Sequence[Network] = ()) -> bool:
    """Whether an IP address is of the public internet, or of one of these networks.

    Examples
    --------
    >>> may_be_posted_to("1.1.1.1"), may_be_posted_to("127.0.0.1")
    (True, False)
    >>> may_be_posted_to("192.168.1.7", [IPv4Network("192.168.1.0/24")])
    True
    """
    ip = _meant(ip_address(address.partition("%")[0]))
    if any(ip in network for network in networks):
        return True
    local = isinstance(ip, IPv6Address) and ip.is_site_local
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or local)


class Poster:
    """Posts bodies; redirects are not followed, and no proxy is asked.

    Parameters
    ----------
    networks
        What may be posted to besides the public internet.
    timeout
        Seconds for all of it: resolving, connecting, sending and the answer.
    resolvers
        Names that are resolved at the same time.
    """

    def __init__(
        self, networks: Sequence[Network] = (), *, timeout: float, resolvers: int = _RESOLVERS
    ) -> None:
        self._networks = tuple(networks)
        self._timeout = timeout
        self._pool = ThreadPoolExecutor(resolvers, thread_name_prefix="webhook-names")

    def close(self) -> None:
        """Resolve no more names."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def require_allowed(self, url: str) -> None:
        """Refuse an address that could not be posted to now.

        Raises
        ------
        WebhookError
            The same for a name that is unknown and for one of a private machine, so that nobody
            learns the names of a network by asking.
        """
        try:
            async with asyncio.timeout(self._timeout):
                await self._addresses(urlsplit(url))
        except TimeoutError as error:
            raise _no_address() from error

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Post a body.

        Parameters
        ----------
        url
            An address that :func:`~anomaly_assets.storage.webhooks.require_webhook_url` accepts.
        body
            What is posted.
        headers
            Further headers; they say what the body is.

        Raises
        ------
        WebhookError
            Unless the answer is of the 200s.
        """
        parts = urlsplit(url)
        try:
            async with asyncio.timeout(self._timeout):
                addresses = await self._addresses(parts)
                status = await self._exchange(parts, addresses, _request(parts, body, headers))
        except TimeoutError as error:
            msg = f"no answer within {self._timeout:g} s"
            raise WebhookError(msg) from error
        except (OSError, EOFError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            msg = f"no answer: {why}"
            raise WebhookError(msg) from error
        if not 200 <= status < 300:
            msg = f"answered {status}, not 200"
            raise WebhookError(msg)

    async def _addresses(self, parts: SplitResult) -> list[str]:
        """Return the addresses of a host that may be connected to."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._pool, _resolve, str(parts.hostname))
        except (OSError, UnicodeError) as error:
            raise _no_address() from error
        allowed = [one for one in found if may_be_posted_to(one, self._networks)]
        if not allowed:
            raise _no_address()
        return allowed[:_MOST_ADDRESSES]

    async def _exchange(self, parts: SplitResult, addresses: list[str], request: bytes) -> int:
        reader, writer = await self._connect(parts, addresses)
        try:
            writer.write(request)
            await writer.drain()
            status = await _status(reader)
            with contextlib.suppress(OSError, EOFError):
                async with asyncio.timeout(_READ_ON_SECONDS):
                    await reader.readexactly(_READ_ON_BYTES)
        finally:
            # Whoever is at the other end gets no say in how long this takes.
            writer.transport.abort()
        return status

    async def _connect(
        self, parts: SplitResult, addresses: list[str]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        secure = parts.scheme == "https"
        port = parts.port or _PORTS[parts.scheme]
        *others, last = addresses
        for address in others:
            with contextlib.suppress(OSError):
                async with asyncio.timeout(self._timeout / (len(addresses) + 1)):
                    return await self._open(address, port, parts, secure=secure)
        return await self._open(last, port, parts, secure=secure)

    async def _open(
        self, address: str, port: int, parts: SplitResult, *, secure: bool
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # The certificate is that of the name, although the connection goes to the address.
        return await asyncio.open_connection(
            address,
            port,
            ssl=_tls() if secure else None,
            server_hostname=_ascii_host(parts) if secure else None,
            limit=_LONGEST_LINE,
        )


def _meant(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, if it stands for one."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    teredo = None if ip.teredo is None else ip.teredo[1]
    return ip.ipv4_mapped or ip.sixtofour or teredo or ip


def _resolve(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _no_address() -> WebhookError:
    msg = (
        "its host has no address that may be posted to: public ones, and those of "
        "ANOMALY_ASSETS_WEBHOOK_NETWORKS"
    )
    return WebhookError(msg)


def _ascii_host(parts: SplitResult) -> str:
    host = str(parts.hostname)
    return host if host.isascii() else host.encode("idna").decode("ascii")


def _request(parts: SplitResult, body: bytes, headers: Mapping[str, str]) -> bytes:
    host = _ascii_host(parts)
    host = f"[{host}]" if ":" in host else host
    authority = host if parts.port is None else f"{host}:{parts.port}"
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    if parts.query:
        target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    lines = [f"POST {target} HTTP/1.1", f"Host: {authority}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "Connection: close"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii") + body


async def _status(reader: asyncio.StreamReader) -> int:
    """Return the status of the answer; of interim ones (100 to 199) the last."""
    begin = True
    for _ in range(_MOST_LINES):
        try:
            line = await reader.readline()
        except ValueError:
            break
        if begin:
            found = _STATUS.fullmatch(line)
            if found is None:
                break
            if int(found[1]) >= 200:
                return int(found[1])
        begin = not line.strip()
        if not line:
            break
    msg = "answered, but not as HTTP/1.1 is spoken"
    raise WebhookError(msg)


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
