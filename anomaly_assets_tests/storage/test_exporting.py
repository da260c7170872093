"""An export holds every row of an entity, of nobody else, and no secret; all of it or nothing."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.storage import exporting
from anomaly_assets.storage.exporting import export_entity
from anomaly_assets.storage.tables import Base
from anomaly_assets_tests.pipeline.people import execute, query
from anomaly_assets_tests.storage.everything import AT, store_everything

if TYPE_CHECKING:
    from pathlib import Path

    from anomaly_assets.storage.database import Database

#: More than one batch.
READINGS = 12_345


@pytest.fixture(scope="module")
def people(module_database: Database) -> Database:
    """Return a database that holds something of ann and of bob in every table."""
    store_everything(module_database, "ann", readings=READINGS)
    store_everything(module_database, "bob")
    return module_database


def export(database: Database, target: Path, **options: Any) -> dict[str, Any]:
    """Export ann."""
    with database.connect() as connection:
        return export_entity(connection, "ann", target, about={"code_version": "1"}, **options)


def test_every_table_is_there_with_its_rows(people: Database, tmp_path: Path) -> None:
    """One file a table, described by the manifest: rows, columns, times and digest."""
    manifest = export(people, tmp_path / "ann")
    own = {n for n, table in Base.metadata.tables.items() if "entity_id" in table.columns}
    assert {table["table"] for table in manifest["tables"]} == own
    assert json.loads((tmp_path / "ann" / "manifest.json").read_text()) == manifest
    assert manifest["code_version"] == "1"
    for told in manifest["tables"]:
        path = tmp_path / "ann" / told["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == told["sha256"]
        table = pq.read_table(path)
        ((count,),) = query(
            people,
            f"SELECT count(*) FROM {told['table']} WHERE entity_id = 'ann'",  # noqa: S608 - ours
        )
        assert table.num_rows == told["rows"] == count > 0, told["table"]
        assert [column["name"] for column in told["columns"]] == table.column_names
        assert set(table.column("entity_id").to_pylist()) == {"ann"}
        assert told["time_column"] is not None, told["table"]
        assert told["first"] <= told["last"]


def test_values_are_those_of_the_tables(people: Database, tmp_path: Path) -> None:
    """Floats to the bit, unknown as null, moments in UTC, documents as JSON."""
    export(people, tmp_path / "ann")
    readings = pq.read_table(tmp_path / "ann" / "readings.parquet")
    assert readings.column("value").to_pylist() == [n / 3.0 for n in range(1, READINGS + 1)]
    assert str(readings.schema.field("timestamp").type) == "timestamp[us, tz=UTC]"
    (score,) = pq.read_table(tmp_path / "ann" / "anomaly_scores.parquet").to_pylist()
    assert (score["timestamp"], score["confidence"]) == (AT, None)
    assert json.loads(score["metadata"]) == {"n": 1}
    (pattern,) = pq.read_table(tmp_path / "ann" / "gap_patterns.parquet").to_pylist()
    assert pattern["group_score"][0] == 0.1
    assert math.isnan(pattern["group_score"][1])
    (label,) = pq.read_table(tmp_path / "ann" / "labels.parquet").to_pylist()
    assert label["stream_ids"] == ["steps"]


def test_no_secret_is_handed_out(people: Database, tmp_path: Path) -> None:
    """Digests of tokens, paths of webhooks, and the models with their signatures stay here."""
    export(people, tmp_path / "ann")
    columns = {
        name: set(pq.read_schema(tmp_path / "ann" / f"{name}.parquet").names)
        for name in ("api_tokens", "model_snapshots")
    }
    assert "digest" not in columns["api_tokens"]
    assert {"blob", "signature"}.isdisjoint(columns["model_snapshots"])
    (webhook,) = pq.read_table(tmp_path / "ann" / "webhooks.parquet").to_pylist()
    assert webhook["url"] == "https://chat.example:444/..."


def test_a_zip_holds_the_same_files(people: Database, tmp_path: Path) -> None:
    """A target that ends in .zip is one file."""
    manifest = export(people, tmp_path / "ann.zip")
    with zipfile.ZipFile(tmp_path / "ann.zip") as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
    assert names == {"manifest.json", *(table["file"] for table in manifest["tables"])}
    assert [path.name for path in tmp_path.iterdir()] == ["ann.zip"]


def test_what_is_there_already_is_not_replaced(people: Database, tmp_path: Path) -> None:
    """An empty folder is filled; a full one only with force, and only if it is an export."""
    (tmp_path / "ann").mkdir()
    export(people, tmp_path / "ann")
    with pytest.raises(InputError, match="--force"):
        export(people, tmp_path / "ann")
    (tmp_path / "ann" / "old.txt").touch()
    export(people, tmp_path / "ann", force=True)
    assert not (tmp_path / "ann" / "old.txt").exists()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("all of it")
    for name in ("precious", "precious/thesis.txt"):
        with pytest.raises(InputError, match="not an earlier export"):
            export(people, tmp_path / name, force=True)
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "all of it"
    with pytest.raises(InputError, match="is no folder"):
        export(people, tmp_path / "nowhere" / "ann")


def test_an_export_that_breaks_off_leaves_nothing(
    people: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither half a folder nor a draft of one; an earlier export stays as it was."""
    before = export(people, tmp_path / "ann")
    # The last table in order is cut off in the midst of it.
    monkeypatch.setitem(exporting._TYPES, "text[]", pa.list_(pa.int32()))
    with pytest.raises(pa.ArrowInvalid):
        export(people, tmp_path / "ann", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["ann"]
    assert json.loads((tmp_path / "ann" / "manifest.json").read_text()) == before


def test_nothing_stored_is_no_export(people: Database, tmp_path: Path) -> None:
    """A mistyped name is said so instead of yielding empty files."""
    with people.connect() as connection, pytest.raises(InputError, match="'amn'"):
        export_entity(connection, "amn", tmp_path / "amn", about={})
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_is_added_later_is_exported(database: Database, tmp_path: Path) -> None:
    """Columns of a kind that Arrow does not know are text."""
    store_everything(database, "ann")
    execute(database, "CREATE TABLE diaries (entity_id text, page interval, note text)")
    execute(database, "INSERT INTO diaries VALUES ('ann', '1 day', 'rain')")
    export(database, tmp_path / "ann")
    rows = pq.read_table(tmp_path / "ann" / "diaries.parquet").to_pylist()
    assert rows == [{"entity_id": "ann", "page": "1 day", "note": "rain"}]
