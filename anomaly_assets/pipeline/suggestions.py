"""What the data of the last week suggest for the catalogue: causal edges, and courses of events."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from anomaly_assets.detection.explanation.mining import frequent_sequences
from anomaly_assets.detection.explanation.network.structure import Structure
from anomaly_assets.detection.explanation.network.suggestions import suggest_edges
from anomaly_assets.pipeline.network import read_span
from anomaly_assets.pipeline.sequences import anomalous_sequences
from anomaly_assets.pipeline.together import each_entity
from anomaly_assets.storage.entities import hold_entity
from anomaly_assets.storage.identifiers import SuggestionKind
from anomaly_assets.storage.suggestions import Proposal, write_suggestions
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import psycopg

    from anomaly_assets.detection.explanation.mining import SuggestedPattern
    from anomaly_assets.detection.explanation.network.suggestions import SuggestedEdge
    from anomaly_assets.pipeline.deployment import Deployment, Entity

    Connection = psycopg.Connection[Any]

#: History that edges are searched in: a week has every day of it once.
EDGE_SPAN = timedelta(days=7)
#: History whose anomalies courses of events are mined from; there are few of them in a week.
PATTERN_SPAN = timedelta(days=30)
#: Characters of a template's name, as the catalogue allows them.
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Suggested:
    """What was suggested for one entity at the end of one span.

    Parameters
    ----------
    entity_id
        Whose.
    edges, patterns
        What was found, known ones too.
    new
        How many of them had never been found before.
    seconds
        Time it took.
    """

    entity_id: str
    edges: tuple[Proposal, ...]
    patterns: tuple[Proposal, ...]
    new: int
    seconds: float


def suggest_structure(
    deployment: Deployment, entities: Iterable[Entity], ends: Iterable[datetime]
) -> Iterator[Suggested]:
    """Search and store the suggestions of each entity at the end of each of some spans.

    Nothing is changed by a suggestion; :mod:`~anomaly_assets.pipeline.approval` does that when
    somebody accepts it. An entity without a single window in a span is passed over, one that fails
    is recorded in ``deployment.failures``.
    """
    moments = list(ends)

    def run(connection: Connection, entity: Entity) -> Iterator[Suggested]:
        for end in moments:
            started = time.perf_counter()
            edges = edge_proposals(deployment, connection, entity, end)
            if edges is None:
                continue
            patterns = pattern_proposals(deployment, connection, entity, end)
            with connection.transaction():
                hold_entity(connection, entity.entity_id)
                new = write_suggestions(connection, entity.entity_id, end, [*edges, *patterns])
            seconds = time.perf_counter() - started
            yield Suggested(entity.entity_id, tuple(edges), tuple(patterns), new, seconds)

    yield from each_entity(deployment, entities, run)


def mine_patterns(deployment: Deployment, entity: Entity, end: datetime) -> Suggested:
    """Mine and store the courses of events of one entity now."""
    started = time.perf_counter()
    with deployment.database.connect() as connection:
        patterns = pattern_proposals(deployment, connection, entity, end)
        with connection.transaction():
            hold_entity(connection, entity.entity_id)
            new = write_suggestions(connection, entity.entity_id, end, patterns)
    return Suggested(entity.entity_id, (), tuple(patterns), new, time.perf_counter() - started)


def edge_proposals(
    deployment: Deployment, connection: Connection, entity: Entity, end: datetime
) -> list[Proposal] | None:
    """Return the edges that the week before `end` suggests; None where it has no window."""
    with connection.transaction():
        span = read_span(connection, entity, WindowRange.between(end - EDGE_SPAN, end))
    if span is None:
        return None
    edges = suggest_edges(*span, Structure.of(entity.catalogue), seed=deployment.settings.seed)
    return [_edge_proposal(entity, edge, end) for edge in edges]


def _edge_proposal(entity: Entity, edge: SuggestedEdge, end: datetime) -> Proposal:
    lag = edge.lag_windows * WINDOW_SECONDS // 60
    when = "in the same window" if lag == 0 else f"{lag} minutes later"
    how = "rises" if edge.strength > 0.0 else "falls"
    reason = (
        f"Suggested by the data of {entity.entity_id} up to {end:%Y-%m-%d}: it {how} {when} "
        f"(support {edge.support:.2f})"
    )
    return Proposal(
        SuggestionKind.EDGE,
        f"{edge.cause} -> {edge.effect}",
        {
            "cause": edge.cause,
            "effect": edge.effect,
            "reason": reason,
            "lag_minutes": lag,
            "strength": round(edge.strength, 4),
        },
        edge.support,
    )


def pattern_proposals(
    deployment: Deployment, connection: Connection, entity: Entity, end: datetime
) -> list[Proposal]:
    """Return the courses of events that the anomalies of the month before `end` share."""
    catalogue = entity.catalogue
    with connection.transaction():
        sequences = anomalous_sequences(
            connection,
            entity,
            WindowRange.between(end - PATTERN_SPAN, end),
            deployment.settings.explanation_threshold,
        )
    # Templates may name the catalogue's events only.
    named = [
        replace(one, events=tuple(e for e in one.events if e.name in catalogue.event_names))
        for one in sequences
    ]
    return [
        _pattern_proposal(pattern, len(named))
        for pattern in frequent_sequences(named, known=catalogue.templates)
    ]


def _pattern_proposal(pattern: SuggestedPattern, of: int) -> Proposal:
    words = [event.replace("_", " ") for event in pattern.events]
    name = "_then_".join(pattern.events)
    if len(name) > _LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name[: _LONGEST_NAME - 9]}_{digest}"
    template = pattern.to_template(
        name=name,
        title=f"{words[0].capitalize()}, then {', then '.join(words[1:])}",
        recommended_action=(
            "Ask what was going on: this recurs. Then name it and say here what to do about it."
        ),
    )
    return Proposal(
        SuggestionKind.PATTERN,
        " -> ".join(pattern.events),
        {
            "template": template.model_dump(mode="json", exclude_defaults=True),
            "count": pattern.count,
            "of": of,
            "lift": round(pattern.lift, 3),
        },
        pattern.support,
    )
