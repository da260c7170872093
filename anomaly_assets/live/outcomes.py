"""What was said of one window, kept until it is known to be what is stored."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from anomaly_assets.detection.explanation.triggers import Trigger, triggers
from anomaly_assets.detection.feedback.decision import OPTION_A
from anomaly_assets.detection.robust import StreamScore
from anomaly_assets.live.decisions import is_alarm
from anomaly_assets.live.results import ClosedBy, Difference, LiveResult
from anomaly_assets.streams.windows import WINDOW_SECONDS

if TYPE_CHECKING:
    from anomaly_assets.detection.explanation.evidence import WindowEvidence
    from anomaly_assets.detection.explanation.record import Explanation
    from anomaly_assets.detection.feedback.evidence import Evidence
    from anomaly_assets.live.decisions import Decision
    from anomaly_assets.live.verification import StoredWindow
    from anomaly_assets.streams.catalogue import Catalogue
    from anomaly_assets.streams.windows import FloatArray


@dataclass(frozen=True)
class Scores:
    """The scores of one window, as far as they are compared.

    Parameters
    ----------
    final, confidence, cross_stream
        Of the window.
    individual, expected, deviation
        Tier 1, shape ``(n_streams,)``.
    """

    final: float
    confidence: float
    cross_stream: float
    individual: FloatArray
    expected: FloatArray
    deviation: FloatArray

    def differing(self, other: Scores, catalogue: Catalogue) -> list[tuple[str, float, float]]:
        """Return name and both values of everything that is not the same to the last bit."""
        found = [
            (name, mine, theirs)
            for name, mine, theirs in (
                ("final", self.final, other.final),
                ("confidence", self.confidence, other.confidence),
                ("cross_stream", self.cross_stream, other.cross_stream),
            )
            if not _same(mine, theirs)
        ]
        for what, mine_all, theirs_all in (
            ("", self.individual, other.individual),
            (" expected", self.expected, other.expected),
            (" deviation", self.deviation, other.deviation),
        ):
            pairs = zip(mine_all.tolist(), theirs_all.tolist(), strict=True)
            found += [
                (catalogue.stream_ids[index] + what, mine, theirs)
                for index, (mine, theirs) in enumerate(pairs)
                if not _same(mine, theirs)
            ]
        return found


@dataclass
class Outcome:
    """One computed window.

    Parameters
    ----------
    window
        Its start, epoch seconds.
    values
        Shape ``(n_streams,)``, NaN where missing.
    scores, gap
        What the tiers said, and the gap score.
    code
        Trigger code; 0 if it calls for no explanation, as far as people have not decided otherwise.
    closed_by, provisional, revision
        As in :class:`~anomaly_assets.live.results.LiveResult`.
    readings, rejected
        Number of readings it was made of, and of streams with refused ones; None if it was not
        made from readings but from stored values.
    evidence
        What an explanation starts from; None where `code` is 0.
    episode_start
        Start of the episode that it belongs to, epoch seconds; None where `code` is 0.
    stored
        Which stored version it was compared with; None before it was.
    calling
        What was said of it, if it calls for attention by itself; None where it does not.
    decision
        What feedback made of it; None where none was in force, or nothing called.
    """

    window: int
    values: FloatArray
    scores: Scores
    gap: float
    code: int
    closed_by: ClosedBy
    provisional: bool
    revision: int = 0
    readings: int | None = None
    rejected: int | None = None
    evidence: WindowEvidence | None = None
    episode_start: int | None = None
    stored: str | None = None
    calling: Evidence | None = None
    decision: Decision | None = None

    def says_as(self, other: Outcome, catalogue: Catalogue) -> bool:
        """Whether both say the same of the window, to the last bit."""
        return self.decision == other.decision and self.scored_as(other, catalogue)

    def scored_as(self, other: Outcome, catalogue: Catalogue) -> bool:
        """Whether the scores of both are the same, whatever was decided by them."""
        return not self.scores.differing(other.scores, catalogue) and _same(self.gap, other.gap)

    def as_stored(self, stored: StoredWindow, threshold: float) -> Outcome:
        """Return the window as it is stored; whoever stored it explains it."""
        scores = stored.scores
        codes = triggers(
            scores.individual[np.newaxis],
            np.array([scores.cross_stream]),
            np.array([scores.final]),
            threshold=threshold,
        )
        decision = stored.decision
        code = int(codes[0]) if decision is None else decision.code
        return replace(
            self,
            values=stored.values,
            scores=scores,
            gap=stored.gap,
            code=code,
            # The entity is restored, and its episodes with it.
            episode_start=(self.episode_start or self.window) if code else None,
            readings=None,
            rejected=None,
            evidence=None,
            closed_by=ClosedBy.STORED,
            provisional=False,
            revision=self.revision + 1,
            stored=stored.version,
            calling=None,
            decision=decision,
        )

    def result(
        self, entity_id: str, catalogue: Catalogue, explanation: Explanation | None = None
    ) -> LiveResult:
        """Return what subscribers get."""
        said = self.scores
        final = known(said.final)
        columns = zip(
            catalogue.stream_ids,
            self.values.tolist(),
            said.expected.tolist(),
            said.individual.tolist(),
            said.deviation.tolist(),
            strict=True,
        )
        streams = {name: StreamScore(*map(known, numbers)) for name, *numbers in columns}
        trigger = Trigger.of_code(self.code)
        episode = self.episode_start
        return LiveResult(
            entity_id=entity_id,
            window_start=datetime.fromtimestamp(self.window, tz=UTC),
            window_end=datetime.fromtimestamp(self.window + WINDOW_SECONDS, tz=UTC),
            score=final,
            confidence=said.confidence,
            is_anomaly=is_alarm(final, self.decision),
            trigger=None if trigger is None else trigger.value,
            streams=streams,
            cross_stream_score=known(said.cross_stream),
            gap_score=known(self.gap),
            missing=tuple(name for name, score in streams.items() if score.value is None),
            closed_by=self.closed_by,
            provisional=self.provisional,
            revision=self.revision,
            episode_start=None if episode is None else datetime.fromtimestamp(episode, tz=UTC),
            explanation=explanation,
            suppressed_by=None if self.decision is None else self.decision.suppressed_by,
            decided_score=final if self.decision is None else self.decision.score,
            option=OPTION_A if self.decision is None else self.decision.option,
        )


def differences(
    entity_id: str, outcome: Outcome, stored: Scores, catalogue: Catalogue
) -> list[Difference]:
    """Return everything in which what was said of a window is not what is stored."""
    start = datetime.fromtimestamp(outcome.window, tz=UTC)
    return [
        Difference(entity_id, start, what, known(live), known(kept))
        for what, live, kept in outcome.scores.differing(stored, catalogue)
    ]


def known(value: float) -> float | None:
    """Return a number, or None for NaN."""
    return None if math.isnan(value) else float(value)


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
