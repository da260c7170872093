"""Versions of models, and what was done to them, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import class_row

from anomaly_assets.storage.model_actions import ActionOutcome

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Connection

#: Which versions a list has.
KEPT: Final = ("any", "pinned", "present", "archived")
_ACTIONS: Final = 20


@dataclass(frozen=True)
class VersionRow:
    """A version of a model in a list.

    Parameters
    ----------
    version, entity_id, component, as_of
        Its number, and whose state of which model asset before which window.
    time_zone, catalogue
        Of the entity; None where the deployment's hold.
    created_at, created_by, learnt_windows, learnt_values, code_version, size
        See :class:`~anomaly_assets.storage.model_versions.ModelVersion`.
    pinned_at, pinned_by, pin_reason, archived
        How it is kept.
    total
        Versions that the list would have without a limit.
    """

    version: int
    entity_id: str
    time_zone: str | None
    catalogue: str | None
    component: str
    as_of: datetime
    created_at: datetime
    created_by: str
    learnt_windows: int | None
    learnt_values: int | None
    code_version: str
    size: int
    pinned_at: datetime | None
    pinned_by: str | None
    pin_reason: str | None
    archived: bool
    total: int


def versions(  # noqa: PLR0913 - the filters of a list
    connection: Connection,
    *,
    entity_id: str | None,
    component: str | None,
    kept: str,
    limit: int,
    offset: int = 0,
) -> list[VersionRow]:
    """Return versions, the newest window first; each carries how many there are in all."""
    columns = (
        "entity_id, version, component, as_of, created_at, created_by, learnt_windows, "
        "learnt_values, code_version, size"
    )
    with connection.cursor(row_factory=class_row(VersionRow)) as cursor:
        return cursor.execute(
            f"SELECT {columns}, n.time_zone, n.catalogue, p.pinned_at, p.pinned_by, "  # noqa: S608 - our own constants
            "p.reason AS pin_reason, archived, count(*) OVER () AS total FROM ("
            f"SELECT {columns}, false AS archived FROM model_snapshots UNION ALL "
            f"SELECT {columns}, true FROM model_archive) AS v JOIN "
            "(SELECT entity_id, time_zone, catalogue FROM entities) AS n USING (entity_id) "
            "LEFT JOIN model_pins AS p USING (entity_id, version) "
            "WHERE (%(entity)s::text IS NULL OR entity_id = %(entity)s) "
            "AND (%(component)s::text IS NULL OR component = %(component)s) "
            "AND CASE %(kept)s WHEN 'pinned' THEN p.version IS NOT NULL "
            "WHEN 'archived' THEN archived WHEN 'present' THEN NOT archived ELSE true END "
            "ORDER BY as_of DESC, entity_id, component, version DESC "
            "LIMIT %(limit)s OFFSET %(offset)s",
            {
                "entity": entity_id,
                "component": component,
                "kept": kept,
                "limit": limit,
                "offset": offset,
            },
        ).fetchall()


@dataclass(frozen=True)
class ActionRow:
    """What was done to models; see :class:`~anomaly_assets.storage.model_actions.ModelAction`."""

    action_id: int
    entity_id: str
    component: str | None
    kind: str
    as_of: datetime | None
    who: str
    why: str
    outcome: str
    details: dict[str, Any]
    version_after: int | None
    withdrawn_by: int | None
    created_at: datetime

    @property
    def pending(self) -> bool:
        """Whether its replay is still under way."""
        return self.outcome == ActionOutcome.PENDING


def latest_actions(connection: Connection, entity_id: str | None) -> list[ActionRow]:
    """Return the latest actions, newest first, of one entity if given."""
    with connection.cursor(row_factory=class_row(ActionRow)) as cursor:
        return cursor.execute(
            "SELECT action_id, entity_id, component, kind, as_of, who, why, outcome, details, "
            "version_after, withdrawn_by, created_at FROM model_actions "
            "WHERE %(entity)s::text IS NULL OR entity_id = %(entity)s "
            "ORDER BY action_id DESC LIMIT %(limit)s",
            {"entity": entity_id, "limit": _ACTIONS},
        ).fetchall()
