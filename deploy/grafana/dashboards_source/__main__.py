"""Write the dashboards, or check that they are as written: ``python -m dashboards_source``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from .anomalies import anomalies
from .dagster import dagster
from .streams import streams
from .system import system

FOLDER = Path(__file__).parent.parent / "dashboards"
BOARDS = {"system": system, "streams": streams, "anomalies": anomalies, "dagster": dagster}


def main() -> int:
    """Write each dashboard; with ``--check`` say which differ instead, and return how many."""
    check = "--check" in sys.argv[1:]
    differing = 0
    for name, make in BOARDS.items():
        made = make().build()
        # Rows would all be number 0, and links to a panel go by its number.
        for number, panel in enumerate(made.panels or [], 1):
            panel.id_val = number
        text = json.dumps(made, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        path = FOLDER / f"{name}.json"
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            differing += 1
            sys.stderr.write(f"{path.name} is not as dashboards_source makes it; write it anew\n")
        elif not check:
            path.write_text(text, encoding="utf-8")
    return differing


if __name__ == "__main__":
    sys.exit(main())
