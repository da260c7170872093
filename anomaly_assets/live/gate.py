"""Rows of many entities through the gate that files go through, each by its entity's catalogue."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from anomaly_assets.errors import AnomalyAssetsError
from anomaly_assets.ingestion.files import Chunk, Layout, MalformedRow
from anomaly_assets.ingestion.validate import Gate, Rejected, check
from anomaly_assets.live.readings import (
    DUPLICATE,
    ENTITY_UNAVAILABLE,
    LiveReading,
    MalformedReading,
    RawReading,
    Row,
    RowResult,
)
from anomaly_assets.storage.entities import find_entity
from anomaly_assets.streams.aggregation import Readings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Connection
    from anomaly_assets.streams.catalogue import Catalogue
    from anomaly_assets.streams.windows import BoolArray, IntArray

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAYOUT = Layout(RawReading._fields, "entity_id", "timestamp", index=False, streams=())
_CATALOGUE_SECONDS = 30.0
_MOST_ENTITIES = 20_000


@dataclass(frozen=True)
class Passed:
    """Readings of entities with one catalogue that may be stored, each only once.

    Parameters
    ----------
    catalogue
        Names the streams.
    entities, entity
        The entities that occur, and the position of each reading's among them.
    readings
        What is to be stored.
    rows
        Position of each in the rows that were checked.
    """

    catalogue: Catalogue
    entities: tuple[str, ...]
    entity: IntArray
    readings: Readings
    rows: IntArray

    def at(self, position: int) -> datetime:
        """Return the event time of one of the readings."""
        return _EPOCH + timedelta(microseconds=int(self.readings.microseconds[position]))

    def live(self, position: int) -> LiveReading:
        """Return one of the readings."""
        entity_id = self.entities[int(self.entity[position])]
        stream = self.catalogue.stream_ids[int(self.readings.stream[position])]
        value = float(self.readings.value[position])
        return LiveReading(entity_id, stream, self.at(position), value)


@dataclass(frozen=True)
class CheckedRows:
    """What the gate says of rows.

    Parameters
    ----------
    passed
        What may be stored, or None.
    results
        Results that stand already: of refused rows, and of repetitions; by position.
    rejected
        What is to be recorded of the refused ones; its ``row_number`` is the position.
    """

    passed: Passed | None
    results: dict[int, RowResult]
    rejected: list[Rejected]


class Catalogues:
    """The catalogue of each entity, remembered for half a minute.

    Parameters
    ----------
    deployment
        Whose entities.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._known: dict[str, tuple[float, Catalogue]] = {}
        #: Since when readings are kept, of those entities of whom retention has dropped some.
        self._raw_from: dict[str, datetime] = {}

    def of(self, connection: Connection, entity_id: str) -> Catalogue:
        """Return an entity's catalogue; of one not heard of yet, the deployment's default.

        Raises
        ------
        CatalogueError
            If it cannot be loaded.
        """
        now = time.monotonic()
        since, catalogue = self._known.get(entity_id, (0.0, None))
        if catalogue is not None and now - since < _CATALOGUE_SECONDS:
            return catalogue
        entity = find_entity(connection, entity_id)
        catalogue = self._deployment.catalogue(None if entity is None else entity.catalogue)
        if entity is not None:
            if len(self._known) >= _MOST_ENTITIES:
                self.forget()
            self._known[entity_id] = (now, catalogue)
            if entity.raw_from is not None:
                self._raw_from[entity_id] = entity.raw_from
        return catalogue

    def knows(self, entity_id: str) -> bool:
        """Whether an entity was found in the database a moment ago."""
        return entity_id in self._known

    def raw_from(self, entity_ids: Iterable[str]) -> dict[str, datetime]:
        """Return since when readings of entities that were looked up are kept, where some went."""
        known = self._raw_from
        return {one: known[one] for one in set(entity_ids) if one in known} if known else {}

    def forget(self) -> None:
        """Look every entity up again."""
        self._known.clear()
        self._raw_from.clear()

    def default(self) -> Catalogue:
        """Return the deployment's default catalogue."""
        return self._deployment.catalogue(None)


def by_entity(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Return the positions of each entity's rows; those of no usable entity under ``""``."""
    found: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        name = "" if isinstance(row, MalformedReading) else usable_entity(row.entity_id)
        found.setdefault(name, []).append(position)
    return found


def usable_entity(text: str) -> str:
    r"""Return an entity's identifier as it is stored; empty if it cannot be one.

    Examples
    --------
    >>> usable_entity(" ann "), usable_entity("a\x00b"), usable_entity("x" * 201)
    ('ann', 'a�b', '')
    """
    name = text.replace("\x00", "\N{REPLACEMENT CHARACTER}").strip()
    return name if 0 < len(name) <= 200 and name.isprintable() else ""


def check_rows(  # noqa: PLR0913 - the rows, and what is known of those who sent them
    rows: Sequence[Row],
    positions: Sequence[int],
    names: Sequence[str],
    catalogue: Catalogue,
    *,
    future_tolerance: timedelta,
    raw_from: Mapping[str, datetime] | None = None,
) -> CheckedRows:
    """Check rows of entities with one catalogue, by the rules for files.

    Parameters
    ----------
    rows, positions
        All rows, and which of them are checked.
    names
        Entity of each of those; empty for one that names none, which is refused.
    catalogue
        Their catalogue.
    future_tolerance
        Clock skew accepted.
    raw_from
        By entity, since when its readings are kept, where older ones were dropped.
    """
    readings = {p: n for p, n in zip(positions, names, strict=True) if type(rows[p]) is RawReading}
    malformed = tuple(
        MalformedRow(p, row.text, row.detail)
        for p in positions
        if isinstance(row := rows[p], MalformedReading)
    )
    gate = Gate(catalogue, datetime.now(tz=UTC), future_tolerance, raw_from=raw_from or {})
    numbers = np.array(list(readings), dtype=np.int64)
    cells = _cells([rows[p] for p in readings], list(readings.values()))
    accepted, rejected = check(Chunk(cells, numbers, malformed, len(rows)), _LAYOUT, gate)
    results = {
        one.row_number: RowResult(accepted=False, reason=str(one.reason), detail=one.detail)
        for one in rejected
    }
    good = np.array([p for p in readings if p not in results], dtype=np.int64)
    if not len(good):
        return CheckedRows(None, results, rejected)
    first = _first_of_each(accepted.entity, accepted.stream, accepted.microseconds)
    results.update(dict.fromkeys(good[~first].tolist(), DUPLICATE))
    kept = Readings(accepted.stream[first], accepted.microseconds[first], accepted.value[first])
    # An entity all of whose rows were refused is not one of those that are written to.
    places, entity = np.unique(accepted.entity[first], return_inverse=True)
    entities = tuple(accepted.entities[place] for place in places.tolist())
    return CheckedRows(Passed(catalogue, entities, entity, kept, good[first]), results, rejected)


def unavailable(positions: Sequence[int], error: AnomalyAssetsError) -> CheckedRows:
    """Return the verdict on rows whose entity cannot be watched at the moment."""
    result = RowResult(accepted=False, reason=ENTITY_UNAVAILABLE, detail=type(error).__name__)
    return CheckedRows(None, dict.fromkeys(positions, result), [])


def renumbered(rejected: Sequence[Rejected], shift: int) -> list[Rejected]:
    """Return refusals with the numbers of their rows shifted."""
    return [replace(one, row_number=one.row_number + shift) for one in rejected]


def _cells(rows: Sequence[Row], names: Sequence[str]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(RawReading._fields)
    # What names no entity is kept as it was sent, to be recorded.
    columns[0] = tuple(name or sent for name, sent in zip(names, columns[0], strict=True))
    value = columns.pop()
    numbers = all(type(one) is float for one in value)
    cells = value if numbers else [_text(one) for one in value]
    kind = pa.float64() if numbers else pa.string()
    texts = [pa.array(column, type=pa.string()) for column in columns]
    return pa.RecordBatch.from_arrays(
        [*texts, pa.array(cells, type=kind)], names=list(RawReading._fields)
    )


def _text(value: float | str | None) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else value


def _first_of_each(entity: IntArray, stream: IntArray, microseconds: IntArray) -> BoolArray:
    order = np.lexsort((microseconds, stream, entity))
    again = np.ones(max(0, len(order) - 1), dtype=np.bool_)
    for column in (entity, stream, microseconds):
        again &= np.diff(column[order]) == 0
    first = np.ones(len(order), dtype=np.bool_)
    first[order[1:][again]] = False
    return first
