"""A user's own labelled data: a folder of readings and labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.datasets.long import block_of, windows_between
from anomaly_assets.evaluation.datasets.series import LabelledSeries
from anomaly_assets.evaluation.recordings import LabelledSegment
from anomaly_assets.streams.catalogue import Catalogue
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowBlock

#: Learnt from where nothing else is said, as in the Numenta Anomaly Benchmark.
_LEARNING_SHARE = 0.15
_ENTITY = "entity"
_HEADER_LINES = 2


def load_own(folder: Path, train_until: str | None = None) -> list[LabelledSeries]:
    """Read a folder of labelled data, one series for each entity.

    Parameters
    ----------
    folder
        Holds ``readings.csv`` (``timestamp``, ``stream_id``, ``value``, optional ``entity_id``) and
        ``labels.csv`` (``start``, ``end``, optional ``streams`` separated by spaces or semicolons,
        optional ``entity_id``); optionally ``catalogue.yaml`` (else the default catalogue) and
        ``evaluation.json`` with ``train_until``. Times without a zone are UTC.
    train_until
        Windows before this time are only learnt from; unless given or in ``evaluation.json``, the
        first 15 %.

    Raises
    ------
    EvaluationError
        If something is unusable; the message names file, row and column.
    CatalogueError
        If the catalogue is refused.
    """
    own = folder / "catalogue.yaml"
    catalogue = load_catalogue(own) if own.is_file() else load_catalogue("default")
    readings = _readings(folder / "readings.csv", catalogue)
    labels = _labels(folder / "labels.csv", catalogue)
    unknown = labels.index[~labels["entity_id"].isin({*readings["entity_id"], ""})]
    if len(unknown):
        _refuse(folder / "labels.csv", int(unknown[0]), "entity_id", "has no readings")
    of = _Folder(
        folder / "labels.csv",
        labels,
        catalogue,
        _train_until(folder, train_until),
        alone=len(set(readings["entity_id"])) == 1,
    )
    return [
        _series(str(entity), table, of)
        for entity, table in readings.groupby("entity_id", sort=True)
    ]


@dataclass(frozen=True)
class _Folder:
    """What all entities of a folder share."""

    labels_path: Path
    labels: pd.DataFrame
    catalogue: Catalogue
    until: pd.Timestamp | None
    alone: bool


def _series(entity: str, readings: pd.DataFrame, folder: _Folder) -> LabelledSeries:
    catalogue = folder.catalogue
    block = block_of(entity, readings, catalogue, catalogue.time_zone)
    labels = np.zeros(len(block), dtype=np.bool_)
    segments = []
    table = folder.labels[folder.labels["entity_id"].isin([entity, ""])]
    columns = (table["start"], table["end"], table["streams"], table["entity_id"])
    for row, start, end, streams, of in zip(table.index.tolist(), *columns, strict=True):
        first, last = windows_between(block, start, end)
        if first < last:
            labels[first:last] = True
            segments.append(LabelledSegment(first, last, streams, ""))
        # A label of everybody may lie where only some have readings.
        elif of or folder.alone:
            _refuse(folder.labels_path, row, "start", "lies outside of the readings")
    return LabelledSeries(
        name=entity,
        catalogue=catalogue,
        block=block,
        n_train=_n_train(block, folder.until),
        labels=labels,
        segments=tuple(segments),
    )


def _n_train(block: WindowBlock, until: pd.Timestamp | None) -> int:
    if until is None:
        return int(_LEARNING_SHARE * len(block))
    return max(-int(-(until.timestamp() - block.windows.start) // WINDOW_SECONDS), 0)


def _train_until(folder: Path, given: str | None) -> pd.Timestamp | None:
    path = folder / "evaluation.json"
    source = "--train-until"
    if given is None and path.is_file():
        source = str(path)
        try:
            given = json.loads(path.read_text(encoding="utf-8")).get("train_until")
        except (ValueError, AttributeError) as error:
            msg = f'{path}: {error}; expected an object such as {{"train_until": "2026-02-01"}}'
            raise EvaluationError(msg) from error
    if given is None:
        return None
    try:
        until = pd.Timestamp(given)
    except (ValueError, TypeError) as error:
        msg = f"{source}: train_until {given!r} is no date or time; write for example 2026-02-01"
        raise EvaluationError(msg) from error
    return until.tz_localize("UTC") if until.tzinfo is None else until


def _readings(path: Path, catalogue: Catalogue) -> pd.DataFrame:
    table = _table(path, ("timestamp", "stream_id", "value"))
    if table.empty:
        msg = f"{path} has no row; give the readings of at least one stream"
        raise EvaluationError(msg)
    table["timestamp"] = _times(path, table["timestamp"])
    value = pd.to_numeric(table["value"], errors="coerce").astype(np.float64)
    _refuse_first(
        path,
        value.abs().isin([np.inf]) | value.isna(),
        "value",
        "is no finite number",
        table["value"],
    )
    table["value"] = value
    unknown = ~table["stream_id"].isin(catalogue.stream_ids)
    _refuse_first(
        path,
        unknown,
        "stream_id",
        f"is no stream of the catalogue {catalogue.name!r}; add a catalogue.yaml that has it",
        table["stream_id"],
    )
    table["entity_id"] = table.get("entity_id", _ENTITY)
    _refuse_first(path, table["entity_id"] == "", "entity_id", "is empty", table["entity_id"])
    return table


def _labels(path: Path, catalogue: Catalogue) -> pd.DataFrame:
    table = _table(path, ("start", "end"))
    start, end = _times(path, table["start"]), _times(path, table["end"])
    _refuse_first(path, end < start, "end", "is before the start", table["end"])
    blamed = table["streams"] if "streams" in table else pd.Series("", index=table.index)
    streams = [tuple(text.replace(";", " ").split()) for text in blamed]
    for row, names in enumerate(streams):
        unknown = [name for name in names if name not in catalogue.stream_ids]
        if unknown:
            reason = f"names {unknown[0]!r}, no stream of the catalogue {catalogue.name!r}"
            _refuse(path, row, "streams", reason)
    return pd.DataFrame(
        {
            "start": start,
            "end": end,
            "streams": pd.Series(streams, index=table.index, dtype=object),
            "entity_id": table.get("entity_id", ""),
        }
    )


def _table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read a CSV file as text, as what is wrong with it is to be shown as it is written."""
    if not path.is_file():
        msg = f"{path} is missing; a labelled folder holds readings.csv and labels.csv"
        raise EvaluationError(msg)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except ValueError as error:
        msg = f"{path} cannot be read as CSV: {error}"
        raise EvaluationError(msg) from error
    absent = [column for column in columns if column not in table]
    if absent:
        msg = f"{path}: column {absent[0]!r} is missing; expected {', '.join(columns)}"
        raise EvaluationError(msg)
    return table


def _times(path: Path, texts: pd.Series) -> pd.Series:
    times = pd.to_datetime(texts, utc=True, format="ISO8601", errors="coerce")
    _refuse_first(path, times.isna(), str(texts.name), "is no ISO 8601 time", texts)
    return times.dt.as_unit("us")


def _refuse_first(path: Path, bad: pd.Series, column: str, reason: str, texts: pd.Series) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        _refuse(path, int(rows[0]), column, f"{texts.iloc[rows[0]]!r} {reason}")


def _refuse(path: Path, row: int, column: str, reason: str) -> NoReturn:
    """Name file, line (as an editor counts) and column."""
    msg = f"{path}, row {row + _HEADER_LINES}, column {column}: {reason}"
    raise EvaluationError(msg)
