"""Entities with some streams each, thirty unless told, and their readings in the journal."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import yaml

from anomaly_assets.evaluation.simulator import wide_testbed
from anomaly_assets.evaluation.simulator.generic import START, synthetic_catalogue
from anomaly_assets.evaluation.simulator.wide import WIDE_KINDS
from anomaly_assets.storage.journal import append_of_many
from anomaly_assets.storage.partitions import ensure_partitions
from anomaly_assets.streams.aggregation import Readings
from anomaly_assets.streams.loading import load_catalogue
from anomaly_assets.streams.windows import WINDOW_SECONDS, WINDOWS_PER_DAY, WindowRange

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anomaly_assets.evaluation.simulator.faults import FaultKind
    from anomaly_assets.storage.database import Database
    from anomaly_assets.streams.catalogue import Catalogue
    from anomaly_assets.streams.windows import FloatArray

STREAMS = 30
DAYS = 3
#: Entities whose readings go into the journal in one statement.
_TOGETHER = 200
#: Each entity lives the same days, so many windows later than the one before it: primes with the
#: number of windows, so that no two of them are at the same place.
_LATER = 7


def names(count: int) -> list[str]:
    """Return the names of entities."""
    return [f"entity-{number:05d}" for number in range(count)]


def windows_of(first: int, count: int) -> WindowRange:
    """Return `count` windows from number `first` on."""
    start = START + first * WINDOW_SECONDS
    return WindowRange(start, start + count * WINDOW_SECONDS)


def write_catalogue(folder: Path, streams: int = STREAMS) -> Path:
    """Write the catalogue of so many streams as a file that a deployment can load."""
    catalogue = synthetic_catalogue(streams)
    path = folder / f"streams_{streams}.yaml"
    document = {
        "name": f"streams-{streams}",
        "groups": [{"id": group} for group in catalogue.group_ids],
        "streams": [
            {
                "id": stream.id,
                "type": stream.type.value,
                "group": stream.group,
                "aggregation": stream.aggregation.value,
            }
            for stream in catalogue.streams
        ],
    }
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


class Bed:
    """What the entities send: a reading a window and stream, in a deployment's journal.

    Parameters
    ----------
    catalogue
        File that :func:`write_catalogue` made.
    seed
        Of everything random.
    kinds
        What goes wrong with the first entity, every 16 to 24 hours; with the others later.

    Attributes
    ----------
    faults : list of int
        Numbers of the windows in which something begins to go wrong with the first entity.
    """

    def __init__(
        self, catalogue: Path, seed: int = 5, kinds: Sequence[FaultKind] = WIDE_KINDS
    ) -> None:
        self.path = catalogue
        self.catalogue: Catalogue = load_catalogue(catalogue)
        streams, days = len(self.catalogue.streams), DAYS + 6
        bed = wide_testbed(streams, days=days, seed=seed, first_day=0, kinds=kinds)
        # The second half, in which the hidden causes have come to swing.
        first = (days - DAYS) * WINDOWS_PER_DAY
        self._values: FloatArray = bed.block.values[first:]
        begins = [
            (int(label.start.timestamp()) - START) // WINDOW_SECONDS - first for label in bed.labels
        ]
        self.faults = [number for number in begins if number >= 0]

    def watch(self, database: Database, count: int, windows: WindowRange) -> None:
        """Put the entities and all their readings of some windows into a database."""
        with database.connect() as connection:
            ensure_partitions(connection, windows.start_time, windows.end_time)
            for first in range(0, count, _TOGETHER):
                some = names(count)[first : first + _TOGETHER]
                with connection.transaction(), connection.cursor() as cursor:
                    cursor.executemany(
                        "INSERT INTO entities (entity_id, catalogue) VALUES (%s, %s) "
                        "ON CONFLICT DO NOTHING",
                        [(name, str(self.path)) for name in some],
                    )
                    for part in windows.parts(24):
                        whose, readings = self._readings(first, len(some), part)
                        append_of_many(
                            connection,
                            some,
                            whose,
                            readings,
                            self.catalogue,
                            source="benchmark",
                            late_horizon=timedelta(days=7),
                        )
            connection.execute("ANALYZE")

    def _readings(
        self, first: int, count: int, windows: WindowRange
    ) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], Readings]:
        number = (windows.starts() - START) // WINDOW_SECONDS
        place = (
            number[np.newaxis] + _LATER * np.arange(first, first + count)[:, np.newaxis]
        ) % len(self._values)
        values = self._values[place]
        entity, window, stream = np.nonzero(np.isfinite(values))
        # Within the first minutes of the window, each stream at its own second.
        seconds = windows.starts()[window] + 5 * stream
        return entity.astype(np.int64), Readings(
            stream.astype(np.int64),
            (seconds * 1_000_000).astype(np.int64),
            values[entity, window, stream],
        )
