"""People's judgement of windows and episodes, with the course of events that they name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from anomaly_assets.detection.explanation.episodes import telling_window
from anomaly_assets.detection.explanation.exemplars import Exemplar
from anomaly_assets.detection.explanation.facts import CatalogueFacts, WindowFacts
from anomaly_assets.detection.explanation.wording import capitalised, in_words
from anomaly_assets.errors import InputError
from anomaly_assets.pipeline.episodes import Anomalous
from anomaly_assets.pipeline.explain import window_evidence
from anomaly_assets.storage.explanations import first_episode
from anomaly_assets.storage.identifiers import Verdict
from anomaly_assets.storage.labels import add_label, named_labels, require_processed
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowRange, window_of

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg

    from anomaly_assets.detection.explanation.events import EventSequence
    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.storage.labels import Label, Opinion

    Connection = psycopg.Connection[Any]

#: Minutes before the labelled range in which its events may begin, as an explanation has them.
_BEFORE: Final = 10
#: Windows of a range without an anomalous one that are looked at; more is no one course of events.
_MOST_WINDOWS: Final = 9


def judge(
    deployment: Deployment,
    entity: Entity,
    opinion: Opinion,
    start: datetime,
    end: datetime | None = None,
) -> Label:
    """Record what somebody says of windows, and how they went if it is given a cause.

    Parameters
    ----------
    deployment
        Where the windows are.
    entity
        Whose.
    opinion
        What is said. The title and action of a cause that is the name of a template are the
        template's; those of another may be left out if an earlier standing label gave them.
    start, end
        The windows from the one that holds `start` up to `end`. Without an end, the explained
        episode that `start` lies in, as far as it is known, or else the one window.

    Returns
    -------
    Label
        As it is stored.

    Raises
    ------
    InputError
        If the range ends before it begins, has not been processed or is labelled already; if
        nothing happened in it, so that its cause could never be recognised again; if the cause
        lacks a title or an action, or has those of a template already; or if a stream is none of
        the entity's.
    """
    unknown = sorted(set(opinion.stream_ids or ()).difference(entity.catalogue.stream_ids))
    if unknown:
        msg = (
            f"entity {entity.entity_id!r} has no stream {unknown[0]!r}; its catalogue "
            f"{entity.catalogue.name!r} lists those it has"
        )
        raise InputError(msg)
    with deployment.database.connect() as connection, connection.transaction():
        windows, anomaly_id = _range(connection, entity, start, end)
        require_processed(connection, entity.entity_id, windows)
        events = None
        if opinion.cause is not None:
            opinion = _with_words(connection, entity, opinion)
        if opinion.cause is not None and opinion.verdict is Verdict.CONFIRMED:
            threshold = deployment.settings.explanation_threshold
            events = Exemplar.of(
                course_of_events(connection, entity, windows, threshold),
                name=opinion.cause,
                title=str(opinion.title),
                recommended_action=str(opinion.recommended_action),
            ).events
        return add_label(
            connection, entity.entity_id, windows, opinion, anomaly_id=anomaly_id, events=events
        )


def course_of_events(
    connection: Connection, entity: Entity, windows: WindowRange, threshold: float
) -> EventSequence:
    """Return what happened in some windows by the minute, as an explanation of them sees it.

    That is up to the end of the window by which an episode is explained, from ten minutes before
    the range, at most an hour. A range without an anomalous window is seen from its end, a longer
    one than three quarters of an hour from there.

    Parameters
    ----------
    connection
        A connection to the database.
    entity
        Whose windows.
    windows
        At least one, processed.
    threshold
        A final score above this is anomalous.
    """
    anomalous = Anomalous.stored(connection, entity, windows, threshold)
    if anomalous.starts.size:
        telling = int(anomalous.starts[telling_window(anomalous.codes, anomalous.scores)])
    else:
        telling = windows.capped(_MOST_WINDOWS).end - WINDOW_SECONDS
    lookback = (telling - windows.start) // 60 + _BEFORE
    facts = CatalogueFacts.of(entity.catalogue)
    return WindowFacts(facts, window_evidence(connection, entity, telling), lookback).sequence


def _range(
    connection: Connection, entity: Entity, start: datetime, end: datetime | None
) -> tuple[WindowRange, str | None]:
    """Return the windows that are meant, and the explained episode that they belong to."""
    first = int(window_of(start).timestamp())
    if end is None:
        windows = WindowRange(first, first + WINDOW_SECONDS)
    elif end <= start:
        msg = (
            f"entity {entity.entity_id!r}: a label cannot end at {end.isoformat()} when it begins "
            f"at {start.isoformat()}; give a later end, or none"
        )
        raise InputError(msg)
    else:
        last = int(window_of(end).timestamp())
        windows = WindowRange(first, last + WINDOW_SECONDS * (window_of(end) < end))
    episode = first_episode(connection, entity.entity_id, windows)
    if episode is None:
        return windows, None
    return WindowRange.between(*episode[1:]) if end is None else windows, episode[0]


def _with_words(connection: Connection, entity: Entity, opinion: Opinion) -> Opinion:
    """Add the title of a cause and what to do about it, where somebody has said so before."""
    for template in entity.catalogue.templates:
        if template.name == opinion.cause:
            if opinion.title is not None or opinion.recommended_action is not None:
                msg = (
                    f"cause {opinion.cause!r} is a template of catalogue "
                    f"{entity.catalogue.name!r}, which has its title and action; leave them out, "
                    "or use another name"
                )
                raise InputError(msg)
            return replace(
                opinion, title=template.title, recommended_action=template.recommended_action
            )
    known = named_labels(connection, entity.entity_id, cause=opinion.cause)
    title = opinion.title or (known[-1].title if known else None)
    action = opinion.recommended_action or (known[-1].recommended_action if known else None)
    if action is None and opinion.verdict is Verdict.CONFIRMED:
        msg = (
            f"cause {opinion.cause!r} is new for entity {entity.entity_id!r}; say in an action "
            "what to do about it"
        )
        raise InputError(msg)
    return replace(
        opinion,
        title=title or capitalised(in_words(str(opinion.cause))),
        recommended_action=action,
    )
