"""Bodies of requests into rows: JSON and NDJSON, plain, gzip or zstd, in bounded memory.

Nothing is trusted: what is unpacked is counted while it is unpacked, a row is read by itself and
may be no longer than :data:`LONGEST_ROW`, and a row that is no reading is a result, not an error.
"""

from __future__ import annotations

import json
import re
import zlib
from typing import TYPE_CHECKING, Final, Protocol

import zstandard

from anomaly_assets.errors import AnomalyAssetsError
from anomaly_assets.live.readings import MalformedReading, RawReading, Row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

LONGEST_ROW: Final = 4096
JSON_TYPE: Final = "application/json"
NDJSON_TYPES: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
_SHOWN: Final = 500
_PIECE: Final = 64 << 10
#: A block of zstd is up to 128 KiB in as little as 4 bytes, and a call unpacks all it is given.
_ZSTD_SLICE: Final = 64
#: What `zstd -19` uses; a frame that asks for more memory is refused.
_ZSTD_WINDOW: Final = 8 << 20
_GZIP: Final = "gzip"
_ZSTD: Final = "zstd"
_GZIP_FORMAT: Final = 31
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NOT_AN_OBJECT: Final = "the row is no JSON object"


class BodyError(AnomalyAssetsError):
    """A body cannot be taken (400 to 422).

    Parameters
    ----------
    status
        The HTTP status that says why.
    message
        The same for people.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Unpacker(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what some bytes unpack to, in pieces of bounded size."""

    def finish(self) -> None:
        """Refuse a body that ended too early."""


class _Plain:
    def feed(self, data: bytes) -> Iterator[bytes]:
        yield from _cut(data)

    def finish(self) -> None:
        """Any end is a good one."""


class _Gzip:
    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP_FORMAT)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP_FORMAT)
            self._begun = True
            try:
                piece = self._member.decompress(data, _PIECE)
            except zlib.error as error:
                raise _unreadable(_GZIP) from error
            data = self._member.unconsumed_tail or self._member.unused_data
            if piece:
                yield piece
        # A full piece may have left some output inside.
        while self._begun and not self._member.eof:
            piece = self._member.decompress(b"", _PIECE)
            if not piece:
                break
            yield piece

    def finish(self) -> None:
        if not self._member.eof:
            raise _unreadable(_GZIP)


class _Zstd:
    def __init__(self) -> None:
        self._source = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._frame = self._source.decompressobj()

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_SLICE):
            part = data[start : start + _ZSTD_SLICE]
            while part:
                if self._frame.eof:
                    self._frame = self._source.decompressobj()
                try:
                    piece = self._frame.decompress(part)
                except zstandard.ZstdError as error:
                    raise _unreadable(_ZSTD) from error
                part = self._frame.unused_data if self._frame.eof else b""
                yield from _cut(piece)

    def finish(self) -> None:
        if not self._frame.eof:
            raise _unreadable(_ZSTD)


_UNPACKERS: Final[dict[str, type[_Plain | _Gzip | _Zstd]]] = {
    "": _Plain,
    "identity": _Plain,
    _GZIP: _Gzip,
    "x-gzip": _Gzip,
    _ZSTD: _Zstd,
}


def media_type(header: str) -> str:
    """Return the media type of a ``Content-Type``, if it is one that readings come in.

    Raises
    ------
    BodyError
        415 if it is not.
    """
    name, _, parameters = header.partition(";")
    name = name.strip().lower()
    charset = re.search(r"charset=\"?([^\";\s]+)", parameters.lower())
    if name not in {JSON_TYPE, *NDJSON_TYPES}:
        msg = f"content type {name[:80]!r}: send application/json or application/x-ndjson"
        raise BodyError(415, msg)
    if charset is not None and charset.group(1) not in {"utf-8", "utf8", "us-ascii"}:
        msg = "readings are sent as UTF-8"
        raise BodyError(415, msg)
    return name


async def unpacked(
    body: AsyncIterator[bytes], encoding: str, *, limit: int
) -> AsyncIterator[bytes]:
    """Yield a body without its ``Content-Encoding``, in pieces of at most 64 KiB.

    Parameters
    ----------
    body
        The body as sent.
    encoding
        Its ``Content-Encoding``: none, gzip or zstd.
    limit
        Bytes, packed or unpacked, after which it is refused.

    Raises
    ------
    BodyError
        415 for another encoding, 413 beyond `limit`, 422 if it cannot be unpacked.
    """
    kind = _UNPACKERS.get(encoding.strip().lower())
    if kind is None:
        msg = f"content encoding {encoding[:80]!r}: send gzip, zstd or none"
        raise BodyError(415, msg)
    unpacker: _Unpacker = kind()
    came = size = 0
    async for data in body:
        came += len(data)
        require_size(came, limit)
        for piece in unpacker.feed(data):
            size += len(piece)
            require_size(size, limit)
            yield piece
    if came or kind is not _Plain:
        unpacker.finish()


def require_size(size: int, limit: int) -> None:
    """Refuse what is larger than the limit.

    Raises
    ------
    BodyError
        413 if it is.
    """
    if size > limit:
        msg = f"the body is larger than {limit} bytes; send it in parts"
        raise BodyError(413, msg)


def json_rows(body: bytes | bytearray, *, limit: int) -> Iterator[Row]:
    """Yield the rows of a JSON document: one object, or an array of them.

    Parameters
    ----------
    body
        The document.
    limit
        Rows after which it is refused.

    Raises
    ------
    BodyError
        422 if it is no such document, 413 beyond `limit`. Rows before the fault are yielded before.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"the body is not UTF-8 at byte {error.start}"
        raise BodyError(422, msg) from error
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        row, at = _element(text, at)
        if isinstance(row, MalformedReading):
            raise BodyError(422, f"{row.detail}; send one, or an array of them")
        _require_end(text, at)
        yield row
        return
    at, count = _skip(text, at + 1), 0
    if text[at : at + 1] == "]":
        _require_end(text, at + 1)
        return
    while True:
        count += 1
        if count > limit:
            msg = f"more than {limit} rows; send them in parts, or as application/x-ndjson"
            raise BodyError(413, msg)
        row, at = _element(text, at)
        yield row
        at = _skip(text, at)
        mark, at = text[at : at + 1], _skip(text, at + 1)
        if mark == "]":
            _require_end(text, at)
            return
        if mark != ",":
            raise _no_json(at)


async def ndjson_rows(pieces: AsyncIterator[bytes]) -> AsyncIterator[list[Row]]:
    """Yield the rows of an NDJSON body as its pieces come; blank lines are no rows."""
    rest = b""
    skipping = False
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        rows: list[Row] = []
        for line in lines:
            if not skipping and not line.isspace() and line:
                rows.append(line_row(line))
            skipping = False
        if len(rest) > LONGEST_ROW:
            if not skipping:
                rows.append(line_row(rest))
            # The rest of a line that is too long is not kept.
            rest, skipping = b"", True
        elif skipping:
            rest = b""
        if rows:
            yield rows
    if rest and not rest.isspace():
        yield [line_row(rest)]


def line_row(line: bytes) -> Row:
    """Return the row that one line, or one message, holds."""
    if len(line) > LONGEST_ROW:
        return MalformedReading(_shown(line), f"the row is longer than {LONGEST_ROW} bytes")
    try:
        return _row(_DECODER.decode(line.decode()), line)
    except (ValueError, RecursionError):
        return MalformedReading(_shown(line), "the row is no JSON")


# Whole numbers as floats: converting a long one to an int takes time that grows with its square.
_DECODER = json.JSONDecoder(parse_int=float)


def _cut(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), _PIECE):
        yield data[start : start + _PIECE]


def _element(text: str, at: int) -> tuple[Row, int]:
    part = text[at : at + LONGEST_ROW]
    try:
        value, length = _DECODER.raw_decode(part)
    except (ValueError, RecursionError) as error:
        if len(part) == LONGEST_ROW:
            msg = f"the row at character {at} is longer than {LONGEST_ROW}, or no JSON"
            raise BodyError(422, msg) from error
        raise _no_json(at) from error
    return _row(value, part[:length]), at + length


def _row(value: object, source: str | bytes) -> Row:
    if not isinstance(value, dict):
        return MalformedReading(_shown(source), _NOT_AN_OBJECT)
    return RawReading(
        _name(value.get("entity_id")),
        _name(value.get("stream_id")),
        _name(value.get("timestamp")),
        _number(value.get("value")),
    )


def _name(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else _storable(value)


def _number(value: object) -> float | str | None:
    if value is None or isinstance(value, float):
        return value
    if isinstance(value, str):
        return _name(value)
    return _storable(json.dumps(value, ensure_ascii=False)[:_SHOWN])


def _storable(text: str) -> str:
    # A lone surrogate is valid in JSON and in no encoding.
    return text.encode("utf-8", "replace").decode()


def _shown(source: str | bytes) -> str:
    head = source[:_SHOWN]
    return head.decode("utf-8", "replace") if isinstance(head, bytes) else _storable(head)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _require_end(text: str, at: int) -> None:
    end = _skip(text, at)
    if end != len(text):
        raise _no_json(end)


def _no_json(at: int) -> BodyError:
    return BodyError(422, f"the body is no JSON at character {at}")


def _unreadable(encoding: str) -> BodyError:
    return BodyError(422, f"the body cannot be unpacked as {encoding}, or ends too early")
