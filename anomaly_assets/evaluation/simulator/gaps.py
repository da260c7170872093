"""Natural gaps: readings of a life that are never sent although nothing is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomaly_assets.evaluation.simulator.lives import SATURDAY, Life, State
from anomaly_assets.evaluation.simulator.randomness import generator
from anomaly_assets.evaluation.simulator.sensors import SENSORS, Device
from anomaly_assets.evaluation.simulator.silence import MissingStreams, silent
from anomaly_assets.streams.windows import WINDOW_SECONDS, BoolArray, FloatArray


@dataclass(frozen=True)
class MissingPattern:
    """How often readings are missing.

    Parameters
    ----------
    watch_night_cycle
        The watch spends one night in so many on its charger; 0 for never.
    watch_shower
        Whether the watch comes off for some 25 minutes each morning.
    phone_night_cycle
        The phone is switched off one night in so many, if a working day follows; 0 for never. With
        the watch's cycle these are other nights: the person is never without both, and a week
        shows every kind of night, so that all of them can be learnt.
    flat_battery_share
        Share of those nights that begin half an hour earlier because the battery is flat.
    bursts_per_day
        Short losses of 3 to 9 minutes of everything one device sends.
    dropout
        Probability that a single reading is lost.
    """

    watch_night_cycle: int = 2
    watch_shower: bool = True
    phone_night_cycle: int = 2
    flat_battery_share: float = 0.2
    bursts_per_day: float = 1.5
    dropout: float = 0.01


#: Nothing is ever missing but what is not sent by nature (events that do not happen, no GPS fix).
NOTHING_MISSING = MissingPattern(
    watch_night_cycle=0,
    watch_shower=False,
    phone_night_cycle=0,
    flat_battery_share=0.0,
    bursts_per_day=0.0,
    dropout=0.0,
)


@dataclass(frozen=True)
class Presence:
    """Which devices report, arrays of bool of shape ``(n_minutes,)``.

    Parameters
    ----------
    worn
        By device: worn or switched on.
    linked
        By device: free of short losses of the connection.
    """

    worn: dict[Device, BoolArray]
    linked: dict[Device, BoolArray]

    @classmethod
    def of(cls, life: Life, missing: MissingPattern) -> Presence:
        """Draw when the devices of `life` report."""
        rng = generator(life.seed, life.entity, "gaps")
        worn = {
            Device.WATCH: _watch_worn(life, missing, rng),
            Device.PHONE: _phone_on(life, missing, rng),
        }
        n = len(life.grid)
        linked = {}
        for device in Device:
            lost = rng.random(n) < missing.bursts_per_day / 1440.0
            length = int(rng.integers(3, 10))
            linked[device] = np.convolve(lost, np.ones(length))[:n] == 0.0
        return cls(worn, linked)


def _watch_worn(life: Life, missing: MissingPattern, rng: np.random.Generator) -> BoolArray:
    worn = np.ones(len(life.grid), dtype=np.bool_)
    early, late = rng.integers(5, 20, (2, life.wakings.size))
    cycle = missing.watch_night_cycle
    for night, (bed, wake) in enumerate(zip(life.bedtimes[:-1], life.wakings[1:], strict=True)):
        if cycle and night % cycle == life.habits.watch_charge_phase % cycle:
            worn[max(bed - early[night], 0) : max(wake + late[night], 0)] = False
        if missing.watch_shower:
            shower = wake + 10 + int(late[night])
            worn[max(shower, 0) : max(shower + 20 + int(early[night]) // 2, 0)] = False
    return worn


def _phone_on(life: Life, missing: MissingPattern, rng: np.random.Generator) -> BoolArray:
    on = np.ones(len(life.grid), dtype=np.bool_)
    before, after = rng.integers(0, 15, (2, life.wakings.size))
    flat = rng.random(life.wakings.size) < missing.flat_battery_share
    cycle = missing.phone_night_cycle
    for night, (bed, wake) in enumerate(zip(life.bedtimes[:-1], life.wakings[1:], strict=True)):
        work_follows = life.grid.dates[night + 1].weekday() < SATURDAY
        if cycle and work_follows and night % cycle == life.habits.phone_off_phase % cycle:
            off = bed - before[night] - (30 if flat[night] else 0)
            on[max(off, 0) : max(wake + after[night], 0)] = False
    return on


def satellites_seen(life: Life, outdoors: FloatArray) -> BoolArray:
    """Return when a position fix exists: nearly always outdoors, now and then inside."""
    rng = generator(life.seed, life.entity, "satellites")
    asleep = life.state == State.SLEEP
    indoors = np.where(asleep, 0.01, 0.05)
    return rng.random(outdoors.size) < np.where(outdoors > 0.3, 0.85, indoors)


def streams_heard(life: Life, silence: MissingStreams) -> dict[str, BoolArray]:
    """Return by stream the minutes in which it is not silent, shape ``(n_minutes,)``."""
    groups = [sensor.group for sensor in SENSORS]
    rng = generator(life.seed, life.entity, "silence")
    off = silent(silence, groups, len(life.grid), WINDOW_SECONDS // 60, rng)
    return {sensor.stream: ~off[row] for row, sensor in enumerate(SENSORS)}
