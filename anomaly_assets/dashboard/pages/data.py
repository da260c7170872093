"""Data for the drawings, as JSON; each at most as many points as a screen shows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
from starlette.exceptions import HTTPException

from anomaly_assets.dashboard.lookups.episodes import Wanted, episodes
from anomaly_assets.dashboard.lookups.scores import (
    final_line,
    heat_map,
    stream_line,
    utc_offset,
)
from anomaly_assets.dashboard.pages.entity import EntityView, view_of
from anomaly_assets.dashboard.pages.episode import found_episode
from anomaly_assets.detection.explanation.wording import capitalised, stream_name
from anomaly_assets.errors import StorageError
from anomaly_assets.pipeline.figures import timelines

if TYPE_CHECKING:
    from starlette.responses import Response

    from anomaly_assets.dashboard.visits import Visit
    from anomaly_assets.pipeline.deployment import Entity

#: Episodes drawn into the timeline at most, those with the highest scores.
MOST_EPISODES = 400
_MOST_TIMELINES = 8


def scores(visit: Visit) -> Response:
    """Return the final score over time, with coverage and episodes."""
    view = view_of(visit)
    found = episodes(
        visit.connection,
        Wanted(view.row.entity_id, view.span.start, view.span.end, order="score"),
        limit=MOST_EPISODES,
    )
    return visit.json(
        {
            **_frame(view),
            **final_line(visit.connection, view.row.entity_id, view.span).plain(),
            "threshold": visit.threshold,
            "episodes": [
                {
                    "id": str(one.anomaly_id),
                    "start": int(one.start.timestamp()),
                    "end": int(one.end.timestamp()),
                    "score": one.peak_score,
                    "verdict": one.verdict,
                    "summary": one.summary,
                }
                for one in sorted(found, key=lambda one: one.start)
            ],
        }
    )


def heat(visit: Visit) -> Response:
    """Return the scores of the streams over time, and where nothing was observed."""
    view = view_of(visit)
    entity = _with_catalogue(view)
    group = visit.asked.get("group", "")
    chosen = [one for one in entity.catalogue.streams if group in {"", one.group}]
    offset = utc_offset(view.span.start.astimezone(ZoneInfo(view.zone)))
    names = [one.id for one in chosen]
    found = heat_map(visit.connection, view.row.entity_id, names, view.span, offset)
    # Hundredths as whole numbers: what cannot be told apart needs no digits.
    known = np.isfinite(found.highest)
    score = np.where(known, np.rint(np.where(known, found.highest, 0.0) * 100.0), -1).astype(int)
    score[found.missing] = -2
    return visit.json(
        {
            **_frame(view),
            "start": found.start,
            "step": found.step,
            "columns": score.shape[1],
            "threshold": visit.threshold,
            "streams": [
                {
                    "id": one.id,
                    "name": capitalised(stream_name(one)),
                    "group": one.group,
                    "cells": score[number].tolist(),
                }
                for number, one in enumerate(chosen)
            ],
        }
    )


def stream(visit: Visit) -> Response:
    """Return the values of one stream, and what was expected."""
    view = view_of(visit)
    entity = _with_catalogue(view)
    name = visit.asked.get("stream", "")
    if name not in entity.catalogue.stream_ids:
        raise HTTPException(404, "There is no such stream.")
    found = entity.catalogue.streams[entity.catalogue.index(name)]
    line = stream_line(visit.connection, view.row.entity_id, name, view.span)
    return visit.json(
        {
            **_frame(view),
            **line.plain(),
            "name": capitalised(stream_name(found)),
            "unit": found.unit,
        }
    )


def minutes(visit: Visit) -> Response:
    """Return the minutes around an episode, of each stream that it is about."""
    explanation, _, entity = found_episode(visit)
    if entity is None:
        raise HTTPException(409, "The catalogue of this entity cannot be read.")
    try:
        lines = timelines(visit.deployment, entity, explanation, most=_MOST_TIMELINES)
    except StorageError as error:
        told = "The windows of this episode are no longer stored as they were; replay them."
        raise HTTPException(409, told) from error
    return visit.json(
        {
            "zone": explanation.time_zone,
            "start": explanation.episode_start,
            "end": explanation.episode_end,
            "window": explanation.window_start,
            "streams": [
                {
                    "id": line.stream,
                    "label": line.label.replace("\n", " "),
                    "hold": line.hold,
                    "happening": line.happening,
                    "x": line.times.tolist(),
                    "y": _plain(line.values),
                    **_band(line.times, line.window_times, line.low, line.high),
                    "onsets": [[at, up] for at, up in line.onsets],
                }
                for line in lines
            ],
        }
    )


def _band(times: Any, window_times: Any, low: Any, high: Any) -> dict[str, Any]:  # noqa: ANN401 - arrays
    """Return the expected band at the minutes of a stream: that of the window they lie in."""
    lower, upper = np.full(times.shape, np.nan), np.full(times.shape, np.nan)
    if window_times.size:
        place = np.searchsorted(window_times, times, side="right") - 1
        inside = (place >= 0) & (times - window_times[np.maximum(place, 0)] < 300)
        lower[inside], upper[inside] = low[place[inside]], high[place[inside]]
    return {"low": _plain(lower), "high": _plain(upper)}


def _plain(values: Any) -> list[float | None]:  # noqa: ANN401 - an array
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values.tolist()]


def _frame(view: EntityView) -> dict[str, Any]:
    return {
        "zone": view.zone,
        "from": int(view.span.start.timestamp()),
        "to": int(view.span.end.timestamp()),
        "until": int((view.row.aggregated_until or datetime.now(tz=UTC)).timestamp()),
    }


def _with_catalogue(view: EntityView) -> Entity:
    if view.entity is None:
        raise HTTPException(409, "The catalogue of this entity cannot be read.")
    return view.entity
