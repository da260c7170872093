"""The system beside the baselines on a labelled data set, as one document of figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from anomaly_assets.evaluation.baselines import BASELINES, baselines_for, run_baseline
from anomaly_assets.evaluation.datasets import LabelKind, LabelledSeries
from anomaly_assets.evaluation.episodes import ALARM_THRESHOLD
from anomaly_assets.evaluation.metrics.events import alarms_by_context, events
from anomaly_assets.evaluation.metrics.hits import hit_rate
from anomaly_assets.evaluation.metrics.nab import best_threshold, nab_score
from anomaly_assets.evaluation.metrics.optional import sklearn
from anomaly_assets.evaluation.metrics.ranking import ranking
from anomaly_assets.evaluation.metrics.vus import period, vus_pr
from anomaly_assets.evaluation.prequential import Scored, run_ours
from anomaly_assets.evaluation.recordings import LabelledSegment

Figures = dict[str, float]
_HIT_PERCENT = (100, 150)


@dataclass(frozen=True)
class Report:
    """The figures of a data set.

    Parameters
    ----------
    dataset
        Its name.
    mean
        Ours: the mean of each measure over the files that have it; ``nab`` and ``nab_at_0.7`` are
        of all files together.
    files
        Ours by file.
    baselines
        By name, as `mean`; measures at the fixed threshold are left out, as theirs is no
        probability.
    seconds
        Taken in all.
    detection_seconds
        Taken by our detection.
    """

    dataset: str
    mean: Figures
    files: dict[str, Figures]
    baselines: dict[str, Figures]
    seconds: float
    detection_seconds: float

    def document(self) -> dict[str, Any]:
        """Return the figures as JSON holds them, without nulls."""
        return {
            "dataset": self.dataset,
            "mean": self.mean,
            "files": self.files,
            "baselines": self.baselines,
            "seconds": round(self.seconds, 2),
            "detection_seconds": round(self.detection_seconds, 2),
        }


def evaluate(
    dataset: str,
    series: Sequence[LabelledSeries],
    *,
    compare: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Run the system, and the baselines beside it, over labelled series.

    Every series starts from nothing: its training windows are learnt in order, then each window is
    scored before it is learnt. Only the windows after the training part are measured.

    Parameters
    ----------
    dataset
        What to call the set.
    series
        Its files.
    compare
        Whether to run the baselines.
    progress
        Told what is being done.

    Raises
    ------
    EvaluationError
        If scikit-learn is not installed, or the series cannot be measured.
    """
    # Asked for before hours of detection, not after.
    sklearn("metrics")
    started = time.perf_counter()
    ours = _run(series, "ours", run_ours, progress)
    files = {one.name: measures(one, ours[one.name], alarms=True) for one in series}
    mean = _means(files.values()) | _nab(series, ours, files, alarms=True)
    baselines = {}
    for name in BASELINES if compare else ():
        suited = [one for one in series if name in baselines_for(one)]
        # A mean over fewer files than ours would not be comparable.
        if len(suited) < len(series):
            continue
        scored = _run(series, name, partial(run_baseline, name), progress)
        theirs = {one.name: measures(one, scored[one.name], alarms=False) for one in series}
        baselines[name] = _means(theirs.values()) | _nab(series, scored, theirs, alarms=False)
    return Report(
        dataset=dataset,
        mean=mean,
        files=files,
        baselines={name: figures for name, figures in baselines.items() if figures},
        seconds=time.perf_counter() - started,
        detection_seconds=sum(scored.seconds for scored in ours.values()),
    )


def measures(series: LabelledSeries, scored: Scored, *, alarms: bool) -> Figures:
    """Return every measure that applies to one series, of the windows after the training part.

    Parameters
    ----------
    series
        Labels, segments and values.
    scored
        Of all its windows.
    alarms
        Whether the score is one for which 0.7 means an alarm.
    """
    score, labels = scored.score[series.n_train :], series.labels[series.n_train :]
    if series.kind is LabelKind.CONTEXTS:
        return alarms_by_context(labels, score, series.rows_per_day) if alarms else {}
    figures: Figures = {}
    if labels.any() and not labels.all():
        first = series.block.values[series.n_train :, 0]
        figures["vus_pr"] = vus_pr(labels, score, period(first))
        figures |= ranking(labels, score)
    segments = _tested(series)
    if scored.evidence is not None and len(series.catalogue.streams) > 1:
        for percent in _HIT_PERCENT:
            rate = hit_rate(
                segments, scored.evidence[series.n_train :], series.catalogue.stream_ids, percent
            )
            if rate is not None:
                figures[f"hit{percent}"] = rate
    if alarms:
        spans = [(segment.start, segment.end) for segment in segments]
        figures |= events(spans, score, series.rows_per_day)
        if series.kind is LabelKind.PROXY:
            # Whatever else happened to a person is no false alarm.
            figures.pop("false_alarms_a_day", None)
            figures |= alarms_by_context(labels, score, series.rows_per_day)
    return figures


def _tested(series: LabelledSeries) -> list[LabelledSegment]:
    """Return the segments after the training part, in windows of that part."""
    return [
        LabelledSegment(
            max(one.start - series.n_train, 0), one.end - series.n_train, one.streams, one.kind
        )
        for one in series.segments
        if one.end > series.n_train
    ]


def _run(
    series: Sequence[LabelledSeries],
    name: str,
    run: Callable[[LabelledSeries], Scored],
    progress: Callable[[str], None],
) -> dict[str, Scored]:
    scored = {}
    for one in series:
        progress(f"{name}: {one.name}, {len(one.block):,} windows")
        scored[one.name] = run(one)
    return scored


def _nab(
    series: Sequence[LabelledSeries],
    scored: Mapping[str, Scored],
    files: dict[str, Figures],
    *,
    alarms: bool,
) -> Figures:
    """Return the NAB score of all files, and add to each file its own at the same threshold."""
    if not any(one.known for one in series):
        return {}
    scores = [scored[one.name].score for one in series]
    best = best_threshold(series, scores)
    figures = {"nab": best.score}
    # NAB alarms at the threshold, we above it.
    fixed = float(np.nextafter(ALARM_THRESHOLD, 1.0))
    if alarms:
        figures["nab_at_0.7"] = nab_score(series, scores, fixed)
    for one, score in zip(series, scores, strict=True):
        if one.known:
            files[one.name]["nab"] = nab_score([one], [score], best.threshold)
            if alarms:
                files[one.name]["nab_at_0.7"] = nab_score([one], [score], fixed)
    return figures


def _means(files: Iterable[Figures]) -> Figures:
    """Return the mean of each measure over the files that have it."""
    of_files = list(files)
    names = dict.fromkeys(name for figures in of_files for name in figures)
    return {
        name: float(np.mean([figures[name] for figures in of_files if name in figures]))
        for name in names
    }
