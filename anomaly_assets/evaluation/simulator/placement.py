"""Where in one person's life a fault can be told from what is normal there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from anomaly_assets.evaluation.simulator.clock import MINUTES_PER_DAY
from anomaly_assets.evaluation.simulator.faults import Fault, FaultKind
from anomaly_assets.evaluation.simulator.gaps import MissingPattern, Presence
from anomaly_assets.evaluation.simulator.lives import Life, State
from anomaly_assets.evaluation.simulator.sensors import Device
from anomaly_assets.streams.windows import WINDOW_SECONDS

#: Effort that the heart answers to in a broken relationship: lying down, or running.
REST, EXERTION = 0.03, 0.75
WINDOW_MINUTES = WINDOW_SECONDS // 60


@dataclass(frozen=True)
class Placement:
    """One person's life, asked where faults would stand out.

    Parameters
    ----------
    life
        The person's days.
    presence
        When the devices report.
    first_minute
        No fault begins before this minute of the grid.
    """

    life: Life
    presence: Presence
    first_minute: int

    @classmethod
    def of(cls, life: Life, missing: MissingPattern | None, first_day: int) -> Placement:
        """Return the placement that leaves `first_day` days free at the start of `life`."""
        presence = Presence.of(life, missing or MissingPattern())
        return cls(life, presence, MINUTES_PER_DAY * first_day)

    def minute_at(self, day: date, hour: float) -> int:
        """Return the minute on the grid at which the wall clock shows `hour` of `day`."""
        grid = self.life.grid
        return (grid.second_of(day, 60.0 * hour) - grid.start) // 60

    def sport_on(self, day: date) -> tuple[int, int] | None:
        """Return start and length in minutes of the first training of `day`, if there is one."""
        midnight = self.minute_at(day, 0.0)
        for session in self.life.sessions:
            if (
                session.state is State.SPORT
                and midnight <= session.start < midnight + MINUTES_PER_DAY
            ):
                return session.start, session.stop - session.start
        return None

    def allows(self, begin: int, stop: int, devices: tuple[Device, ...]) -> bool:
        """Whether a fault may last from `begin` to `stop`, with all of `devices` reporting."""
        if begin < self.first_minute or stop > len(self.life.grid):
            return False
        return all(bool(self.presence.worn[device][begin:stop].all()) for device in devices)

    def fault(
        self, kind: FaultKind, begin: int, minutes: int, target: str, strength: float
    ) -> Fault:
        """Return the fault that begins at minute `begin` of the grid."""
        moment = datetime.fromtimestamp(self.life.grid.start, tz=UTC) + timedelta(minutes=begin)
        return Fault(self.life.entity, kind, moment, minutes, target, strength)


def on_window(minute: int) -> int:
    """Return the start of the window that holds `minute`."""
    return minute - minute % WINDOW_MINUTES
