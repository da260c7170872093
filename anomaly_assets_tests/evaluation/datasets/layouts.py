"""Small recordings in the layouts of the published sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = ["d01", "d02", "d03"]


def values(rows: int, seed: int = 1) -> pd.DataFrame:
    """Return three noisy daily streams, the last three rows far off."""
    noise = np.random.default_rng(seed).standard_normal((rows, 3)) * 0.1
    day = np.sin(np.arange(rows) * 2 * np.pi / 288)[:, None]
    table = noise + day
    table[-3:] += 8.0
    return pd.DataFrame(table, columns=COLUMNS)


def write_asd(folder: Path, rows: int = 600) -> None:
    """Write one server with three columns; its last three rows are an anomaly of d01 and d02."""
    (folder / "asd").mkdir(parents=True)
    table = values(rows)
    half = rows // 2
    table["split"] = ["train"] * half + ["test"] * (rows - half)
    table["label"] = [0] * (rows - 3) + [1] * 3
    table.to_csv(folder / "asd" / "omi-77.csv.gz", index=False)
    (folder / "asd" / "omi-77_interpretation.csv").write_text(
        f"start,end,dims,type\n{rows - half - 3},{rows - half},d01 d02,spike\n"
    )


def write_smd(folder: Path, rows: int = 400) -> None:
    """Write one machine, half train and half test."""
    (folder / "smd").mkdir(parents=True)
    base = folder / "smd" / "machine-9-9"
    table = values(2 * rows)
    table[:rows].to_csv(f"{base}_train.csv.gz", index=False)
    table[rows:].to_csv(f"{base}_test.csv.gz", index=False)
    labels = pd.DataFrame({"label": [0] * (rows - 3) + [1] * 3})
    labels.to_csv(f"{base}_test_label.csv.gz", index=False)
    Path(f"{base}_interpretation.csv").write_text(f"start,end,dims\n{rows - 3},{rows},d01\n")


def write_nab(folder: Path, rows: int = 300) -> None:
    """Write one series of half-hours with a window at its end."""
    (folder / "nab" / "real").mkdir(parents=True)
    times = pd.date_range("2014-07-01 00:10", periods=rows, freq="30min")
    table = pd.DataFrame({"timestamp": times.astype(str), "value": values(rows)["d01"]})
    table.to_csv(folder / "nab" / "real" / "one.csv.gz", index=False)
    window = [f"{times[-20]}.000000", f"{times[-1]}.000000"]
    (folder / "nab" / "combined_windows.json").write_text(json.dumps({"real/one.csv": [window]}))


def write_own(folder: Path, rows: int = 400) -> None:
    """Write a folder of one's own with a catalogue of two streams and one label."""
    folder.mkdir(parents=True, exist_ok=True)
    times = pd.date_range("2026-01-05", periods=rows, freq="5min", tz="UTC")
    table = values(rows)[["d01", "d02"]].set_axis(["pulse", "steps"], axis=1)
    table["timestamp"] = times.strftime("%Y-%m-%dT%H:%M:%SZ")
    long = table.melt("timestamp", var_name="stream_id", value_name="value")
    long.to_csv(folder / "readings.csv", index=False)
    (folder / "labels.csv").write_text(
        f"start,end,streams\n{times[-3].isoformat()},{times[-1].isoformat()},pulse; steps\n"
    )
    (folder / "catalogue.yaml").write_text(
        "name: own\n"
        "groups:\n  - {id: watch}\n"
        "streams:\n"
        "  - {id: pulse, type: continuous_smooth, group: watch}\n"
        "  - {id: steps, type: continuous_smooth, group: watch}\n"
    )
