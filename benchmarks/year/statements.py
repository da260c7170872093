"""What people and pages ask the tables and what ``COPY`` takes, timed, with PostgreSQL's plans.

An index earns its place by what a query reads without any: the pages of the plan that PostgreSQL
makes, beside those of the plan it makes when it may use none.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from rich.console import Console
from rich.table import Table

from anomaly_assets.storage import results
from anomaly_assets.storage.windows import stored_ranges
from anomaly_assets.streams.aggregation import MissingReason
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WindowRange
from benchmarks.year.readings import PERSON

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg

ROUNDS = 9
COPY_ROUNDS = 3
#: Whose rows the copied ones are, until they are deleted again.
COPIED = "copied"
QUERIES: Final = {
    "last_24_hours": (
        "SELECT timestamp, stream_id, value FROM time_series_data "
        "WHERE entity_id = %(entity)s AND timestamp >= %(day)s AND timestamp < %(end)s"
    ),
    "top_100_of_a_month": (
        "SELECT timestamp, stream_id, anomaly_score FROM anomaly_scores "
        "WHERE entity_id = %(entity)s AND method = 'ensemble' AND anomaly_score > 0.5 "
        "AND timestamp >= %(month)s AND timestamp < %(end)s "
        "ORDER BY anomaly_score DESC LIMIT 100"
    ),
    "one_stream_for_a_year": (
        "SELECT timestamp, value FROM time_series_data "
        "WHERE entity_id = %(entity)s AND stream_id = 'heart_rate' "
        "AND timestamp >= %(year)s AND timestamp < %(end)s ORDER BY timestamp"
    ),
}


def measure(connection: psycopg.Connection[Any]) -> dict[str, float | int | str]:
    """Return what the queries take and what a ``COPY`` does, and print it with the plans.

    Of each query: the median milliseconds with all its rows fetched; the plan; the pages (8 kB) it
    reads; and milliseconds and pages of the plan without any index, on the server alone.
    """
    row = connection.execute("SELECT max(aggregated_until) FROM entities").fetchone()
    end = cast("Any", row)[0]
    parameters = {
        "entity": PERSON,
        "end": end,
        "day": end - timedelta(days=1),
        "month": end - timedelta(days=30),
        "year": end - timedelta(days=366),
    }
    figures: dict[str, float | int | str] = {}
    connection.execute("ANALYZE")
    table = Table("query", "ms", "rows", "pages", "plan", "pages without", "ms without")
    for name, query in QUERIES.items():
        taken, rows = [], 0
        for _ in range(ROUNDS):
            began = time.perf_counter()
            rows = len(connection.execute(query, parameters).fetchall())
            taken.append((time.perf_counter() - began) * 1e3)
        plan, without = explained(connection, query, parameters)
        figures |= {
            f"{name}_ms": median(taken),
            f"{name}_rows": rows,
            f"{name}_plan": ", ".join(scans(plan)),
            f"{name}_pages": pages(plan),
            f"{name}_pages_without_index": pages(without),
            f"{name}_ms_without_index": without["Execution Time"],
        }
        table.add_row(
            name,
            f"{median(taken):,.1f}",
            *(f"{rows:,}", f"{pages(plan):,}", ", ".join(scans(plan))),
            *(f"{pages(without):,}", f"{without['Execution Time']:,.1f}"),
        )
    Console().print(table)
    # Last, since the rows that it deletes lie in the way of queries until they are swept away.
    return figures | copying(connection, end)


def copying(connection: psycopg.Connection[Any], end: datetime) -> dict[str, float | int | str]:
    """Return how many rows a second one ``COPY`` of a month's windows brings in, durably."""
    catalogue = load_catalogue("default")
    month = WindowRange.between(end - timedelta(days=30), end)
    windows = stored_ranges(connection, PERSON, month)[-1]
    block = replace(
        results.read_windows(connection, PERSON, windows, catalogue, catalogue.time_zone),
        entity_id=COPIED,
    )
    reasons = np.where(block.available, MissingReason.NONE, MissingReason.ABSENT).astype(np.int8)
    rows, taken = 0, []
    for _ in range(COPY_ROUNDS):
        began = time.perf_counter()
        rows = results.write_windows(connection, block, reasons, catalogue)
        taken.append(time.perf_counter() - began)
        connection.execute("DELETE FROM time_series_data WHERE entity_id = %s", (COPIED,))
    return {"copied_rows": rows, "copied_rows_per_second": rows / median(taken)}


def explained(
    connection: psycopg.Connection[Any], query: str, parameters: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what ``EXPLAIN`` says of a query as it is carried out, with and without indexes."""
    statement = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}"
    found = []
    for scan in ("on", "off"):
        with connection.transaction():
            for kind in ("indexscan", "indexonlyscan", "bitmapscan"):
                connection.execute(f"SET LOCAL enable_{kind} = {scan}")
            row = cast("Any", connection.execute(statement, parameters).fetchone())
        found.append((json.loads(row[0]) if isinstance(row[0], str) else row[0])[0])
    return found[0], found[1]


def pages(plan: dict[str, Any]) -> int:
    """Return how many pages a plan read, whether or not they were in memory."""
    top = plan["Plan"]
    return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])


def scans(plan: dict[str, Any]) -> list[str]:
    """Return how the tables are read: kind of scan and index, each once, partitions apart."""
    found: dict[str, int] = {}

    def walk(node: dict[str, Any]) -> None:
        if "Scan" in node["Node Type"]:
            index = str(node.get("Index Name", node.get("Relation Name", "")))
            kind = f"{node['Node Type']} on {re.sub('_?[0-9]+', '', index)}"
            found[kind] = found.get(kind, 0) + 1
        for child in node.get("Plans", ()):
            walk(child)

    walk(plan["Plan"])
    return [f"{kind} ({count} partitions)" for kind, count in found.items()]
