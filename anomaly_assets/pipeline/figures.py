"""Explanations as figures: the streams involved, minute by minute, on the entity's clock.

Matplotlib is imported where something is drawn, never when this module is: a process that only
scores does not pay for it.
"""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import numpy as np

from anomaly_assets.detection.explanation.facts import CatalogueFacts
from anomaly_assets.detection.explanation.record import Explanation
from anomaly_assets.errors import AnomalyAssetsError, InputError
from anomaly_assets.pipeline.minutes import read_minutes
from anomaly_assets.pipeline.tiers import read_block, read_individual
from anomaly_assets.storage.queries import explanation_record, top_anomalies
from anomaly_assets.storage.windows import stored_ranges
from anomaly_assets.streams.windows import (
    WINDOW_SECONDS,
    BoolArray,
    FloatArray,
    IntArray,
    WindowRange,
)

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from anomaly_assets.pipeline.deployment import Deployment, Entity

    Connection = psycopg.Connection[Any]

#: What a figure can be written as.
SUFFIXES: Final = (".pdf", ".png", ".svg")
#: Streams drawn at most, one below the other.
MOST_STREAMS: Final = 6
_BEFORE, _AFTER = 12 * WINDOW_SECONDS, 3 * WINDOW_SECONDS
#: A longer episode is drawn around the window explained; the rest would be a smear.
_LONGEST = 144 * WINDOW_SECONDS
#: Of the picture in a run's metadata, which is kept with every run: some 40 kB.
_SMALL_STREAMS, _SMALL_WIDTH, _SMALL_DPI = 4, 7.5, 80
#: Half of the expected band, in tier 1's scales.
_BAND_SCALES = 2.0
#: Colours that people with any kind of colour vision tell apart (Okabe and Ito, 2008).
ACTUAL, EXPECTED, EPISODE, ONSET = "#0072B2", "#555555", "#E69F00", "#D55E00"
STYLE: Final[dict[Any, Any]] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "anomaly-assets",
    "svg.fonttype": "none",
    "text.parse_math": False,
}
#: Neither time nor version of the library: the same explanation gives the same bytes.
_METADATA: Final[dict[str, dict[str, str | None]]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@dataclass(frozen=True)
class Timeline:
    """One stream's minutes around an episode.

    Parameters
    ----------
    stream, label
        Identifier, and name with unit.
    times
        Starts of the minutes, epoch seconds, shape ``(n_minutes,)``.
    values
        One-minute values, same shape, NaN without a reading.
    hold
        Minutes that may lie between readings without a gap.
    happening
        Whether the stream is of happenings, which have no line between them.
    window_times, low, high
        Starts of the windows with a known expectation, and the expected band of a minute's value,
        shape ``(n_known,)``.
    onsets
        Moments at which its excursions began (epoch seconds) and whether upwards.
    """

    stream: str
    label: str
    times: IntArray
    values: FloatArray
    hold: int
    happening: bool
    window_times: IntArray
    low: FloatArray
    high: FloatArray
    onsets: tuple[tuple[int, bool], ...]


def timelines(
    deployment: Deployment,
    entity: Entity,
    explanation: Explanation,
    *,
    most: int = MOST_STREAMS,
) -> list[Timeline]:
    """Read the minutes of the streams that an explanation is about.

    Parameters
    ----------
    deployment, entity
        Where they are, and whose.
    explanation
        What is to be drawn.
    most
        Streams at most: those of the cause first, then those of the evidence.
    """
    windows = _extent(explanation)
    of = CatalogueFacts.of(entity.catalogue)
    chosen = _chosen(explanation, entity.catalogue.stream_ids)[:most]
    with deployment.database.connect() as connection, connection.transaction():
        minutes = read_minutes(connection, entity, windows)
        expected, scale, known_at = _expectations(connection, entity, windows)
    found = []
    for stream in chosen:
        position = entity.catalogue.index(stream)
        spec = entity.catalogue.streams[position]
        least, most_possible = spec.valid_range or (-np.inf, np.inf)
        level = expected[:, position] * of.per_minute[position]
        half = _BAND_SCALES * scale[:, position] * of.per_minute_scale[position]
        known: BoolArray = np.isfinite(level) & np.isfinite(half)
        found.append(
            Timeline(
                stream=stream,
                label=_label(of.names[position], spec.unit),
                times=windows.start + 60 * np.arange(len(minutes), dtype=np.int64),
                values=minutes[:, position],
                hold=int(of.hold[position]),
                happening=bool(of.eventful[position]),
                window_times=known_at[known],
                low=np.clip(level - half, least, most_possible)[known],
                high=np.clip(level + half, least, most_possible)[known],
                onsets=tuple(
                    (entry.at, entry.text.endswith("increased"))
                    for entry in explanation.temporal_sequence
                    if entry.stream == stream
                ),
            )
        )
    return found


def draw(explanation: Explanation, lines: list[Timeline], *, width: float = 9.0) -> Figure:
    """Draw an explanation.

    Parameters
    ----------
    explanation
        What is drawn.
    lines
        Its streams, from :func:`timelines`.
    width
        Inches.

    Returns
    -------
    matplotlib.figure.Figure
        A panel a stream over a common axis of local time: values as a line that is broken where
        readings are missing, the band in which they were expected, a triangle where an excursion
        began, the episode shaded and the window explained framed.
    """
    import matplotlib as mpl  # noqa: PLC0415 - see the module's docstring
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(STYLE):
        summary = textwrap.wrap(explanation.summary, int(width * 15))
        height = 0.9 + 0.16 * len(summary) + 1.05 * max(len(lines), 1)
        figure = Figure(figsize=(width, height))
        panels = figure.subplots(max(len(lines), 1), 1, sharex=True, squeeze=False)[:, 0]
        for panel, line in zip(panels, lines, strict=False):
            _draw_stream(panel, line)
        for panel in panels:
            _mark_episode(panel, explanation)
        _local_time(panels[-1], explanation)
        title = "\n".join([_heading(explanation), *summary])
        figure.text(0.01, 1.0 - 0.08 / height, title, va="top", linespacing=1.35)
        top = 1.0 - (0.32 + 0.165 * (len(summary) + 1)) / height
        figure.subplots_adjust(left=0.16, right=0.965, top=top, bottom=0.42 / height, hspace=0.18)
        _legend(figure, panels[0], lines)
    return figure


def as_bytes(figure: Figure, form: str, *, dpi: int = 150) -> bytes:
    """Return a figure as ``png``, ``svg`` or ``pdf``; the same figure gives the same bytes."""
    import matplotlib as mpl  # noqa: PLC0415 - see the module's docstring

    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=form, dpi=dpi, metadata=_METADATA[form])
    return buffer.getvalue()


def check_path(path: Path) -> str:
    """Return the form that a file's suffix asks for.

    Raises
    ------
    InputError
        If figures are not written as that.
    """
    if path.suffix.lower() not in SUFFIXES:
        msg = f"cannot plot to {str(path)!r}: end the name with one of {', '.join(SUFFIXES)}"
        raise InputError(msg)
    return path.suffix.lower()[1:]


def save(deployment: Deployment, entity: Entity, explanation: Explanation, path: Path) -> None:
    """Draw an explanation into a file.

    Raises
    ------
    InputError
        If the suffix is none of :data:`SUFFIXES`.
    AnomalyAssetsError
        If the file cannot be written.
    """
    form = check_path(path)
    picture = as_bytes(draw(explanation, timelines(deployment, entity, explanation)), form)
    try:
        path.write_bytes(picture)
    except OSError as error:
        why = error.strerror or str(error)
        msg = f"cannot write the figure to {str(path)!r}: {why}; name a file in a folder of yours"
        raise AnomalyAssetsError(msg) from error


def _label(name: str, unit: str) -> str:
    return "\n".join([*textwrap.wrap(name, 17), *([f"({unit})"] if unit else [])])


def _extent(explanation: Explanation) -> WindowRange:
    """Return the windows drawn: the episode with an hour before and a little after it."""
    start, end = explanation.episode_start, explanation.episode_end
    if end - start > _LONGEST:
        start = max(start, explanation.window_start - _LONGEST // 2)
        end = min(explanation.episode_end, start + _LONGEST)
    start = min(start, explanation.window_start) - _BEFORE
    return WindowRange(start, max(end, explanation.window_start + WINDOW_SECONDS) + _AFTER)


def _chosen(explanation: Explanation, streams: tuple[str, ...]) -> list[str]:
    """Name the streams to draw: of the cause, of the evidence, or of what is missing."""
    evidence = [stream.stream for stream in explanation.evidence.streams]
    named = [*explanation.cause_streams, *evidence]
    return list(dict.fromkeys(s for s in (named or explanation.missing_streams) if s in streams))


def _expectations(
    connection: Connection, entity: Entity, windows: WindowRange
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Return tier 1's forecasts and scales of the stored windows of a range, and their starts."""
    shape = (0, len(entity.catalogue.streams))
    expected, scale = [np.empty(shape)], [np.empty(shape)]
    starts = [np.empty(0, dtype=np.int64)]
    for stored in stored_ranges(connection, entity.entity_id, windows):
        values = read_block(connection, entity, stored).values
        tier1 = read_individual(connection, entity, stored)
        with np.errstate(invalid="ignore", divide="ignore"):
            own = np.abs(values - tier1.expected) / np.abs(tier1.deviation)
        expected.append(tier1.expected)
        scale.append(np.where(np.isfinite(own), own, np.nan))
        starts.append(stored.starts())
    return np.concatenate(expected), np.concatenate(scale), np.concatenate(starts)


def _draw_stream(panel: Axes, line: Timeline) -> None:
    for part in _unbroken(line.window_times, WINDOW_SECONDS):
        # A window's expectation holds until its end.
        times = np.append(line.window_times[part], line.window_times[part][-1] + WINDOW_SECONDS)
        low, high = line.low[part], line.high[part]
        panel.fill_between(
            _days(times),
            np.append(low, low[-1]),
            np.append(high, high[-1]),
            step="post",
            color=EXPECTED,
            alpha=0.22,
            linewidth=0.0,
        )
    seen = np.flatnonzero(np.isfinite(line.values))
    for part in _unbroken(line.times[seen], 60 * line.hold):
        panel.plot(
            _days(line.times[seen[part]] + 30),
            line.values[seen[part]],
            color=ACTUAL,
            linewidth=0.0 if line.happening else 1.0,
            marker="." if line.happening or part.stop - part.start == 1 else None,
            markersize=3.5,
        )
    for at, upwards in line.onsets:
        panel.plot(
            _days(np.array([at])),
            [0.04 if upwards else 0.96],
            transform=panel.get_xaxis_transform(),
            marker="^" if upwards else "v",
            color=ONSET,
            markersize=6.0,
            linewidth=0.0,
            clip_on=False,
            zorder=5,
        )
    if not len(seen):
        panel.text(0.5, 0.5, "no readings", transform=panel.transAxes, ha="center", va="center")
        panel.set_yticks([])
    panel.set_ylabel(line.label, rotation=0, ha="right", va="center")
    panel.margins(y=0.15)


def _mark_episode(panel: Axes, explanation: Explanation) -> None:
    start, end = _days(np.array([explanation.episode_start, explanation.episode_end]))
    panel.axvspan(start, end, color=EPISODE, alpha=0.18, linewidth=0.0, zorder=0)
    told = explanation.window_start
    for edge in _days(np.array([told, told + WINDOW_SECONDS])):
        panel.axvline(edge, color=EPISODE, linewidth=0.8, zorder=1)


def _local_time(panel: Axes, explanation: Explanation) -> None:
    from matplotlib.dates import AutoDateLocator, DateFormatter  # noqa: PLC0415 - see above

    zone = ZoneInfo(explanation.time_zone)
    windows = _extent(explanation)
    panel.set_xlim(*_days(np.array([windows.start, windows.end])))
    panel.xaxis.set_major_locator(AutoDateLocator(tz=zone, minticks=4, maxticks=12))  # type: ignore[no-untyped-call]
    panel.xaxis.set_major_formatter(DateFormatter("%H:%M", tz=zone))  # type: ignore[no-untyped-call]
    day = datetime.fromtimestamp(explanation.window_start, tz=zone)
    panel.set_xlabel(f"{day:%Y-%m-%d}, time in {explanation.time_zone}")


def _heading(explanation: Explanation) -> str:
    score = "unknown" if explanation.peak_score is None else f"{explanation.peak_score:.2f}"
    state = ", ongoing" if explanation.ongoing else ""
    return (
        f"{explanation.entity_id}: {explanation.primary_cause} "
        f"({100.0 * explanation.confidence:.0f} % confident), highest score {score}{state}"
    )


def _legend(figure: Figure, panel: Axes, lines: list[Timeline]) -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415 - see the module's docstring
    from matplotlib.patches import Patch  # noqa: PLC0415

    handles: list[Any] = [
        Line2D([], [], color=ACTUAL, linewidth=1.0, label="actual"),
        Patch(facecolor=EXPECTED, alpha=0.22, label="expected"),
        Patch(facecolor=EPISODE, alpha=0.3, label="episode"),
        Line2D([], [], color=EPISODE, linewidth=0.8, label="window explained"),
    ]
    if any(line.onsets for line in lines):
        handles.append(
            Line2D([], [], color=ONSET, marker="^", linewidth=0.0, label="excursion began")
        )
    anchor = (0.965, panel.get_position().y1 + 0.02 / figure.get_figheight())
    figure.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=anchor,
        ncols=len(handles),
        frameon=False,
        fontsize=7.0,
        borderpad=0.0,
        handlelength=1.4,
        columnspacing=1.2,
    )


def _unbroken(times: IntArray, most: int) -> list[slice]:
    """Cut times (seconds) where more than `most` seconds lie between two of them."""
    if times.size == 0:
        return []
    edges = [0, *(np.flatnonzero(np.diff(times) > most) + 1).tolist(), times.size]
    return [slice(first, last) for first, last in pairwise(edges)]


def _days(seconds: IntArray) -> FloatArray:
    """Turn epoch seconds into matplotlib's dates: days since 1970-01-01 UTC."""
    days: FloatArray = seconds / 86_400.0
    return days


def top_picture(deployment: Deployment, windows: WindowRange) -> tuple[Explanation, bytes] | None:
    """Draw the highest-scored episode of a range, small enough for a run's metadata.

    Returns
    -------
    tuple or None
        Its explanation and a PNG; None where nothing was anomalous.
    """
    with deployment.database.connect() as connection:
        found = top_anomalies(
            connection,
            since=datetime.fromtimestamp(windows.start, tz=UTC),
            until=datetime.fromtimestamp(windows.end, tz=UTC),
            min_score=deployment.settings.explanation_threshold,
            limit=1,
        )
        record = None
        if found and found[0].anomaly_id is not None:
            record = explanation_record(connection, found[0].anomaly_id)
    if record is None:
        return None
    explanation = Explanation.from_dict(record)
    lines = timelines(
        deployment, deployment.entity(explanation.entity_id), explanation, most=_SMALL_STREAMS
    )
    return explanation, as_bytes(
        draw(explanation, lines, width=_SMALL_WIDTH), "png", dpi=_SMALL_DPI
    )
