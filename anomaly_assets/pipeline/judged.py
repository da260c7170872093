"""Alarms that people have judged, with everything that was said of their windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anomaly_assets.detection.explanation.triggers import FINAL_ABOVE
from anomaly_assets.detection.feedback.evidence import Evidence
from anomaly_assets.detection.feedback.labelled import Labelled
from anomaly_assets.pipeline.in_force import scores_before, with_recent
from anomaly_assets.pipeline.tiers import read_cross_stream, read_gaps, read_individual
from anomaly_assets.storage import results
from anomaly_assets.storage.identifiers import Verdict
from anomaly_assets.storage.labels import list_labels
from anomaly_assets.storage.windows import stored_ranges
from anomaly_assets.streams.windows import WINDOWS_PER_DAY, Calendar, WindowRange

if TYPE_CHECKING:
    import psycopg

    from anomaly_assets.pipeline.deployment import Entity
    from anomaly_assets.storage.labels import Label

    Connection = psycopg.Connection[Any]

#: A label over a longer time judges a time, not an alarm.
LONGEST: Final = 7 * WINDOWS_PER_DAY


@dataclass(frozen=True)
class Judged:
    """The judged alarms of an entity.

    Parameters
    ----------
    labelled
        The alarms; None if there is none.
    passed_over
        Numbers of labels without an alarm: nothing was raised in their time, it is not processed,
        or it is longer than a week.
    """

    labelled: Labelled | None
    passed_over: tuple[int, ...]


def judged_alarms(connection: Connection, entity: Entity, *, recent: bool = False) -> Judged:
    """Read the standing labels of an entity with the windows in which an alarm was raised.

    Parameters
    ----------
    connection
        A connection to the database.
    entity
        Whose.
    recent
        Whether the last hour of scores before each window is wanted, as the meta-learner does.
    """
    parts: list[Evidence] = []
    labels: list[Label] = []
    passed_over = []
    for label in sorted(
        list_labels(connection, entity_id=entity.entity_id),
        key=lambda one: (one.end_time, one.label_id),
    ):
        part = _alarm(connection, entity, label, recent=recent)
        if part is None:
            passed_over.append(label.label_id)
        else:
            parts.append(part)
            labels.append(label)
    if not parts:
        return Judged(None, tuple(passed_over))
    labelled = Labelled(
        Evidence.joined(parts),
        np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        np.array([label.verdict is Verdict.CONFIRMED for label in labels], dtype=np.bool_),
        np.array([int(label.end_time.timestamp()) for label in labels], dtype=np.int64),
        tuple(label.label_id for label in labels),
    )
    return Judged(labelled, tuple(passed_over))


def _alarm(
    connection: Connection, entity: Entity, label: Label, *, recent: bool
) -> Evidence | None:
    """Return the windows of a label that raise an alarm by themselves; None without any."""
    windows = WindowRange.between(label.start_time, label.end_time)
    if len(windows) > LONGEST:
        return None
    found = []
    for part in stored_ranges(connection, entity.entity_id, windows):
        final = results.read_ensemble(connection, entity.entity_id, part)
        rows = np.flatnonzero(final.score > FINAL_ABOVE)
        if not rows.size:
            continue
        individual = read_individual(connection, entity, part)
        cross_stream = read_cross_stream(connection, entity, part)
        evidence = Evidence.of(
            entity.catalogue,
            part,
            Calendar.of(part, entity.time_zone),
            individual,
            cross_stream,
            read_gaps(connection, entity, part),
            final,
        ).take(rows)
        if recent:
            before = scores_before(connection, entity, part.start)
            evidence = with_recent(evidence, individual, cross_stream, rows, before)
        found.append(evidence)
    return Evidence.joined(found) if found else None
