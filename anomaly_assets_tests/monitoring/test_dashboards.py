"""Grafana's dashboards: of its own types, every query executed against a deployment with data."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from psycopg import sql
from psycopg.conninfo import make_conninfo

from anomaly_assets.monitoring.families import FAMILIES
from anomaly_assets.storage.connect import dagster_database
from anomaly_assets.storage.database import Database
from anomaly_assets.storage.reader import make_reader
from anomaly_assets_tests.monitoring.grafana import (
    DEPLOY,
    Asked,
    boards,
    expand_promql,
    expand_sql,
    panels,
    queries,
)
from anomaly_assets_tests.monitoring.promtool import needs_promtool, promtool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets_tests.monitoring.seeded import Seeded

ASKED = list(queries())
SQL = [one for one in ASKED if one.source != "anomaly_assets_prometheus"]
PROMQL = [one for one in ASKED if one.source == "anomaly_assets_prometheus"]
ROLE = "reader_of_dashboards"
SECRET = "a password for the reader"  # noqa: S105 - of a role of this test
VARIABLES = {
    "entity": ["ann", "bob", "o'neill"],
    "threshold": ["0.7"],
    "live_url": ["http://127.0.0.1:8000"],
    "job": ["process_windows", "upkeep"],
}


@pytest.fixture(scope="module")
def readers(seeded: Seeded) -> Iterator[dict[str, psycopg.Connection[Any]]]:
    """Connect as the role that Grafana reads with, to both databases."""
    dagster = Database(seeded.environment["DAGSTER_POSTGRES_URL"])
    make_reader(seeded.database, dagster, SECRET, ROLE)
    made = {}
    for name, database in (
        ("anomaly_assets", seeded.database),
        ("anomaly_assets_dagster", dagster),
    ):
        address = make_conninfo(database.url.replace("+psycopg2", ""), user=ROLE, password=SECRET)
        made[name] = psycopg.connect(address, autocommit=True)
        made[name].execute("SET TimeZone = 'UTC'")
    yield made
    for connection in made.values():
        connection.close()
    with seeded.database.connect() as connection:
        _drop(connection)
    with dagster.connect() as connection:
        _drop(connection)
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(ROLE)))


def _drop(connection: psycopg.Connection[Any]) -> None:
    connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(ROLE)))


@pytest.fixture(scope="module")
def streams(seeded: Seeded) -> list[str]:
    """Return the names of all streams."""
    with seeded.database.connect() as connection:
        rows = connection.execute("SELECT DISTINCT stream_id FROM stream_health").fetchall()
    return [row[0] for row in rows]


@pytest.mark.parametrize("asked", SQL, ids=str)
def test_every_query_finds_something(
    asked: Asked,
    seeded: Seeded,
    streams: list[str],
    readers: dict[str, psycopg.Connection[Any]],
) -> None:
    """Each query runs as Grafana's role, and returns rows of the shape that its panel draws."""
    start, end = seeded.windows.start_time, seeded.windows.end_time
    later = end.replace(year=end.year + 1)
    text = expand_sql(asked.text, start, later, {**VARIABLES, "stream": streams})
    cursor = readers[asked.source].execute(text.encode())
    rows = cursor.fetchall()
    assert rows, "no rows"
    columns = {column.name: column.type_code for column in cursor.description or ()}
    numeric = {20, 21, 23, 700, 701, 1700}
    if asked.form == "time_series":
        assert columns["time"] in numeric | {1114, 1184}
        values = {name for name in columns if name not in {"time", "metric"}}
        assert values
        assert {columns[name] for name in values} <= numeric
        assert all(row[0] is not None for row in rows)
        times = [row[0] for row in rows]
        assert times == sorted(times), "Grafana wants a series in order"
        named = list(columns).index("metric")
        assert {row[named] for row in rows} != {None}
    elif asked.form == "variable":
        assert len(columns) == 1
    elif asked.form == "annotation":
        assert {"time", "text"} <= set(columns)
    else:
        assert any(value is not None for row in rows for value in row)
        assert len(set(columns)) == len(columns)


def test_single_numbers_are_single(seeded: Seeded, streams: list[str]) -> None:
    """A panel of one value asks for one row with one number."""
    seen = 0
    for board in boards().values():
        for panel in panels(board):
            if panel["type"] != "stat" or "rawSql" not in panel["targets"][0]:
                continue
            dagster = panel["datasource"]["uid"] == "anomaly_assets_dagster"
            database = dagster_database(seeded.database) if dagster else seeded.database
            text = expand_sql(
                panel["targets"][0]["rawSql"],
                seeded.windows.start_time,
                seeded.windows.end_time.replace(year=2100),
                {**VARIABLES, "stream": streams},
            )
            with database.connect() as connection:
                ((value,),) = connection.execute(text.encode()).fetchall()
            assert isinstance(float(value), float), panel["title"]
            seen += 1
    assert seen >= 10


def test_the_reader_reads_nothing_else(readers: dict[str, psycopg.Connection[Any]]) -> None:
    """Neither tokens nor readings nor snapshots nor events; and it cannot write."""
    ours, dagsters = readers["anomaly_assets"], readers["anomaly_assets_dagster"]
    for table in ("api_tokens", "webhooks", "model_snapshots", "idempotency_keys", "readings"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ours.execute(sql.SQL("SELECT 1 FROM {}").format(sql.Identifier(table)))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        dagsters.execute("SELECT event FROM event_logs")
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        ours.execute("DELETE FROM labels")
    ours.execute("SET default_transaction_read_only = off")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ours.execute("DELETE FROM labels")


@pytest.mark.parametrize("name", ["anomalies", "dagster", "streams", "system"])
def test_a_dashboard_is_of_grafanas_own_types(name: str) -> None:
    """Read by the types of Grafana's schema and written again it is the same."""
    register_default_plugins()
    board = boards()[name]
    known = json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder))
    for made in (known, board):
        for note in made["annotations"].get("list", ()):
            # Of the query of an annotation by SQL the types know nothing.
            note.pop("target", None)
    assert known == board


def test_dashboards_are_as_their_source_makes_them() -> None:
    """What is provisioned is what dashboards_source writes."""
    run = subprocess.run(
        [sys.executable, "-m", "dashboards_source", "--check"],
        cwd=DEPLOY / "grafana",
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("name", sorted(boards()))
def test_panels_have_their_place(name: str) -> None:
    """No two overlap, all fit into 24 columns, and each has a number and a title of its own."""
    board = boards()[name]
    taken: set[tuple[int, int]] = set()
    for panel in panels(board):
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    ids = [panel["id"] for panel in panels(board)]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in panels(board) if panel["type"] != "row"]
    assert len(set(titles)) == len(titles)


def test_every_source_is_provisioned() -> None:
    """What is asked is a source of the provisioning, in which no secret stands."""
    text = (DEPLOY / "grafana/provisioning/datasources/anomaly_assets.yml").read_text()
    sources = yaml.safe_load(text)["datasources"]
    assert {one.source for one in ASKED} == {source["uid"] for source in sources}
    for source in sources:
        for secret in source.get("secureJsonData", {}).values():
            assert secret.startswith("$__file{"), "a secret comes from a file"


def test_uids_are_stable() -> None:
    """Links lead to dashboards by these, and the dashboards link to each other by their tag."""
    found = boards()
    assert {board["uid"] for board in found.values()} == {f"anomaly-assets-{n}" for n in found}
    linked = set(re.findall(r"/d/([\w-]+)", json.dumps(found)))
    assert linked <= {board["uid"] for board in found.values()}


@pytest.mark.parametrize("asked", PROMQL, ids=str)
def test_metrics_of_expressions_exist(asked: Asked) -> None:
    """An expression asks for metrics that there are, by labels that they have."""
    check_expression(expand_promql(asked.text))


def check_expression(expression: str) -> None:
    known = {family.full_name: family for family in FAMILIES.values()}
    found = re.findall(r"\banomaly_assets_\w+", expression)
    assert found
    for name in found:
        bare = re.sub(r"_(bucket|count|sum)$", "", name)
        family = known.get(name) or known.get(bare)
        assert family is not None, name
        assert (name != bare) <= (name in known or family.kind == "histogram")
    labels = {label for name in found for label in _labels(name)} | {"le", "instance", "job"}
    for group in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {label.strip() for label in group.split(",")} <= labels
    for selector in re.findall(r"\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) <= labels


def _labels(name: str) -> tuple[str, ...]:
    known = {family.full_name: family for family in FAMILIES.values()}
    return known.get(name, known.get(re.sub(r"_(bucket|count|sum)$", "", name))).labels  # type: ignore[union-attr]


@needs_promtool
def test_expressions_are_promql(tmp_path: Path) -> None:
    """Prometheus's own parser takes each expression, as the rule of a recording."""
    rules = [
        {"record": f"panel:number:{number}", "expr": expand_promql(one.text)}
        for number, one in enumerate(PROMQL)
    ]
    assert len(rules) > 20
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(path))
