"""What may lie behind an anomaly: known courses of events, faults of the data, odd behaviour.

Every finder looks at one kind of cause and states, for each candidate, log-odds against "something
nobody thought of". Turned into probabilities they compete with each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import numpy as np

from anomaly_assets.detection.explanation.facts import RELATIONSHIPS, WindowFacts
from anomaly_assets.detection.explanation.matching import SequenceMatch
from anomaly_assets.detection.explanation.wording import (
    capitalised,
    duration,
    listed,
    minutes_later,
    number,
    rarity,
    with_unit,
)
from anomaly_assets.detection.scoring import p_of_score, score_of_p
from anomaly_assets.streams.windows import WINDOW_SECONDS, FloatArray, IntArray

#: Log-odds of one step of evidence. Calibrated on simulated courses of events, where probabilities
#: stay a little below frequencies: unlike there, the true cause need not be among the templates.
PER_STEP = 2.0
#: A template that agrees less than this is no candidate.
LEAST_SIMILARITY = 0.3
#: A single deviation counts as one from here; below, the value is where it was expected.
DEVIATING = 2.0
#: Scores from here on are anomalous by themselves.
ANOMALOUS = 0.7
#: Equal values in a row, this window's included, that make a flat line.
FLAT_WINDOWS = 4
#: Windows that a level shift has lasted, this one included.
SHIFT_WINDOWS = 3
#: Streams that deviate together and make it a widespread change.
WIDESPREAD = 3
#: Share of a group's earlier readings below which its presence is a return from absence.
MOSTLY_ABSENT = 0.25
#: A gap of more windows (a day) is an old one, not what happened now.
OLD_GAP = 288
#: Windows after which a gap is told by its length instead of the time of day it began.
HALF_A_DAY = 144


class CauseKind(StrEnum):
    """Kinds of causes."""

    SEQUENCE = "matched_sequence"
    NOTHING_RECEIVED = "nothing_received"
    DEVICE_OFF = "device_off"
    STREAM_STOPPED = "stream_stopped"
    STUCK_SENSOR = "stuck_sensor"
    SPIKE = "single_stream_spike"
    LEVEL_SHIFT = "level_shift"
    UNUSUAL_ABSENCE = "unusual_absence"
    UNUSUAL_PRESENCE = "unusual_presence"
    RELATIONSHIP_BREAK = "relationship_break"
    WIDESPREAD_CHANGE = "widespread_change"
    UNKNOWN = "unknown"


#: What to do about each kind; a matched sequence brings its own action from the catalogue.
RECOMMENDED_ACTIONS = MappingProxyType(
    {
        CauseKind.NOTHING_RECEIVED: (
            "Check that the devices are on and connected, and that readings still reach the system."
        ),
        CauseKind.DEVICE_OFF: "Check that the device is charged, worn and connected.",
        CauseKind.STREAM_STOPPED: (
            "Check the sensor and the permissions of its app; the rest of its group still reports."
        ),
        CauseKind.STUCK_SENSOR: (
            "Restart the sensor or its app, and do not trust its values until they move again."
        ),
        CauseKind.SPIKE: (
            "Look at the raw readings of this stream: label it a false alarm if they are faulty, "
            "otherwise ask what happened."
        ),
        CauseKind.LEVEL_SHIFT: (
            "Ask what changed at that time; if the new level is meant to stay, label it as a false "
            "alarm."
        ),
        CauseKind.UNUSUAL_ABSENCE: (
            "Ask whether everything is all right; if the absence was planned, label it as a false "
            "alarm."
        ),
        CauseKind.UNUSUAL_PRESENCE: (
            "Ask whether this use was intended; if it becomes a habit it will be learnt."
        ),
        CauseKind.RELATIONSHIP_BREAK: (
            "Compare these streams side by side: one of them may be miscalibrated, or come from "
            "another person or device."
        ),
        CauseKind.WIDESPREAD_CHANGE: (
            "Look for one event behind all these streams, beginning with the first in the timeline."
        ),
        CauseKind.UNKNOWN: (
            "Look at the timeline and the listed streams, and label this window so that the system "
            "learns from it."
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Cause:
    """One possible cause of an anomaly.

    Parameters
    ----------
    kind
        Its kind.
    title
        It in a few words.
    log_odds
        Against a cause nobody thought of.
    sentence
        The explanation, if this is the primary cause.
    action
        What to do.
    streams
        Positions of the streams it is about.
    match
        The template it follows, for a matched sequence.
    """

    kind: CauseKind
    title: str
    log_odds: float
    sentence: str
    action: str
    streams: tuple[int, ...] = ()
    match: SequenceMatch | None = None


def possible_causes(facts: WindowFacts) -> list[Cause]:
    """Return every candidate, most probable first; never empty."""
    found = [
        *_matched_sequences(facts),
        *_absences(facts),
        *_presences(facts),
        *_stuck_sensors(facts),
        *_single_deviations(facts),
        *_widespread_change(facts),
        *_relationship_break(facts),
    ]
    if not found:
        found = [_cause(CauseKind.UNKNOWN, "unknown cause", 0.5, _unknown_sentence(facts))]
    return sorted(found, key=lambda cause: -cause.log_odds)


def _cause(
    kind: CauseKind, title: str, strength: float, sentence: str, streams: tuple[int, ...] = ()
) -> Cause:
    """Make a cause of the table; a strength of 0.5 is as good as a cause nobody thought of."""
    log_odds = 8.0 * (min(max(strength, 0.0), 1.0) - 0.5)
    action = RECOMMENDED_ACTIONS[kind]
    return Cause(kind, title, log_odds, capitalised(sentence), action, streams)


def _matched_sequences(facts: WindowFacts) -> list[Cause]:
    found: list[Cause] = []
    for match in facts.matches:
        if match.similarity < LEAST_SIMILARITY:
            continue
        streams = tuple(dict.fromkeys(event.stream for _, event in match.matched))
        # Matches come best first: no later one can be the primary cause, whose sentence is told.
        sentence = "" if found else capitalised(_sequence_sentence(facts, match))
        found.append(
            Cause(
                CauseKind.SEQUENCE,
                match.template.title,
                PER_STEP * match.evidence,
                sentence,
                match.template.recommended_action,
                streams,
                match,
            )
        )
    return found


def _sequence_sentence(facts: WindowFacts, match: SequenceMatch) -> str:
    alike = f"{100.0 * match.similarity:.0f} % similar"
    verdict = f"this matches {_uncapitalised(match.template.title)} ({alike})"
    excursions = {event.stream: event for event in facts.sequence.excursions}
    events = [excursions[e.stream] for _, e in match.matched if e.stream in excursions]
    involved = {event.stream for event in events}
    ranked = [i for i in facts.ranked if i in involved and np.isfinite(facts.expected[i])]
    if not ranked:
        what = listed(
            [
                f"{facts.of.names[event.stream]} {_rose(event.peak)} at "
                f"{facts.clock.time(facts.minute_time(event.minute))}"
                for event in {e.stream: e for e in events}.values()
            ]
        )
        return f"{what}: {verdict}."
    top = ranked[0]
    own = excursions[top]
    others = [e for e in events if e.stream != top and e.minute <= own.minute]
    first = min(others, key=lambda event: event.minute, default=None)
    sentence = _where_expected(facts, top)
    if first is not None:
        onset = facts.minute_time(own.minute)
        before = (
            f"{minutes_later(own.minute - first.minute)} {facts.of.names[first.stream]} "
            f"{_rose(first.peak)}"
        )
        if onset == facts.evidence.window_start:
            sentence += f", {before}"
        else:
            sentence += f"; it {_rose(own.peak)} at {facts.clock.time(onset)}, {before}"
    return f"{sentence}: {verdict}."


def _where_expected(facts: WindowFacts, stream: int) -> str:
    """``At 10:35 heart rate was 148 bpm where 72 was expected``."""
    unit = facts.of.catalogue.streams[stream].unit
    at = facts.clock.time(facts.evidence.window_start)
    value, expected = float(facts.values[stream]), float(facts.expected[stream])
    actual, usual = with_unit(value, unit), number(expected)
    return f"at {at} {facts.of.names[stream]} was {actual} where {usual} was expected"


def _rose(peak: float) -> str:
    return "rose" if peak > 0.0 else "fell"


def _uncapitalised(title: str) -> str:
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]


def _absences(facts: WindowFacts) -> list[Cause]:
    """Everything, whole groups, or single streams that stopped."""
    if not facts.available.any():
        names = facts.of.names
        what = names[0] if len(names) == 1 else f"any of the {len(names)} streams"
        since = _since(facts, np.arange(len(names)))
        sentence = f"nothing has been received from {what} {since}."
        return [_cause(CauseKind.NOTHING_RECEIVED, "nothing received", 0.95, sentence)]
    found: list[Cause] = []
    fresh = ~facts.available & (facts.missing_for <= OLD_GAP)
    fresh &= facts.recently_seen | (facts.missing_for > 1)
    for group, members in enumerate(facts.of.members):
        lost = members[fresh[members]]
        if not len(lost):
            continue
        if facts.available[members].any():
            found += _stopped(facts, lost)
        else:
            found.append(_group_absence(facts, group, lost))
    return found


def _group_absence(facts: WindowFacts, group: int, lost: IntArray) -> Cause:
    unusual = facts.gap_group_score(group)
    new = bool(facts.recently_seen[lost].any())
    # Without gap patterns nobody knows whether the absence is usual; a fresh one is worth a word.
    strength = 0.3 + 0.6 * unusual if np.isfinite(unusual) else 0.6 if new else 0.3
    gaps = facts.evidence.gaps
    if gaps is not None and bool(gaps.coordinated[group]):
        strength += 0.05
    name = facts.of.group_names[group]
    streams = tuple(lost.tolist())
    happening = bool(facts.of.eventful[lost].mean() > 0.5)
    rare = ""
    if np.isfinite(unusual) and unusual >= ANOMALOUS:
        often = rarity(float(p_of_score(np.array([unusual]))[0]))
        rare = f", when a gap of {_gap_length(facts, lost)} occurs {often}"
    if happening:
        kind, title = CauseKind.UNUSUAL_ABSENCE, f"unusual absence of {name}"
        sentence = f"no {name} {_since(facts, lost)} {facts.context}{rare}."
    else:
        kind, title = CauseKind.DEVICE_OFF, f"{name} device off or not worn"
        names = listed([facts.of.names[i] for i in streams])
        together = " together" if len(streams) > 1 else ""
        sentence = f"{names} stopped{together} {_stopped_at(facts, lost)} {facts.context}{rare}."
    return _cause(kind, title, strength, sentence, streams)


def _stopped(facts: WindowFacts, lost: IntArray) -> list[Cause]:
    """Single streams that stopped while the rest of their group goes on."""
    gaps = facts.evidence.gaps
    if gaps is None:
        return []
    found = []
    for stream in lost.tolist():
        surprise = float(gaps.surprise[stream])
        if not surprise > 0.0:
            continue
        unusual = float(score_of_p(np.exp(np.array([-surprise])))[0])
        name = facts.of.names[stream]
        at = _stopped_at(facts, np.array([stream]))
        group = facts.of.group_names[int(facts.of.group_of[stream])]
        sentence = f"{name} stopped {at} while the other {group} streams went on."
        title = f"{name} stopped"
        found.append(
            _cause(CauseKind.STREAM_STOPPED, title, 0.2 + 0.6 * unusual, sentence, (stream,))
        )
    return found


def _since(facts: WindowFacts, streams: IntArray) -> str:
    """Say since when streams are missing: ``since 09:40``, ``for 20 h``."""
    moment = _gap_start(facts, streams)
    return f"for {_gap_length(facts, streams)}" if moment is None else f"since {moment}"


def _stopped_at(facts: WindowFacts, streams: IntArray) -> str:
    """Say when streams stopped: ``at 09:40``, ``20 h ago``."""
    moment = _gap_start(facts, streams)
    return f"{_gap_length(facts, streams)} ago" if moment is None else f"at {moment}"


def _gap_length(facts: WindowFacts, streams: IntArray) -> str:
    return duration(int(facts.missing_for[streams].min()) * WINDOW_SECONDS / 60)


def _gap_start(facts: WindowFacts, streams: IntArray) -> str | None:
    """Return the time a gap began, None where a time of day alone would mislead."""
    windows = int(facts.missing_for[streams].min())
    if windows > HALF_A_DAY:
        return None
    started = facts.evidence.window_start - (max(windows, 1) - 1) * WINDOW_SECONDS
    at_the_latest = " at the latest" if bool(facts.gap_is_longer[streams].all()) else ""
    return f"{facts.clock.time(started)}{at_the_latest if windows > 1 else ''}"


def _presences(facts: WindowFacts) -> list[Cause]:
    """Find groups that speak at a time when they usually do not."""
    found = []
    for group, members in enumerate(facts.of.members):
        unusual = facts.gap_group_score(group)
        here = members[facts.available[members]]
        if not unusual >= ANOMALOUS or not len(here) or not len(facts.history):
            continue
        if float(facts.seen_before[:, here].mean()) > MOSTLY_ABSENT:
            continue
        name = facts.of.group_names[group]
        often = rarity(float(p_of_score(np.array([unusual]))[0]))
        names = listed([facts.of.names[i] for i in here.tolist()])
        at = facts.clock.time(facts.evidence.window_start)
        sentence = f"{name} at {at} {facts.context} ({names}), which occurs {often}."
        title = f"unusual {name} {facts.context}"
        found.append(
            _cause(CauseKind.UNUSUAL_PRESENCE, title, unusual, sentence, tuple(here.tolist()))
        )
    return found


def _is_flat(facts: WindowFacts, stream: int) -> int:
    """Count the equal values in a row up to this window."""
    series = np.append(facts.history[:, stream], facts.values[stream])
    series = series[np.isfinite(series)]
    differs = np.nonzero(series[::-1] != series[-1])[0]
    return int(differs[0]) if len(differs) else len(series)


def _stuck_sensors(facts: WindowFacts) -> list[Cause]:
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
        found.append(_cause(CauseKind.STUCK_SENSOR, f"{name} stuck", score, sentence, (stream,)))
    return found


def _single_deviations(facts: WindowFacts) -> list[Cause]:
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
        return [_cause(CauseKind.LEVEL_SHIFT, f"level shift of {name}", strength, sentence, (top,))]
    others = sum(1 for i in facts.ranked if i != top and facts.score[i] >= ANOMALOUS)
    alone = "" if others else ", and no other stream stood out"
    return [
        _cause(
            CauseKind.SPIKE,
            f"spike of {name}",
            strength,
            f"{_where_expected(facts, top)}{alone}.",
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


def _widespread_change(facts: WindowFacts) -> list[Cause]:
    streams = [
        i
        for i in facts.ranked
        if facts.score[i] >= ANOMALOUS and abs(float(facts.deviation[i])) >= DEVIATING
    ]
    if len(streams) < WIDESPREAD:
        return []
    names = listed([facts.of.names[i] for i in streams])
    at = facts.clock.time(facts.evidence.window_start)
    strength = 0.55 + 0.05 * min(len(streams), 6)
    sentence = f"at {at} {len(streams)} streams changed together: {names}."
    title = f"change of {len(streams)} streams together"
    return [_cause(CauseKind.WIDESPREAD_CHANGE, title, strength, sentence, tuple(streams))]


def _relationship_break(facts: WindowFacts) -> list[Cause]:
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
    return [_cause(CauseKind.RELATIONSHIP_BREAK, title, voice, sentence, streams)]


def _unknown_sentence(facts: WindowFacts) -> str:
    at = facts.clock.time(facts.evidence.window_start)
    score = facts.evidence.score
    if not np.isfinite(score):
        return f"at {at} {facts.context} nothing stood out, and no score is known."
    if score < ANOMALOUS:
        return f"at {at} {facts.context} nothing stood out (score {score:.2f})."
    return (
        f"at {at} {facts.context} the window as a whole was unusual (score {score:.2f}), but no "
        "single stream accounts for it."
    )
