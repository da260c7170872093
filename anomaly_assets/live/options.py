"""How the streaming pipeline behaves; every bound of its memory is here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from anomaly_assets.settings import Settings


@dataclass(frozen=True)
class PipelineOptions:
    """Choices of a :class:`~anomaly_assets.live.pipeline.StreamingPipeline`.

    Parameters
    ----------
    close_after
        How long after its end a window waits for streams that have not passed it. What arrives for
        it later revises its result.
    prepare_before
        How long before a window closes by time it may be computed ahead.
    revise_after
        How long readings for a window that is closed are gathered before it is computed again.
    check_every
        How often results are held against what Dagster has stored since.
    explain_every
        Explain in batches that far apart (the high-frequency profile: a minute); None explains each
        window as soon as it calls for it.
    explain_above
        Explain windows with a final score above this alone (the high-frequency profile: 0.8); None
        explains all that call for it. Dagster explains them all in any case.
    retry_every
        How often a quarantined entity, or a database that was away, is tried again.
    remembered_windows
        Results kept of each entity, to compare and to revise them.
    checkpoints
        Ways back to earlier states kept of each entity, so many windows back a late reading costs
        no database; 0.1 MB each at 36 streams.
    most_entities
        Entities kept in memory, the ones that reported last; others are left to Dagster.
    most_readings
        Readings of one entity and window kept in memory; with more, the journal is read instead.
    most_pending
        Readings of one entity kept while its state is being restored; with more, it is restored
        once more.
    most_explanations
        Windows waiting for their explanation; the oldest go first.
    most_unread
        Results a subscriber may be behind before it is dropped.
    """

    close_after: timedelta = timedelta(seconds=5)
    prepare_before: timedelta = timedelta(seconds=4)
    revise_after: timedelta = timedelta(seconds=1)
    check_every: timedelta = timedelta(seconds=5)
    explain_every: timedelta | None = None
    explain_above: float | None = None
    retry_every: timedelta = timedelta(minutes=5)
    remembered_windows: int = 48
    checkpoints: int = 4
    most_entities: int = 2000
    most_readings: int = 200_000
    most_pending: int = 20_000
    most_explanations: int = 1000
    most_unread: int = 1000

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return what the settings say."""
        usual = settings.live_explanation_threshold == settings.explanation_threshold
        return cls(
            explain_every=settings.live_explanation_interval or None,
            explain_above=None if usual else settings.live_explanation_threshold,
        )
