"""Rows into the journal, many at a time, in one transaction; used by one thread."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from anomaly_assets.errors import AnomalyAssetsError, CatalogueError
from anomaly_assets.ingestion.validate import Rejected
from anomaly_assets.live.gate import (
    Catalogues,
    CheckedRows,
    Passed,
    by_entity,
    check_rows,
    renumbered,
    unavailable,
)
from anomaly_assets.live.limits import NotStoredError
from anomaly_assets.live.readings import (
    ACCEPTED,
    DUPLICATE,
    LiveReading,
    RefusedReading,
    Row,
    RowResult,
)
from anomaly_assets.storage import bulk
from anomaly_assets.storage.entities import ensure_entity
from anomaly_assets.storage.handover import handovers, notify
from anomaly_assets.storage.identifiers import RejectionReason
from anomaly_assets.storage.journal import append_of_many
from anomaly_assets.storage.rejections import record_rejections

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.database import Connection
    from anomaly_assets.streams.catalogue import Catalogue
    from anomaly_assets.streams.windows import BoolArray

logger = logging.getLogger(__name__)

#: So that a cut cable, a stopped server or a lock held for long is noticed in seconds, and that an
#: answer means the disk has it, whatever the role's defaults are.
_CONNECTION = {
    "connect_timeout": "3",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "application_name": "anomaly_assets_live",
    "options": "-c TimeZone=UTC -c statement_timeout=20s -c lock_timeout=5s "
    "-c synchronous_commit=on",
}
_SILENT = (RejectionReason.FUTURE_TIME, RejectionReason.PAST_RETENTION)
_AWAY_SECONDS = 0.5
_FULL_SECONDS = 30.0
_OURS = sql.SQL(
    "SELECT e.place::int4 AS place, r.event_time AS at, n.code::int4 AS code FROM readings AS r "
    "JOIN unnest(%(entities)s::text[]) WITH ORDINALITY AS e (name, place) ON e.name = r.entity_id "
    "JOIN unnest(%(names)s::text[]) WITH ORDINALITY AS n (name, code) ON n.name = r.stream_id "
    "WHERE r.entity_id = ANY(%(entities)s) AND r.event_time = ANY(%(times)b) "
    "AND r.received_at = %(received_at)s"
)


@dataclass(frozen=True)
class Span:
    """Where the rows of one batch are among those of several.

    Parameters
    ----------
    start, end
        Position of its first row, and behind its last one.
    first_row
        Number under which a sender knows the first one.
    """

    start: int
    end: int
    first_row: int = 1


@dataclass
class Committed:
    """What became of rows.

    Parameters
    ----------
    results
        By position; a row in neither this nor `failed` does not exist.
    fresh
        New readings by position.
    refused
        Refused readings whose window and stream are known, by position.
    failed
        Rows that could not be stored, and why.
    handed_over
        Number of new readings that another instance scores, and has been told of.
    """

    results: dict[int, RowResult] = field(default_factory=dict)
    fresh: dict[int, LiveReading] = field(default_factory=dict)
    refused: dict[int, RefusedReading] = field(default_factory=dict)
    failed: dict[int, NotStoredError] = field(default_factory=dict)
    handed_over: int = 0

    def add(self, other: Committed) -> None:
        """Take over what became of further rows."""
        self.results.update(other.results)
        self.fresh.update(other.fresh)
        self.refused.update(other.refused)
        self.failed.update(other.failed)
        self.handed_over += other.handed_over


class Committer:
    """Stores rows of many entities; one entity's fault leaves the others alone.

    Parameters
    ----------
    deployment
        Settings, database and catalogues.
    owns
        Whether this instance scores an entity; others are told of the readings of all the rest.
        None: nobody is told of anything.
    """

    def __init__(self, deployment: Deployment, owns: Callable[[str], bool] | None = None) -> None:
        self._deployment = deployment
        self._owns = owns
        self._catalogues = Catalogues(deployment)
        self._connection: Connection | None = None
        #: Months whose partitions are known to be there.
        self._months: set[datetime] = set()
        self._away_until = 0.0
        self._last_received = datetime.now(tz=UTC)

    def require_reachable(self) -> None:
        """Refuse at once while the database was found away a moment ago.

        Raises
        ------
        NotStoredError
            If it was.
        """
        if time.monotonic() < self._away_until:
            raise _away()

    def abort(self) -> None:
        """Break the connection off, from another thread: whatever waits for it fails then."""
        connection = self._connection
        if connection is None or connection.closed:
            return
        # Closing it here would leave the other thread waiting for a descriptor that is gone.
        with (
            suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(connection.fileno())) as s,
        ):
            s.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def store(self, rows: Sequence[Row], spans: Sequence[Span], source: str) -> Committed:
        """Store rows durably.

        Parameters
        ----------
        rows
            Rows of several batches, one after the other.
        spans
            Where each batch is among them.
        source
            Where they come from.

        Raises
        ------
        NotStoredError
            If the database is away or full; nothing is stored then.
        """
        parts = by_entity(rows)
        try:
            return self._attempt(rows, parts, spans, source)
        except NotStoredError:
            raise
        except Exception as error:
            self._catalogues.forget()
            self._months.clear()
            if len(parts) == 1:
                raise _busy(error) from error
            logger.warning("%d entities are stored one by one now: %s", len(parts), error)
        whole = Committed()
        for entity_id, positions in parts.items():
            try:
                whole.add(self._attempt(rows, {entity_id: positions}, spans, source))
            except NotStoredError as error:
                whole.failed.update(dict.fromkeys(positions, error))
            except Exception as error:  # noqa: BLE001 - whatever it is, the other entities go on
                whole.failed.update(dict.fromkeys(positions, _busy(error)))
        return whole

    def _attempt(
        self,
        rows: Sequence[Row],
        parts: Mapping[str, list[int]],
        spans: Sequence[Span],
        source: str,
    ) -> Committed:
        received_at = self._moment()
        again = self._connection is not None
        while True:
            connection = self._connected()
            try:
                return self._commit(connection, rows, parts, spans, source, received_at)
            except psycopg.errors.DiskFull as error:
                logger.error("the database has no space left: %s", error)  # noqa: TRY400
                msg = "the database has no space left"
                raise NotStoredError(msg, _FULL_SECONDS) from error
            except psycopg.Error as error:
                if not connection.closed:
                    raise
                self.close()
                # A connection that had been idle may just have been old.
                if not again:
                    self._away_until = time.monotonic() + _AWAY_SECONDS
                    raise _away() from error
                again = False
            except AnomalyAssetsError:
                raise
            except BaseException:
                # In what state the connection is now is anybody's guess.
                self.close()
                raise

    def _connected(self) -> Connection:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        self.require_reachable()
        try:
            self._connection = psycopg.connect(
                make_conninfo(self._deployment.database.url, **_CONNECTION), autocommit=True
            )
        except psycopg.OperationalError as error:
            self._away_until = time.monotonic() + _AWAY_SECONDS
            logger.warning("no connection to %r: %s", self._deployment.database, error)
            raise _away() from error
        return self._connection

    def _moment(self) -> datetime:
        """Return the time, later than any before: it tells our rows from all others."""
        now = max(datetime.now(tz=UTC), self._last_received + timedelta(microseconds=1))
        self._last_received = now
        return now

    def _commit(  # noqa: PLR0913, PLR0917 - all that is known of a group
        self,
        connection: Connection,
        rows: Sequence[Row],
        parts: Mapping[str, list[int]],
        spans: Sequence[Span],
        source: str,
        received_at: datetime,
    ) -> Committed:
        done = Committed()
        rejected: list[Rejected] = []
        verdicts = self._checked(connection, rows, parts)
        owns = self._owns
        foreign = {name for name in parts if name and owns is not None and not owns(name)}
        # One statement is a transaction by itself, at a third of the waiting.
        alone = len(verdicts) == 1 and not verdicts[0].rejected and not foreign
        with nullcontext() if alone else connection.transaction():
            for verdict in verdicts:
                done.results.update(verdict.results)
                rejected += verdict.rejected
                done.refused.update(_telling(verdict.rejected))
                if verdict.passed is not None:
                    new = self._append(connection, verdict.passed, source, received_at)
                    _note(done, verdict.passed, new)
            _record(connection, rejected, spans, source)
            if foreign:
                _hand_over(connection, done, foreign, received_at)
        return done

    def _checked(
        self, connection: Connection, rows: Sequence[Row], parts: Mapping[str, list[int]]
    ) -> list[CheckedRows]:
        """Check rows, those of entities with one catalogue together."""
        verdicts: list[CheckedRows] = []
        groups: dict[str, tuple[Catalogue, dict[int, str]]] = {}
        for name in sorted(parts):
            try:
                catalogue = (
                    self._catalogues.of(connection, name) if name else self._catalogues.default()
                )
            except CatalogueError as error:
                logger.warning("readings of entity %r are refused: %s", name, error)
                verdicts.append(unavailable(parts[name], error))
                continue
            _, names = groups.setdefault(catalogue.digest, (catalogue, {}))
            names.update(dict.fromkeys(parts[name], name))
        tolerance = self._deployment.settings.future_tolerance
        for catalogue, names in groups.values():
            positions = sorted(names)
            whose = [names[position] for position in positions]
            verdicts.append(
                check_rows(
                    rows,
                    positions,
                    whose,
                    catalogue,
                    future_tolerance=tolerance,
                    raw_from=self._catalogues.raw_from(whose),
                )
            )
        return verdicts

    def _append(
        self, connection: Connection, passed: Passed, source: str, received_at: datetime
    ) -> BoolArray:
        """Append readings of entities with one catalogue, and return which of them are new."""
        readings = passed.readings
        for name in passed.entities:
            if not self._catalogues.knows(name):
                ensure_entity(connection, name)
        report = append_of_many(
            connection,
            passed.entities,
            passed.entity,
            readings,
            passed.catalogue,
            source=source,
            late_horizon=self._deployment.settings.late_horizon,
            received_at=received_at,
            months=self._months,
        )
        if not report.duplicate:
            return np.ones(len(readings.stream), dtype=np.bool_)
        ours = bulk.fetch_columns(
            connection,
            _OURS,
            {
                "names": list(passed.catalogue.stream_ids),
                "entities": list(passed.entities),
                "times": bulk.TimestampArray(np.unique(readings.microseconds)),
                "received_at": received_at,
            },
            {"place": "i4", "at": "time", "code": "i4"},
        )
        stored = zip(
            (ours["place"] - 1).tolist(),
            (ours["code"] - 1).tolist(),
            ours["at"].tolist(),
            strict=True,
        )
        new = set(stored)
        mine = zip(
            passed.entity.tolist(),
            readings.stream.tolist(),
            readings.microseconds.tolist(),
            strict=True,
        )
        return np.array([one in new for one in mine], dtype=np.bool_)


def _note(done: Committed, passed: Passed, new: BoolArray) -> None:
    for position, (row, is_new) in enumerate(zip(passed.rows.tolist(), new.tolist(), strict=True)):
        if is_new:
            done.results[row] = ACCEPTED
            done.fresh[row] = passed.live(position)
        else:
            done.results[row] = DUPLICATE


def _hand_over(
    connection: Connection, done: Committed, foreign: set[str], received_at: datetime
) -> None:
    """Tell those who score other entities, as part of the transaction that stores the readings."""
    stored: dict[str, list[datetime]] = {}
    refused: dict[str, list[datetime]] = {}
    for found, readings in ((stored, done.fresh.values()), (refused, done.refused.values())):
        for reading in readings:
            if reading.entity_id in foreign:
                found.setdefault(reading.entity_id, []).append(reading.at)
    done.handed_over = sum(map(len, stored.values()))
    notify(connection, handovers(received_at, stored, refused))


def _telling(rejected: Sequence[Rejected]) -> dict[int, RefusedReading]:
    """Return by position what aggregation, too, knows of refused readings."""
    return {
        one.row_number: RefusedReading(
            one.entity_id,
            one.stream_id,
            datetime.fromtimestamp(0, tz=UTC) + timedelta(microseconds=one.microseconds),
        )
        for one in rejected
        # A wrong clock says nothing about the window it names, and what is past retention is of a
        # window that is not computed again.
        if one.microseconds is not None and one.reason not in _SILENT
    }


def _record(
    connection: Connection, rejected: Sequence[Rejected], spans: Sequence[Span], source: str
) -> None:
    if not rejected:
        return
    for span in spans:
        own = [one for one in rejected if span.start <= one.row_number < span.end]
        if own:
            own = renumbered(own, span.first_row - span.start)
            # Named by their content, so that a sender who repeats them adds nothing.
            digest = hashlib.sha256(repr(own).encode()).hexdigest()
            record_rejections(
                connection, Rejected.columns(own), source=source, source_digest=digest
            )


def _away() -> NotStoredError:
    return NotStoredError("the database cannot be reached; nothing was stored", 1.0)


def _busy(error: Exception) -> NotStoredError:
    if isinstance(error, NotStoredError):
        return error
    logger.error("readings could not be stored", exc_info=error)
    return NotStoredError("the database could not store these readings now", 2.0)
