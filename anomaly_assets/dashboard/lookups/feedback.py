"""Versions of the feedback and suggested rules, a page at a time, with what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from psycopg.rows import class_row

from anomaly_assets.detection.explanation.triggers import FINAL_ABOVE
from anomaly_assets.detection.feedback.adjustment import Rule, source_in_words
from anomaly_assets.storage.identifiers import ENTITY_ROW, Method

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly_assets.storage.database import Connection

#: The newest version of each scope decides how the others stand.
_NEWEST: Final = (
    "SELECT DISTINCT ON (scope) scope, feedback_id, content_of FROM feedback_versions "
    "ORDER BY scope, feedback_id DESC"
)


@dataclass(frozen=True)
class Measured:
    """What a change does to judged alarms, as a version has it on record.

    Parameters
    ----------
    on
        Which alarms: ``judged alarms``, or ``later ones`` than it was chosen from.
    false_before, false_after, confirmed_before, confirmed_after
        Alarms that are raised without and with it.
    """

    on: str
    false_before: int
    false_after: int
    confirmed_before: int
    confirmed_after: int


@dataclass(frozen=True)
class FeedbackRow:
    """A version in a list; fields as of :class:`~anomaly_assets.storage.feedback.FeedbackVersion`.

    Parameters
    ----------
    status
        ``active``, ``superseded`` or ``reverted``.
    revertible
        Whether it is what is in force now, so that it can be taken back.
    quiet
        Windows that raise no alarm with it and would by their final score; None for the
        meta-learner's.
    total
        Versions that the list would have without a limit.
    """

    feedback_id: int
    entity_id: str | None
    is_meta: bool
    action: str
    from_time: datetime
    threshold: float | None
    trust: dict[str, float]
    rules: list[dict[str, Any]]
    label_ids: list[int]
    effect: dict[str, Any]
    has_model: bool
    author: str
    reason: str | None
    created_at: datetime
    status: str
    revertible: bool
    quiet: int | None
    total: int

    @property
    def changes(self) -> list[str]:
        """What is in force with it, in words."""
        told = []
        if self.threshold is not None:
            told.append(f"alarms above {self.threshold:.3f}")
        told += [
            f"{source_in_words(name)} trusted by {weight:g}"
            for name, weight in sorted(self.trust.items())
        ]
        told += [f"no alert for {Rule.from_dict(one).sentence}" for one in self.rules]
        if self.is_meta:
            told.append("option B, the meta-learner" if self.has_model else "option A")
        return told or ["nothing is changed"]

    @property
    def measured(self) -> list[Measured]:
        """Its effect on judged alarms, before and after."""
        names = (("labels", "judged alarms"), ("later_labels", "later ones"))
        counts = ("false_before", "false_after", "confirmed_before", "confirmed_after")
        return [
            Measured(told, *(int(found.get(name, 0)) for name in counts))
            for key, told in names
            if isinstance(found := self.effect.get(key), dict)
        ]


def versions(
    connection: Connection, *, entity_id: str | None, limit: int, offset: int = 0
) -> list[FeedbackRow]:
    """Return versions, the newest first, of one entity if given; each says how many there are."""
    with connection.cursor(row_factory=class_row(FeedbackRow)) as cursor:
        return cursor.execute(
            f"WITH newest AS ({_NEWEST}) "  # noqa: S608 - our own constant
            "SELECT v.feedback_id, v.entity_id, v.is_meta, v.action, v.from_time, v.threshold, "
            "v.trust, v.rules, v.label_ids, v.effect, v.model IS NOT NULL AS has_model, v.author, "
            "v.reason, v.created_at, "
            "CASE WHEN v.feedback_id IN (n.feedback_id, n.content_of) THEN 'active' "
            "WHEN EXISTS (SELECT FROM feedback_versions AS r WHERE r.replaces = v.feedback_id "
            "AND r.action = 'revert') THEN 'reverted' ELSE 'superseded' END AS status, "
            "coalesce(v.feedback_id = n.content_of, false) AS revertible, "
            "CASE WHEN NOT v.is_meta THEN (SELECT count(*) FROM window_decisions AS d "
            "WHERE d.entity_id = v.entity_id AND d.timestamp >= v.from_time "
            "AND d.feedback_id = v.feedback_id AND NOT d.is_alarm AND EXISTS (SELECT "
            "FROM anomaly_scores AS s WHERE s.entity_id = d.entity_id "
            "AND s.timestamp = d.timestamp AND s.stream_id = %(row)s AND s.method = %(final)s "
            "AND s.anomaly_score > %(above)s)) END AS quiet, "
            "count(*) OVER () AS total "
            "FROM feedback_versions AS v JOIN newest AS n USING (scope) "
            "WHERE %(entity)s::text IS NULL OR v.entity_id = %(entity)s "
            "ORDER BY v.feedback_id DESC LIMIT %(limit)s OFFSET %(offset)s",
            {
                "entity": entity_id,
                "limit": limit,
                "offset": offset,
                "row": ENTITY_ROW,
                "final": Method.ENSEMBLE,
                "above": FINAL_ABOVE,
            },
        ).fetchall()


def rules_in_force(connection: Connection, entities: Sequence[str]) -> set[tuple[str, str]]:
    """Return entity and name of every rule that holds for some entities from now on."""
    rows = connection.execute(
        f"WITH newest AS ({_NEWEST}) "  # noqa: S608 - our own constant
        "SELECT v.entity_id, rule ->> 'name' FROM newest AS n JOIN feedback_versions AS v "
        "ON v.feedback_id = n.content_of, jsonb_array_elements(v.rules) AS rule "
        "WHERE v.entity_id = ANY(%s)",
        (list(entities),),
    ).fetchall()
    return {(entity_id, name) for entity_id, name in rows}
