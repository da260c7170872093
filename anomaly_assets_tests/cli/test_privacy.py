"""``anomaly-assets export``, ``forget`` and ``retention`` as a shell calls them."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.settings import settings
from anomaly_assets_tests.cli.test_commands import call, deployed, refused
from anomaly_assets_tests.pipeline.people import START, append, execute, load_people, query, reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets.storage.database import Database


@pytest.fixture
def deployment(database: Database, tmp_path: Path) -> Iterator[Database]:
    """Return the database of a deployment that watches ann and bob, made that of the settings."""
    load_people(database, ["ann", "bob"])
    with deployed(database, tmp_path):
        yield database


def typing(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Have somebody type a line."""
    monkeypatch.setattr("sys.stdin", io.StringIO(text + "\n"))


@pytest.mark.usefixtures("deployment")
class TestExport:
    """``export``: a folder or a ZIP file, with a manifest."""

    def test_it_writes_files_that_ingest_reads(self, tmp_path: Path) -> None:
        """The way to another deployment, or back."""
        manifest = call("export", "ann", "--to", tmp_path / "ann", "--json").document
        assert manifest["entity_id"] == "ann"
        assert manifest["schema_revision"] >= "0006"
        (readings,) = (one for one in manifest["tables"] if one["table"] == "readings")
        assert readings["rows"] > 0
        call("forget", "ann", "--yes")
        taken = call("ingest", tmp_path / "ann" / "readings.parquet", "--json").document
        assert taken["accepted"] == readings["rows"]

    def test_it_says_what_it_wrote(self, tmp_path: Path) -> None:
        """Tables with rows, the place and the size."""
        shown = call("export", "ann", "--to", tmp_path / "ann.zip").out
        assert "readings" in shown
        assert f"written to {tmp_path / 'ann.zip'}" in shown
        assert "--force" in refused("export", "ann", "--to", tmp_path / "ann.zip")
        assert call("export", "ann", "--to", tmp_path / "ann.zip", "--force").code == 0

    def test_a_mistyped_name_is_refused(self, tmp_path: Path) -> None:
        """Nothing is written."""
        assert "'amn'" in refused("export", "amn", "--to", tmp_path / "amn")
        assert not (tmp_path / "amn").exists()


@pytest.mark.usefixtures("deployment")
class TestForget:
    """``forget``: all of it, after its name was typed."""

    def test_the_name_has_to_be_typed(
        self, deployment: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another name, or none, deletes nothing; the counts are shown before."""
        typing(monkeypatch, "yes")
        outcome = call("forget", "ann", "--by", "Cyd")
        assert outcome.code == 1
        assert "nothing was deleted" in outcome.err
        assert "readings" in outcome.out
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        assert call("forget", "ann", "--by", "Cyd").code == 1
        assert query(deployment, "SELECT count(*) FROM entities") == [(2,)]
        typing(monkeypatch, "ann")
        assert call("forget", "ann", "--by", "Cyd").code == 0
        assert query(deployment, "SELECT entity_id FROM entities") == [("bob",)]

    def test_programs_say_yes(self, deployment: Database) -> None:
        """With --json it asks nobody, so it has to be told."""
        assert "--yes" in refused("forget", "ann", "--json")
        document = call("forget", "ann", "--yes", "--json", "--by", "Cyd").document
        assert document["tables"]["entities"] == 1
        assert document["rows"] == sum(document["tables"].values())
        assert document["cached"] is False
        assert query(deployment, "SELECT erased_by, subject FROM erasures") == [
            ("Cyd", document["subject"])
        ]
        assert "nothing is stored" in refused("forget", "ann", "--yes")

    def test_an_unreachable_redis_is_said_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The database has forgotten; the cache may remember for a day, and that is told."""
        monkeypatch.setenv("ANOMALY_ASSETS_REDIS_URL", "redis://127.0.0.1:1/0")
        settings.cache_clear()
        assert "Redis did not answer" in call("forget", "ann", "--yes").out


@pytest.mark.usefixtures("deployment")
class TestRetention:
    """``retention``: what would go, and its going."""

    def test_a_dry_run_changes_nothing(self, deployment: Database) -> None:
        """It says what would go and what has to wait, and why."""
        (piece,) = call("retention", "--dry-run", "--json").document["pieces"]
        assert piece["name"] == "partitions.readings_2026_01"
        assert piece["waiting"] == ["ann", "bob"]
        assert "are kept" in call("retention", "--dry-run").out
        execute(deployment, "UPDATE entities SET aggregated_until = '2026-02-03'")
        assert "would go" in call("retention", "--dry-run").out
        assert query(deployment, "SELECT count(*) > 0 FROM readings") == [(True,)]

    def test_old_readings_go(self, deployment: Database) -> None:
        """What went is told; a replay from there is refused, and so are readings of that time."""
        execute(deployment, "UPDATE entities SET aggregated_until = '2026-02-03'")
        document = call("retention", "--json").document
        (dropped,) = document["dropped"]
        assert (document["server"], document["waiting"]) == ("native", [])
        assert dropped["readings"] > dropped["hourly_values"] > 0
        assert query(deployment, "SELECT count(*) FROM readings") == [(0,)]
        assert "no whole month" in call("retention").out

    def test_readings_of_a_dropped_time_are_refused(
        self, deployment: Database, tmp_path: Path
    ) -> None:
        """They are recorded with the reason; those of a later time are taken in."""
        append(deployment, "ann", reading("steps", START + timedelta(days=60)))
        execute(deployment, "UPDATE entities SET aggregated_until = '2026-02-03'")
        call("retention", "--json")
        file = tmp_path / "late.csv"
        file.write_text(
            "timestamp,stream_id,value\n2026-01-05T07:00:00Z,steps,1\n2026-02-05T07:00:00Z,steps,1\n"
        )
        report = call("ingest", file, "--entity", "ann", "--json").document
        assert report["rejected"] == {"past_retention": 1}
        assert report["accepted"] == 1
        ((detail,),) = query(
            deployment, "SELECT detail FROM rejected_readings WHERE reason = 'past_retention'"
        )
        assert "before 2026-02-01 00:00 UTC" in detail

    def test_kept_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Zero months switches it off, and it says so."""
        monkeypatch.setenv("ANOMALY_ASSETS_RAW_MONTHS", "0")
        settings.cache_clear()
        assert "for ever" in call("retention").out
        assert json.loads(call("retention", "--json").out)["before"] is None
