"""What is decided of windows given people's feedback, as the live path says it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from anomaly_assets.detection.explanation.triggers import FINAL_ABOVE
from anomaly_assets.detection.feedback.decision import OPTION_A, calls
from anomaly_assets.detection.feedback.evidence import Evidence
from anomaly_assets.detection.feedback.series import HISTORY, scores_of
from anomaly_assets.live.results import ClosedBy
from anomaly_assets.pipeline.in_force import FeedbackHistory, decide_all, with_recent
from anomaly_assets.storage.feedback import list_decisions, newest_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anomaly_assets.detection.explanation.triggers import CodeArray
    from anomaly_assets.detection.system import Detection
    from anomaly_assets.live.outcomes import Outcome
    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.settings import Settings
    from anomaly_assets.storage.database import Connection
    from anomaly_assets.streams.windows import FloatArray, WindowBlock, WindowRange


@dataclass(frozen=True)
class Decision:
    """What is decided of one window under some feedback.

    Parameters
    ----------
    score, threshold
        By which score (None: unknown), and what it has to exceed to raise an alarm.
    is_alarm
        Whether it does.
    code
        Trigger code: why it is explained, 0 if it is not.
    suppressed_by
        Name of the rule that keeps it from raising an alarm; None: none does.
    option
        Which option of the ensemble has spoken.
    feedback_id, meta_id
        Versions that were in force.
    """

    score: float | None
    threshold: float = field(compare=False)
    is_alarm: bool
    code: int
    suppressed_by: str | None
    option: str
    # Another version that says the same says nothing new.
    feedback_id: int | None = field(compare=False)
    meta_id: int | None = field(compare=False)


class Decider:
    """Decides about an entity's windows as the pipeline does.

    Parameters
    ----------
    entity
        Whose.
    settings
        Threshold and ensemble.

    Attributes
    ----------
    history : FeedbackHistory
        The versions that concern the entity, as far as they are known here.
    """

    def __init__(self, entity: Entity, settings: Settings) -> None:
        self.history = FeedbackHistory()
        self._entity = entity
        self._settings = settings

    def calling(
        self, block: WindowBlock, said: Detection, before: FloatArray
    ) -> tuple[list[int], Evidence]:
        """Return the rows that call for attention by themselves, with all that was said of them."""
        whole = Evidence.of(
            self._entity.catalogue,
            block.windows,
            block.calendar,
            said.individual,
            said.cross_stream,
            said.gaps,
            said.ensemble,
        )
        rows = np.flatnonzero(calls(whole, self._settings.explanation_threshold))
        if not rows.size:
            return [], whole.take(rows)
        evidence = with_recent(whole.take(rows), said.individual, said.cross_stream, rows, before)
        return rows.tolist(), evidence

    def decide(self, evidence: Evidence) -> dict[int, Decision]:
        """Return what is decided of windows, by their start; none where no feedback holds."""
        if not self.history or not len(evidence):
            return {}
        found = {}
        for one in decide_all(self.history, evidence, self._settings):
            made, applied = one.decisions, one.applied
            alarms, options = made.alarm.tolist(), made.option
            for number, score in enumerate(made.score.tolist()):
                found[int(evidence.starts[one.first + number])] = Decision(
                    None if math.isnan(score) else score,
                    made.threshold,
                    alarms[number],
                    int(made.code[number]),
                    made.suppressed_by[number],
                    options[number],
                    applied.feedback_id,
                    applied.meta_id,
                )
        return found

    def decide_again(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Return the outcomes of which something else is decided now, with a higher revision."""
        changed = []
        for outcome in outcomes:
            if outcome.calling is None:
                continue
            decision = self.decide(outcome.calling).get(outcome.window)
            code = int(outcome.calling.codes(self._settings.explanation_threshold)[0])
            code = code if decision is None else decision.code
            if _told(decision, code, outcome) == _told(outcome.decision, outcome.code, outcome):
                # Another version says the same: nobody needs to be told again.
                outcome.decision = decision
                continue
            changed.append(
                replace(
                    outcome,
                    decision=decision,
                    code=code,
                    episode_start=(outcome.episode_start or outcome.window) if code else None,
                    evidence=outcome.evidence if code else None,
                    closed_by=ClosedBy.FEEDBACK,
                    revision=outcome.revision + 1,
                )
            )
        return changed


def _told(decision: Decision | None, code: int, outcome: Outcome) -> tuple[object, ...]:
    """Return what of a decision people see."""
    if decision is None:
        final = None if math.isnan(outcome.scores.final) else outcome.scores.final
        return is_alarm(final, None), code, final, None, OPTION_A
    return decision.is_alarm, code, decision.score, decision.suppressed_by, decision.option


def decided_codes(codes: CodeArray, starts: list[int], decisions: dict[int, Decision]) -> CodeArray:
    """Return trigger codes with what was decided in place of what the scores alone say."""
    if not decisions:
        return codes
    pairs = zip(starts, codes.tolist(), strict=True)
    known = [decisions[at].code if at in decisions else code for at, code in pairs]
    return np.array(known, dtype=np.int8)


def newest_scores(before: FloatArray, said: Detection) -> FloatArray:
    """Return the scores of the last windows, as the next ones are given them."""
    scores = scores_of(said.individual, said.cross_stream)
    return np.concatenate([before, scores])[-(HISTORY - 1) :]


def newest_feedback(deployment: Deployment) -> int:
    """Return the number of the newest version of all."""
    with deployment.database.connect() as connection:
        return newest_version(connection)


def read_feedback(deployment: Deployment, entities: Sequence[Entity]) -> dict[str, FeedbackHistory]:
    """Read the versions that concern some entities, by identifier."""
    with deployment.database.connect() as connection:
        return FeedbackHistory.read_many(connection, entities, deployment.key)


def stored_decisions(
    connection: Connection, entity_id: str, windows: WindowRange
) -> dict[int, Decision]:
    """Return what is stored as decided of an entity's windows, by their start."""
    return {
        int(one.timestamp.timestamp()): Decision(
            one.score,
            one.threshold,
            one.is_alarm,
            one.trigger_code,
            one.suppressed_by,
            one.option,
            one.feedback_id,
            one.meta_id,
        )
        for one in list_decisions(connection, entity_id, windows)
    }


def is_alarm(final: float | None, decision: Decision | None) -> bool:
    """Whether a window raises an alarm."""
    if decision is not None:
        return decision.is_alarm
    return final is not None and final > FINAL_ABOVE
