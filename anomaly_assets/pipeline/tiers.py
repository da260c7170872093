"""The tiers that keep state, as the pipeline sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anomaly_assets.detection.cross_stream.detector import CrossStreamDetector
from anomaly_assets.detection.gaps.detector import GapDetector
from anomaly_assets.detection.individual.detector import IndividualDetector
from anomaly_assets.errors import StateError
from anomaly_assets.storage import results
from anomaly_assets.storage.model_actions import last_retrained
from anomaly_assets.storage.pending import Pending

if TYPE_CHECKING:
    import psycopg

    from anomaly_assets.detection.results import CrossStreamScores, GapScores, IndividualScores
    from anomaly_assets.pipeline.advance import Tier
    from anomaly_assets.pipeline.deployment import Entity
    from anomaly_assets.settings import Settings
    from anomaly_assets.storage.pending import Target
    from anomaly_assets.streams.catalogue import Catalogue
    from anomaly_assets.streams.windows import WindowBlock, WindowRange

    Connection = psycopg.Connection[Any]
    CrossStreamInputs = tuple[WindowBlock, IndividualScores, GapScores]


def tier_of(component: str, settings: Settings) -> Tier:
    """Return the tier whose state a model asset holds.

    Raises
    ------
    StateError
        If no tier keeps its state under that name.
    """
    tiers: dict[str, Tier] = {
        tier.component: tier
        for tier in (IndividualTier(), GapTier(), CrossStreamTier(settings.seed))
    }
    if component not in tiers:
        msg = f"no tier keeps state under {component!r}; there are {', '.join(tiers)}"
        raise StateError(msg)
    return tiers[component]


def read_block(connection: Connection, entity: Entity, windows: WindowRange) -> WindowBlock:
    """Return the aggregated values of stored windows."""
    held: WindowBlock | None = entity.handover.get("block", entity.entity_id, windows)
    if held is not None:
        return held
    block = results.read_windows(
        connection, entity.entity_id, windows, entity.catalogue, entity.time_zone
    )
    hand_over("block", entity, windows, block)
    return block


def read_individual(
    connection: Connection, entity: Entity, windows: WindowRange
) -> IndividualScores:
    """Return the tier-1 scores of stored windows; of their health only `score` is for use."""
    held: IndividualScores | None = entity.handover.get("individual", entity.entity_id, windows)
    if held is not None:
        return held
    return results.read_individual(connection, entity.entity_id, windows, entity.catalogue)


def read_gaps(connection: Connection, entity: Entity, windows: WindowRange) -> GapScores:
    """Return the gap scores of stored windows."""
    held: GapScores | None = entity.handover.get("gaps", entity.entity_id, windows)
    if held is not None:
        return held
    return results.read_gaps(connection, entity.entity_id, windows, entity.catalogue)


def read_cross_stream(
    connection: Connection, entity: Entity, windows: WindowRange
) -> CrossStreamScores:
    """Return the tier-2 scores of stored windows."""
    held: CrossStreamScores | None = entity.handover.get("cross", entity.entity_id, windows)
    if held is not None:
        return held
    return results.read_cross_stream(connection, entity.entity_id, windows, entity.catalogue)


def hand_over(kind: str, entity: Entity, windows: WindowRange, what: object) -> None:
    """Keep a block of results at hand for the next steps of this run."""
    streams = len(entity.catalogue.streams)
    entity.handover.put(kind, entity.entity_id, windows, what, streams)


class IndividualTier:
    """Tier 1: each stream against its own forecast; also keeps the streams' health."""

    component = "tier1_models"

    def build(self, catalogue: Catalogue) -> IndividualDetector:
        """Make a detector that has learnt nothing."""
        return IndividualDetector(catalogue)

    def read(self, connection: Connection, entity: Entity, windows: WindowRange) -> WindowBlock:
        """Load the aggregated values."""
        return read_block(connection, entity, windows)

    def process(self, detector: IndividualDetector, inputs: WindowBlock) -> IndividualScores:
        """Score, then learn, window by window."""
        return detector.process(inputs)

    def write(
        self,
        connection: Target,
        entity: Entity,
        inputs: WindowBlock,
        scores: IndividualScores,
    ) -> int:
        """Store scores and health; blocks are cut where a model is retrained."""
        hand_over("individual", entity, inputs.windows, scores)
        if isinstance(connection, Pending):
            single, whole = connection.last_retrained.get(entity.entity_id, ({}, None))
        else:
            single, whole = last_retrained(connection, entity.entity_id, inputs.windows.start_time)
        retrained = [single.get(stream, whole) for stream in entity.catalogue.stream_ids]
        return results.write_individual(
            connection, inputs, scores, entity.catalogue
        ) + results.write_health(
            connection, inputs, scores.health, entity.catalogue, last_retrain=retrained
        )


class GapTier:
    """Gap pattern learning: which absences are normal."""

    component = "gap_patterns"

    def build(self, catalogue: Catalogue) -> GapDetector:
        """Make a detector that has learnt nothing."""
        return GapDetector(catalogue)

    def read(self, connection: Connection, entity: Entity, windows: WindowRange) -> WindowBlock:
        """Load the aggregated values; the detector looks at which are there."""
        return read_block(connection, entity, windows)

    def process(self, detector: GapDetector, inputs: WindowBlock) -> GapScores:
        """Score, then learn, window by window."""
        return detector.process(inputs)

    def write(
        self, connection: Target, entity: Entity, inputs: WindowBlock, scores: GapScores
    ) -> int:
        """Store the patterns and how unusual they are."""
        hand_over("gaps", entity, inputs.windows, scores)
        return results.write_gaps(connection, inputs, scores, entity.catalogue)


class CrossStreamTier:
    """Tier 2: streams against each other."""

    component = "cross_stream_models"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def build(self, catalogue: Catalogue) -> CrossStreamDetector:
        """Make a detector that has learnt nothing."""
        return CrossStreamDetector(catalogue, seed=self._seed)

    def read(
        self, connection: Connection, entity: Entity, windows: WindowRange
    ) -> CrossStreamInputs:
        """Load values, tier-1 scores and gap scores."""
        return (
            read_block(connection, entity, windows),
            read_individual(connection, entity, windows),
            read_gaps(connection, entity, windows),
        )

    def process(
        self, detector: CrossStreamDetector, inputs: CrossStreamInputs
    ) -> CrossStreamScores:
        """Score, then learn, window by window."""
        return detector.process(*inputs)

    def write(
        self,
        connection: Target,
        entity: Entity,
        inputs: CrossStreamInputs,
        scores: CrossStreamScores,
    ) -> int:
        """Store the scores of entity, groups and voices."""
        hand_over("cross", entity, inputs[0].windows, scores)
        return results.write_cross_stream(connection, inputs[0], scores, entity.catalogue)
