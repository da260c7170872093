"""Compare alarms with the faults that were really there: what was found, how late, what was false.

No point adjustment: one alarm window finds a fault, but it counts as one fault, never as all
windows of it. The first days, in which the system knows nothing yet, are left out of the false
alarms, and the summary says how many days that were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, NamedTuple

import numpy as np

from anomaly_assets.detection.explanation.episodes import MAX_QUIET_WINDOWS
from anomaly_assets.evaluation.episodes import (
    ALARM_THRESHOLD,
    Episode,
    check_scores,
    group_episodes,
)
from anomaly_assets.evaluation.simulator.faults import InjectedFault
from anomaly_assets.streams.windows import WINDOW_SECONDS, BoolArray, FloatArray, IntArray

_DAY_SECONDS = 86_400


class ScoredWindows(NamedTuple):
    """Final scores of one entity; a plain ``(starts, scores)`` does as well.

    Parameters
    ----------
    starts
        Window starts in epoch seconds, strictly increasing, shape ``(n_windows,)``.
    scores
        Final scores in [0, 1] or NaN, same shape.
    """

    starts: IntArray
    scores: FloatArray


#: What is compared with faults: window starts (epoch seconds) and final scores, as a pair.
Scored = tuple[IntArray, FloatArray]


@dataclass(frozen=True)
class Rules:
    """What counts as an alarm, as found and as false.

    Parameters
    ----------
    threshold
        Scores above it are alarms.
    tolerance_minutes
        An alarm this long after a fault's end still finds it; one this long before or after is not
        false.
    learning_days
        Days of each entity, from its first window, in which alarms are not called false and faults
        are not counted.
    max_quiet
        Longest gap inside an episode, in windows.
    """

    threshold: float = ALARM_THRESHOLD
    tolerance_minutes: float = 30.0
    learning_days: float = 3.0
    max_quiet: int = MAX_QUIET_WINDOWS


@dataclass(frozen=True)
class FoundFault:
    """What became of one fault.

    Parameters
    ----------
    fault
        The fault.
    found
        Whether an alarm window overlaps it or its tolerance.
    delay_minutes
        From its start to the end of the first such window, when the alarm can be known; None if not
        found.
    peak
        Highest score over it and its tolerance; None if nothing was scored there.
    """

    fault: InjectedFault
    found: bool
    delay_minutes: float | None
    peak: float | None


def find(
    scored: Mapping[str, Scored], faults: Sequence[InjectedFault], rules: Rules | None = None
) -> list[FoundFault]:
    """Say of each fault whether and when it was found.

    Parameters
    ----------
    scored
        Scores by entity; a fault of an entity that is not here is not found.
    faults
        What was there.
    rules
        The defaults of :class:`Rules` unless given.

    Raises
    ------
    EvaluationError
        If scores and windows do not fit.
    """
    rules = rules or Rules()
    named = _named(scored)
    return [_find_one(named.get(fault.entity), fault, rules) for fault in faults]


def _named(scored: Mapping[str, Scored]) -> dict[str, ScoredWindows]:
    """Give every pair its names, once it is known to fit."""
    for entity, (starts, scores) in scored.items():
        check_scores(entity, starts, scores)
    return {entity: ScoredWindows(*pair) for entity, pair in scored.items()}


def _find_one(windows: ScoredWindows | None, fault: InjectedFault, rules: Rules) -> FoundFault:
    if windows is None:
        return FoundFault(fault, found=False, delay_minutes=None, peak=None)
    start = fault.start.timestamp()
    end = fault.end.timestamp() + 60.0 * rules.tolerance_minutes
    over = (windows.starts + WINDOW_SECONDS > start) & (windows.starts < end)
    scores = windows.scores[over]
    known = scores[np.isfinite(scores)]
    alarms = windows.starts[over][scores > rules.threshold]
    delay = float(alarms[0] + WINDOW_SECONDS - start) / 60.0 if alarms.size else None
    peak = float(known.max()) if known.size else None
    return FoundFault(fault, found=bool(alarms.size), delay_minutes=delay, peak=peak)


def false_alarms(
    scored: Mapping[str, Scored], faults: Sequence[InjectedFault], rules: Rules | None = None
) -> list[Episode]:
    """Return the episodes after the learning period that overlap no fault with its tolerance.

    Parameters
    ----------
    scored, faults, rules
        As for :func:`find`.
    """
    rules = rules or Rules()
    alarms: list[Episode] = []
    for entity, windows in _named(scored).items():
        if not windows.starts.size:
            continue
        learnt = _learnt(windows, rules)
        touched = _touched(entity, faults, rules)
        alarms += [
            episode
            for episode in group_episodes(
                entity,
                windows.starts[learnt],
                windows.scores[learnt],
                threshold=rules.threshold,
                max_quiet=rules.max_quiet,
            )
            if not any(
                episode.start.timestamp() < end and episode.end.timestamp() > start
                for start, end in touched
            )
        ]
    return alarms


def summary(
    scored: Mapping[str, Scored], faults: Sequence[InjectedFault], rules: Rules | None = None
) -> dict[str, Any]:
    """Summarise how well faults were found, in values that JSON can hold.

    Parameters
    ----------
    scored, faults, rules
        As for :func:`find`.

    Returns
    -------
    dict
        ``faults`` and ``found`` (numbers, of faults after the learning period), ``found_share``,
        ``median_delay_minutes``, ``false_alarms``, ``false_alarms_per_day`` (a day and entity),
        ``clean_alarm_share`` (share of known windows clear of faults that are alarms),
        ``clean_windows``, ``entities``, ``entity_days``, ``learning_days_excluded``, ``threshold``,
        ``tolerance_minutes``, ``by_kind`` and ``details`` (one a fault, those of the learning
        period marked). Shares and rates are None where there is nothing to divide by.
    """
    rules = rules or Rules()
    results = find(scored, faults, rules)
    begins = {entity: _learning_end(windows, rules) for entity, windows in _named(scored).items()}
    details = [_detail(result, begins.get(result.fault.entity)) for result in results]
    counted = [detail for detail in details if not detail["in_learning_period"]]
    delays = [d["delay_minutes"] for d in counted if d["delay_minutes"] is not None]
    days, clean, clean_alarms = 0.0, 0, 0
    for entity, windows in _named(scored).items():
        after = _learnt(windows, rules) & np.isfinite(windows.scores)
        days += float(after.sum()) * WINDOW_SECONDS / _DAY_SECONDS
        after &= _clear(windows, _touched(entity, faults, rules))
        clean += int(after.sum())
        clean_alarms += int((windows.scores[after] > rules.threshold).sum())
    false = false_alarms(scored, faults, rules)
    found = sum(detail["found"] for detail in counted)
    return {
        "faults": len(counted),
        "found": found,
        "found_share": found / len(counted) if counted else None,
        "median_delay_minutes": float(np.median(delays)) if delays else None,
        "false_alarms": len(false),
        "false_alarms_per_day": len(false) / days if days else None,
        "clean_alarm_share": clean_alarms / clean if clean else None,
        "clean_windows": clean,
        "entities": len(scored),
        "entity_days": days,
        "learning_days_excluded": rules.learning_days,
        "threshold": rules.threshold,
        "tolerance_minutes": rules.tolerance_minutes,
        "by_kind": _by_kind(counted),
        "details": details,
    }


def _by_kind(details: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    kinds: dict[str, dict[str, int]] = {}
    for detail in details:
        of_kind = kinds.setdefault(detail["kind"], {"faults": 0, "found": 0})
        of_kind["faults"] += 1
        of_kind["found"] += detail["found"]
    return kinds


def _detail(result: FoundFault, learning_end: float | None) -> dict[str, Any]:
    fault = result.fault
    return {
        "entity": fault.entity,
        "kind": str(fault.kind),
        "start": fault.start.astimezone(UTC).isoformat(),
        "end": fault.end.astimezone(UTC).isoformat(),
        "streams": list(fault.streams),
        "cause": fault.cause,
        "strength": fault.strength,
        "found": result.found,
        "delay_minutes": result.delay_minutes,
        "peak": result.peak,
        "in_learning_period": learning_end is not None and fault.start.timestamp() < learning_end,
    }


def _learning_end(windows: ScoredWindows, rules: Rules) -> float | None:
    if not windows.starts.size:
        return None
    return float(windows.starts[0]) + rules.learning_days * _DAY_SECONDS


def _learnt(windows: ScoredWindows, rules: Rules) -> BoolArray:
    """Return which windows lie after the learning period."""
    end = _learning_end(windows, rules)
    return np.asarray(windows.starts >= (np.inf if end is None else end))


def _touched(
    entity: str, faults: Sequence[InjectedFault], rules: Rules
) -> list[tuple[float, float]]:
    """Return the times of an entity's faults with their tolerance, epoch seconds."""
    tolerance = 60.0 * rules.tolerance_minutes
    return [
        (fault.start.timestamp() - tolerance, fault.end.timestamp() + tolerance)
        for fault in faults
        if fault.entity == entity
    ]


def _clear(windows: ScoredWindows, touched: list[tuple[float, float]]) -> BoolArray:
    """Return which windows overlap none of the times."""
    clear = np.ones(windows.starts.shape, dtype=np.bool_)
    for start, end in touched:
        clear &= (windows.starts >= end) | (windows.starts + WINDOW_SECONDS <= start)
    return clear
