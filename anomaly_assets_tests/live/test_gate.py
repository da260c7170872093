"""Rows that come live are judged as the rows of a file are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv as arrow_csv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomaly_assets.ingestion.files import chunks, layout_of
from anomaly_assets.ingestion.validate import Gate, check
from anomaly_assets.live.gate import by_entity, check_rows
from anomaly_assets.live.readings import RawReading, Row
from anomaly_assets.streams.loading import load_catalogue

if TYPE_CHECKING:
    from pathlib import Path

CATALOGUE = load_catalogue("default")
TOLERANCE = timedelta(minutes=5)
# Without line ends and quotes, which mean something in a file only.
TEXT = st.text(
    st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"], blacklist_characters='",'),
    max_size=12,
)
FLOATS = st.floats() | st.floats(40, 120)
NUMBERS = st.sampled_from(["", "x", "1e3", " 72", "nan", "Inf", "0x10", "1_000"]) | FLOATS.map(repr)
TIMES = (
    st.sampled_from(
        ["2026-01-31T08:00:00Z", "2026-01-31 08:00", "1999-01-01", "2999-01-01T00:00Z", "soon", ""]
    )
    | st.datetimes(datetime(2001, 1, 1), datetime(2026, 1, 1)).map(datetime.isoformat)  # noqa: DTZ001
)
STREAMS = st.sampled_from(["heart_rate", "no_such", *CATALOGUE.stream_ids[:3]]) | TEXT
ENTITIES = st.sampled_from(["ann", "bob", " ann ", ""]) | TEXT


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.tuples(ENTITIES, STREAMS, TIMES, NUMBERS), min_size=1, max_size=12))
def test_rows_are_judged_as_those_of_a_file(
    rows: list[tuple[str, str, str, str]], tmp_path: Path
) -> None:
    """The same rows in a CSV file are refused for the same reasons and read as the same numbers."""
    path = tmp_path / "rows.csv"
    names = ["entity_id", "stream_id", "timestamp", "value"]
    table = pa.table({n: [row[i] for row in rows] for i, n in enumerate(names)})
    arrow_csv.write_csv(table, path)
    layout = layout_of(path)
    (chunk,) = chunks(path, layout)
    stored, refused = check(chunk, layout, Gate(CATALOGUE, datetime.now(tz=UTC), TOLERANCE))
    live: list[Row] = [RawReading(*row) for row in rows]
    reasons: dict[int, str | None] = {}
    kept = set()
    whose = {p: entity for entity, positions in by_entity(live).items() for p in positions}
    positions = sorted(whose)
    names = [whose[position] for position in positions]
    verdict = check_rows(live, positions, names, CATALOGUE, future_tolerance=TOLERANCE)
    reasons |= {p: result.reason for p, result in verdict.results.items() if result.reason}
    if (passed := verdict.passed) is not None:
        entities = [passed.entities[place] for place in passed.entity.tolist()]
        readings = passed.readings
        columns = (readings.stream, readings.microseconds, readings.value)
        kept |= set(zip(entities, *(c.tolist() for c in columns), strict=True))
    assert reasons == {one.row_number - 2: str(one.reason) for one in refused}
    columns = (stored.stream, stored.microseconds, stored.value)
    whole = list(zip(stored.entity.tolist(), *(c.tolist() for c in columns), strict=True))
    first: dict[tuple[str, int, int], float] = {}
    for entity_position, stream, at, value in whole:
        first.setdefault((stored.entities[entity_position], stream, at), value)
    assert kept == {(*key, value) for key, value in first.items()}


@given(st.lists(FLOATS | st.none() | st.sampled_from(["x", "70", "true", ""]), max_size=8))
def test_verdict_on_a_row_does_not_depend_on_its_neighbours(
    values: list[float | str | None],
) -> None:
    """A row is judged alone as it is among others, be they numbers or texts."""
    live: list[Row] = [
        RawReading("ann", "heart_rate", f"2026-01-31T08:00:{i:02d}Z", value)
        for i, value in enumerate(values)
    ]
    everything = list(range(len(live)))
    names = ["ann"] * len(live)
    together = check_rows(live, everything, names, CATALOGUE, future_tolerance=TOLERANCE)
    for position in range(len(live)):
        alone = check_rows(live, [position], ["ann"], CATALOGUE, future_tolerance=TOLERANCE)
        assert alone.results.get(position) == together.results.get(position)
