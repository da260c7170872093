"""What became of real recordings: the rules that must hold, labels, contexts, explanations."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from anomaly_assets.detection.health import StreamHealthTracker
from anomaly_assets.evaluation import recordings as known
from anomaly_assets.evaluation.episodes import ALARM_THRESHOLD, group_episodes
from anomaly_assets.evaluation.recordings import Recording, Shape
from anomaly_assets.streams.windows import WINDOW_SECONDS, WINDOWS_PER_DAY, WindowRange

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly_assets.pipeline.deployment import Deployment, Entity
    from anomaly_assets.streams.windows import BoolArray, FloatArray, IntArray

#: At most one sentence an entity in this time.
APART = timedelta(hours=6)
SENTENCES = 8
MOST_COMMON = 12
#: Contexts that happened less often say nothing.
FEWEST_TIMES = 5


@dataclass(frozen=True)
class Processed:
    """One entity as it stands in the tables, a row for each stored window."""

    starts: IntArray
    observed: BoolArray
    due: BoolArray
    score: FloatArray
    final: FloatArray


def read_processed(deployment: Deployment, entity: Entity) -> Processed:
    """Read values and scores, and find out where a tier-1 score is due."""
    from anomaly_assets.storage import results  # noqa: PLC0415
    from anomaly_assets.storage.queries import final_scores  # noqa: PLC0415
    from anomaly_assets.storage.windows import stored_ranges  # noqa: PLC0415

    first = entity.first_window or 0
    with deployment.database.connect() as connection:
        until = connection.execute(
            "SELECT extract(epoch FROM aggregated_until)::bigint FROM entities "
            "WHERE entity_id = %s",
            (entity.entity_id,),
        ).fetchone()
        ranges = stored_ranges(
            connection, entity.entity_id, WindowRange(first, until[0] if until else first)
        )
        values = [
            results.read_windows(connection, entity.entity_id, part, entity.catalogue, "UTC").values
            for part in ranges
        ]
        scores = [
            results.read_individual(connection, entity.entity_id, part, entity.catalogue).score
            for part in ranges
        ]
        starts, final = final_scores(connection, entity.entity_id)
    observed = np.isfinite(np.concatenate(values))
    if not np.array_equal(starts, np.concatenate([part.starts() for part in ranges])):
        msg = f"{entity.entity_id}: the final scores are not of the stored windows"
        raise SystemExit(msg)
    # Health that decides is stored hourly only; it follows from what was observed.
    predictable = StreamHealthTracker(entity.catalogue).presence(observed).predictable
    return Processed(starts, observed, observed & predictable, np.concatenate(scores), final)


def rules_broken(processed: Processed) -> dict[str, int]:
    """Count breaches of what must hold: scored where due, unknown where not."""
    scored = np.isfinite(processed.score)
    return {
        "unscored_though_due": int((processed.due & ~scored).sum()),
        "scored_though_not_due": int((scored & ~processed.due).sum()),
        "no_final_score": int((processed.due.any(axis=1) & ~np.isfinite(processed.final)).sum()),
    }


def judge(taken: list[Recording]) -> dict[str, Any]:
    from anomaly_assets.cli.common import open_deployment  # noqa: PLC0415

    deployment = open_deployment()
    entities = {entity.entity_id: entity for entity in deployment.entities()}
    broken: Counter[str] = Counter()
    rows, contexts = [], []
    for recording in taken:
        processed = read_processed(deployment, entities[recording.entity])
        broken.update(rules_broken(processed))
        explanations = _explanations(deployment, recording.entity)
        row: dict[str, Any] = {
            "entity": recording.entity,
            "windows": len(processed.starts),
            "with_data": _share(_present(processed)),
            "explanations": len(explanations),
        }
        if recording.shape is Shape.WIDE:
            row |= _against_labels(recording, processed, explanations)
        else:
            row |= _alarms(recording.entity, processed)
            contexts += _against_contexts(recording, processed)
        rows.append(row)
    return {
        "rules_broken": dict(broken),
        "entities": rows,
        "contexts": _pooled(contexts),
        "causes": _causes(deployment),
        "triggers": _triggers(deployment),
        "sentences": _sentences(deployment, taken),
        "not_finite": _not_finite(deployment),
    }


def _share(flags: BoolArray) -> float:
    return round(float(flags.mean()), 4) if flags.size else 0.0


def _present(processed: Processed) -> BoolArray:
    """Return the windows in which half of the streams that the entity has at all were observed."""
    ever = processed.observed.any(axis=0)
    return np.asarray(processed.observed[:, ever].mean(axis=1) >= 0.5)


def _against_labels(
    recording: Recording, processed: Processed, explanations: list[tuple[Any, ...]]
) -> dict[str, Any]:
    from sklearn.metrics import average_precision_score, roc_auc_score  # noqa: PLC0415

    # Row numbers of the recording: rows and windows are one to one.
    number = (processed.starts - processed.starts[0]) // WINDOW_SECONDS
    truth = known.labels(recording)[number]
    test = number >= recording.test_from
    score = np.nan_to_num(processed.final)
    events = known.segments(recording)
    alarms = set(number[score > ALARM_THRESHOLD].tolist())
    episodes = group_episodes(recording.entity, processed.starts[test], score[test])
    false = [episode for episode in episodes if not truth[_rows(processed, episode)].any()]
    quiet = test & ~truth
    training = group_episodes(recording.entity, processed.starts[~test], score[~test])
    return {
        "label_rate": _share(truth[test]),
        "events": len(events),
        "found": sum(bool(alarms & set(range(e.start, e.end))) for e in events),
        "false_a_day": round(len(false) / (quiet.sum() / WINDOWS_PER_DAY), 2),
        "alarm_share_outside": _share(score[quiet] > ALARM_THRESHOLD),
        "alarms_a_day_in_training": round(len(training) / (sum(~test) / WINDOWS_PER_DAY), 2),
        "roc_auc": round(float(roc_auc_score(truth[test], score[test])), 4),
        "average_precision": round(float(average_precision_score(truth[test], score[test])), 4),
        **_causes_right(
            events, int(processed.starts[0]), explanations, processed.observed.shape[1]
        ),
    }


def _rows(processed: Processed, episode: Any) -> slice:  # noqa: ANN401 - an Episode
    moments = [int(episode.start.timestamp()), int(episode.end.timestamp())]
    return slice(*np.searchsorted(processed.starts, moments).tolist())


def _causes_right(
    events: list[known.LabelledSegment],
    first: int,
    explanations: list[tuple[Any, ...]],
    n_streams: int,
) -> dict[str, Any]:
    """Say how often the first stream named by an explanation inside an event is blamed."""
    right, chance = [], []
    for at, cause in explanations:
        row = (int(at.timestamp()) - first) // WINDOW_SECONDS
        for event in events:
            if event.start <= row < event.end and cause is not None:
                right.append(cause in event.streams)
                chance.append(len(event.streams) / n_streams)
    return {
        "explained_in_events": len(right),
        "first_stream_blamed": round(float(np.mean(right)), 3) if right else None,
        "by_chance": round(float(np.mean(chance)), 3) if chance else None,
    }


def _alarms(entity: str, processed: Processed) -> dict[str, Any]:
    episodes = group_episodes(entity, processed.starts, processed.final)
    present = _present(processed)
    alarms = np.nan_to_num(processed.final) > ALARM_THRESHOLD
    return {
        "episodes": len(episodes),
        "alarms_a_day": round(len(episodes) / (len(present) / WINDOWS_PER_DAY), 2),
        "alarms_a_day_with_data": round(
            sum(present[_rows(processed, e)].any() for e in episodes)
            / max(present.sum() / WINDOWS_PER_DAY, 1e-9),
            2,
        ),
        "alarm_share": _share(alarms),
        "alarm_share_with_data": _share(alarms[present]),
    }


def _against_contexts(recording: Recording, processed: Processed) -> list[dict[str, Any]]:
    """Compare alarms with each known context, and with the same contexts on other days."""
    episodes = group_episodes(recording.entity, processed.starts, processed.final)
    onsets = np.zeros(len(processed.starts), dtype=np.bool_)
    onsets[[_rows(processed, episode).start for episode in episodes]] = True
    present = _present(processed)
    onsets &= present
    found = []
    for label, own in known.contexts(recording).groupby("label"):
        inside, spans = _inside(processed, own)
        spans = [span for span in spans if present[span].any()]
        if spans:
            row = {"context": str(label), "entities": 1, "times": len(spans)}
            row["episodes_inside"] = int((onsets & inside).sum())
            row["by_chance"] = float(onsets.sum() * inside[present].mean())
            found.append(row | _hits(processed, spans, present))
    return found


def _pooled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add up what several entities have in common, and leave out what happened hardly ever."""
    if not rows:
        return []
    summed = pd.DataFrame(rows).groupby("context").sum().reset_index()
    summed = summed[summed["times"] >= FEWEST_TIMES].sort_values("times", ascending=False)
    summed["hit_share"] = summed.pop("hit") / summed["times"]
    summed["hit_share_other_days"] = summed.pop("hit_elsewhere") / summed.pop("elsewhere").clip(1)
    return [
        {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
        for row in json.loads(summed.to_json(orient="records"))
    ]


def _inside(processed: Processed, contexts: pd.DataFrame) -> tuple[BoolArray, list[slice]]:
    begins = contexts["start"].astype("datetime64[s, UTC]").astype("int64").to_numpy()
    ends = contexts["end"].astype("datetime64[s, UTC]").astype("int64").to_numpy()
    first = np.searchsorted(processed.starts, begins - WINDOW_SECONDS, side="right")
    last = np.searchsorted(processed.starts, ends, side="right")
    spans = [slice(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True) if b > a]
    inside = np.zeros(len(processed.starts), dtype=np.bool_)
    for span in spans:
        inside[span] = True
    return inside, spans


def _hits(processed: Processed, spans: list[slice], present: BoolArray) -> dict[str, int]:
    """Count times of a context with an alarm, and the same hours of other days with one."""
    alarms = np.nan_to_num(processed.final) > ALARM_THRESHOLD
    elsewhere = []
    for span in spans:
        for days in range(1, len(alarms) // WINDOWS_PER_DAY):
            at = (np.arange(span.start, span.stop) + days * WINDOWS_PER_DAY) % len(alarms)
            if present[at].any():
                elsewhere.append(bool(alarms[at].any()))
    return {
        "hit": sum(bool(alarms[span].any()) for span in spans),
        "hit_elsewhere": sum(elsewhere),
        "elsewhere": len(elsewhere),
    }


def _explanations(deployment: Deployment, entity: str) -> list[tuple[Any, ...]]:
    with deployment.database.connect() as connection:
        return connection.execute(
            "SELECT timestamp, record #>> '{evidence,streams,0,stream}' FROM causal_explanations "
            "WHERE entity_id = %s ORDER BY timestamp",
            (entity,),
        ).fetchall()


def _causes(deployment: Deployment) -> dict[str, int]:
    return _counted(deployment, "coalesce(primary_cause, 'none')")


def _triggers(deployment: Deployment) -> dict[str, int]:
    return _counted(deployment, "trigger")


def _counted(deployment: Deployment, column: str) -> dict[str, int]:
    with deployment.database.connect() as connection:
        rows = connection.execute(
            f"SELECT {column}, count(*) FROM causal_explanations "  # noqa: S608 - constants
            "GROUP BY 1 ORDER BY 2 DESC, 1"
        ).fetchall()
    return {str(name): int(count) for name, count in rows[:MOST_COMMON]}


def _not_finite(deployment: Deployment) -> int:
    with deployment.database.connect() as connection:
        row = connection.execute(
            "SELECT count(*) FROM anomaly_scores WHERE 'NaN' IN (anomaly_score, confidence, "
            "expected, deviation) OR abs(expected) = 'Infinity' OR abs(deviation) = 'Infinity'"
        ).fetchone()
    return int(row[0]) if row else 0


def _sentences(deployment: Deployment, taken: list[Recording]) -> list[dict[str, str]]:
    """Return sentences of the highest scores, some time apart, with what was known of the time."""
    from anomaly_assets.storage.queries import top_anomalies  # noqa: PLC0415

    chosen: list[dict[str, str]] = []
    for recording in taken:
        with deployment.database.connect() as connection:
            rows = top_anomalies(connection, entity_id=recording.entity, limit=1000)
        times: list[datetime] = []
        for row in rows:
            if row.summary is None or any(abs(row.window - at) < APART for at in times):
                continue
            times.append(row.window)
            chosen.append(
                {
                    "entity": recording.entity,
                    "at": row.window.astimezone(UTC).isoformat(),
                    "score": f"{row.score:.3f}",
                    "cause": row.primary_cause or "",
                    "known": ", ".join(_known_at(recording, row.window)),
                    "sentence": row.summary,
                }
            )
            if len(times) == max(2, SENTENCES // len(taken)):
                break
    return chosen


def _known_at(recording: Recording, at: datetime) -> Iterator[str]:
    if recording.shape is Shape.LONG:
        table = known.contexts(recording)
        near = (table["start"] < at + timedelta(minutes=5)) & (table["end"] > at)
        yield from table["label"][near]
        return
    if recording.start is None:
        return
    row = int((at - recording.start).total_seconds()) // WINDOW_SECONDS
    if row < recording.test_from:
        yield "training part, unlabelled"
    for event in known.segments(recording):
        if event.start <= row < event.end:
            yield f"anomaly of {' '.join(event.streams)}"
