"""The cost of a window as entities grow, and what a second Celery worker brings.

Entities with thirty streams each, states warm; single windows through Dagster, whose steps are
shards on real Celery workers over a real Redis, and the same windows without Dagster. Figures are
medians of some windows.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
from pathlib import Path

from anomaly_assets.storage.embedded import EmbeddedServer
from benchmarks.entities.bed import DAYS, STREAMS, Bed, write_catalogue
from benchmarks.entities.figure import draw
from benchmarks.entities.place import WARM, Place, redis_server
from benchmarks.output import publish

COUNTS = (1, 10, 100, 300, 1000)


def main() -> None:
    """Measure, and print the figures, as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entities", type=int, default=COUNTS[-1], help="the most of them")
    parser.add_argument("--windows", type=int, default=3, help="timed each way")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--plot", type=Path, help="draw the cost as entities grow into this file")
    options = parser.parse_args()
    # A terminated run cleans up like an interrupted one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Each place also takes a window in which the workers load what they need, twice.
    most = DAYS * 288 - WARM
    if min(options.entities, options.windows, options.shards) < 1 or 4 * options.windows > most:
        parser.error("give at least one of each, and fewer windows")
    counts = sorted({*(count for count in COUNTS if count < options.entities), options.entities})
    plain: dict[int, float] = {}
    one: dict[int, float] = {}
    two = 0.0
    with tempfile.TemporaryDirectory(prefix="anomaly-assets-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = EmbeddedServer(folder / "postgres")
        try:
            url = server.start()
            bed = Bed(write_catalogue(folder))
            with redis_server(folder) as broker:
                for count in counts:
                    place = Place(url, folder, bed, count, 3 * options.windows + 2)
                    plain[count] = statistics.median(place.plain(options.windows))
                    one[count] = statistics.median(
                        place.through_dagster(
                            options.windows, broker=broker, workers=1, shards=options.shards
                        )
                    )
                    if count == counts[-1]:
                        two = statistics.median(
                            place.through_dagster(
                                options.windows, broker=broker, workers=2, shards=options.shards
                            )
                        )
        finally:
            server.stop()
    if options.plot is not None:
        draw(plain, one, options.plot)
    last = counts[-1]
    publish(
        f"one window of {last} entities x {STREAMS} streams (medians of {options.windows})",
        {
            "entities": last,
            "seconds_1_worker": one[last],
            "seconds_2_workers": two,
            "ratio": one[last] / two,
            "seconds_without_dagster": plain[last],
            "shards": options.shards,
            **{f"seconds_1_worker_{count}": one[count] for count in counts[:-1]},
            **{f"seconds_without_dagster_{count}": plain[count] for count in counts[:-1]},
        },
    )


if __name__ == "__main__":
    main()
