"""p-values of gap surprises, by their rank among the worst of each past hour."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from anomaly_assets.detection.ranking import RankCalibrator
from anomaly_assets.streams.windows import FloatArray

#: Largest share of an hour's windows that an episode spends near its largest surprise: such a
#: window is by so much less probable than such an hour. It is a third in simulations; a half is
#: careful.
WINDOW_SHARE: Final = 0.5
#: Upper share of the learnt hours above which an hour is learnt capped.
CAP_SHARE: Final = 0.01
#: The cap, relative to the smallest value of that upper share.
CAP_GROWTH: Final = 1.25
#: Smallest cap in nats: below it nothing would have been flagged in the first place.
CAP_FLOOR: Final = 2.0
#: Hours after which there is a quantile worth the name.
CAP_FROM_HOURS: Final = 72


class HourlyCalibrator(RankCalibrator):
    """Ranks surprises among the largest of each of the last `hours` hours.

    Absences come in episodes. Ranked among single windows, a habit that shows in one window of a
    day, such as taking the watch off, would be odd every evening: 1 in 288. Ranked among hours it
    is 1 in 24. Two weeks of 40 channels thereby also become cheap in time and space.

    An hour is learnt capped, at most a quarter above the 99 % quantile of the hours before. One
    long outage then hardly changes what counts as unusual; yet the cap itself grows while the
    outage lasts, so that a lasting change of habits becomes normal within days.

    Parameters
    ----------
    n
        Number of channels.
    hours
        Number of hours ranked among.
    """

    def __init__(self, n: int, *, hours: int = 336) -> None:
        super().__init__(n, hours, minimum=24, refresh=4)
        self._worst = np.full(n, -np.inf)
        self._cap = np.full(n, np.inf)

    def p(self, values: FloatArray) -> FloatArray:
        """Return p-values of one window's surprises, shape ``(n,)``; NaN stays NaN."""
        return super().p(_rounded(values)) * WINDOW_SHARE

    def take(self, values: FloatArray, *, hour_over: bool) -> None:
        """Take in one window's surprises, and learn the hour if this is its last window.

        Parameters
        ----------
        values
            Shape ``(n,)``; NaN where a channel says nothing.
        hour_over
            Whether the next window belongs to another hour.
        """
        self._worst = np.fmax(self._worst, values)
        if not hour_over:
            return
        self.learn(_rounded(np.minimum(self._worst, self._cap)))
        self._worst = np.full(self.n, -np.inf)
        if self._calls % self.refresh == 0:
            self._move_caps()

    def _move_caps(self) -> None:
        hours = np.minimum(self._seen, self.window)
        n_top = int(self.window * CAP_SHARE) + 1
        top = np.sort(np.partition(self._learnt, -n_top, axis=1)[:, -n_top:], axis=1)[:, ::-1]
        edge = top[np.arange(self.n), (hours * CAP_SHARE).astype(np.int64)]
        caps = np.maximum(CAP_GROWTH * edge, CAP_FLOOR)
        self._cap = np.where(hours >= CAP_FROM_HOURS, caps, np.inf)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with the learnt values in single precision, which loses nothing."""
        return {**self.__dict__, "_learnt": self._learnt.astype(np.float32)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`__getstate__` returned."""
        self.__dict__.update(state)
        self._learnt = self._learnt.astype(np.float64)


def _rounded(values: FloatArray) -> FloatArray:
    """Round to single precision: values a rounding error apart tie, and the state halves."""
    return values.astype(np.float32).astype(np.float64)
