"""One thorough explanation of simulated windows: all three methods and their synthesis."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from anomaly_assets.detection.explanation.causality import COMPARED
from anomaly_assets.detection.explanation.evidence import HISTORY_WINDOWS, WindowEvidence
from anomaly_assets.detection.explanation.explain import Explainer, Mode
from anomaly_assets.detection.explanation.lead_lag import LeadLag
from anomaly_assets.detection.explanation.network.attribution import Attributor
from anomaly_assets.detection.explanation.network.fitting import fit_network
from anomaly_assets.detection.explanation.network.onset import frozen_residuals
from anomaly_assets.detection.explanation.network.structure import Structure
from anomaly_assets.detection.explanation.triggers import Trigger
from anomaly_assets.detection.system import DetectionState, detect
from anomaly_assets.evaluation.simulator import wide_testbed
from anomaly_assets.streams.catalogue import (
    Catalogue,
    CausalEdge,
    SequenceStep,
    SequenceTemplate,
)
from anomaly_assets.streams.windows import WINDOW_SECONDS, WINDOWS_PER_DAY

if TYPE_CHECKING:
    from anomaly_assets.detection.system import Detection
    from anomaly_assets.evaluation.simulator import WideTestBed
    from anomaly_assets.streams.windows import FloatArray, WindowBlock

LEARNING_DAYS = 7
DAYS = 9
TEMPLATES = 6
STEPS = 3
#: Windows explained, those of the highest final scores, and how often each.
EXPLAINED = 40
REPEATS = 5
_MINUTES = WINDOW_SECONDS // 60


@dataclass(frozen=True)
class Costs:
    """Medians in milliseconds of CPU.

    Parameters
    ----------
    total
        One explanation, from what the tiers and the network say to the record.
    network, lead_lag
        Two of its parts, measured by themselves: residuals and attribution; prewhitening of the day
        and all pairs at every lag.
    """

    total: float
    network: float
    lead_lag: float


def measure_thorough(streams: int) -> Costs:
    """Explain the most anomalous windows of simulated streams, each several times."""
    bed = wide_testbed(streams, days=DAYS, first_day=LEARNING_DAYS)
    catalogue = _with_knowledge(bed)
    detection = detect(DetectionState.fresh(catalogue), bed.block)
    first = LEARNING_DAYS * WINDOWS_PER_DAY
    learnt = slice(first - WINDOWS_PER_DAY, first)
    values = bed.block.values
    hours = bed.block.calendar.hour[learnt]
    network = fit_network(
        values[learnt],
        hours,
        Structure.of(catalogue),
        fitted_at=int(bed.block.windows.starts()[first]),
    )
    attributor, explainer = Attributor(network), Explainer(catalogue, mode=Mode.THOROUGH)
    scale = network.scale[list(network.structure.stream_positions)]
    parts = []
    rows = first + np.argsort(-detection.ensemble.score[first:], kind="stable")[:EXPLAINED]
    minutes = _minutes(values)
    for row in rows.tolist():
        evidence = _evidence(bed.block, detection, minutes, row)
        day = values[row + 1 - WINDOWS_PER_DAY : row + 1]
        history = values[row - HISTORY_WINDOWS : row + 1]
        for _ in range(REPEATS):
            # Another one each time, fresh as the hourly fit is: compiling it is part of the cost.
            fresh = replace(network, fitted_at=evidence.window_start)
            evidence = replace(evidence, network=fresh, day=day)
            times = [time.process_time()]
            explainer.explain(evidence)
            times.append(time.process_time())
            attributor.explain(frozen_residuals(history, HISTORY_WINDOWS, scale=scale))
            times.append(time.process_time())
            LeadLag(day[:, :COMPARED]).findings()
            times.append(time.process_time())
            parts.append(np.diff(times))
    total, network_ms, lead_lag_ms = np.median(1e3 * np.array(parts), axis=0).tolist()
    return Costs(total, network_ms, lead_lag_ms)


def _with_knowledge(bed: WideTestBed) -> Catalogue:
    """Return the streams with the true edges between them, and templates of their events."""
    plain = bed.catalogue
    streams = [
        stream.model_copy(update={"increase_event": f"{stream.id}_rise"})
        for stream in plain.streams
    ]
    edges = [
        CausalEdge(cause=cause, effect=equation.stream)
        for equation in bed.truth
        for cause in equation.causes
        if cause in plain.stream_ids
    ]
    templates = []
    for number in range(TEMPLATES):
        events = [f"{plain.stream_ids[STEPS * number + step]}_rise" for step in range(STEPS)]
        templates.append(
            SequenceTemplate(
                name=f"course_{number}",
                title=f"Course {number}",
                steps=tuple(
                    SequenceStep(event=event, offset_minutes=5.0 * step)
                    for step, event in enumerate(events)
                ),
                recommended_action="Look at the streams of this course.",
            )
        )
    return Catalogue(
        name=plain.name,
        groups=plain.groups,
        streams=tuple(streams),
        causal_edges=tuple(edges),
        templates=tuple(templates),
    )


def _minutes(values: FloatArray) -> FloatArray:
    """Return one-minute values that scatter about those of the windows."""
    steps = np.nanmedian(np.abs(np.diff(values, axis=0)), axis=0)
    around = np.repeat(values, _MINUTES, axis=0)
    return np.asarray(around + steps * np.random.default_rng(0).standard_normal(around.shape))


def _evidence(
    block: WindowBlock, detection: Detection, minutes: FloatArray, row: int
) -> WindowEvidence:
    first = _MINUTES * (row - HISTORY_WINDOWS)
    return WindowEvidence.from_results(
        block,
        row,
        Trigger.FORCED,
        history=block.values[:0],
        individual=detection.individual,
        cross_stream=detection.cross_stream,
        gaps=detection.gaps,
        ensemble=detection.ensemble,
        minutes=minutes[first : _MINUTES * (row + 1)],
        minutes_start=block.windows.start + 60 * first,
    )
