"""Where may be posted to, and that nothing goes anywhere else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import threading
from ipaddress import IPv4Network, ip_network
from typing import TYPE_CHECKING, Any

import pytest

from anomaly_assets.live.posting import Poster, WebhookError, may_be_posted_to
from anomaly_assets_tests.live.receivers import HOST, Receiver, http_receiver
from anomaly_assets_tests.live.sources.servers import OPENSSL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOOPBACK = (IPv4Network("127.0.0.0/8"),)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Listen on a free port."""
    with http_receiver() as receiver:
        yield receiver


def post(url: str, *, allowed: bool = True, timeout: float = 10.0) -> None:
    """Post a body once."""
    poster = Poster(LOOPBACK if allowed else (), timeout=timeout)
    try:
        asyncio.run(poster.post(url, b"{}", {"Content-Type": "application/json"}))
    finally:
        poster.close()


@contextlib.contextmanager
def answering(*pieces: bytes, hold: bool = False) -> Iterator[int]:
    """Answer each connection with these bytes; `hold` then keeps it open."""
    done = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(65536)
                    for piece in pieces:
                        connection.sendall(piece)
                    if hold:
                        done.wait(20)

    with socket.create_server((HOST, 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            done.set()
            listening.shutdown(socket.SHUT_RDWR)
    thread.join(20)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "0.0.0.0",  # noqa: S104 - refused, not listened on
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.7",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "::",
        "::1",
        "fe80::1%eth0",
        "fc00::1",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:a9fe:a9fe",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:db8::1",
    ],
)
def test_machines_that_are_nobodys_business_are_refused(address: str) -> None:
    """Loopback, private, link-local and other special addresses, however they are written."""
    assert not may_be_posted_to(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_the_public_internet_is_allowed(address: str) -> None:
    """Ordinary addresses of both kinds."""
    assert may_be_posted_to(address)


def test_networks_of_the_settings_are_allowed_and_no_others() -> None:
    """An opening for one network opens nothing beside it, and holds for every spelling."""
    networks = [ip_network("192.168.1.0/24"), ip_network("fd00::/8")]
    for address in ("192.168.1.7", "::ffff:192.168.1.7", "fd12::1"):
        assert may_be_posted_to(address, networks)
    for address in ("192.168.2.7", "127.0.0.1", "fe80::1"):
        assert not may_be_posted_to(address, networks)


@pytest.mark.parametrize("host", [HOST, "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"])
def test_nothing_is_sent_to_a_private_machine(receiver: Receiver, host: str) -> None:
    """Whatever its address is written as."""
    with pytest.raises(WebhookError, match="no address that may be posted to"):
        post(f"http://{host}:{receiver.port}/", allowed=False)
    assert receiver.posted == []


def test_a_name_that_changes_its_mind_gets_nothing(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address that is checked is the one connected to: each post resolves the name once."""
    asked: list[str] = []
    genuine = socket.getaddrinfo

    def rebound(host: str, *arguments: Any, **options: Any) -> list[Any]:
        if host != "rebound.example":
            return list(genuine(host, *arguments, **options))
        asked.append(host)
        # Public at the first question, and from then on this machine.
        return list(genuine("1.1.1.1" if len(asked) == 1 else HOST, *arguments, **options))

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    url = f"http://rebound.example:{receiver.port}/"
    poster = Poster(timeout=10.0)

    async def play() -> None:
        await poster.require_allowed(url)
        with pytest.raises(WebhookError, match="no address that may be posted to"):
            await poster.post(url, b"{}", {})

    asyncio.run(play())
    poster.close()
    assert len(asked) == 2
    assert receiver.posted == []


def test_unknown_names_are_refused_in_the_same_words(receiver: Receiver) -> None:
    """Nobody learns by asking which names a private network has."""
    said = set()
    for host in ("no-such-host.invalid", "localhost", "é" * 70):
        with pytest.raises(WebhookError) as caught:
            post(f"http://{host}:{receiver.port}/", allowed=False)
        said.add(str(caught.value))
    assert len(said) == 1


def test_path_query_and_host_arrive_as_they_are(receiver: Receiver) -> None:
    """What is no ASCII is escaped; the host is the name, not the address it led to."""
    post(f"http://localhost:{receiver.port}/a%20b/é?token=x&y=ü")
    (posted,) = receiver.posted
    assert posted.path == "/a%20b/%C3%A9?token=x&y=%C3%BC"
    assert posted.headers["Host"] == f"localhost:{receiver.port}"
    assert posted.body == b"{}"


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 500])
def test_redirects_are_failures_and_are_not_followed(receiver: Receiver, status: int) -> None:
    """One request, whatever the answer says."""
    receiver.answers = [status]
    with pytest.raises(WebhookError, match=f"answered {status}"):
        post(receiver.url())
    assert len(receiver.posted) == 1


def test_interim_answers_are_passed_over() -> None:
    """The last one counts."""
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    with answering(early, early, b"HTTP/1.1 204 No Content\r\n\r\n") as port:
        post(f"http://{HOST}:{port}/")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 20\r\n",
        b"x" * 100_000,
        b"HTTP/1.1 100 C\r\n\r\n" * 999,
    ],
)
def test_what_is_no_http_is_a_failure(answer: bytes) -> None:
    """Other services, endless lines and endless promises are given up."""
    with answering(answer) as port, pytest.raises(WebhookError):
        post(f"http://{HOST}:{port}/")


def test_a_receiver_that_dawdles_is_given_up() -> None:
    """The time is for all of it, so that nobody holds us up by sending a little now and then."""
    with (
        answering(b"HTTP/1.1 ", hold=True) as port,
        pytest.raises(WebhookError, match=r"no answer within 0\.3 s"),
    ):
        post(f"http://{HOST}:{port}/", timeout=0.3)


def test_an_answer_that_does_not_end_has_arrived() -> None:
    """Its status says all; the rest is not waited for."""
    with answering(b"HTTP/1.1 200 OK\r\n\r\n", hold=True) as port:
        post(f"http://{HOST}:{port}/", timeout=5.0)


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
def test_a_certificate_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    """The body, and its signature, are not shown to whoever happens to answer."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(str(OPENSSL), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    came: list[bytes] = []

    async def play() -> None:
        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            came.append(await reader.read(1024))
            writer.close()

        server = await asyncio.start_server(converse, HOST, 0, ssl=context)
        poster = Poster(LOOPBACK, timeout=10.0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(WebhookError, match="no answer"):
                await poster.post(f"https://localhost:{port}/", b"{}", {})
        poster.close()

    asyncio.run(play())
    assert came in ([], [b""])
