"""Whose request it is: the sender's address, through proxies and in IPv6."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from fastapi import Request

from anomaly_assets.live.api.security import sender_address

PROXIES = [ip_network("127.0.0.1/32"), ip_network("10.0.0.0/8")]


def request(client: str | None, *forwarded: str) -> Request:
    """Return a request from an address, with what proxies say of it."""
    return Request(
        {
            "type": "http",
            "client": None if client is None else (client, 4711),
            "headers": [(b"x-forwarded-for", one.encode()) for one in forwarded],
        }
    )


@pytest.mark.parametrize(
    ("client", "forwarded", "address"),
    [
        ("192.0.2.1", ("198.51.100.7",), "192.0.2.1"),
        ("127.0.0.1", (), "127.0.0.1"),
        ("127.0.0.1", ("198.51.100.7",), "198.51.100.7"),
        ("127.0.0.1", ("1.1.1.1, 198.51.100.7, 10.2.3.4",), "198.51.100.7"),
        ("127.0.0.1", ("1.1.1.1", "198.51.100.7"), "198.51.100.7"),
        ("127.0.0.1", ("198.51.100.7, nonsense",), "127.0.0.1"),
        ("127.0.0.1", ("10.0.0.1, 10.0.0.2",), "10.0.0.1"),
        ("::ffff:127.0.0.1", ("2001:db8:1:2:3:4:5:6",), "2001:db8:1:2::/64"),
        ("2001:db8::1", (), "2001:db8::/64"),
        ("fe80::1%eth0", (), "fe80::/64"),
        (None, ("198.51.100.7",), ""),
    ],
)
def test_the_last_address_that_a_trusted_proxy_vouches_for(
    client: str | None, forwarded: tuple[str, ...], address: str
) -> None:
    """What stands before it in the header may be anybody's invention."""
    assert sender_address(request(client, *forwarded), PROXIES) == address
