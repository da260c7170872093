"""Everything that is stored of an entity, as Parquet files that others can read."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from psycopg import sql

from anomaly_assets.errors import InputError
from anomaly_assets.storage.erasing import tables_with_entities

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anomaly_assets.storage.database import Connection

FORMAT: Final = "anomaly-assets export"
FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
#: Rows in memory at a time; an explanation takes some ten thousand bytes.
_BATCH: Final = 5_000
_MOMENT: Final = pa.timestamp("us", tz="UTC")
_TYPES: Final[dict[str, pa.DataType]] = {
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "double precision": pa.float64(),
    "text": pa.string(),
    "uuid": pa.string(),
    "jsonb": pa.string(),
    "bytea": pa.binary(),
    "timestamp with time zone": _MOMENT,
    "text[]": pa.list_(pa.string()),
    "double precision[]": pa.list_(pa.float64()),
    "bigint[]": pa.list_(pa.int64()),
}
#: Columns that are secrets, or only good to whoever holds a secret; and the models themselves,
#: which nothing but this deployment can read.
LEFT_OUT: Final[dict[str, frozenset[str]]] = {
    "api_tokens": frozenset({"digest"}),
    "model_snapshots": frozenset({"blob", "signature"}),
    "feedback_versions": frozenset({"model", "seal"}),
}
#: Under these names ``anomaly-assets ingest`` reads the readings again.
_RENAMED: Final = {("readings", "event_time"): "timestamp"}
_TIMES: Final = (
    "event_time",
    "found_at",
    "from_time",
    "timestamp",
    "hour",
    "start_time",
    "as_of",
    "window",
    "fitted_at",
    "first_seen",
    "starts_at",
    "pinned_at",
    "created_at",
)


@dataclass(frozen=True)
class _Column:
    name: str
    exported: str
    sql_type: str
    convert: Callable[[Any], Any] | None

    @property
    def field(self) -> pa.Field:
        return pa.field(self.exported, _TYPES.get(self.sql_type, pa.string()))

    def array(self, values: Sequence[Any]) -> pa.Array:
        convert = self.convert
        if convert is not None:
            values = [None if value is None else convert(value) for value in values]
        return pa.array(values, type=self.field.type)


def export_entity(
    connection: Connection,
    entity_id: str,
    target: Path,
    *,
    about: dict[str, Any],
    force: bool = False,
) -> dict[str, Any]:
    """Write all rows of an entity to a folder or a ZIP file, one Parquet file a table.

    All tables are as of one moment. Until everything is written, nothing is at `target`.

    Parameters
    ----------
    connection
        A connection outside of a transaction.
    entity_id
        Whose rows.
    target
        A folder that is empty or not there yet, or a file that ends in ``.zip``.
    about
        What the manifest says besides: versions.
    force
        Whether an earlier export may be replaced.

    Returns
    -------
    dict
        The manifest, as it is written beside the files.

    Raises
    ------
    InputError
        If nothing is stored of the entity, or the target is in use.
    """
    _require_free(target, force=force)
    with connection.transaction(), _draft_of(target) as folder:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        tables = [
            _export_table(connection, entity_id, table, folder)
            for table in ("entities", *tables_with_entities(connection))
        ]
        if not any(table["rows"] for table in tables):
            msg = f"nothing is stored of an entity {entity_id!r}; see anomaly-assets status"
            raise InputError(msg)
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "entity_id": entity_id,
            "exported_at": datetime.now(tz=UTC).isoformat(),
            **about,
            "tables": tables,
        }
        text = json.dumps(manifest, indent=2, allow_nan=False, ensure_ascii=False)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


def _export_table(
    connection: Connection, entity_id: str, table: str, folder: Path
) -> dict[str, Any]:
    columns = _columns(connection, table)
    schema = pa.schema([column.field for column in columns])
    key = _key(connection, table)
    time = next((name for name in _TIMES if any(c.name == name for c in columns)), None)
    exported_time = next((c.exported for c in columns if c.name == time), None)
    path = folder / f"{table}.parquet"
    rows, first, last = 0, None, None
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(connection, entity_id, table, columns, key, schema):
            writer.write_batch(batch)
            rows += batch.num_rows
            if exported_time is not None:
                span = pc.min_max(batch.column(exported_time)).as_py()
                first = min(filter(None, (first, span["min"])), default=None)
                last = max(filter(None, (last, span["max"])), default=None)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "table": table,
        "file": path.name,
        "rows": rows,
        "bytes": path.stat().st_size,
        "sha256": digest,
        "columns": [
            {"name": column.exported, "type": str(column.field.type), "stored_as": column.sql_type}
            for column in columns
        ],
        "left_out": sorted(LEFT_OUT.get(table, ())),
        "time_column": exported_time,
        "first": None if first is None else first.isoformat(),
        "last": None if last is None else last.isoformat(),
    }


def _columns(connection: Connection, table: str) -> list[_Column]:
    rows = connection.execute(
        "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        (table,),
    ).fetchall()
    return [
        _Column(str(name), _RENAMED.get((table, name), str(name)), kind, _conversion(table, name))
        for name, kind in rows
        if name not in LEFT_OUT.get(table, ())
    ]


def _conversion(table: str, column: str) -> Callable[[Any], Any] | None:
    # Its path is where addresses of chat services carry their secret.
    return _without_path if (table, column) == ("webhooks", "url") else None


def _without_path(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}{'' if parts.port is None else f':{parts.port}'}/..."


def _key(connection: Connection, table: str) -> list[str]:
    rows = connection.execute(
        "SELECT a.attname FROM pg_index AS i CROSS JOIN unnest(i.indkey) WITH ORDINALITY "
        "AS k (attnum, place) JOIN pg_attribute AS a ON a.attrelid = i.indrelid "
        "AND a.attnum = k.attnum WHERE i.indrelid = to_regclass(%s) AND i.indisprimary "
        "ORDER BY k.place",
        (table,),
    ).fetchall()
    return [str(row[0]) for row in rows]


def _batches(  # noqa: PLR0913, PLR0917 - what, of whom, and how
    connection: Connection,
    entity_id: str,
    table: str,
    columns: Sequence[_Column],
    key: Sequence[str],
    schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    selected = [
        sql.SQL("{}::text").format(sql.Identifier(column.name))
        if column.field.type == pa.string() and column.sql_type != "text"
        else sql.Identifier(column.name)
        for column in columns
    ]
    statement = sql.SQL("SELECT {} FROM {} WHERE entity_id = %s ORDER BY {}").format(
        sql.SQL(", ").join(selected),
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, key or ["entity_id"])),
    )
    # A cursor of the server: rows come as they are written, however many there are.
    with connection.cursor(name=f"export_{table}", binary=True) as cursor:
        cursor.itersize = _BATCH
        cursor.execute(statement, (entity_id,))
        while rows := cursor.fetchmany(_BATCH):
            arrays = []
            for column, values in zip(columns, zip(*rows, strict=True), strict=True):
                arrays.append(column.array(values))
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _require_free(target: Path, *, force: bool) -> None:
    if not target.parent.is_dir():
        msg = f"{target.parent} is no folder; make it first, or choose another place"
        raise InputError(msg)
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not force:
        msg = f"{target} exists already; choose another place, or replace it with --force"
        raise InputError(msg)
    if not _is_export(target):
        msg = f"{target} is not an earlier export, so it is not replaced; choose another place"
        raise InputError(msg)


def _is_export(target: Path) -> bool:
    try:
        if target.is_dir():
            text = (target / MANIFEST).read_text(encoding="utf-8")
        else:
            with zipfile.ZipFile(target) as archive:
                text = archive.read(MANIFEST).decode()
        document = json.loads(text)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


@contextmanager
def _draft_of(target: Path) -> Iterator[Path]:
    """Give a folder to write to, and put what is in it in its place at the end of the block."""
    # Beside the target: renaming within one file system is done at once or not at all.
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        folder = draft / "export"
        folder.mkdir()
        yield folder
        finished = _packed(folder, draft) if target.suffix.lower() == ".zip" else folder
        if target.is_dir() and finished.is_dir():
            target.replace(draft / "replaced")
        finished.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _packed(folder: Path, draft: Path) -> Path:
    path = draft / "export.zip"
    # Parquet is compressed already.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return path
