"""An hour of 100 people: how soon after its end each window is told and explained.

Around the end of each window time passes as it does; in between, where nothing is measured, the
clock is set ahead and the readings of the span are sent at once.
"""

from __future__ import annotations

import asyncio
import gc
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly_assets.live.intake import Intake
from anomaly_assets.live.pipeline import StreamingPipeline
from anomaly_assets.live.results import ClosedBy
from anomaly_assets.live.writer import JournalWriter
from anomaly_assets.streams.windows import WindowRange
from benchmarks.live.people import to_send

if TYPE_CHECKING:
    import pandas as pd

    from anomaly_assets.pipeline.deployment import Deployment

#: Seconds before and after a window's end that pass as they do.
_BEFORE, _AFTER = 3.0, 9.0
_BATCH = 500
#: Windows after which memory is looked at for the first time: by then every buffer has its size.
_SETTLED = 4


@dataclass
class Clock:
    """A clock that runs as any, and can be set ahead."""

    origin: datetime
    began: float = field(default_factory=time.monotonic)

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.origin + timedelta(seconds=time.monotonic() - self.began)

    def set(self, moment: datetime) -> None:
        """Set it ahead."""
        self.origin, self.began = moment, time.monotonic()


@dataclass
class Boundaries:
    """What was seen, in milliseconds.

    Parameters
    ----------
    told
        From the moment a window was due to the moment its result was told.
    explained
        From a result to its explanation.
    growth_mb
        Growth of the process's memory after the first windows.
    """

    told: list[float] = field(default_factory=list)
    explained: list[float] = field(default_factory=list)
    growth_mb: float = 0.0


async def an_hour(deployment: Deployment, frame: pd.DataFrame, windows: WindowRange) -> Boundaries:
    """Send the readings of windows, and note when each window is told."""
    clock = Clock(windows.start_time)
    pipeline = StreamingPipeline(deployment, clock=clock)
    writer = JournalWriter(deployment)
    intake = Intake(writer, pipeline)
    writer.start()
    await pipeline.start()
    found = Boundaries()
    listening = asyncio.create_task(_listen(pipeline, clock, found))
    measured = 0.0
    for number, end in enumerate(windows.starts()[1:].tolist()):
        moment = datetime.fromtimestamp(end, tz=windows.start_time.tzinfo)
        await _one_boundary(intake, frame, clock, moment)
        if number == _SETTLED:
            measured = resident_mb()
    found.growth_mb = resident_mb() - measured
    await pipeline.stop()
    await writer.stop()
    listening.cancel()
    return found


async def _one_boundary(
    intake: Intake, frame: pd.DataFrame, clock: Clock, boundary: datetime
) -> None:
    """Send a window's readings up to a moment before its end at once, the rest in time."""
    near = boundary - timedelta(seconds=_BEFORE)
    waiting = to_send(frame, clock(), near)
    for start in range(0, len(waiting), _BATCH):
        await intake.take(waiting[start : start + _BATCH], source="benchmark")
    clock.set(near)
    end = boundary + timedelta(seconds=_AFTER)
    for reading in to_send(frame, near, end):
        await asyncio.sleep(max(0.0, (reading.at - clock()).total_seconds()))
        await intake.take([reading], source="benchmark")
    await asyncio.sleep(max(0.0, (end - clock()).total_seconds()))


async def _listen(pipeline: StreamingPipeline, clock: Clock, found: Boundaries) -> None:
    at: dict[tuple[str, datetime], float] = {}
    async for result in pipeline.subscribe():
        which = (result.entity_id, result.window_start)
        if result.explanation is not None:
            found.explained.append(1e3 * (time.monotonic() - at[which]))
        elif result.revision == 0:
            at[which] = time.monotonic()
            if result.closed_by is ClosedBy.TIME:
                due = result.window_end + pipeline.options.close_after
                found.told.append(1e3 * (clock() - due).total_seconds())


def resident_mb() -> float:
    """Return how much memory the process holds now (Linux)."""
    gc.collect()
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    msg = "/proc/self/status names no VmRSS"
    raise RuntimeError(msg)
