"""What people and pages ask the tables, timed, with the plan that PostgreSQL makes."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.table import Table

from benchmarks.year.readings import PERSON

if TYPE_CHECKING:
    import psycopg

ROUNDS = 9
QUERIES = {
    "last_24_hours_ms": (
        "SELECT timestamp, stream_id, value FROM time_series_data "
        "WHERE entity_id = %(entity)s AND timestamp >= %(day)s AND timestamp < %(end)s"
    ),
    "top_100_of_a_month_ms": (
        "SELECT timestamp, stream_id, anomaly_score FROM anomaly_scores "
        "WHERE entity_id = %(entity)s AND method = 'ensemble' AND anomaly_score > 0.5 "
        "AND timestamp >= %(month)s AND timestamp < %(end)s "
        "ORDER BY anomaly_score DESC LIMIT 100"
    ),
    "one_stream_for_a_year_ms": (
        "SELECT timestamp, value FROM time_series_data "
        "WHERE entity_id = %(entity)s AND stream_id = 'heart_rate' "
        "AND timestamp >= %(year)s AND timestamp < %(end)s ORDER BY timestamp"
    ),
}


def measure(connection: psycopg.Connection[Any]) -> dict[str, float]:
    """Return the median milliseconds of each query, its rows fetched, and print its plan."""
    row = connection.execute("SELECT max(aggregated_until) FROM entities").fetchone()
    end = cast("Any", row)[0]
    parameters = {
        "entity": PERSON,
        "end": end,
        "day": end - timedelta(days=1),
        "month": end - timedelta(days=30),
        "year": end - timedelta(days=366),
    }
    connection.execute("ANALYZE")
    table = Table("query", "ms", "rows", "plan")
    figures = {}
    for name, query in QUERIES.items():
        taken, rows = [], 0
        for _ in range(ROUNDS):
            began = time.perf_counter()
            rows = len(connection.execute(query, parameters).fetchall())
            taken.append((time.perf_counter() - began) * 1e3)
        figures[name] = median(taken)
        plan = connection.execute(f"EXPLAIN (FORMAT JSON) {query}", parameters).fetchone()
        table.add_row(name, f"{figures[name]:,.1f}", f"{rows:,}", ", ".join(scans(plan)))
    Console().print(table)
    return figures


def scans(plan: Any) -> list[str]:  # noqa: ANN401 - PostgreSQL's JSON
    """Return how the tables are read: kind of scan and index, each once, partitions apart."""
    found: dict[str, int] = {}

    def walk(node: dict[str, Any]) -> None:
        if "Scan" in node["Node Type"]:
            index = str(node.get("Index Name", node.get("Relation Name", "")))
            kind = f"{node['Node Type']} on {index.strip('0123456789_')}"
            found[kind] = found.get(kind, 0) + 1
        for child in node.get("Plans", ()):
            walk(child)

    text = plan[0]
    walk((json.loads(text) if isinstance(text, str) else text)[0]["Plan"])
    return [f"{kind} ({count} partitions)" for kind, count in found.items()]
