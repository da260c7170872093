"""A cable between an API and its database that can be cut, or go dead."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from anomaly_assets.storage.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Cable:
    """Forwards connections to a PostgreSQL socket.

    Parameters
    ----------
    target
        Path of the server's socket.
    path
        Path of the socket that is forwarded.
    """

    def __init__(self, target: str, path: Path) -> None:
        self._target = target
        self._whole = threading.Event()
        self._alive = threading.Event()
        self._whole.set()
        self._alive.set()
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._start(self._accept)

    def cut(self) -> None:
        """Break every connection, and refuse new ones."""
        self._whole.clear()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Forward new connections again."""
        self._whole.set()
        self._alive.set()

    def deaden(self) -> None:
        """Forward nothing any more, and break nothing either."""
        self._alive.clear()

    def remove(self) -> None:
        """End everything."""
        self._alive.set()
        self.cut()
        self._listening.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listening.close()
        for end in self._ends:
            end.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if not self._whole.is_set():
                near.close()
                continue
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            self._ends += [near, far]
            self._start(self._forward, near, far)
            self._start(self._forward, far, near)

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._alive.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def cabled(database: Database, folder: Path) -> Iterator[tuple[Database, Cable]]:
    """Return a database behind a cable, and the cable."""
    parts = urlsplit(database.url)
    (host,) = parse_qs(parts.query)["host"]
    (port,) = parse_qs(parts.query)["port"]
    cable = Cable(f"{host}/.s.PGSQL.{port}", folder / f".s.PGSQL.{port}")
    try:
        query = f"host={folder}&port={port}"
        yield Database(parts._replace(query=query).geturl()), cable
    finally:
        cable.remove()
