"""A small shop in the layout of the PetShop recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

SERVICES = ("web", "api", "db", "mail")
#: The web page calls the interface and the mailer, the interface calls the database.
CALLS = (("web", "api"), ("web", "mail"), ("api", "db"))
START = 1_680_000_000
NORMAL_ROWS = 80
#: Row in which a fault begins, and seconds into it.
ONSET, LATE = 1, 100
HEADER = "scenario,split,issue,target_node,target_metric,target_agg,timestamp,root_cause_node\n"


def write_petshop(folder: Path) -> Path:
    """Write two scenarios and three faults, and return the folder of the shop.

    Faults are at the database, at another level than the normal run: slow in ``busy`` ``issue_0``,
    failing in ``busy`` ``issue_1``; ``quiet``, slow again, has no normal run.
    """
    root = folder / "petshop"
    for number, scenario in enumerate(("busy", "quiet")):
        (root / scenario).mkdir(parents=True)
        graph = pd.DataFrame(0.0, index=list(SERVICES), columns=list(SERVICES))
        for caller, callee in CALLS:
            graph.loc[caller, callee] = 1.0
        graph.to_csv(root / scenario / "graph.csv.gz")
        write_run(
            root / scenario / "train" / "issue_0", latency(5, seed=number + 1, slow=True), drift=3.0
        )
    write_run(root / "busy" / "noissue", latency(NORMAL_ROWS))
    failing = np.full((5, 4), 100.0)
    failing[ONSET + 1 : ONSET + 3] = (96.0, 95.0, 90.0, 100.0)
    write_run(root / "busy" / "train" / "issue_1", latency(5, seed=3), 3.0, failing)
    fault = START + ONSET * 300 + LATE
    (root / "targets.csv").write_text(
        f"{HEADER}"
        f"busy,train,issue_0,web,latency,Average,{fault},db\n"
        f"busy,train,issue_1,web,availability,Average,{fault},db\n"
        f"quiet,train,issue_0,web,latency,Average,{fault},db\n"
    )
    return root


def latency(rows: int, seed: int = 0, *, slow: bool = False) -> np.ndarray:
    """Return latencies in which callers wait for those they call."""
    noise = np.random.default_rng(seed).normal(0.0, 0.01, (rows, 4))
    db = 0.2 + noise[:, 2]
    if slow:
        db[ONSET + 1 : ONSET + 3] += 0.5
    mail = 0.1 + noise[:, 3]
    api = 0.3 + db + noise[:, 1]
    return np.column_stack((0.1 + api + mail + noise[:, 0], api, db, mail))


def write_run(
    folder: Path, values: np.ndarray, drift: float = 0.0, availability: np.ndarray | None = None
) -> Path:
    """Write the metrics of a run; the mailer has no requests, and its availability is unknown."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = len(values)
    if availability is None:
        availability = np.full((rows, 4), 100.0)
    availability = availability.copy()
    availability[:, 3] = np.nan
    columns = pd.MultiIndex.from_tuples(
        [(s, *layer) for layer in LAYERS for s in SERVICES],
        names=["microservice", "metric", "statistic"],
    )
    requests = np.tile([1000.0, 500.0, 250.0, np.nan], (rows, 1))
    table = pd.DataFrame(
        np.hstack((values + drift, availability, requests)),
        index=pd.Index(START + 300.0 * np.arange(rows), name="unix_timestamp"),
        columns=columns,
    )
    path = folder / "metrics.csv.gz"
    table.to_csv(path)
    return path


LAYERS = (("latency", "Average"), ("availability", "Average"), ("requests", "Sum"))
