"""Courses of events that people have labelled, as explanations are given them.

An episode is explained with the labels whose range ended by its first window, and no others: not by
its own label, nor by what was said of later ones. An explanation is therefore a function of the
stored data and of the labels about earlier time that stand when it is made, whichever windows a run
takes together; a backfill explains each episode as if it had just happened.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anomaly_assets.detection.explanation.exemplars import Exemplar, ExemplarMemory
from anomaly_assets.detection.explanation.explain import Explainer
from anomaly_assets.storage.labels import named_labels

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from anomaly_assets.detection.explanation.explain import Mode
    from anomaly_assets.pipeline.deployment import Entity
    from anomaly_assets.storage.labels import Label

    Connection = psycopg.Connection[Any]


def memory_of(labels: Iterable[Label]) -> ExemplarMemory:
    """Return what is remembered of labels with a cause and its events, oldest first.

    A cause is called, and answered, as the newest of its labels says.
    """
    labels = list(labels)
    newest = {label.cause: label for label in labels}
    return ExemplarMemory(
        Exemplar(
            name=str(label.cause),
            title=str(newest[label.cause].title),
            events=tuple(label.events or ()),
            recommended_action=str(newest[label.cause].recommended_action),
        )
        for label in labels
    )


class LabelledExplainers:
    """The explainers of an entity, each with what had been labelled before some time.

    Parameters
    ----------
    connection
        A connection; the labels are read once.
    entity
        Whose labels.
    until
        End (epoch seconds) of what is to be explained.
    mode
        How thorough they are.
    """

    def __init__(self, connection: Connection, entity: Entity, until: int, mode: Mode) -> None:
        self._entity = entity
        self._mode = mode
        self._labels = named_labels(
            connection, entity.entity_id, until=datetime.fromtimestamp(until, tz=UTC)
        )
        self._ends = [int(label.end_time.timestamp()) for label in self._labels]
        self._known = 0
        self._explainer = Explainer(entity.catalogue, mode=mode)

    def before(self, start: int) -> Explainer:
        """Return the explainer of what begins at `start`, in epoch seconds."""
        known = bisect_right(self._ends, start)
        if known != self._known:
            self._explainer = Explainer(
                self._entity.catalogue, mode=self._mode, exemplars=memory_of(self._labels[:known])
            )
            self._known = known
        return self._explainer
