"""Snapshots in the database: saved in the transaction of their results, found by window."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from anomaly_assets.errors import SnapshotRefusedError
from anomaly_assets.state.format import Detector, Provenance, Snapshot, seal, unseal
from anomaly_assets.storage.model_versions import archive_pinned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import psycopg

    from anomaly_assets.streams.catalogue import Catalogue

logger = logging.getLogger(__name__)

_LEARNT = "base_action, extract(epoch FROM learnt_from)::bigint, learnt_windows, learnt_values"
_COLUMNS = (
    "extract(epoch FROM as_of)::bigint, detector, catalogue_digest, code_version, river_version, "
    "numpy_version, format_version, sha256, signature, blob"
)


@dataclass(frozen=True)
class Learnt:
    """On which data a state was made.

    Parameters
    ----------
    since
        First window learnt, epoch seconds; None: none yet, or it is not known.
    windows, values
        How many windows it has learnt, and how many values observed in them; None: not known.
    """

    since: int | None = None
    windows: int | None = 0
    values: int | None = 0

    def plus(self, since: int, windows: int, values: int) -> Learnt:
        """Return what is learnt after further windows."""
        if self.windows is None or self.values is None:
            return self
        first = since if self.since is None else self.since
        return Learnt(first, self.windows + windows, self.values + values)


@dataclass(frozen=True)
class Restored:
    """State as it was found.

    Parameters
    ----------
    detector
        Ready to go on at `as_of`.
    as_of
        Epoch seconds; it has learnt every window before; None for fresh state.
    refused
        Why newer snapshots were not used, newest first.
    base_action
        The last recorded action that the state goes back to, if any.
    learnt
        On which data it was made.
    """

    detector: Any
    as_of: int | None
    refused: tuple[str, ...] = ()
    base_action: int | None = None
    learnt: Learnt = field(default_factory=Learnt)


class SnapshotStore:
    """The snapshots of one component (model asset).

    Parameters
    ----------
    component
        Name of the model asset.
    build
        Makes a fresh detector for a catalogue.
    key
        The deployment's signing key.
    """

    def __init__(self, component: str, build: Callable[[Catalogue], Detector], key: bytes) -> None:
        self.component = component
        self._build = build
        self._key = key
        self._fresh: dict[str, Provenance] = {}

    def head(self, connection: psycopg.Connection[Any], entity_id: str) -> int | None:
        """Return the newest ``as_of`` in epoch seconds, or None without any snapshot."""
        row = connection.execute(
            "SELECT max(as_of) FROM model_snapshots WHERE entity_id = %s AND component = %s",
            (entity_id, self.component),
        ).fetchone()
        return None if row is None or row[0] is None else int(row[0].timestamp())

    def restore(
        self,
        connection: psycopg.Connection[Any],
        entity_id: str,
        catalogue: Catalogue,
        window: int,
    ) -> Restored:
        """Return the newest usable state that has learnt nothing at or after `window`.

        A snapshot that fails verification is passed over in favour of an older one, down to fresh
        state: the windows between are replayed by the caller.
        """
        refused: list[str] = []
        before = window
        while (found := self._newest(connection, entity_id, before)) is not None:
            snapshot, base_action, learnt = found
            provenance = snapshot.provenance
            expected = self._expected(snapshot, entity_id, catalogue)
            try:
                detector = unseal(snapshot, expected, self._key)
            except SnapshotRefusedError as error:
                logger.warning("%s; rebuilding by replay", error)
                refused.append(str(error))
                before = provenance.as_of - 1
            else:
                return Restored(detector, provenance.as_of, tuple(refused), base_action, learnt)
        return Restored(self._build(catalogue), None, tuple(refused))

    def heads(self, connection: psycopg.Connection[Any], entities: Sequence[str]) -> dict[str, int]:
        """Return the newest ``as_of`` of each entity that has a snapshot."""
        rows = connection.execute(
            "SELECT entity_id, extract(epoch FROM max(as_of))::bigint FROM model_snapshots "
            "WHERE entity_id = ANY(%s) AND component = %s GROUP BY entity_id",
            (list(entities), self.component),
        ).fetchall()
        return dict(rows)

    def restore_many(
        self,
        connection: psycopg.Connection[Any],
        catalogues: Mapping[str, Catalogue],
        window: int,
    ) -> dict[str, Restored]:
        """Return the newest state before `window` of each entity whose newest snapshot is usable.

        The others are left out: they need :meth:`restore`, which looks further back.
        """
        found = {}
        for snapshot, base_action, learnt in self._newest_of_many(
            connection, list(catalogues), window
        ):
            entity_id, as_of = snapshot.provenance.entity_id, snapshot.provenance.as_of
            expected = self._expected(snapshot, entity_id, catalogues[entity_id])
            with suppress(SnapshotRefusedError):
                detector = unseal(snapshot, expected, self._key)
                found[entity_id] = Restored(detector, as_of, base_action=base_action, learnt=learnt)
        return found

    def open(
        self, connection: psycopg.Connection[Any], catalogue: Catalogue, version: int
    ) -> Restored:
        """Return the state of one version, of the present course or archived.

        Raises
        ------
        SnapshotRefusedError
            If there is none of that number, or it fails verification.
        """
        columns = f"entity_id, {_COLUMNS}, {_LEARNT}"
        row = connection.execute(
            f"SELECT {columns} FROM model_snapshots WHERE version = %(version)s UNION ALL "  # noqa: S608 - our own column names
            f"SELECT {columns} FROM model_archive WHERE version = %(version)s LIMIT 1",
            {"version": version},
        ).fetchone()
        if row is None:
            msg = f"version {version} of {self.component} is not there any more"
            raise SnapshotRefusedError(msg)
        snapshot = _snapshot(row[0], self.component, row[1:11])
        detector = unseal(snapshot, self._expected(snapshot, row[0], catalogue), self._key)
        as_of = snapshot.provenance.as_of
        return Restored(detector, as_of, base_action=row[11], learnt=Learnt(*row[12:15]))

    def _expected(self, snapshot: Snapshot, entity_id: str, catalogue: Catalogue) -> Provenance:
        fresh = self._provenance_of_fresh(catalogue)
        return replace(fresh, entity_id=entity_id, as_of=snapshot.provenance.as_of)

    def seal(
        self, detector: Detector, *, entity_id: str, catalogue: Catalogue, as_of: int
    ) -> Snapshot:
        """Return `detector` as it is now, sealed as the state as of a window."""
        provenance = Provenance.of(
            detector,
            entity_id=entity_id,
            component=self.component,
            as_of=as_of,
            catalogue_digest=catalogue.digest,
        )
        return seal(detector, provenance, self._key)

    def save(
        self,
        connection: psycopg.Connection[Any],
        snapshot: Snapshot,
        *,
        created_by: str,
        base_action: int | None = None,
        learnt: Learnt | None = None,
    ) -> None:
        """Store a snapshot in the caller's transaction.

        Newer snapshots descend from results that this transaction replaces and are deleted; the
        previous one is deleted too unless it stands on a full hour. Pinned ones are kept: in their
        place where it is not taken, else in the archive.
        """
        provenance = snapshot.provenance
        moment = datetime.fromtimestamp(provenance.as_of, tz=UTC)
        learnt = learnt or Learnt(None, None, None)
        whose = (provenance.entity_id, self.component)
        archive_pinned(connection, *whose, moment, but=snapshot.sha256)
        connection.execute(
            "DELETE FROM model_snapshots AS s WHERE entity_id = %s AND component = %s "
            "AND (as_of >= %s OR (as_of > %s AND extract(epoch FROM as_of)::bigint %% 3600 <> 0)) "
            "AND NOT EXISTS (SELECT FROM model_pins AS p WHERE p.entity_id = s.entity_id "
            "AND p.version = s.version)",
            (*whose, moment, moment - timedelta(hours=2)),
        )
        connection.execute(
            "INSERT INTO model_snapshots (entity_id, component, as_of, format_version, detector, "
            "catalogue_digest, code_version, river_version, numpy_version, sha256, signature, "
            "size, blob, created_by, base_action, learnt_from, learnt_windows, learnt_values) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, "
            "to_timestamp(%s), %s, %s) ON CONFLICT (entity_id, component, as_of) DO NOTHING",
            (
                provenance.entity_id,
                self.component,
                moment,
                provenance.format_version,
                provenance.detector,
                provenance.catalogue_digest,
                provenance.code_version,
                provenance.river_version,
                provenance.numpy_version,
                snapshot.sha256,
                snapshot.signature,
                len(snapshot.blob),
                snapshot.blob,
                created_by,
                base_action,
                learnt.since,
                learnt.windows,
                learnt.values,
            ),
        )

    def _provenance_of_fresh(self, catalogue: Catalogue) -> Provenance:
        if catalogue.digest not in self._fresh:
            self._fresh[catalogue.digest] = Provenance.of(
                self._build(catalogue),
                entity_id="",
                component=self.component,
                as_of=0,
                catalogue_digest=catalogue.digest,
            )
        return self._fresh[catalogue.digest]

    def _newest_of_many(
        self, connection: psycopg.Connection[Any], entities: Sequence[str], at_most: int
    ) -> Iterator[tuple[Snapshot, int | None, Learnt]]:
        # In binary, or each blob would travel as text of twice its length.
        with connection.cursor(binary=True) as cursor:
            rows = cursor.execute(
                f"SELECT o.entity_id, {_COLUMNS}, {_LEARNT} "  # noqa: S608 - our own column names
                "FROM unnest(%s::text[]) AS o (entity_id), LATERAL (SELECT * FROM model_snapshots "
                "AS m WHERE m.entity_id = o.entity_id AND component = %s AND as_of <= %s "
                "ORDER BY as_of DESC LIMIT 1) AS s",
                (list(entities), self.component, datetime.fromtimestamp(at_most, tz=UTC)),
            )
            for entity_id, *row in rows:
                snapshot = _snapshot(entity_id, self.component, row[:10])
                yield snapshot, row[10], Learnt(*row[11:14])

    def _newest(
        self, connection: psycopg.Connection[Any], entity_id: str, at_most: int
    ) -> tuple[Snapshot, int | None, Learnt] | None:
        # In binary, or the blob would travel as text of twice its length.
        with connection.cursor(binary=True) as cursor:
            row = cursor.execute(
                f"SELECT {_COLUMNS}, {_LEARNT} "  # noqa: S608 - our own column names
                "FROM model_snapshots WHERE entity_id = %s AND component = %s AND as_of <= %s "
                "ORDER BY as_of DESC LIMIT 1",
                (entity_id, self.component, datetime.fromtimestamp(at_most, tz=UTC)),
            ).fetchone()
        if row is None:
            return None
        return _snapshot(entity_id, self.component, row[:10]), row[10], Learnt(*row[11:14])


def _snapshot(entity_id: str, component: str, row: Sequence[Any]) -> Snapshot:
    provenance = Provenance(entity_id, component, *row[:7])
    return Snapshot(provenance, row[7], row[8], bytes(row[9]))
