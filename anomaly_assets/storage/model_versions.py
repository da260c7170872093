"""Versions of models: the snapshots of the present course, and those kept beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql
from psycopg.rows import class_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta

    from anomaly_assets.storage.database import Connection

_PROVENANCE = (
    "entity_id, version, component, as_of, format_version, detector, catalogue_digest, "
    "code_version, river_version, numpy_version, sha256, signature, size"
)
_MADE = "created_at, created_by, base_action, learnt_from, learnt_windows, learnt_values"
_ALL = f"{_PROVENANCE}, blob, {_MADE}"


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model, without the model itself.

    Parameters
    ----------
    version
        Its number; later ones are larger.
    entity_id, component, as_of
        Whose state of which model asset, before which window.
    created_at, created_by
        When it was made, by which run or person.
    learnt_from, learnt_windows, learnt_values
        What it has learnt: from which window on, how many windows, and how many values observed in
        them; None where it is not known.
    format_version, detector, catalogue_digest, code_version, river_version, numpy_version
        What it was made with.
    sha256, signature, size
        Digest, signature and length in bytes.
    base_action
        The action that its state goes back to, if any.
    pinned_at, pinned_by, pin_reason
        Who keeps it, and why.
    archived
        Whether it lies beside the present course.
    """

    version: int
    entity_id: str
    component: str
    as_of: datetime
    created_at: datetime
    created_by: str
    learnt_from: datetime | None
    learnt_windows: int | None
    learnt_values: int | None
    format_version: int
    detector: str
    catalogue_digest: str
    code_version: str
    river_version: str
    numpy_version: str
    sha256: str
    signature: str
    size: int
    base_action: int | None
    pinned_at: datetime | None
    pinned_by: str | None
    pin_reason: str | None
    archived: bool


def read_versions(
    connection: Connection,
    *,
    entity_id: str | None = None,
    component: str | None = None,
    version: int | None = None,
) -> list[ModelVersion]:
    """Return versions, by entity, component and window, newest first."""
    rows = f"{_PROVENANCE}, {_MADE}"
    query = (
        f"SELECT {rows}, p.pinned_at, p.pinned_by, p.reason AS pin_reason, archived FROM ("  # noqa: S608 - our own column names
        f"SELECT {rows}, false AS archived FROM model_snapshots UNION ALL "
        f"SELECT {rows}, true FROM model_archive) AS v "
        "LEFT JOIN model_pins AS p USING (entity_id, version) "
        "WHERE (%(entity)s::text IS NULL OR entity_id = %(entity)s) "
        "AND (%(component)s::text IS NULL OR component = %(component)s) "
        "AND (%(version)s::bigint IS NULL OR version = %(version)s) "
        "ORDER BY entity_id, component, as_of DESC, version DESC"
    )
    with connection.cursor(row_factory=class_row(ModelVersion)) as cursor:
        return cursor.execute(
            query, {"entity": entity_id, "component": component, "version": version}
        ).fetchall()


def read_blob(connection: Connection, version: int) -> bytes | None:
    """Return the sealed model of a version; None if there is none."""
    row = connection.execute(
        "SELECT blob FROM model_snapshots WHERE version = %(version)s "
        "UNION ALL SELECT blob FROM model_archive WHERE version = %(version)s LIMIT 1",
        {"version": version},
    ).fetchone()
    return None if row is None else bytes(row[0])


def pin(connection: Connection, entity_id: str, version: int, *, who: str, reason: str) -> None:
    """Keep a version whatever retention says; the first one to say so stays on record."""
    connection.execute(
        "INSERT INTO model_pins (entity_id, version, pinned_by, reason) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT DO NOTHING",
        (entity_id, version, who, reason),
    )


def unpin(connection: Connection, version: int) -> bool:
    """Leave a version to retention again; returns whether it was pinned."""
    return connection.execute("DELETE FROM model_pins WHERE version = %s", (version,)).rowcount > 0


def archive(connection: Connection, versions: Iterable[int]) -> int:
    """Put versions of the present course beside it; returns how many."""
    return connection.execute(
        f"WITH moved AS (DELETE FROM model_snapshots WHERE version = ANY(%s) RETURNING {_ALL}) "  # noqa: S608 - our own column names
        f"INSERT INTO model_archive ({_ALL}) SELECT {_ALL} FROM moved",
        (list(versions),),
    ).rowcount


def archive_pinned(
    connection: Connection, entity_id: str, component: str, since: datetime, *, but: str = ""
) -> int:
    """Put the pinned versions as of `since` or later aside before they are replaced.

    The one as of `since` itself whose digest is `but` stays: it is what replaces it.
    """
    return connection.execute(
        "WITH moved AS (DELETE FROM model_snapshots WHERE entity_id = %(entity)s "  # noqa: S608 - our own column names
        "AND component = %(component)s AND as_of >= %(since)s "
        "AND NOT (as_of = %(since)s AND sha256 = %(but)s) "
        "AND version IN (SELECT version FROM model_pins WHERE entity_id = %(entity)s) "
        f"RETURNING {_ALL}) INSERT INTO model_archive ({_ALL}) SELECT {_ALL} FROM moved",
        {"entity": entity_id, "component": component, "since": since, "but": but},
    ).rowcount


def version_at(
    connection: Connection, entity_id: str, component: str, as_of: datetime
) -> int | None:
    """Return the version of the present course as of a window; None if there is none."""
    row = connection.execute(
        "SELECT version FROM model_snapshots WHERE entity_id = %s AND component = %s "
        "AND as_of = %s",
        (entity_id, component, as_of),
    ).fetchone()
    return None if row is None else int(row[0])


def add_to_archive(connection: Connection, columns: Mapping[str, Any]) -> int:
    """Store a version beside the present course under a number of its own, which is returned."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    row = connection.execute(
        sql.SQL(
            "INSERT INTO model_archive (version, {}) VALUES "
            "(nextval(pg_get_serial_sequence('model_snapshots', 'version')), {}) RETURNING version"
        ).format(names, sql.SQL(", ").join(map(sql.Placeholder, columns))),
        columns,
    ).fetchone()
    return 0 if row is None else int(row[0])


def unarchive(connection: Connection, version: int) -> None:
    """Put an archived version back into the present course; what is in its place is archived."""
    row = connection.execute(
        "SELECT entity_id, component, as_of FROM model_archive WHERE version = %s", (version,)
    ).fetchone()
    if row is None:
        return
    there = version_at(connection, *row)
    archive(connection, [] if there is None else [there])
    connection.execute(
        f"WITH moved AS (DELETE FROM model_archive WHERE version = %s RETURNING {_ALL}) "  # noqa: S608 - our own column names
        f"INSERT INTO model_snapshots ({_ALL}) SELECT {_ALL} FROM moved",
        (version,),
    )


def drop_course(
    connection: Connection,
    entity_id: str,
    component: str,
    after: datetime,
    *,
    based_on: Iterable[int] = (),
) -> None:
    """Delete the snapshots as of later than `after`, and those that go back to given actions.

    The pinned ones are archived.
    """
    rows = connection.execute(
        "SELECT s.version, p.version IS NOT NULL FROM model_snapshots AS s "
        "LEFT JOIN model_pins AS p USING (entity_id, version) WHERE s.entity_id = %s "
        "AND s.component = %s AND (s.as_of > %s OR s.base_action = ANY(%s))",
        (entity_id, component, after, list(based_on)),
    ).fetchall()
    archive(connection, [version for version, pinned in rows if pinned])
    connection.execute(
        "DELETE FROM model_snapshots WHERE version = ANY(%s)",
        ([version for version, pinned in rows if not pinned],),
    )


def prune_archive(connection: Connection, older_than: timedelta) -> int:
    """Delete archived versions that nobody pinned, and replaced results; returns how many models.

    Both are kept for `older_than` after they were put aside.
    """
    connection.execute(
        "DELETE FROM superseded_results AS r USING model_actions AS a "
        "WHERE a.action_id = r.action_id AND a.outcome <> 'pending' "
        "AND a.created_at < now() - %s::interval",
        (older_than,),
    )
    return connection.execute(
        "DELETE FROM model_archive AS m WHERE archived_at < now() - %s::interval "
        "AND NOT EXISTS (SELECT FROM model_pins AS p WHERE p.version = m.version)",
        (older_than,),
    ).rowcount


def keep_results(connection: Connection, entity_id: str, action_id: int, since: datetime) -> int:
    """Keep an entity's scores from a window on as they are before an action replaces them."""
    return connection.execute(
        "INSERT INTO superseded_results (entity_id, action_id, timestamp, stream_id, method, "
        "anomaly_score, confidence, expected, deviation) SELECT entity_id, %s, timestamp, "
        "stream_id, method, anomaly_score, confidence, expected, deviation FROM anomaly_scores "
        "WHERE entity_id = %s AND timestamp >= %s",
        (action_id, entity_id, since),
    ).rowcount


#: Which windows count as anomalous when results are compared.
ANOMALOUS_ABOVE = 0.7


def compare_results(connection: Connection, entity_id: str, action_id: int) -> dict[str, Any]:
    """Compare the scores an action replaced with those there are, and drop what is equal.

    Returns
    -------
    dict
        ``windows``, ``rows``, ``rows_changed``, ``mean_difference`` and ``max_difference`` (of the
        scores known before and after, 0 to 1; None without any), and ``windows_crossing``, those
        whose final score passed :data:`ANOMALOUS_ABOVE` in either direction.
    """
    parameters = {"entity": entity_id, "action": action_id, "above": ANOMALOUS_ABOVE}
    joined = (
        "superseded_results AS s LEFT JOIN anomaly_scores AS a "
        "USING (entity_id, timestamp, stream_id, method) "
        "WHERE s.entity_id = %(entity)s AND s.action_id = %(action)s"
    )
    same = (
        "(a.anomaly_score, a.confidence, a.expected, a.deviation) IS NOT DISTINCT FROM "
        "(s.anomaly_score, s.confidence, s.expected, s.deviation) AND a.entity_id IS NOT NULL"
    )
    row = connection.execute(
        "SELECT count(DISTINCT s.timestamp), count(*), "  # noqa: S608 - our own texts
        f"count(*) FILTER (WHERE NOT ({same})), "
        "avg(abs(a.anomaly_score - s.anomaly_score)), max(abs(a.anomaly_score - s.anomaly_score)), "
        "count(*) FILTER (WHERE s.method = 'ensemble' AND coalesce(a.anomaly_score > %(above)s, "
        f"false) <> coalesce(s.anomaly_score > %(above)s, false)) FROM {joined}",
        parameters,
    ).fetchone()
    connection.execute(
        "DELETE FROM superseded_results AS s USING anomaly_scores AS a "  # noqa: S608 - our own texts
        "WHERE s.entity_id = %(entity)s AND s.action_id = %(action)s "
        "AND a.entity_id = s.entity_id AND a.timestamp = s.timestamp "
        f"AND a.stream_id = s.stream_id AND a.method = s.method AND {same}",
        parameters,
    )
    names = (
        "windows",
        "rows",
        "rows_changed",
        "mean_difference",
        "max_difference",
        "windows_crossing",
    )
    return dict(zip(names, row or (0, 0, 0, None, None, 0), strict=True))
