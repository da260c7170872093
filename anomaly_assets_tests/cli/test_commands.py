"""The commands against a real database, through :func:`main` as a shell would call them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pandas as pd
import pytest

from anomaly_assets.automation.instance import prepare
from anomaly_assets.cli import main
from anomaly_assets.evaluation.simulator import simulate
from anomaly_assets.settings import settings
from anomaly_assets.storage.database import Database
from anomaly_assets_tests.pipeline.people import execute, query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Recent enough for Dagster's partitions whenever this runs, and old enough to be complete.
START = datetime.now(tz=UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
END = START + timedelta(days=1)
#: Backfilled first; the command without options then does the whole day.
MORNING = START + timedelta(hours=6)


@dataclass(frozen=True)
class Outcome:
    """What a shell sees of a command."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What ``--json`` printed; strict, so that a NaN is a mistake."""

        def refuse(constant: str) -> float:
            msg = f"{constant} is no JSON"
            raise ValueError(msg)

        return json.loads(self.out, parse_constant=refuse)


def call(*arguments: object) -> Outcome:
    """Run ``anomaly-assets`` with these arguments in this process."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["anomaly-assets", *map(str, arguments)])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
    return Outcome(code, out.getvalue(), err.getvalue())


def refused(*arguments: object) -> str:
    """Return the one line on stderr with which a command refuses, and no word on stdout."""
    outcome = call(*arguments)
    assert outcome.code == 1, outcome
    assert outcome.err.startswith("error: "), outcome
    assert outcome.err.count("\n") == 1, outcome
    assert outcome.out.strip() == ""
    return outcome.err


@contextlib.contextmanager
def deployed(database: Database, home: Path) -> Iterator[None]:
    """Make a database and a home those of the settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("DATABASE_URL", database.url)
        patch.setenv("ANOMALY_ASSETS_HOME", str(home))
        settings.cache_clear()
        for name, value in prepare(settings(), database).items():
            patch.setenv(name, value)
        yield
    settings.cache_clear()


@pytest.fixture
def fresh(database: Database, tmp_path: Path) -> Iterator[Database]:
    """Return the database of a deployment without readings."""
    with deployed(database, tmp_path):
        yield database


@pytest.fixture(scope="module")
def readings() -> pd.DataFrame:
    """Return one person's day."""
    frame = simulate(4, ["ann"], start=START, days=1).readings
    return frame.astype({"entity_id": str, "stream_id": str})


@pytest.fixture(scope="module")
def processed_database(
    module_database: Database,
    readings: pd.DataFrame,
    tmp_path_factory: pytest.TempPathFactory,
) -> Database:
    """Share the database of a deployment with one processed day, in the environment of each."""
    home = tmp_path_factory.mktemp("processed")
    readings.to_parquet(home / "ann.parquet", index=False)
    with deployed(module_database, home):
        assert call("ingest", home / "ann.parquet").code == 0
        outcome = call("backfill", "--json")
        assert outcome.code == 0, outcome
        assert outcome.document["succeeded"]
    return module_database


@pytest.fixture
def processed(processed_database: Database, tmp_path: Path) -> Iterator[Database]:
    """Return the shared database, with the settings pointing to it."""
    with deployed(processed_database, tmp_path):
        yield processed_database


class TestIngest:
    """``ingest``: files of every kind, and what becomes of bad rows."""

    def test_a_long_csv_again_and_again(
        self, fresh: Database, readings: pd.DataFrame, tmp_path: Path
    ) -> None:
        """A long CSV is taken in once however often it is given, even as a file of another name."""
        rows = readings.head(500)
        path = tmp_path / "long.csv"
        rows.to_csv(path, index=False)
        first = call("ingest", path, "--json").document
        assert (first["files"], first["rows"], first["accepted"]) == (1, 500, 500)
        assert first["rejected"] == {}
        for again in ([path], [path, "--again"]):
            report = call("ingest", *again, "--json").document
            assert (report["accepted"], report["duplicate"]) == (0, 500)
        path.rename(tmp_path / "renamed.csv")
        assert call("ingest", tmp_path / "renamed.csv", "--json").document["duplicate"] == 500
        assert query(fresh, "SELECT count(*) FROM readings") == [(500,)]

    def test_a_wide_csv(self, fresh: Database, tmp_path: Path) -> None:
        """A wide CSV has a column for each stream; an empty cell is no reading and no mistake."""
        path = tmp_path / "wide.csv"
        times = [START + timedelta(minutes=n) for n in range(3)]
        frame = pd.DataFrame(
            {"timestamp": times, "heart_rate": [60, 61, None], "steps": [0, 5, 7], "note": "x"}
        )
        frame.to_csv(path, index=False)
        report = call("ingest", path, "--entity", "bob", "--ignore", "note", "--json").document
        assert report["accepted"] == 5
        found = query(fresh, "SELECT entity_id, stream_id, value FROM readings ORDER BY 2, 3")
        assert found == [
            *(("bob", "heart_rate", value) for value in (60.0, 61.0)),
            *(("bob", "steps", value) for value in (0.0, 5.0, 7.0)),
        ]

    def test_parquet_for_people(
        self, fresh: Database, readings: pd.DataFrame, tmp_path: Path
    ) -> None:
        """Without ``--json`` a sentence says how many rows were taken in."""
        path = tmp_path / "rows.parquet"
        readings.head(1200).to_parquet(path, index=False)
        outcome = call("ingest", path)
        assert outcome.code == 0
        assert "1,200 rows of 1 files" in outcome.out
        assert "1,200 readings accepted" in " ".join(outcome.out.split())
        assert query(fresh, "SELECT count(*) FROM readings") == [(1200,)]

    def test_bad_rows_are_kept_with_their_reason(self, fresh: Database, tmp_path: Path) -> None:
        """A refused row stops nothing: it is counted, named, and kept as it was."""
        path = tmp_path / "bad.csv"
        at = START.isoformat()
        path.write_text(
            "timestamp,stream_id,value\n"
            f"{at},heart_rate,61\n"
            f"{at},heart_beat,61\n"
            f"{at},steps,many\n"
            "yesterday,steps,4\n"
            f"{at},battery_level,inf\n"
        )
        report = call("ingest", path, "--entity", "ann", "--json").document
        assert report["accepted"] == 1
        assert sum(report["rejected"].values()) == 4
        kept = query(fresh, "SELECT row_number, reason, raw FROM rejected_readings ORDER BY 1")
        assert [(row, reason) for row, reason, _ in kept] == [
            (3, "unknown_stream"),
            (4, "not_a_number"),
            (5, "wrong_time"),
            (6, "not_finite"),
        ]
        assert kept[1][2] == f"{at},steps,many"
        outcome = call("ingest", path, "--entity", "ann", "--again")
        assert "4 rejected" in " ".join(outcome.out.split())
        assert "rejected, wrong_time: 1 (see the table rejected_readings)" in outcome.out
        assert query(fresh, "SELECT count(*) FROM rejected_readings") == [(4,)]

    def test_what_cannot_be_read_is_refused_in_one_line(
        self, fresh: Database, readings: pd.DataFrame, tmp_path: Path
    ) -> None:
        """A missing file, no entity, an unknown zone or catalogue, a bad start: each says what."""
        path = tmp_path / ("[a] long name that any terminal would wrap " * 3 + ".csv")
        readings.head(2).drop(columns="entity_id").to_csv(path, index=False)
        gone = tmp_path / "[bold]gone.csv"
        assert f"cannot read {gone}: " in refused("ingest", gone)
        assert f"{path} names no entity" in refused("ingest", path)
        assert "Mars/Base" in refused("ingest", path, "--entity", "a", "--zone", "Mars/Base")
        assert "no-such" in refused("ingest", path, "--entity", "a", "--catalogue", "no-such")
        assert "'soon' is no date" in refused("ingest", path, "--entity", "a", "--start", "soon")
        assert query(fresh, "SELECT count(*) FROM readings") == [(0,)]


class TestBackfillAndReplay:
    """``backfill`` and ``replay``: windows through a real Dagster run."""

    def test_without_readings_it_says_what_to_do(self, fresh: Database) -> None:
        """Nothing to process is a clear error, for both commands."""
        assert fresh.url
        assert "ingest some first: anomaly-assets ingest FILES" in refused("backfill")
        assert "use anomaly-assets backfill" in refused("replay", "--from", "2026-01-01")

    def test_ranges_late_readings_and_replay(
        self, fresh: Database, readings: pd.DataFrame, tmp_path: Path
    ) -> None:
        """A range is one run; readings too late for the sensor wait until ``replay`` takes them."""
        late = readings["timestamp"].between(START + timedelta(hours=1), START + timedelta(hours=2))
        morning = readings["timestamp"] < MORNING
        readings[morning & ~late].to_parquet(tmp_path / "first.parquet", index=False)
        readings[late].to_parquet(tmp_path / "late.parquet", index=False)
        call("ingest", tmp_path / "first.parquet")
        until = START + timedelta(hours=3)
        run = call("backfill", "--from", START.date(), "--to", until.isoformat(), "--json").document
        assert run["succeeded"]
        assert run["windows"] == 36
        assert (run["start"], run["end"]) == (START.isoformat(), until.isoformat())
        assert run["error"] == ""
        assert run["run_id"]
        execute(
            fresh, "UPDATE entities SET aggregated_until = aggregated_until + interval '30 hours'"
        )

        report = call("ingest", tmp_path / "late.parquet", "--json").document
        assert report["too_late"] == report["accepted"] == late.sum()
        execute(
            fresh, "UPDATE entities SET aggregated_until = aggregated_until - interval '30 hours'"
        )
        status = call("status", "--json").document["entities"][0]
        assert status["late_beyond_horizon"] == late.sum()
        before = self._observed(fresh)
        outcome = call("replay", "--from", START.date())
        assert outcome.code == 0, outcome
        said = " ".join(outcome.out.split())
        assert f"{late.sum()} late readings from beyond the horizon are taken in" in said
        assert "36 windows" in said
        assert "all assets materialised" in said
        assert self._observed(fresh) > before
        assert call("status", "--json").document["entities"][0]["late_beyond_horizon"] == 0
        again = call("replay", "--from", START.date(), "--json").document
        assert (again["succeeded"], again["windows"]) == (True, 36)

    def test_ranges_without_a_window_are_refused(self, processed: Database) -> None:
        """An empty, reversed or future range, or one before Dagster's first, says what is wrong."""
        assert processed.url
        day = START.date()
        for options in (("--from", day, "--to", day), ("--from", END.date(), "--to", day)):
            assert "no window" in refused("backfill", *options)
        assert "no window" in refused("backfill", "--from", "2199-01-01")
        assert "first" in refused("backfill", "--from", "2001-01-01")
        assert "first" in refused("replay", "--from", "2001-01-01")
        assert "no window from" in refused("replay", "--from", "2199-01-01")

    @staticmethod
    def _observed(database: Database) -> int:
        ((count,),) = query(database, "SELECT count(*) FROM time_series_data WHERE NOT is_missing")
        return int(count)


class TestViews:
    """``status``, ``anomalies`` and ``explain``: what the system knows."""

    def test_status(self, processed: Database) -> None:
        """Each entity has a line with how far it has come and how it is doing."""
        document = call("status", "--json").document
        assert document["failures"] == {}
        (ann,) = document["entities"]
        assert ann["entity_id"] == "ann"
        assert datetime.fromisoformat(ann["processed_until"]) == END
        assert 0.5 < ann["coverage_last_day"] <= 1.0
        assert ann["latest_score"] is None or 0.0 <= ann["latest_score"] <= 1.0
        assert datetime.fromisoformat(document["complete_until"]) > END
        assert processed.name
        shown = call("status")
        assert "ann" in shown.out
        assert shown.code == 0

    def test_status_names_a_faulty_entity(self, fresh: Database) -> None:
        """An entity whose catalogue is gone is listed with the reason."""
        execute(
            fresh, "INSERT INTO entities (entity_id, catalogue) VALUES ('[bob]', '/gone/bob.yaml')"
        )
        assert "/gone/bob.yaml" in call("status", "--json").document["failures"]["[bob]"]
        assert "[bob]: CatalogueError" in " ".join(call("status").out.split())

    def test_status_of_a_new_deployment(self, fresh: Database) -> None:
        """Without an entity it says how to begin."""
        assert fresh.url
        assert "anomaly-assets ingest FILES" in " ".join(call("status").out.split())
        assert call("status", "--json").document == {
            "complete_until": None,
            "entities": [],
            "failures": {},
        }

    def test_watch_once(self, processed: Database) -> None:
        """One look shows the last three hours of each entity, as its table has them."""
        document = call("watch", "--json").document
        assert datetime.fromisoformat(document["until"]) == END
        (scores,) = document["entities"].values()
        stored = query(
            processed,
            "SELECT anomaly_score FROM anomaly_scores WHERE method = 'ensemble' "
            "ORDER BY timestamp DESC LIMIT 36",
        )
        assert scores == [score for (score,) in reversed(stored)]
        shown = call("watch", "--once", "--entity", "ann")
        assert shown.code == 0
        assert "ann" in shown.out

    def test_watch_of_a_new_deployment(self, fresh: Database) -> None:
        """Without a score there is nothing to see, and that is said."""
        assert fresh.url
        assert call("watch", "--json").document["until"] is None
        assert "no window has a final score yet" in call("watch", "--once").out

    def test_watch_of_a_stranger(self, processed: Database) -> None:
        """An entity that is not there is an error that names those that are."""
        assert processed.name
        answer = call("watch", "--entity", "nobody")
        assert answer.code == 1
        assert "known entities: ann" in " ".join(answer.err.split())

    def test_anomalies(self, processed: Database) -> None:
        """The highest scores come first; filters hold."""
        everything = call("anomalies", "--min-score", 0, "--limit", 1000, "--json").document
        scores = [one["score"] for one in everything]
        assert scores == sorted(scores, reverse=True)
        ((known,),) = query(
            processed,
            "SELECT count(*) FROM anomaly_scores WHERE method = 'ensemble' AND anomaly_score > 0",
        )
        assert known > len(scores) > 100
        explained = [one for one in everything if one["anomaly_id"] is not None]
        assert len({one["anomaly_id"] for one in explained}) == len(explained) > 0
        few = call(
            "anomalies", "--entity", "ann", "--from", MORNING.isoformat(), "--to", END.date(),
            "--min-score", 0, "--limit", 3, "--json",
        ).document  # fmt: skip
        assert len(few) == 3
        assert all(MORNING <= datetime.fromisoformat(one["window"]) < END for one in few)
        shown = call("anomalies", "--min-score", 0, "--limit", 1)
        top = everything[0]
        which = top["anomaly_id"] or f"--entity ann --at {top['window'][:16]}"
        assert f"more: anomaly-assets explain {which}" in " ".join(shown.out.split())
        assert "no window scores above 1" in call("anomalies", "--min-score", 1).out

    def test_explain_by_identifier(self, processed: Database) -> None:
        """A stored explanation is found by its identifier, for people and for programs."""
        (found,) = query(
            processed,
            "SELECT anomaly_id::text, summary, primary_cause FROM causal_explanations "
            "ORDER BY timestamp LIMIT 1",
        )
        record = call("explain", found[0], "--json").document
        assert (record["anomaly_id"], record["summary"]) == found[:2]
        shown = call("explain", found[0])
        assert shown.code == 0
        assert found[2] in " ".join(shown.out.split())

    def test_explain_draws_a_figure(self, processed: Database, tmp_path: Path) -> None:
        """A stored explanation and any window are drawn; other files are refused, in one line."""
        ((identifier,),) = query(
            processed, "SELECT anomaly_id::text FROM causal_explanations LIMIT 1"
        )
        stored, forced = tmp_path / "stored.png", tmp_path / "forced.SVG"
        assert call("explain", identifier, "--plot", stored).code == 0
        assert stored.read_bytes().startswith(b"\x89PNG")
        at = (START + timedelta(hours=12)).isoformat()
        assert call("explain", "--entity", "ann", "--at", at, "--plot", forced).code == 0
        assert "<svg" in forced.read_text()
        assert ".pdf, .png, .svg" in refused("explain", identifier, "--plot", tmp_path / "a.gif")
        nowhere = tmp_path / "nowhere" / "a.png"
        assert "cannot write the figure" in refused("explain", identifier, "--plot", nowhere)

    def test_explain_by_window(self, processed: Database) -> None:
        """Any processed window can be explained, thoroughly or fast, anomalous or not."""
        assert processed.url
        at = (START + timedelta(hours=12, minutes=3)).isoformat()
        for mode in ("fast", "thorough"):
            record = call("explain", "--entity", "ann", "--at", at, "--mode", mode, "--json")
            assert record.document["entity_id"] == "ann"
            assert record.document["mode"] == mode
            assert record.document["window_start"] == (START + timedelta(hours=12)).isoformat()
        shown = call("explain", "--entity", "ann", "--at", at)
        assert shown.out.startswith("ann, ")
        assert "Cause:" in shown.out

    def test_what_is_unknown_is_refused_in_one_line(self, processed: Database) -> None:
        """Unknown identifiers, entities, windows and dates are named, with what to do instead."""
        assert processed.url
        unknown = str(uuid4())
        assert unknown in refused("explain", unknown)
        assert "see anomaly-assets anomalies" in refused("explain", "[/nonsense]")
        assert "known entities: ann" in refused("explain", "--entity", "eve", "--at", START.date())
        assert "known entities: ann" in refused("anomalies", "--entity", "eve")
        assert "--entity and --at" in refused("explain")
        assert "--entity and --at" in refused("explain", "--entity", "ann")
        assert "has not been processed" in refused(
            "explain", "--entity", "ann", "--at", END.isoformat()
        )
        for options in (
            ("anomalies", "--from", "31.01.2026"),
            ("anomalies", "--to", "2026-02-30"),
            ("explain", "--entity", "ann", "--at", "noon"),
            ("backfill", "--from", "2026-13-01"),
            ("backfill", "--to", "later"),
            ("replay", "--from", "then"),
        ):
            assert f"{options[-1]!r} is no date or time; write for example" in refused(*options)


class TestTroubles:
    """What is wrong with the deployment itself is one line, too."""

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("postgresql://nobody@127.0.0.1:9/none", "is DATABASE_URL right?"),
            ("mysql://somewhere/db", "only PostgreSQL is supported"),
            ("no url", "is not a URL"),
        ],
    )
    def test_an_unusable_database(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, said: str
    ) -> None:
        """A database that is down or no PostgreSQL is named as the reason."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("ANOMALY_ASSETS_HOME", str(tmp_path))
        monkeypatch.setenv("DATABASE_URL", url)
        settings.cache_clear()
        try:
            outcome = call("status")
        finally:
            settings.cache_clear()
        assert (outcome.code, outcome.out) == (1, "")
        assert outcome.err.startswith("error: ")
        assert said in outcome.err
        assert "Traceback" not in outcome.err

    def test_unusable_settings(self, tmp_path: Path) -> None:
        """A setting of the wrong kind is named, with what it was, from the very first import on."""
        result = subprocess.run(
            [sys.executable, "-m", "anomaly_assets", "status"],
            env={**os.environ, "ANOMALY_ASSETS_PORT": "abc"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith("error: unusable settings:")
        assert "ANOMALY_ASSETS_PORT" in result.stderr
        assert "'abc'" in result.stderr
        assert "Traceback" not in result.stderr

    def test_wrong_usage_is_code_two(self) -> None:
        """An option that does not exist or is out of range is the shell's usual code 2."""
        assert call("status", "--no-such-option").code == 2
        assert call("anomalies", "--min-score", 2).code == 2
        assert call("anomalies", "--limit", 0).code == 2
