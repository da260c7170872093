"""Snapshots in the database: saved in the transaction of their results, found by window."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from anomaly_assets.errors import SnapshotRefusedError
from anomaly_assets.state.format import Detector, Provenance, Snapshot, seal, unseal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import psycopg

    from anomaly_assets.streams.catalogue import Catalogue

logger = logging.getLogger(__name__)


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
    """

    detector: Any
    as_of: int | None
    refused: tuple[str, ...] = ()


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
        fresh = self._build(catalogue)
        refused: list[str] = []
        before = window
        while (snapshot := self._newest(connection, entity_id, before)) is not None:
            provenance = snapshot.provenance
            expected = Provenance.of(
                fresh,
                entity_id=entity_id,
                component=self.component,
                as_of=provenance.as_of,
                catalogue_digest=catalogue.digest,
            )
            try:
                detector = unseal(snapshot, expected, self._key)
            except SnapshotRefusedError as error:
                logger.warning("%s; rebuilding by replay", error)
                refused.append(str(error))
                before = provenance.as_of - 1
            else:
                return Restored(detector, provenance.as_of, tuple(refused))
        return Restored(fresh, None, tuple(refused))

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
        for snapshot in self._newest_of_many(connection, list(catalogues), window):
            provenance = snapshot.provenance
            catalogue = catalogues[provenance.entity_id]
            expected = replace(
                self._provenance_of_fresh(catalogue),
                entity_id=provenance.entity_id,
                as_of=provenance.as_of,
            )
            with suppress(SnapshotRefusedError):
                detector = unseal(snapshot, expected, self._key)
                found[provenance.entity_id] = Restored(detector, provenance.as_of)
        return found

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
        self, connection: psycopg.Connection[Any], snapshot: Snapshot, *, created_by: str
    ) -> None:
        """Store a snapshot in the caller's transaction.

        Newer snapshots descend from results that this transaction replaces and are deleted; the
        previous one is deleted too unless it stands on a full hour.
        """
        provenance = snapshot.provenance
        moment = datetime.fromtimestamp(provenance.as_of, tz=UTC)
        connection.execute(
            "DELETE FROM model_snapshots WHERE entity_id = %s AND component = %s AND (as_of >= %s "
            "OR (as_of > %s AND extract(epoch FROM as_of)::bigint %% 3600 <> 0))",
            (provenance.entity_id, self.component, moment, moment - timedelta(hours=2)),
        )
        connection.execute(
            "INSERT INTO model_snapshots (entity_id, component, as_of, format_version, detector, "
            "catalogue_digest, code_version, river_version, numpy_version, sha256, signature, "
            "size, blob, created_by) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
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
    ) -> Iterator[Snapshot]:
        # In binary, or each blob would travel as text of twice its length.
        with connection.cursor(binary=True) as cursor:
            rows = cursor.execute(
                "SELECT o.entity_id, extract(epoch FROM s.as_of)::bigint, s.detector, "
                "s.catalogue_digest, s.code_version, s.river_version, s.numpy_version, "
                "s.format_version, s.sha256, s.signature, s.blob "
                "FROM unnest(%s::text[]) AS o (entity_id), LATERAL (SELECT * FROM model_snapshots "
                "WHERE entity_id = o.entity_id AND component = %s AND as_of <= %s "
                "ORDER BY as_of DESC LIMIT 1) AS s",
                (list(entities), self.component, datetime.fromtimestamp(at_most, tz=UTC)),
            )
            for entity_id, *known, sha256, signature, blob in rows:
                provenance = Provenance(entity_id, self.component, *known)
                yield Snapshot(provenance, sha256, signature, blob)

    def _newest(
        self, connection: psycopg.Connection[Any], entity_id: str, at_most: int
    ) -> Snapshot | None:
        row = connection.execute(
            "SELECT extract(epoch FROM as_of)::bigint, detector, catalogue_digest, code_version, "
            "river_version, numpy_version, format_version, sha256, signature, blob "
            "FROM model_snapshots WHERE entity_id = %s AND component = %s AND as_of <= %s "
            "ORDER BY as_of DESC LIMIT 1",
            (entity_id, self.component, datetime.fromtimestamp(at_most, tz=UTC)),
        ).fetchone()
        if row is None:
            return None
        provenance = Provenance(entity_id, self.component, *row[:7])
        return Snapshot(provenance, row[7], row[8], bytes(row[9]))
