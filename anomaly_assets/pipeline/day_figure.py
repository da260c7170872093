"""An entity's day as a figure: final scores, and which streams were observed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import numpy as np

from anomaly_assets.pipeline.figures import ACTUAL, EPISODE, ONSET, STYLE
from anomaly_assets.streams.windows import WINDOW_SECONDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from anomaly_assets.pipeline.day import Day, DayCourse

_WIDTH: Final = 9.0
_ROW_INCHES: Final = 0.125
_OBSERVED, _MISSING = "#56B4E9", "#FFFFFF"


def draw_day(day: Day, course: DayCourse, threshold: float, time_zone: str) -> Figure:
    """Draw a day.

    Parameters
    ----------
    day, course
        What is drawn.
    threshold
        Final score above which a window is anomalous, drawn as a line.
    time_zone
        IANA name of the zone of the axis.

    Returns
    -------
    matplotlib.figure.Figure
        Final scores above, broken where they are unknown, with the episodes shaded; below one row
        a stream, blue where it was observed, white where it was not, hatched where there is no
        window.
    """
    import matplotlib as mpl  # noqa: PLC0415 - a process that only scores does not pay for it
    from matplotlib.figure import Figure  # noqa: PLC0415

    rows = _ROW_INCHES * len(course.streams)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 2.0 + rows))
        above, below = figure.subplots(
            2, 1, sharex=True, gridspec_kw={"height_ratios": (1.4, rows), "hspace": 0.06}
        )
        _draw_scores(above, day, course, threshold)
        _draw_streams(below, course)
        zone = ZoneInfo(time_zone)
        _clock(below, course, zone)
        height = 2.0 + rows
        figure.subplots_adjust(left=0.19, right=0.965, top=1 - 0.1 / height, bottom=0.4 / height)
    return figure


def _draw_scores(panel: Axes, day: Day, course: DayCourse, threshold: float) -> None:
    middle = course.starts + WINDOW_SECONDS / 2
    for episode in day.anomalies:
        panel.axvspan(
            max(episode.episode_start.timestamp(), course.starts[0]),
            min(episode.episode_end.timestamp(), course.starts[-1] + WINDOW_SECONDS),
            color=EPISODE,
            alpha=0.3,
            linewidth=0,
        )
    panel.axhline(threshold, color=ONSET, linewidth=0.8, linestyle="--")
    panel.plot(middle, course.scores, color=ACTUAL, linewidth=1.0)
    lone = np.isfinite(course.scores) & ~_has_neighbour(course.scores)
    panel.plot(middle[lone], course.scores[lone], ".", color=ACTUAL, markersize=3)
    panel.set_ylim(0.0, 1.02)
    panel.set_ylabel("final score")


def _has_neighbour(scores: Any) -> Any:  # noqa: ANN401 - arrays
    known = np.isfinite(scores)
    before, after = np.roll(known, 1), np.roll(known, -1)
    before[0] = after[-1] = False
    return before | after


def _draw_streams(panel: Axes, course: DayCourse) -> None:
    from matplotlib.colors import ListedColormap  # noqa: PLC0415 - as above

    panel.set_facecolor("#EEEEEE")
    panel.patch.set_hatch("////")
    panel.patch.set_edgecolor("#CCCCCC")
    extent = (course.starts[0], course.starts[-1] + WINDOW_SECONDS, len(course.streams), 0)
    panel.imshow(
        np.ma.masked_invalid(course.observed),
        aspect="auto",
        interpolation="nearest",
        cmap=ListedColormap([_MISSING, _OBSERVED]),
        vmin=0.0,
        vmax=1.0,
        extent=extent,
    )
    panel.set_yticks(np.arange(len(course.streams)) + 0.5, course.streams, fontsize=6.0)
    panel.tick_params(axis="y", length=0)


def _clock(panel: Axes, course: DayCourse, zone: ZoneInfo) -> None:
    end = int(course.starts[-1]) + WINDOW_SECONDS
    step = 3 * 3600 if end - int(course.starts[0]) > 12 * 3600 else 3600
    ticks = np.arange(-(-int(course.starts[0]) // step) * step, end + 1, step)
    labels = [datetime.fromtimestamp(tick, tz=UTC).astimezone(zone) for tick in ticks.tolist()]
    panel.set_xticks(ticks, [f"{label:%H:%M}" for label in labels])
    panel.set_xlim(course.starts[0], end)
    panel.set_xlabel(f"{labels[0]:%d %B %Y}, {zone.key}" if labels else zone.key)
