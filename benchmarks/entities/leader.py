"""Windows as Dagster runs, one after the other, led from a process of its own.

A process of its own, because the definitions read the environment when they are loaded.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    """Run windows, and print the seconds that each of them took, as JSON in the last line."""
    first, count = (int(argument) for argument in sys.argv[1:3])
    from anomaly_assets.automation.instance import open_instance  # noqa: PLC0415
    from anomaly_assets.automation.runs import run_windows  # noqa: PLC0415
    from anomaly_assets.definitions import job_to_run  # noqa: PLC0415
    from benchmarks.entities.bed import windows_of  # noqa: PLC0415

    seconds = []
    with open_instance(dict(os.environ)) as instance:
        for number in range(first, first + count):
            started = time.perf_counter()
            outcome = run_windows(job_to_run(), instance, windows_of(number, 1))
            seconds.append(time.perf_counter() - started)
            if not outcome.succeeded:
                raise SystemExit(outcome.error)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
