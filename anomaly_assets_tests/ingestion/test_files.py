"""Reading files: layouts, chunks, numbering of rows, and files that are none."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anomaly_assets.errors import IngestionError
from anomaly_assets.ingestion import files
from anomaly_assets.ingestion.files import chunks, layout_of

if TYPE_CHECKING:
    from pathlib import Path


def test_layouts_are_told_apart(tmp_path: Path) -> None:
    """Long, wide, with and without time and entity."""
    cases = {
        "timestamp,stream_id,value": (True, None, "timestamp", False, ()),
        "user,timestamp,stream_id,value": (True, "user", "timestamp", False, ()),
        " timestamp ,heart,steps": (False, None, "timestamp", False, ("heart", "steps")),
        "t,d01,d02": (False, None, None, True, ("d01", "d02")),
        "d01,d02": (False, None, None, False, ("d01", "d02")),
        "\ufefftimestamp,t": (False, None, "timestamp", False, ("t",)),
    }
    for header, expected in cases.items():
        path = tmp_path / "x.csv"
        path.write_text(f"{header}\n1,2,3\n", encoding="utf-8")
        layout = layout_of(path)
        found = (layout.long, layout.entity, layout.time, layout.index, layout.streams)
        assert found == expected, header


@pytest.mark.parametrize("block", [40, 100, 1 << 20])
@pytest.mark.parametrize("compressed", [False, True])
def test_rows_keep_their_numbers_around_malformed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, *, compressed: bool
) -> None:
    """Each row has the number of its record, however the file is cut, and bad ones are reported."""
    monkeypatch.setattr(files, "BLOCK_BYTES", block)
    lines = ["timestamp,stream_id,value"]
    bad = {4, 5, 11, 30, 31}
    lines += ["oops" if n in bad else f"T{n:02d},heart,{n}" for n in range(2, 32)]
    content = "\n".join(lines).encode()
    path = tmp_path / ("x.csv.gz" if compressed else "x.csv")
    path.write_bytes(gzip.compress(content) if compressed else content)
    good: dict[int, str] = {}
    malformed: list[int] = []
    last = 0
    for chunk in chunks(path, layout_of(path)):
        texts = chunk.cells.column("timestamp").to_pylist()
        good.update(zip(chunk.row_numbers.tolist(), texts, strict=True))
        malformed += [row.row_number for row in chunk.malformed]
        assert chunk.through_row > last
        last = chunk.through_row
        assert chunk.after(last) is None
    assert good == {n: f"T{n:02d}" for n in range(2, 32) if n not in bad}
    assert malformed == sorted(bad)


def test_chunk_can_be_cut_anywhere(tmp_path: Path) -> None:
    """What lies behind a row is the rest of the chunk, malformed rows included."""
    path = tmp_path / "x.csv"
    path.write_text("timestamp,stream_id,value\na,s,1\nbad\nc,s,3\nbad\ne,s,5\n")
    (chunk,) = chunks(path, layout_of(path))
    rest = chunk.after(4)
    assert rest is not None
    assert rest.row_numbers.tolist() == [6]
    assert [row.row_number for row in rest.malformed] == [5]
    assert rest.cells.column("value").to_pylist() == ["5"]


def test_parquet_is_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a Parquet file are counted from 1."""
    monkeypatch.setattr(files, "PARQUET_ROWS", 2)
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"timestamp": ["a", "b", "c"], "heart": [1.0, None, 3.0]}), path)
    found = [chunk.row_numbers.tolist() for chunk in chunks(path, layout_of(path))]
    assert found == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", "is empty"),
        ("x.csv", b"timestamp,a,a\n", "'a' is there twice"),
        ("x.csv", b"timestamp\n", "hold no readings"),
        ("x.csv", b"\xff\xfe\x00", "cannot read"),
        ("x.csv.gz", b"not gzip", "cannot read"),
        ("x.parquet", b"not parquet", "cannot read"),
    ],
)
def test_files_that_are_none_are_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """A file that cannot be readings at all is refused with its name."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(IngestionError, match=message) as caught:
        layout_of(path)
    assert name in str(caught.value)


def test_absent_file_is_named(tmp_path: Path) -> None:
    """A path that does not exist is named."""
    with pytest.raises(IngestionError, match=r"absent\.csv"):
        layout_of(tmp_path / "absent.csv")


def test_file_that_breaks_off_is_said_so(tmp_path: Path) -> None:
    """A truncated archive ends in an error rather than as a short file."""
    path = tmp_path / "x.csv.gz"
    rows = "\n".join(f"{n},s,{n * 7919 % 1000}" for n in range(20_000))
    path.write_bytes(gzip.compress(f"timestamp,stream_id,value\n{rows}".encode())[:-4000])
    with pytest.raises(IngestionError, match="to its end"):
        list(chunks(path, layout_of(path)))
