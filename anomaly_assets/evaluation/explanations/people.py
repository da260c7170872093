"""Whether the injected cause is named: explanations of simulated people's faults.

The real detection runs over the test bed, every episode is explained as the pipeline explains it,
and the causes named are compared with what was injected, by rules that ask for the kind of cause
*and* its streams. Nothing here needs a database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from anomaly_assets.detection.explanation.causes import CauseKind
from anomaly_assets.detection.explanation.episodes import Episode, episodes_of
from anomaly_assets.detection.explanation.events import minute_means
from anomaly_assets.detection.explanation.evidence import HISTORY_WINDOWS, WindowEvidence
from anomaly_assets.detection.explanation.explain import Explainer, Mode
from anomaly_assets.detection.explanation.network.fitting import FitError, fit_network
from anomaly_assets.detection.explanation.network.structure import Structure
from anomaly_assets.detection.explanation.record import OTHER, Explanation
from anomaly_assets.detection.explanation.triggers import CodeArray, Trigger, triggers
from anomaly_assets.detection.system import Detection, DetectionState, detect
from anomaly_assets.evaluation.episodes import ALARM_THRESHOLD
from anomaly_assets.evaluation.found import Rules
from anomaly_assets.evaluation.simulator import InjectedFault, Simulation, simulate
from anomaly_assets.evaluation.simulator.faults import FaultKind
from anomaly_assets.evaluation.simulator.sensors import SENSORS
from anomaly_assets.evaluation.simulator.simulation import DEFAULT_ENTITIES
from anomaly_assets.evaluation.simulator.testbed import TESTBED_DAYS, many_faults, window_block
from anomaly_assets.streams.catalogue import Catalogue
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import (
    WINDOW_SECONDS,
    WINDOWS_PER_DAY,
    WINDOWS_PER_HOUR,
    FloatArray,
    WindowBlock,
)

#: Days in which the system learns; what is explained there is not judged.
LEARNING_DAYS = 7
#: An episode that reaches this final score is certain to be odd: one window in 300 does by chance.
HIGH_CONFIDENCE = 0.8
#: How many of the causes named count as "among the first".
AMONG_FIRST = 3

_DEVICE_OF = MappingProxyType({sensor.stream: str(sensor.device) for sensor in SENSORS})
_GROUP_OF = MappingProxyType({sensor.stream: sensor.group for sensor in SENSORS})
_PART_OF = MappingProxyType({FaultKind.GROUP_OUTAGE: _GROUP_OF, FaultKind.DEVICE_DOWN: _DEVICE_OF})
_BROKEN_EDGE = frozenset({"accel_magnitude", "heart_rate"})
_SINGLE = frozenset({CauseKind.SPIKE, CauseKind.LEVEL_SHIFT})
_OF_THE_PERSON = frozenset({FaultKind.UNUSUAL_ABSENCE_AT_WORK, FaultKind.USE_AT_3AM})
#: Kinds of causes that name a kind of fault rightly, if they are about the right streams.
_KINDS: Mapping[FaultKind, frozenset[CauseKind]] = MappingProxyType(
    {
        FaultKind.SPIKE: frozenset({CauseKind.SPIKE}),
        FaultKind.LEVEL_SHIFT: frozenset({CauseKind.LEVEL_SHIFT}),
        FaultKind.FLAT_LINE: frozenset({CauseKind.STUCK_SENSOR}),
        FaultKind.GROUP_OUTAGE: frozenset(
            {CauseKind.DEVICE_OFF, CauseKind.UNUSUAL_ABSENCE, CauseKind.STREAM_STOPPED}
        ),
        FaultKind.DEVICE_DOWN: frozenset({CauseKind.DEVICE_OFF}),
        FaultKind.UNUSUAL_ABSENCE_AT_WORK: frozenset({CauseKind.UNUSUAL_ABSENCE}),
        FaultKind.USE_AT_3AM: frozenset({CauseKind.UNUSUAL_PRESENCE}),
    }
)
_LINES_PER_MISTAKE = 3


@dataclass(frozen=True)
class Watched:
    """One simulated person as the system saw them.

    Parameters
    ----------
    block, detection
        Their windows, and what tiers 1 to 3 say of each.
    minutes
        One-minute values, shape ``(5 * n_windows, n_streams)``.
    labels
        What was injected.
    """

    block: WindowBlock
    detection: Detection
    minutes: FloatArray
    labels: tuple[InjectedFault, ...]


@dataclass(frozen=True)
class Judged:
    """A found fault and how its episode was explained.

    Parameters
    ----------
    label, explanation
        The two that are compared.
    rank
        1 for the primary cause, 2 and up for the alternatives in order; None if the injected cause
        is not among those named.
    """

    label: InjectedFault
    explanation: Explanation
    rank: int | None


def measure_people(
    seeds: Iterable[int],
    *,
    people: int = len(DEFAULT_ENTITIES),
    days: int = TESTBED_DAYS,
    mode: Mode = Mode.FAST,
) -> dict[str, Any]:
    """Measure how often the injected cause is named, over the test bed's people.

    Parameters
    ----------
    seeds
        Seeds of the simulations; each has its own people.
    people, days
        People a seed and days simulated, of which the first seven are for learning.
    mode
        Mode of the explanations.

    Returns
    -------
    dict
        See :func:`summary`; JSON-safe.
    """
    catalogue = load_catalogue("default")
    judged: list[Judged] = []
    explanations: list[Explanation] = []
    faults = 0
    for seed in seeds:
        entities = tuple(f"person-{number + 1}" for number in range(people))
        injected = many_faults(seed, entities, days=days)
        simulation = simulate(seed, entities, days=days, faults=injected)
        for entity in entities:
            watched = watch(simulation, entity, catalogue)
            found = explain_episodes(watched, catalogue, mode=mode)
            faults += sum(label.visible for label in watched.labels)
            judged += judge(watched, found)
            explanations += found
    return summary(judged, explanations, faults)


def watch(simulation: Simulation, entity: str, catalogue: Catalogue) -> Watched:
    """Run tiers 1 to 3 over one person from fresh state, and take the readings by the minute."""
    block = window_block(simulation, entity, catalogue)
    detection = detect(DetectionState.fresh(catalogue), block)
    mine = simulation.readings[simulation.readings["entity_id"] == entity]
    names = mine["stream_id"].cat.categories
    position = np.array([catalogue.index(name) for name in names], dtype=np.int64)
    minutes = minute_means(
        position[mine["stream_id"].cat.codes.to_numpy()],
        mine["timestamp"].dt.as_unit("us").to_numpy(np.int64),
        mine["value"].to_numpy(),
        block.windows.start,
        len(block) * WINDOW_SECONDS // 60,
        len(catalogue.streams),
        aggregations=[stream.aggregation for stream in catalogue.streams],
    )
    labels = tuple(label for label in simulation.labels if label.entity == entity)
    return Watched(block, detection, minutes, labels)


def explain_episodes(
    watched: Watched, catalogue: Catalogue, *, mode: Mode = Mode.FAST
) -> list[Explanation]:
    """Explain every episode after the learning days, in order, as the pipeline does."""
    codes = triggers(
        watched.detection.individual.score,
        watched.detection.cross_stream.score,
        watched.detection.ensemble.score,
    )
    rows = np.flatnonzero(codes)
    windows = watched.block.windows
    starts = windows.starts()
    scores = watched.detection.ensemble.score[rows]
    episodes = episodes_of(starts[rows], codes[rows], scores, until=windows.end)
    learnt = windows.start + LEARNING_DAYS * 86_400
    explainer = Explainer(catalogue, mode=mode)
    return [
        explainer.explain(_evidence(watched, episode, codes, catalogue, mode))
        for episode in episodes
        if episode.start >= learnt
    ]


def _evidence(
    watched: Watched, episode: Episode, codes: CodeArray, catalogue: Catalogue, mode: Mode
) -> WindowEvidence:
    detection, block = watched.detection, watched.block
    row = (episode.telling - block.windows.start) // WINDOW_SECONDS
    stop = (row + 1) * WINDOW_SECONDS // 60
    first = max(0, stop - HISTORY_WINDOWS * WINDOW_SECONDS // 60)
    evidence = WindowEvidence.from_results(
        block,
        row,
        Trigger.of_code(int(codes[row])) or Trigger.FORCED,
        history=block.values[:0],
        individual=detection.individual,
        cross_stream=detection.cross_stream,
        gaps=detection.gaps,
        ensemble=detection.ensemble,
        minutes=watched.minutes[first:stop],
        minutes_start=block.windows.start + first * 60,
        episode=episode,
    )
    if mode is Mode.FAST:
        return evidence
    # As the hourly fit would have left it.
    last = row - row % WINDOWS_PER_HOUR
    learnt = slice(max(0, last - WINDOWS_PER_DAY), last)
    network, problem = None, ""
    try:
        network = fit_network(
            block.values[learnt],
            block.calendar.hour[learnt],
            Structure.of(catalogue),
            fitted_at=block.windows.start + last * WINDOW_SECONDS,
        )
    except FitError as error:
        problem = str(error)
    day = block.values[max(0, row + 1 - WINDOWS_PER_DAY) : row + 1]
    return replace(evidence, network=network, network_problem=problem, day=day)


def judge(watched: Watched, explanations: Sequence[Explanation]) -> list[Judged]:
    """Compare every visible fault that was found with the explanation of its episode.

    A fault is found by its first alarm window (final score above the threshold) from its start to
    half an hour after its end; the episode is the one with that window.
    """
    starts = watched.block.windows.starts()
    alarms = starts[watched.detection.ensemble.score > ALARM_THRESHOLD]
    found = []
    for label in watched.labels:
        begin = label.start.timestamp()
        end = label.end.timestamp() + 60.0 * Rules().tolerance_minutes
        over = alarms[(alarms + WINDOW_SECONDS > begin) & (alarms < end)]
        if not label.visible or not over.size:
            continue
        alarm = int(over[0])
        found += [
            Judged(label, explanation, rank_of(label, explanation))
            for explanation in explanations
            if explanation.episode_start <= alarm < explanation.episode_end
        ]
    return found


def rank_of(label: InjectedFault, explanation: Explanation) -> int | None:
    """Return the rank at which the injected cause is named, None if it is not."""
    named = [(explanation.cause_kind, explanation.cause_streams)]
    named += [(a.cause, a.streams) for a in explanation.alternative_explanations]
    for rank, (kind, streams) in enumerate(named, start=1):
        if kind != OTHER and is_cause(label, CauseKind(kind), streams):
            return rank
    return None


def is_cause(label: InjectedFault, kind: CauseKind, streams: Sequence[str]) -> bool:
    """Whether a cause of this kind, about these streams, is what was injected.

    ======================  ======================================================================
    injected                named rightly
    ======================  ======================================================================
    spike                   a spike of exactly that stream
    flat line               exactly that stream stuck
    group outage            streams of that group and no other are off, absent or have stopped, at
                            least half of those that it took
    device down, one        streams of that device and no other are off, at least half of those that
                            it took
    device down, all        nothing received
    absence at work         unusual absence of phone use and of nothing else
    use at 3 a.m.           unusual presence of phone use and of nothing else
    relationship break      a broken relationship among whose streams are both that were uncoupled,
                            or a spike or shift of one of the two
    ======================  ======================================================================

    A matched course of events ("stress", "possible medical event") is never right, even where a
    person would agree with it.
    """
    named = frozenset(streams)
    if label.kind is FaultKind.DEVICE_DOWN and label.cause == "all":
        return kind is CauseKind.NOTHING_RECEIVED
    if label.kind is FaultKind.RELATIONSHIP_BREAK:
        if kind is CauseKind.RELATIONSHIP_BREAK:
            return named >= _BROKEN_EDGE
        return kind in _SINGLE and bool(named) and named <= _BROKEN_EDGE
    if label.kind in _PART_OF:
        right = _half_of(label, named, _PART_OF[label.kind])
    elif label.kind in _OF_THE_PERSON:
        right = bool(named) and {_GROUP_OF.get(stream) for stream in named} == {"interaction"}
    else:
        right = named == {label.cause}
    return right and kind in _KINDS[label.kind]


def _half_of(label: InjectedFault, named: frozenset[str], part_of: Mapping[str, str]) -> bool:
    """Whether the streams named all belong to the part that failed, and are half of it."""
    belong = {part_of.get(stream) for stream in named} == {label.cause}
    return belong and 2 * len(named.intersection(label.streams)) >= len(label.streams)


def is_actionable(explanation: Explanation) -> bool:
    """Whether the explanation proposes something that fits a cause it believes in.

    The cause is known, about streams that it names (or about all), more probable than "another
    cause", and comes with an action.
    """
    other = explanation.alternative_explanations[-1].probability
    about = bool(explanation.cause_streams) or explanation.cause_kind == CauseKind.NOTHING_RECEIVED
    return (
        explanation.cause_kind != CauseKind.UNKNOWN
        and about
        and explanation.primary_probability > other
        and bool(explanation.recommended_action.strip())
    )


def summary(
    judged: Sequence[Judged], explanations: Sequence[Explanation], faults: int
) -> dict[str, Any]:
    """Sum up, in values that JSON can hold.

    Parameters
    ----------
    judged
        Found faults with their explanations.
    explanations
        Explanations of all episodes after the learning days.
    faults
        Visible faults injected.

    Returns
    -------
    dict
        ``faults``, ``found``; ``primary`` and ``first_three`` (shares of the found faults whose
        cause is named first or among the first three); ``high_confidence`` (number of episodes) and
        ``actionable`` (share of them); ``episodes``; ``by_kind`` (found, primary, first_three a
        kind of fault), ``confusion`` (primary cause kinds a kind of fault) and ``mistakes`` (a few
        sentences of explanations that name another cause first, a kind of fault). Shares are None
        where there is nothing to divide by.
    """
    sure = [e for e in explanations if e.peak_score is not None and e.peak_score > HIGH_CONFIDENCE]
    by_kind: dict[str, dict[str, int]] = {}
    confusion: dict[str, dict[str, int]] = {}
    mistakes: dict[str, list[str]] = {}
    for one in judged:
        kind = str(one.label.kind)
        counts = by_kind.setdefault(kind, {"found": 0, "primary": 0, "first_three": 0})
        counts["found"] += 1
        counts["primary"] += one.rank == 1
        counts["first_three"] += _among_first(one)
        row = confusion.setdefault(kind, {})
        row[one.explanation.cause_kind] = row.get(one.explanation.cause_kind, 0) + 1
        if one.rank != 1:
            mistakes.setdefault(kind, []).append(f"{one.label.cause}: {one.explanation.summary}")
    return {
        "faults": faults,
        "found": len(judged),
        "primary": _share([one.rank == 1 for one in judged]),
        "first_three": _share([_among_first(one) for one in judged]),
        "episodes": len(explanations),
        "high_confidence": len(sure),
        "actionable": _share([is_actionable(explanation) for explanation in sure]),
        "by_kind": by_kind,
        "confusion": confusion,
        "mistakes": {kind: lines[:_LINES_PER_MISTAKE] for kind, lines in mistakes.items()},
    }


def _among_first(one: Judged) -> bool:
    return one.rank is not None and one.rank <= AMONG_FIRST


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
