"""Option B over a deployment: trained on everybody's labels, put in force only where it is better.

Whoever watches the same streams shares one meta-learner. Scores mean the same for everybody, and
twenty alarms of each kind are soon judged by all together, seldom by one.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly_assets.detection.feedback.decision import decide
from anomaly_assets.detection.feedback.evidence import Evidence
from anomaly_assets.detection.feedback.labelled import Labelled
from anomaly_assets.detection.feedback.training import Validation, train, validate
from anomaly_assets.errors import AnomalyAssetsError, SnapshotRefusedError
from anomaly_assets.pipeline.feedback import deciding
from anomaly_assets.pipeline.in_force import FeedbackHistory
from anomaly_assets.pipeline.judged import judged_alarms
from anomaly_assets.pipeline.meta_model import layout_of, open_forest, sealed
from anomaly_assets.storage.feedback import NewVersion, add_version, list_versions, lock_feedback
from anomaly_assets.storage.queries import scored_until
from anomaly_assets.storage.tables_feedback import FeedbackAction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import psycopg

    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.storage.feedback import FeedbackVersion
    from anomaly_assets.streams.windows import FloatArray

    Connection = psycopg.Connection[Any]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """What became of the meta-learner of some streams.

    Parameters
    ----------
    layout
        The streams.
    entities
        Who watches them.
    n_confirmed, n_false
        Judged alarms that option A raises.
    validation
        How both options did on later alarms; None where nothing was trained.
    version
        What was put in force; None: all stays as it is.
    why
        What was decided, and why.
    seconds
        Time it took.
    """

    layout: str
    entities: tuple[str, ...]
    n_confirmed: int
    n_false: int
    validation: Validation | None
    version: FeedbackVersion | None
    why: str
    seconds: float


def train_meta_learners(
    deployment: Deployment, entities: Iterable[Entity], by: str = "meta_learner"
) -> Iterator[Training]:
    """Train the meta-learner of each set of streams, and decide which option speaks from now on.

    One that fails is left as it is, and recorded in ``deployment.failures``.
    """
    groups: dict[str, list[Entity]] = defaultdict(list)
    for entity in entities:
        groups[layout_of(entity.catalogue.stream_ids, entity.catalogue.group_ids)].append(entity)
    for layout, watched in sorted(groups.items()):
        try:
            yield _train(deployment, layout, watched, by)
        except (AnomalyAssetsError, ImportError) as error:
            names = tuple(one.entity_id for one in watched)
            logger.warning("meta-learner of %s: %s", ", ".join(names), error)
            yield Training(layout, names, 0, 0, None, None, f"option A stands: {error}", 0.0)


def _train(deployment: Deployment, layout: str, entities: list[Entity], by: str) -> Training:
    started = time.perf_counter()
    settings = deployment.settings
    names = tuple(one.entity_id for one in entities)
    with deployment.database.connect() as connection, connection.transaction():
        lock_feedback(connection, layout)
        labelled, option_a = _raised(deployment, connection, entities)
        n_confirmed, n_false = labelled.n_confirmed, labelled.n_false

        def told(validation: Validation | None, new: NewVersion | None, why: str) -> Training:
            version = None if new is None else add_version(connection, new)
            took = time.perf_counter() - started
            return Training(layout, names, n_confirmed, n_false, validation, version, why, took)

        active = _active(connection, layout)
        least = settings.meta_least_labels
        if min(n_confirmed, n_false) < least:
            why = (
                f"{n_confirmed} confirmed and {n_false} false alarms are judged; {least} of each "
                "are needed"
            )
            return told(None, None, why)
        start = _from(connection, entities)
        forest, validation = train(labelled, option_a, seed=settings.seed)
        if validation.is_better(settings.meta_margin):
            if active is not None and _same_labels(active, labelled):
                return told(validation, None, "trained on these labels already")
            blob, seal = sealed(forest, layout, int(start.timestamp()), deployment.key)
            new = NewVersion(
                layout,
                FeedbackAction.TRAIN,
                start,
                by,
                replaces=None if active is None else active.feedback_id,
                is_meta=True,
                label_ids=labelled.label_ids,
                effect=validation.to_dict(),
                model=blob,
                seal=seal,
                reason="better than option A on later labels",
            )
            return told(validation, new, f"option B takes over: it {validation.effect.sentence}")
        if active is None:
            why = f"option A stands: option B {validation.effect.sentence}"
            return told(validation, None, why)
        problem = _worse(deployment, active, layout, labelled, option_a)
        if problem is None:
            return told(
                validation, None, "option B stays: the later labels do not speak against it"
            )
        new = NewVersion(
            layout,
            FeedbackAction.FALL_BACK,
            start,
            by,
            replaces=active.feedback_id,
            is_meta=True,
            changes_nothing=True,
            label_ids=labelled.label_ids,
            effect=validation.to_dict(),
            reason=problem,
        )
        return told(validation, new, f"back to option A: {problem}")


def _raised(
    deployment: Deployment, connection: Connection, entities: list[Entity]
) -> tuple[Labelled, FloatArray]:
    """Return the judged alarms that option A raises, by time, and its score of each."""
    parts: list[Labelled] = []
    scores: list[FloatArray] = []
    how = deciding(deployment.settings)
    for entity in entities:
        judged = judged_alarms(connection, entity, recent=True).labelled
        if judged is None:
            continue
        until = scored_until(connection, entity.entity_id) or 0
        now = FeedbackHistory.read(connection, entity, deployment.key).at(until)
        if now is None:
            score, alarm = judged.evidence.final, np.ones(len(judged.evidence), dtype=np.bool_)
        else:
            decided = decide(
                judged.evidence, now.adjustment, threshold=how.threshold, ensemble=how.ensemble
            )
            score, alarm = decided.score, decided.alarm
        raised = judged.any_of(alarm)
        peaks = judged.peaks(np.where(alarm, score, -np.inf))[raised]
        if raised.any():
            parts.append(judged.take(raised))
            scores.append(peaks)
    if not parts:
        return _nothing(), np.empty(0)
    order, _ = Labelled.order(parts)
    return Labelled.together(parts), np.concatenate(scores)[order]


def _nothing() -> Labelled:
    none = np.empty(0, dtype=np.int64)
    nothing = np.empty((0, 0))
    empty = np.empty(0)
    evidence = Evidence(
        (), (), none, empty, none, nothing, nothing, nothing, empty, nothing, nothing, empty
    )
    return Labelled(evidence, none, np.empty(0, dtype=np.bool_), none, ())


def _active(connection: Connection, layout: str) -> FeedbackVersion | None:
    found = [one for one in list_versions(connection, layout) if one.is_meta]
    return found[-1] if found and found[-1].model is not None else None


def _same_labels(active: FeedbackVersion, labelled: Labelled) -> bool:
    return sorted(active.label_ids) == sorted(labelled.label_ids)


def _from(connection: Connection, entities: list[Entity]) -> datetime:
    """Return the first window that nobody's scores are stored of."""
    ends = [scored_until(connection, one.entity_id) or 0 for one in entities]
    return datetime.fromtimestamp(max(ends), tz=UTC)


def _worse(
    deployment: Deployment,
    active: FeedbackVersion,
    layout: str,
    labelled: Labelled,
    option_a: FloatArray,
) -> str | None:
    """Return why the forest in force should not stay, by alarms that it was not made from."""
    try:
        forest = open_forest(active, layout, deployment.key)
    except SnapshotRefusedError as error:
        return str(error)
    known = set(active.label_ids)
    new = np.array([label not in known for label in labelled.label_ids], dtype=np.bool_)
    if forest is None or not new.any():
        return None
    later = validate(forest, labelled.take(new), option_a[new], len(known))
    if later.effect.confirmed_lost:
        return f"on labels since then it {later.effect.sentence}"
    if later.average_precision_b < later.average_precision_a:
        return (
            f"on labels since then its average precision is {later.average_precision_b:.2f}, "
            f"option A's {later.average_precision_a:.2f}"
        )
    return None
