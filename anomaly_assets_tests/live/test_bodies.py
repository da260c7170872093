"""Bodies into rows: whatever is sent, rows come out or a refusal, and never anything else."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from anomaly_assets.live.bodies import (
    LONGEST_ROW,
    BodyError,
    json_rows,
    line_row,
    media_type,
    ndjson_rows,
    unpacked,
)
from anomaly_assets.live.readings import MalformedReading, RawReading, Row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
ROWS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("entity_id", "stream_id", "timestamp", "value", "more"), VALUES)
)


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def rows_of_lines(*parts: bytes) -> list[Row]:
    async def collect() -> list[Row]:
        return [row async for rows in ndjson_rows(pieces(*parts)) for row in rows]

    return asyncio.run(collect())


def unpack(packed: Sequence[bytes], encoding: str, limit: int = 1 << 20) -> bytes:
    async def collect() -> bytes:
        return b"".join([part async for part in unpacked(pieces(*packed), encoding, limit=limit)])

    return asyncio.run(collect())


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    bounds = [0, *sorted(min(one, len(data)) for one in at), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


def expected(row: Any) -> Row | None:
    """Return what a row must become, for rows of scalars."""
    if not isinstance(row, dict) or any(isinstance(v, dict | list) for v in row.values()):
        return None
    names = [row.get(name) for name in ("entity_id", "stream_id", "timestamp")]
    value = row.get("value")
    if isinstance(value, bool):
        value = json.dumps(value)
    elif isinstance(value, int):
        value = float(json.dumps(value))
    entity, stream, at = (name if isinstance(name, str) else "" for name in names)
    return RawReading(entity, stream, at, value)


def refusal(work: Callable[[], object]) -> int | None:
    """Return the status with which something is refused, or None."""
    try:
        work()
    except BodyError as error:
        return error.status
    return None


def same(one: Row, other: Row) -> bool:
    """Compare rows, NaN being equal to itself."""
    return repr(one) == repr(other)


@given(st.binary(max_size=300))
def test_any_bytes_are_rows_or_refused(body: bytes) -> None:
    """No bytes whatever raise anything but a refusal."""
    found: list[Row] = []
    status = refusal(lambda: found.extend(json_rows(body, limit=10)))
    assert status in {None, 413, 422}
    assert all(isinstance(row, RawReading | MalformedReading) for row in found)
    assert all(isinstance(row, RawReading | MalformedReading) for row in rows_of_lines(body))


@given(st.lists(ROWS | VALUES, max_size=8), st.sampled_from(["ascii", "utf-8"]), st.integers(0, 3))
def test_documents_come_out_as_they_were(rows: list[Any], form: str, indent: int) -> None:
    """Every row of an array is found, whatever lies between, and names and numbers are exact."""
    body = json.dumps(rows, ensure_ascii=form == "ascii", indent=indent or None)
    found = list(json_rows(body.encode("utf-8", "replace"), limit=100))
    assert len(found) == len(rows)
    for row, one in zip(rows, found, strict=True):
        wanted = expected(row)
        assert wanted is None or same(one, wanted)
        assert isinstance(row, dict) or isinstance(one, MalformedReading)


@given(st.lists(ROWS | VALUES, max_size=8), st.lists(st.integers(0, 2000), max_size=5))
def test_lines_do_not_depend_on_how_they_come(rows: list[Any], at: list[int]) -> None:
    """NDJSON gives the same rows wherever the network cuts it, and the same as a document."""
    body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    found = rows_of_lines(*cut(body, at))
    assert len(found) == len(rows)
    document = list(json_rows(b"[" + b",".join(body.splitlines()) + b"]", limit=100))
    assert all(map(same, found, document))


@given(st.lists(st.binary(max_size=2 * LONGEST_ROW), max_size=4), st.integers(1, 4000))
def test_lines_are_counted_however_long(lines: list[bytes], size: int) -> None:
    """Each line that is not blank is one row, also one that is too long to be read."""
    cleaned = [line.replace(b"\n", b"") for line in lines]
    body = b"\n".join(cleaned)
    found = rows_of_lines(*(body[i : i + size] for i in range(0, len(body), size)))
    assert len(found) == sum(1 for line in cleaned if line and not line.isspace())


@given(
    st.binary(max_size=5000),
    st.sampled_from(["gzip", "zstd", ""]),
    st.lists(st.integers(0, 6000), max_size=5),
    st.integers(1, 3),
)
def test_packed_bodies_are_unpacked_exactly(
    data: bytes, encoding: str, at: list[int], times: int
) -> None:
    """Packed bodies come out whole, cut anywhere, also of several members one after the other."""
    packed = {"": data, "gzip": gzip.compress(data), "zstd": zstandard.compress(data)}[encoding]
    assert unpack(cut(packed * times, at), encoding) == data * times


@given(st.binary(min_size=1, max_size=500), st.sampled_from(["gzip", "zstd"]), st.data())
def test_damaged_bodies_are_refused(data: bytes, encoding: str, choose: st.DataObject) -> None:
    """A packed body that ends too early is refused, wherever it ends."""
    packed = gzip.compress(data) if encoding == "gzip" else zstandard.compress(data)
    length = choose.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(BodyError) as caught:
        unpack([packed[:length]], encoding)
    assert caught.value.status == 422


@given(st.binary(max_size=500), st.sampled_from(["gzip", "zstd"]))
def test_any_bytes_unpack_or_are_refused(data: bytes, encoding: str) -> None:
    """Bytes that are no such format are refused, and nothing else happens."""
    assert refusal(lambda: unpack([data], encoding)) in {None, 413, 422}


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_unpacking_stops_at_the_limit(encoding: str) -> None:
    """What unpacks beyond the limit is refused when it gets there."""
    data = b"x" * 100_001
    packed = gzip.compress(data) if encoding == "gzip" else zstandard.compress(data)
    assert len(unpack([packed], encoding, limit=100_001)) == 100_001
    with pytest.raises(BodyError) as caught:
        unpack([packed], encoding, limit=100_000)
    assert caught.value.status == 413


def test_window_beyond_memory_is_refused() -> None:
    """A zstd frame that asks for hundreds of megabytes of window is refused."""
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = packer.compress(b"[]") + packer.flush()
    with pytest.raises(BodyError):
        unpack([packed], "zstd")


@pytest.mark.parametrize("digits", [400, 4000])
def test_huge_numbers_are_floats(digits: int) -> None:
    """A whole number of thousands of digits is infinite, and takes no time."""
    row = line_row(b'{"value":' + b"9" * digits + b"}")
    assert isinstance(row, RawReading)
    assert row.value == math.inf


@given(st.text(max_size=60))
def test_any_content_type_is_known_or_refused(header: str) -> None:
    """A header that is no type of readings is refused with 415."""
    assert refusal(lambda: media_type(header)) in {None, 415}
