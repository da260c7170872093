"""Which windows deserve an explanation, and why."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import numpy.typing as npt

from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import FloatArray

CodeArray = npt.NDArray[np.int8]

#: Default limits of requirements section 5; each must be exceeded, equality does not trigger.
FINAL_ABOVE = 0.7
SINGLE_STREAM_ABOVE = 0.8
CONFLICT_ABOVE = 0.7
CONFLICT_BELOW = 0.3


class Trigger(StrEnum):
    """Why a window is explained."""

    FINAL_SCORE = "final_score"
    SINGLE_STREAM = "single_stream"
    CONFLICTING_SIGNALS = "conflicting_signals"
    FORCED = "forced"

    @property
    def code(self) -> int:
        """The trigger as the small integer that :func:`triggers` puts in its array."""
        return _CODES[self]

    @classmethod
    def of_code(cls, code: int) -> Trigger | None:
        """Return the trigger of one element of :func:`triggers`; None for 0.

        Raises
        ------
        InputError
            If no trigger has this code.
        """
        if code == 0:
            return None
        for trigger, known in _CODES.items():
            if known == code:
                return trigger
        msg = f"unknown trigger code {code}; codes run from 0 (none) to {len(_CODES)}"
        raise InputError(msg)


_CODES = {
    Trigger.FINAL_SCORE: 1,
    Trigger.SINGLE_STREAM: 2,
    Trigger.CONFLICTING_SIGNALS: 3,
    Trigger.FORCED: 4,
}


def triggers(
    individual: FloatArray,
    cross_stream: FloatArray,
    ensemble: FloatArray,
    *,
    threshold: float = FINAL_ABOVE,
) -> CodeArray:
    """Decide for every window of a block whether and why it is explained.

    An unknown score (NaN) triggers nothing. Where several triggers hold, the final score is named
    before a single stream, and that before conflicting signals. :attr:`Trigger.FORCED` never comes
    from here: whoever forces an explanation names it.

    Parameters
    ----------
    individual
        Tier-1 scores in [0, 1], shape ``(n_windows, n_streams)``.
    cross_stream
        Tier-2 scores, shape ``(n_windows,)``.
    ensemble
        Final scores, shape ``(n_windows,)``.
    threshold
        Limit of the final score. A stricter one (0.8 in the high-frequency profile) raises the
        limits of the other two triggers with it, so that nothing below it is explained.

    Returns
    -------
    numpy.ndarray
        :attr:`Trigger.code` of every window (int8), 0 where nothing triggers.

    Raises
    ------
    InputError
        If the shapes do not belong to the same windows.

    Examples
    --------
    >>> nan = float("nan")
    >>> individual = np.array([[0.2, nan], [0.85, 0.1], [0.75, 0.1], [nan, nan]])
    >>> triggers(individual, np.array([0.1, 0.5, 0.1, nan]), np.array([0.8, 0.6, 0.4, nan]))
    array([1, 2, 3, 0], dtype=int8)
    """
    if individual.ndim != 2 or not (individual.shape[0] == len(cross_stream) == len(ensemble)):
        msg = (
            f"scores of different windows: tier 1 {individual.shape}, tier 2 {cross_stream.shape}, "
            f"ensemble {ensemble.shape}; give (n_windows, n_streams), (n_windows,), (n_windows,)"
        )
        raise InputError(msg)
    # fmax passes over NaN without numpy's all-NaN warning; -1 stands for "no stream scored".
    strongest = np.fmax.reduce(individual, axis=1, initial=-1.0)
    codes = np.zeros(len(ensemble), dtype=np.int8)
    conflict = (strongest > max(CONFLICT_ABOVE, threshold)) & (cross_stream < CONFLICT_BELOW)
    codes[conflict] = Trigger.CONFLICTING_SIGNALS.code
    codes[strongest > max(SINGLE_STREAM_ABOVE, threshold)] = Trigger.SINGLE_STREAM.code
    codes[ensemble > threshold] = Trigger.FINAL_SCORE.code
    return codes
