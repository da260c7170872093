"""What stopped, and what speaks when it usually does not, as causes of an anomaly."""

from __future__ import annotations

import numpy as np

from anomaly_assets.detection.explanation.cause import Cause, CauseKind, cause_of
from anomaly_assets.detection.explanation.facts import ANOMALOUS, WindowFacts
from anomaly_assets.detection.explanation.wording import duration, listed, rarity
from anomaly_assets.detection.scoring import p_of_score, score_of_p
from anomaly_assets.streams.windows import WINDOW_SECONDS, IntArray

#: Share of a group's earlier readings below which its presence is a return from absence.
MOSTLY_ABSENT = 0.25
#: A gap of more windows (a day) is an old one, not what happened now.
OLD_GAP = 288
#: Windows by which happenings may have been last seen before their device fell silent.
NOT_DUE = 2
#: Windows after which a gap is told by its length instead of the time of day it began.
HALF_A_DAY = 144


def absences(facts: WindowFacts) -> list[Cause]:
    """Everything, whole groups, or single streams that stopped."""
    if not facts.available.any():
        names = facts.of.names
        what = names[0] if len(names) == 1 else f"any of the {len(names)} streams"
        since = _since(facts, np.arange(len(names)))
        sentence = f"nothing has been received from {what} {since}."
        return [cause_of(CauseKind.NOTHING_RECEIVED, "nothing received", 0.95, sentence)]
    found: list[Cause] = []
    fresh = ~facts.available & (facts.missing_for <= OLD_GAP)
    fresh &= facts.recently_seen | (facts.missing_for > 1)
    silent: list[tuple[int, IntArray]] = []
    for group, members in enumerate(facts.of.members):
        lost = members[fresh[members]]
        if not len(lost):
            continue
        if facts.spoke[members].any():
            found += _stopped(facts, lost)
        else:
            silent.append((group, lost))
    return [*found, *(_group_absence(facts, groups) for groups in _together(facts, silent))]


def _together(
    facts: WindowFacts, silent: list[tuple[int, IntArray]]
) -> list[list[tuple[int, IntArray]]]:
    """Join groups that fell silent at one time: they hang on one device.

    Happenings need not have been due when it fell silent; levels are, so at least one group of them
    leads.
    """
    gap = {group: int(facts.missing_for[lost].min()) for group, lost in silent}
    levels = [entry for entry in silent if not _happening(facts, entry[1])]
    joined: list[list[tuple[int, IntArray]]] = []
    for entry in levels:
        first = next((j for j in joined if abs(gap[j[0][0]] - gap[entry[0]]) <= 1), None)
        if first is None:
            joined.append([entry])
        else:
            first.append(entry)
    for entry in silent:
        if not _happening(facts, entry[1]):
            continue
        lag = [gap[entry[0]] - gap[j[0][0]] for j in joined]
        fits = [j for j, late in zip(joined, lag, strict=True) if 0 <= late <= NOT_DUE]
        if fits:
            fits[0].append(entry)
        else:
            joined.append([entry])
    return joined


def _happening(facts: WindowFacts, streams: IntArray) -> bool:
    """Whether streams are of happenings rather than of levels, most of them."""
    return bool(facts.of.eventful[streams].mean() > 0.5)


def _group_absence(facts: WindowFacts, groups: list[tuple[int, IntArray]]) -> Cause:
    """Describe groups that fell silent together, the first of them leading."""
    lost = np.concatenate([streams for _, streams in groups])
    scores = [facts.gap_group_score(group) for group, _ in groups]
    known = [score for score in scores if np.isfinite(score)]
    new = bool(facts.recently_seen[lost].any())
    # Without gap patterns nobody knows whether the absence is usual; a fresh one is worth a word.
    strength = 0.3 + 0.6 * max(known) if known else 0.6 if new else 0.3
    gaps = facts.evidence.gaps
    if gaps is not None and any(bool(gaps.coordinated[group]) for group, _ in groups):
        strength += 0.05
    strength += 0.05 * (len(groups) - 1)
    name = listed([facts.of.group_names[group] for group, _ in groups])
    streams = tuple(lost.tolist())
    rare = ""
    if known and max(known) >= ANOMALOUS:
        often = rarity(float(p_of_score(np.array([max(known)]))[0]))
        rare = f", when a gap of {_gap_length(facts, lost)} occurs {often}"
    if _happening(facts, groups[0][1]):
        kind, title = CauseKind.UNUSUAL_ABSENCE, f"unusual absence of {name}"
        sentence = f"no {name} {_since(facts, lost)} {facts.context}{rare}."
    else:
        kind, title = CauseKind.DEVICE_OFF, f"{name} device off or not worn"
        names = listed([facts.of.names[i] for i in streams])
        together = " together" if len(streams) > 1 else ""
        sentence = f"{names} stopped{together} {_stopped_at(facts, lost)} {facts.context}{rare}."
    return cause_of(kind, title, strength, sentence, streams)


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
            cause_of(CauseKind.STREAM_STOPPED, title, 0.2 + 0.6 * unusual, sentence, (stream,))
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


def presences(facts: WindowFacts) -> list[Cause]:
    """Find groups that speak at a time when they usually do not."""
    found = []
    for group, members in enumerate(facts.of.members):
        unusual = facts.gap_group_score(group)
        here = members[facts.spoke[members]]
        if not unusual >= ANOMALOUS or not len(here) or not len(facts.settled):
            continue
        if float(facts.settled[:, here].mean()) > MOSTLY_ABSENT:
            continue
        name = facts.of.group_names[group]
        often = rarity(float(p_of_score(np.array([unusual]))[0]))
        names = listed([facts.of.names[i] for i in here.tolist()])
        at = facts.clock.time(facts.evidence.window_start)
        sentence = f"{name} at {at} {facts.context} ({names}), which occurs {often}."
        title = f"unusual {name} {facts.context}"
        found.append(
            cause_of(CauseKind.UNUSUAL_PRESENCE, title, unusual, sentence, tuple(here.tolist()))
        )
    return found
