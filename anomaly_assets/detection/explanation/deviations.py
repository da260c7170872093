"""Values away from where they belong, alone or against each other, as causes of an anomaly."""

from __future__ import annotations

import numpy as np

from anomaly_assets.detection.explanation.cause import Cause, CauseKind, cause_of
from anomaly_assets.detection.explanation.facts import (
    ANOMALOUS,
    DEVIATING,
    LEVELS,
    RELATIONSHIPS,
    WindowFacts,
)
from anomaly_assets.detection.explanation.wording import duration, listed, number, rarity, with_unit
from anomaly_assets.detection.scoring import p_of_score
from anomaly_assets.streams.windows import WINDOW_SECONDS, FloatArray

#: Equal values in a row, this window's included, that make a flat line.
FLAT_WINDOWS = 4
#: Windows that a level shift has lasted, this one included.
SHIFT_WINDOWS = 3
#: Streams that deviate together and make it a widespread change.
WIDESPREAD = 3
#: Scales away from the level before the episode that make a changed state.
DEPARTED = 3.0
#: Share of a stream's part in the anomaly that makes another one its company, not a bystander.
COMPANY = 0.25


def stuck_sensors(facts: WindowFacts) -> list[Cause]:
    """Return the streams that are odd because they do not move."""
    found = []
    for stream in facts.ranked:
        score = float(facts.score[stream])
        if score < ANOMALOUS:
            break
        calm = not abs(float(facts.deviation[stream])) >= DEVIATING
        windows = _is_flat(facts, stream) if calm else 0
        if windows < FLAT_WINDOWS:
            continue
        name, unit = facts.of.names[stream], facts.of.catalogue.streams[stream].unit
        least = "at least " if windows > len(facts.history) else ""
        sentence = (
            f"{name} has not moved from {with_unit(float(facts.values[stream]), unit)} for "
            f"{least}{duration(windows * WINDOW_SECONDS / 60)}, which is unusual for it."
        )
        found.append(cause_of(CauseKind.STUCK_SENSOR, f"{name} stuck", score, sentence, (stream,)))
    return found


def _is_flat(facts: WindowFacts, stream: int) -> int:
    """Count the equal values in a row up to this window."""
    series = np.append(facts.history[:, stream], facts.values[stream])
    series = series[np.isfinite(series)]
    differs = np.nonzero(series[::-1] != series[-1])[0]
    return int(differs[0]) if len(differs) else len(series)


def single_deviations(facts: WindowFacts) -> list[Cause]:
    """Return the strongest stream's spike, or its shift of level when it has lasted."""
    top = next((i for i in facts.ranked if np.isfinite(facts.expected[i])), None)
    if top is None or not abs(float(facts.deviation[top])) >= DEVIATING:
        return []
    total = float(facts.surprising.sum())
    dominance = float(facts.surprising[top]) / total if total > 0.0 else 0.0
    strength = float(facts.score[top]) * (0.4 + 0.4 * dominance)
    name = facts.of.names[top]
    lasted = _shifted_for(facts, top)
    if lasted >= SHIFT_WINDOWS:
        started = facts.evidence.window_start - (lasted - 1) * WINDOW_SECONDS
        level = float(np.nanmedian(facts.history[: len(facts.history) - lasted + 1, top]))
        unit = facts.of.catalogue.streams[top].unit
        up = float(facts.values[top]) > level
        sentence = (
            f"{name} has been {'higher' if up else 'lower'} since "
            f"{facts.clock.time(started)}: {with_unit(float(facts.values[top]), unit)} after "
            f"{number(level)} before."
        )
        return [
            cause_of(CauseKind.LEVEL_SHIFT, f"level shift of {name}", strength, sentence, (top,))
        ]
    others = sum(1 for i in facts.ranked if i != top and facts.score[i] >= ANOMALOUS)
    alone = "" if others else ", and no other stream stood out"
    return [
        cause_of(
            CauseKind.SPIKE,
            f"spike of {name}",
            strength,
            f"{facts.where_expected(top)}{alone}.",
            (top,),
        )
    ]


def _shifted_for(facts: WindowFacts, stream: int) -> int:
    """Windows in a row, this one included, on the far side of the stream's earlier level."""
    series = np.append(facts.history[:, stream], facts.values[stream])
    earlier = series[: len(series) // 2]
    earlier = earlier[np.isfinite(earlier)]
    if len(earlier) < SHIFT_WINDOWS:
        return 0
    level = _middle(earlier)
    spread = 1.4826 * _middle(np.abs(earlier - level))
    beyond = series - level
    # Half of the departure must have been there, on the same side and outside the earlier noise.
    limit = max(0.5 * abs(float(beyond[-1])), 3.0 * spread)
    far = np.sign(beyond[-1]) * beyond > limit
    near = np.nonzero(~far[::-1])[0]
    return int(near[0]) if len(near) else len(series)


def _middle(values: FloatArray) -> float:
    """Upper median: as good as the median for a handful of windows, at a tenth of its time."""
    return float(np.sort(values)[len(values) // 2])


def widespread_change(facts: WindowFacts) -> list[Cause]:
    """Return the change of several streams in one window."""
    streams = [i for i in facts.ranked if facts.deviates[i]]
    if len(streams) < WIDESPREAD:
        return []
    names = listed([facts.of.names[i] for i in streams])
    at = facts.clock.time(facts.evidence.window_start)
    strength = 0.55 + 0.05 * min(len(streams), 6)
    sentence = f"at {at} {len(streams)} streams changed together: {names}."
    title = f"change of {len(streams)} streams together"
    return [cause_of(CauseKind.WIDESPREAD_CHANGE, title, strength, sentence, tuple(streams))]


def changed_state(facts: WindowFacts) -> list[Cause]:
    """Return the streams that have been away from where they were before the episode.

    What lasts is soon expected by each stream's own forecast, so that no single one stands out.
    """
    if facts.windows_since_onset < SHIFT_WINDOWS - 1 or not facts.voice(LEVELS) >= ANOMALOUS:
        return []
    last = facts.departures[-1]
    away = np.where(np.isfinite(last), np.abs(last), 0.0)
    streams = tuple(i for i in np.argsort(-away, kind="stable").tolist() if away[i] >= DEPARTED)
    if not streams:
        return []
    higher = [facts.of.names[i] for i in streams if last[i] > 0.0]
    lower = [facts.of.names[i] for i in streams if last[i] < 0.0]
    parts = [
        f"{listed(names)} {'has' if len(names) == 1 else 'have'} been {which} than before"
        for names, which in ((higher, "higher"), (lower, "lower"))
        if names
    ]
    onset = facts.evidence.window_start - facts.windows_since_onset * WINDOW_SECONDS
    sentence = f"since {facts.clock.time(onset)} {' and '.join(parts)}."
    strength = 0.5 + 0.3 * facts.voice(LEVELS) * min(len(streams) / WIDESPREAD, 1.0)
    kind = CauseKind.LEVEL_SHIFT if len(streams) == 1 else CauseKind.WIDESPREAD_CHANGE
    title = f"changed level of {listed([facts.of.names[i] for i in streams])}"
    return [cause_of(kind, title, strength, sentence, streams)]


def broken_edges(facts: WindowFacts) -> list[Cause]:
    """Find the stream that left its level, others with it, while what drives it is calm.

    Alone it would be a spike; in company of its relatives it is no fault of its sensor.
    """
    candidates = []
    for stream in np.nonzero(facts.deviates)[0].tolist():
        drivers = [i for i in facts.of.causes_of[stream] if facts.available[i]]
        company = [i for i in _company(facts, stream) if i not in drivers]
        if not drivers or not company:
            continue
        # A driver that moved a little drives no stream that moved far.
        calm = max(DEVIATING, COMPANY * abs(float(facts.deviation[stream])))
        if float(facts.stirred[drivers].max()) < calm:
            candidates.append((float(facts.parts[stream]), -stream, drivers, company))
    if not candidates:
        return []
    _, negative, drivers, company = max(candidates)
    stream, names = -negative, facts.of.names
    what = listed([names[i] for i in drivers])
    sentence = (
        f"{facts.where_expected(stream)}, though {what}, which it follows, "
        f"{'was' if len(drivers) == 1 else 'were'} as usual; "
        f"{listed([names[i] for i in company])} changed with it."
    )
    strength = (0.5 + 0.4 * facts.accounted_for([stream, *company])) * float(facts.score[stream])
    title = f"{names[stream]} does not fit {what}"
    streams = (stream, *drivers)
    return [cause_of(CauseKind.RELATIONSHIP_BREAK, title, strength, sentence, streams)]


def _company(facts: WindowFacts, stream: int) -> list[int]:
    """Return the streams of the same group, or that follow this one, that deviate with it."""
    of, enough = facts.of, COMPANY * float(facts.parts[stream])
    return [
        i
        for i in np.nonzero(facts.deviates)[0].tolist()
        if i != stream
        and (of.group_of[i] == of.group_of[stream] or stream in of.causes_of[i])
        and facts.parts[i] >= enough
    ]


def relationship_break(facts: WindowFacts) -> list[Cause]:
    """Say that tier 2 hears a relationship break that no single stream shows."""
    voice = facts.voice(RELATIONSHIPS)
    highest = float(facts.score[facts.ranked[0]]) if facts.ranked else 0.0
    if not voice >= ANOMALOUS or highest >= ANOMALOUS:
        return []
    tier2 = facts.evidence.cross_stream
    scores = np.full(len(facts.of.members), np.nan) if tier2 is None else tier2.group_score
    at = facts.clock.time(facts.evidence.window_start)
    streams: tuple[int, ...] = ()
    where = ""
    if np.isfinite(scores).any():
        group = int(np.nanargmax(scores))
        streams = tuple(i for i in facts.of.members[group].tolist() if facts.available[i])
        where = f", most of all those of {facts.of.group_names[group]}"
    often = rarity(float(p_of_score(np.array([voice]))[0]))
    sentence = (
        f"at {at} every stream was near its usual level, but they did not fit each other{where}; "
        f"that occurs {often}."
    )
    title = "streams do not fit each other"
    return [cause_of(CauseKind.RELATIONSHIP_BREAK, title, voice, sentence, streams)]
