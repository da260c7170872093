"""Faults put into a shop of microservices whose call graph is known (Hardt et al., 2023).

Hardt, M., Orchard, W. R., Bloebaum, P., Kirschbaum, E., Kasiviswanathan, S. (2023). *The PetShop
dataset: finding causes of performance issues across microservices.* arXiv:2311.04806.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from anomaly_assets.errors import EvaluationError
from anomaly_assets.evaluation.recordings import DATA_SETTING
from anomaly_assets.streams.windows import FloatArray, IntArray

#: A row of every run is this long.
ROW_SECONDS = 300
_HEADER = ("microservice", "metric", "statistic")
#: The fourth line names the column of the times and nothing else.
_FIRST_ROW = 4
_TARGETS = (
    "scenario",
    "split",
    "issue",
    "target_node",
    "target_metric",
    "target_agg",
    "timestamp",
    "root_cause_node",
)
_UNREADABLE = (OSError, EOFError, ValueError, zlib.error)

#: What is measured of every service, and how a row of five minutes sums it up, such as
#: ``("latency", "p90")``.
Layer = tuple[str, str]


@dataclass(frozen=True)
class Run:
    """What was measured while the shop ran.

    Parameters
    ----------
    starts
        ``(n_rows,)`` Unix seconds, five minutes apart.
    layers
        Layer -> ``(n_rows, n_services)``, the services in the order of the scenario; NaN where
        nothing is known, as of a service that was not called.
    """

    starts: IntArray
    layers: Mapping[Layer, FloatArray]


@dataclass(frozen=True)
class Issue:
    """One fault.

    Parameters
    ----------
    name
        Such as ``issue_3``.
    target
        The service at which the trouble was seen.
    layer
        Where it was seen: latency or availability.
    since
        Unix seconds; within ten minutes of it the trouble is visible.
    root
        The service that was made faulty.
    run
        A few rows about it, the first before the fault.
    """

    name: str
    target: str
    layer: Layer
    since: int
    root: str
    run: Run


@dataclass(frozen=True)
class Scenario:
    """One kind of traffic.

    Parameters
    ----------
    name
        Such as ``high_traffic``.
    services
        The nodes of the call graph.
    calls
        Caller and callee.
    normal
        Two days without a fault, months after the faults; None where none was recorded.
    issues
        The faults in order.
    """

    name: str
    services: tuple[str, ...]
    calls: tuple[tuple[str, str], ...]
    normal: Run | None
    issues: tuple[Issue, ...]


def load_petshop(folder: Path) -> tuple[Scenario, ...]:
    """Read every scenario of ``<folder>/petshop`` that ``targets.csv`` names, by name.

    Parameters
    ----------
    folder
        The folder of all recordings.

    Raises
    ------
    EvaluationError
        If a file is missing, cannot be read, or does not fit the others; the message names the
        file, and where there is one the row and column.
    """
    root = folder / "petshop"
    path = root / "targets.csv"
    targets = _targets(path)
    return tuple(_scenario(root, path, targets, name) for name in sorted(set(targets["scenario"])))


def _scenario(root: Path, path: Path, targets: pd.DataFrame, name: str) -> Scenario:
    services, calls = _graph(root / name / "graph.csv.gz")
    issues = []
    rows = targets[targets["scenario"] == name]
    for row, fault in zip(rows.index.tolist(), rows.to_dict("records"), strict=True):
        for column in ("target_node", "root_cause_node"):
            if fault[column] not in services:
                reason = f"{fault[column]!r} is not in the call graph of {name}"
                raise _refused(path, row + 2, column, reason)
        run = read_run(root / name / fault["split"] / fault["issue"] / "metrics.csv.gz", services)
        layer = (fault["target_metric"], fault["target_agg"])
        if layer not in run.layers:
            reason = f"{' '.join(layer)} is not among the metrics of {name}, {fault['issue']}"
            raise _refused(path, row + 2, "target_metric", reason)
        since = int(fault["timestamp"])
        if not run.starts[0] <= since < run.starts[-1] + ROW_SECONDS:
            reason = f"{since} lies outside of the rows of {name}, {fault['issue']}"
            raise _refused(path, row + 2, "timestamp", reason)
        issues.append(
            Issue(
                fault["issue"],
                fault["target_node"],
                layer,
                since,
                fault["root_cause_node"],
                run,
            )
        )
    normal = root / name / "noissue" / "metrics.csv.gz"
    return Scenario(
        name=name,
        services=services,
        calls=calls,
        normal=read_run(normal, services) if normal.parent.is_dir() else None,
        issues=tuple(issues),
    )


def _targets(path: Path) -> pd.DataFrame:
    table = _text(path, header=0)
    absent = [column for column in _TARGETS if column not in table]
    if absent:
        msg = f"{path}: column {absent[0]!r} is missing; expected {', '.join(_TARGETS)}"
        raise EvaluationError(msg)
    if table.empty:
        msg = f"{path} names no fault; give one a row"
        raise EvaluationError(msg)
    for row, text in enumerate(table["timestamp"]):
        if not text.isdecimal():
            raise _refused(path, row + 2, "timestamp", f"{text!r} is no time in Unix seconds")
    return table


def _graph(path: Path) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return the services and who calls whom; a row calls the columns with a 1."""
    table = _text(path, header=None).to_numpy(dtype=str)
    services = tuple(table[0, 1:].tolist())
    if services != tuple(table[1:, 0].tolist()) or len(set(services)) < len(services):
        msg = f"{path}: rows and columns have to name the same services in one order, each once"
        raise EvaluationError(msg)
    cells = _numbers(path, table[1:, 1:], services, first_row=2)
    bad = np.argwhere(~np.isin(cells, (0.0, 1.0)))
    if bad.size:
        row, column = bad[0].tolist()
        reason = f"{str(table[row + 1, column + 1])!r} is neither 0 nor 1"
        raise _refused(path, row + 2, services[column], reason)
    calls = np.argwhere(cells == 1.0).tolist()
    return services, tuple((services[caller], services[callee]) for caller, callee in calls)


def read_run(path: Path, services: tuple[str, ...]) -> Run:
    """Read one run.

    Parameters
    ----------
    path
        A table with three lines of header: microservice, metric, statistic.
    services
        The services of the call graph; one without a column is unknown throughout.

    Raises
    ------
    EvaluationError
        If it is missing or not laid out so.
    """
    table = _text(path, header=None).to_numpy(dtype=str)
    if len(table) <= _FIRST_ROW or tuple(table[:3, 0].tolist()) != _HEADER:
        msg = (
            f"{path}: expected three lines of header beginning with {', '.join(_HEADER)}, "
            "one with unix_timestamp, then rows"
        )
        raise EvaluationError(msg)
    names = [" ".join(head) for head in table[:3, 1:].T.tolist()]
    numbers = _numbers(path, table[_FIRST_ROW:], ("unix_timestamp", *names), _FIRST_ROW + 1)
    starts = numbers[:, 0]
    steps = np.flatnonzero(~(np.diff(starts) == ROW_SECONDS))
    if np.isnan(starts[0]) or steps.size:
        row = _FIRST_ROW + 1 if np.isnan(starts[0]) else _FIRST_ROW + 2 + int(steps[0])
        raise _refused(path, row, "unix_timestamp", f"rows are not {ROW_SECONDS} s apart")
    layers: dict[Layer, FloatArray] = {}
    seen = set()
    for column, (service, *layer) in enumerate(table[:3, 1:].T.tolist(), start=1):
        if service not in services:
            raise _refused(path, 1, service, "is no service of the call graph")
        if (service, *layer) in seen:
            raise _refused(path, 1, names[column - 1], "is there twice")
        seen.add((service, *layer))
        blank = np.full((len(starts), len(services)), np.nan)
        values = layers.setdefault((layer[0], layer[1]), blank)
        values[:, services.index(service)] = numbers[:, column]
    return Run(starts.astype(np.int64), layers)


def _text(path: Path, *, header: int | None) -> pd.DataFrame:
    """Read a CSV file as text, as what is wrong with it is to be shown as it is written."""
    if not path.is_file():
        msg = f"{path} is missing; set {DATA_SETTING} to the folder that holds petshop/, complete"
        raise EvaluationError(msg)
    try:
        return pd.read_csv(path, dtype=str, header=header, keep_default_na=False).fillna("")
    except _UNREADABLE as error:
        msg = f"{path} cannot be read as CSV: {error}; copy it again"
        raise EvaluationError(msg) from error


def _numbers(path: Path, cells: np.ndarray, columns: tuple[str, ...], first_row: int) -> FloatArray:
    """Return numbers, NaN for an empty cell."""
    values = np.full(cells.shape, np.nan)
    for (row, column), text in np.ndenumerate(cells):
        if text:
            try:
                values[row, column] = float(text)
            except ValueError as error:
                reason = f"{str(text)!r} is no number"
                raise _refused(path, row + first_row, columns[column], reason) from error
    return np.where(np.isinf(values), np.nan, values)


def _refused(path: Path, row: int, column: str, reason: str) -> EvaluationError:
    """Name file, line (as an editor counts) and column."""
    return EvaluationError(f"{path}, row {row}, column {column}: {reason}")
