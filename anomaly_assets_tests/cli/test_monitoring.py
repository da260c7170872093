"""``metrics``, ``reader`` and ``doctor`` as a shell calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql
from psycopg.conninfo import make_conninfo

from anomaly_assets.monitoring.families import DEPLOYMENT, ENTITIES, PREFIX
from anomaly_assets.storage.connect import dagster_database
from anomaly_assets_tests.cli.test_commands import call, deployed, refused
from anomaly_assets_tests.pipeline.people import execute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets.storage.database import Database

SECRET = "a password for the reader"  # noqa: S105 - of a role of these tests
ROLE = "reader_of_commands"


@pytest.fixture
def deployment(database: Database, tmp_path: Path) -> Iterator[Database]:
    """Return the database of a deployment that watches ann, made that of the settings."""
    execute(
        database,
        "INSERT INTO entities (entity_id, last_reading_at, aggregated_until) "
        "VALUES ('ann', now(), now())",
    )
    with deployed(database, tmp_path):
        yield database


@pytest.mark.usefixtures("deployment")
class TestMetrics:
    """``metrics``: Prometheus's text, printed or for the node exporter."""

    def test_they_are_printed(self) -> None:
        """All families of the deployment, those that name entities too unless they are left out."""
        wanted = {PREFIX + family.name for family in (*DEPLOYMENT, *ENTITIES)}
        text = call("metrics").out
        found = {family.name for family in text_string_to_metric_families(text)}
        assert wanted == found
        assert 'entity="ann"' in text
        assert 'entity="ann"' not in call("metrics", "--no-names").out

    def test_a_file_is_replaced_at_once(self, tmp_path: Path) -> None:
        """It holds everything, and no draft is left beside it."""
        path = tmp_path / "ours.prom"
        path.write_text("old")
        assert call("metrics", "--textfile", path).code == 0
        assert "anomaly_assets_entities 1.0" in path.read_text()
        assert [one.name for one in tmp_path.glob("ours*")] == ["ours.prom"]

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        """The file is named, and what to do."""
        told = refused("metrics", "--textfile", tmp_path / "none" / "ours.prom")
        assert "name a file in a folder of yours" in told


class TestReader:
    """``reader``: the role that Grafana reads with."""

    def test_it_may_log_in_and_read(self, deployment: Database, tmp_path: Path) -> None:
        """Once made it reads; a second call renews its password."""
        path = tmp_path / "password"
        path.write_text(SECRET + "\n")
        told = refused("reader", "--password-file", path, "--role", ROLE)
        assert "start `up` first" in told
        import dagster as dg  # noqa: PLC0415 - the instance makes its tables

        dg.DagsterInstance.get().dispose()
        try:
            for secret in (SECRET, SECRET + " again"):
                path.write_text(secret + "\n")
                outcome = call("reader", "--password-file", path, "--role", ROLE)
                assert outcome.code == 0, outcome
                assert secret not in outcome.out + outcome.err
                address = make_conninfo(deployment.url, user=ROLE, password=secret)
                with psycopg.connect(address) as connection:
                    rows = connection.execute("SELECT entity_id FROM entities").fetchall()
                assert rows == [("ann",)]
        finally:
            drop(deployment)

    def test_a_weak_or_missing_password_is_refused(
        self, deployment: Database, tmp_path: Path
    ) -> None:
        """Twelve characters at least, from a file that can be read."""
        path = tmp_path / "password"
        assert "cannot be read" in refused("reader", "--password-file", path)
        path.write_text("short")
        assert "at least 12" in refused("reader", "--password-file", path)
        path.write_text(SECRET)
        own = execute_scalar(deployment, "SELECT current_user")
        told = refused("reader", "--password-file", path, "--role", own)
        assert "can do more than read" in told


class TestDoctor:
    """``doctor``: findings for people and for programs, and an exit code."""

    def test_a_problem_is_exit_code_one(self, deployment: Database) -> None:
        """Nothing has run here yet: that is told, with what to do, and counted."""
        del deployment
        outcome = call("doctor")
        assert outcome.code == 1
        assert "problem  daemons: " in outcome.out
        assert "anomaly-assets up" in outcome.out
        document = call("doctor", "--json").document
        states = [finding["state"] for finding in document["findings"]]
        assert document["problems"] == states.count("problem") > 0
        assert document["warnings"] == states.count("warning")
        assert {finding["check"] for finding in document["findings"]} >= {"schema", "disk"}


def execute_scalar(database: Database, statement: str) -> str:
    """Return the only value of a query."""
    with database.connect() as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return str(row[0])


def drop(database: Database) -> None:
    """Remove the role of these tests, and its rights in both databases."""
    role = sql.Identifier(ROLE)
    for one in (dagster_database(database), database):
        with one.connect() as connection:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
    with database.connect() as connection:
        connection.execute(sql.SQL("DROP ROLE {}").format(role))
