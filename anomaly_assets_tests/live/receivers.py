"""Real receivers on free ports: one of HTTP posts, one of mails."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

HOST = "127.0.0.1"


@dataclass
class Posted:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """An HTTP server that keeps what is posted to it, and answers as it is told.

    Parameters
    ----------
    port
        Where it listens.
    answers
        Statuses of the next answers; 200 after them.
    posted
        What has arrived, refused requests among them.
    """

    port: int
    answers: list[int] = field(default_factory=list)
    posted: list[Posted] = field(default_factory=list)

    def url(self, scheme: str = "http") -> str:
        """Return its address."""
        return f"{scheme}://{HOST}:{self.port}/hook/secret-path"


@contextlib.contextmanager
def http_receiver() -> Iterator[Receiver]:
    """Listen on a free port in a thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            receiver.posted.append(Posted(self.path, dict(self.headers.items()), body))
            status = receiver.answers.pop(0) if receiver.answers else 200
            self.send_response(status)
            if status // 100 == 3:
                self.send_header("Location", receiver.url())
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    receiver = Receiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Mailbox:
    """An SMTP server's port, and the mails it has taken."""

    port: int
    mails: list[str] = field(default_factory=list)
    refuse: bool = False


@contextlib.asynccontextmanager
async def mail_sink() -> AsyncIterator[Mailbox]:
    """Speak as much SMTP as a client needs to hand over a mail."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink\r\n")
        with contextlib.suppress(ConnectionError):
            while line := (await reader.readline()).decode():
                command = line.split()[0].upper() if line.split() else ""
                if command == "DATA" and not box.refuse:
                    writer.write(b"354 go on\r\n")
                    text = (await reader.readuntil(b"\r\n.\r\n")).decode()
                    box.mails.append(text)
                    writer.write(b"250 taken\r\n")
                elif command == "DATA":
                    writer.write(b"452 no room\r\n")
                elif command == "QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                else:
                    writer.write(b"250 sink\r\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(converse, HOST, 0)
    box = Mailbox(server.sockets[0].getsockname()[1])
    try:
        yield box
    finally:
        server.close()


async def until(condition: Callable[[], bool], what: str, *, seconds: float = 20.0) -> None:
    """Wait for a condition; say what did not come about when the time is up."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(0.01)
