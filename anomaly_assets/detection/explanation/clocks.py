"""Clocks that are wrong, told from when readings came and which times they bear.

Readings arrive a little after the time they bear, and each group has its own usual lag: a device
that sends every hour, or a service that hands on with a delay, is not wrong. A clock that jumps
makes a *step*: from some moment on every reading of the device bears a time that is off by one and
the same amount, while it goes on arriving. What merely comes late does not look like that: of a
device that was out of reach, each reading has waited for another time, and a file that is imported
comes in one burst.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from anomaly_assets.detection.explanation.cause import Cause, CauseKind, cause_of
from anomaly_assets.detection.explanation.facts import WindowFacts
from anomaly_assets.detection.explanation.record import ClockEvidence
from anomaly_assets.detection.explanation.wording import listed, off_by
from anomaly_assets.streams.windows import FloatArray, IntArray

#: Minutes with arrivals that tell how a group's clock stands, among so many minutes: later, what is
#: known is of before, and the device may have been switched off since.
LATEST = 5
LATEST_AMONG = 30
#: Fewer minutes with arrivals tell nothing: a burst or a straggler is no course of time.
FEWEST = 3
#: Minutes with arrivals before, from which a group's usual lag is known.
FEWEST_BEFORE = 10
#: A lag that grows by less (two windows) is that of a slow network or of a device that saves power.
LEAST_SECONDS = 600.0
#: Lags within a minute of each other are one; sending takes that long.
ONE_LAG_SECONDS = 60.0
#: Spreads of the lags, before and now, that a step exceeds: what waited for anything between 0 and
#: some time has a median of two of its spreads, however long that time is.
STEP_SPREADS = 3.0
#: Seconds by which groups of one device may seem to differ.
SAME_CLOCK_SECONDS = 120.0
#: Log-odds by which a wrong clock precedes the silence that it explains, and that it takes from it.
PRECEDES = 1.0
TAKEN = 4.0


@dataclass(frozen=True, slots=True)
class _WrongClock:
    """How wrong the times of some groups are, and since which row of the arrivals (None: ever)."""

    groups: tuple[int, ...]
    ahead: float
    since: int | None


def with_wrong_clocks(facts: WindowFacts, silences: list[Cause]) -> list[Cause]:
    """Add wrong clocks to the silences of a window; a silence that one explains stands behind it.

    A device that keeps sending is not off, however empty the window that its readings miss.
    """
    arrivals = facts.evidence.arrivals
    if arrivals is None:
        return silences
    wrong = _one_clock_each(
        [
            found
            for group in range(arrivals.lag.shape[1])
            if (found := _wrong_clock(group, arrivals.lag[:, group], arrivals.refused[:, group]))
        ]
    )
    reporting = set(np.nonzero(np.isfinite(arrivals.lag).any(axis=0))[0].tolist())
    causes: list[Cause] = []
    left = list(silences)
    for clock in wrong:
        explained = [silence for silence in left if _explains(facts, clock, silence, reporting)]
        cause = _cause(facts, clock, everywhere=reporting == set(clock.groups))
        if explained:
            strongest = max(silence.log_odds for silence in explained)
            cause = replace(cause, log_odds=max(cause.log_odds, strongest + PRECEDES))
        left = [silence for silence in left if silence not in explained]
        causes += [cause, *(replace(one, log_odds=one.log_odds - TAKEN) for one in explained)]
    return [*causes, *left]


def _wrong_clock(group: int, lag: FloatArray, refused: IntArray) -> _WrongClock | None:
    """Return how wrong a group's times have been lately, None if they are right or unknown."""
    came = np.nonzero(np.isfinite(lag))[0]
    latest = came[came >= len(lag) - LATEST_AMONG][-LATEST:]
    if len(latest) < FEWEST:
        return None
    level, spread = _level(lag[latest])
    unusable = bool(np.median(refused[latest] > 0) == 1.0)
    far = np.abs(lag[came] - level) > max(ONE_LAG_SECONDS, STEP_SPREADS * spread)
    # A straggler does not end the time for which the clock has been wrong; several in a row do.
    ends = np.nonzero(far[2:] & far[1:-1] & far[:-2])[0]
    begins = int(ends[-1]) + FEWEST if len(ends) else 0
    since = int(came[begins]) if begins else None
    if level < 0.0:
        # Nothing comes from the future: no usual lag is needed to know that this is wrong.
        certain = unusable or level <= -LEAST_SECONDS
        return _WrongClock((group,), -level, since) if certain else None
    if unusable and level >= LEAST_SECONDS:
        return _WrongClock((group,), -level, since)
    before = lag[came[:begins]]
    if len(before) < FEWEST_BEFORE:
        return None
    usual, noise = _level(before)
    step = level - max(usual, 0.0)
    constant = spread <= max(ONE_LAG_SECONDS, 2.0 * noise)
    if not constant or step < max(LEAST_SECONDS, STEP_SPREADS * (noise + spread)):
        return None
    return _WrongClock((group,), -step, since)


def _level(lags: FloatArray) -> tuple[float, float]:
    """Return median and median absolute deviation."""
    level = float(np.median(lags))
    return level, float(np.median(np.abs(lags - level)))


def _one_clock_each(wrong: list[_WrongClock]) -> list[_WrongClock]:
    """Join groups that are wrong by the same: they hang on one device."""
    ordered = sorted(wrong, key=lambda clock: (clock.ahead, clock.groups))
    cuts = [
        number + 1
        for number, (one, next_one) in enumerate(pairwise(ordered))
        if next_one.ahead - one.ahead > SAME_CLOCK_SECONDS
    ]
    parts = [ordered[a:b] for a, b in pairwise([0, *cuts, len(ordered)]) if a < b]
    return [
        _WrongClock(
            tuple(sorted(group for clock in part for group in clock.groups)),
            float(np.median([clock.ahead for clock in part])),
            min((clock.since for clock in part if clock.since is not None), default=None),
        )
        for part in parts
    ]


def _explains(facts: WindowFacts, clock: _WrongClock, silence: Cause, reporting: set[int]) -> bool:
    """Whether all that is silent bears the times of this clock."""
    if silence.kind is CauseKind.NOTHING_RECEIVED:
        return reporting == set(clock.groups)
    return {int(facts.of.group_of[i]) for i in silence.streams} <= set(clock.groups)


def _cause(facts: WindowFacts, clock: _WrongClock, *, everywhere: bool) -> Cause:
    """Describe a wrong clock; `everywhere`: nothing bears other times."""
    arrivals = facts.evidence.arrivals
    n_minutes = 0 if arrivals is None else len(arrivals.lag)
    groups = list(clock.groups)
    refused = 0 if arrivals is None else int(arrivals.refused[clock.since or 0 :, groups].sum())
    since = None
    if clock.since is not None:
        since = facts.evidence.window_end - 60 * (n_minutes - clock.since)
    streams = np.concatenate([facts.of.members[group] for group in groups])
    silent = not facts.spoke[streams].any()
    name = listed([facts.of.group_names[group] for group in groups])
    # Of several devices one is wrong; if nothing bears other times, it may be the receiver.
    several = everywhere and len(groups) > 1
    whose = f"the {name} device"
    if several:
        whose = "every device or of the system that receives them"
    off = off_by(clock.ahead)
    when = "for hours" if since is None else f"since {facts.clock.time(since)}"
    times = "bear times still to come" if clock.ahead > 0.0 else "bear times long past"
    unusable = f" ({refused} of them were refused)" if refused else ""
    missed = ", so that this window has none" if silent else ""
    # A receiver that is an hour behind with its work makes all of it late by the same.
    unless = ", unless everything is held up on its way" if several and clock.ahead < 0.0 else ""
    sentence = (
        f"the clock of {whose} has been about {off} {when}: readings of {name} keep arriving but "
        f"{times}{unusable}{missed}{unless}."
    )
    # That the clock is wrong is plain; how much of the anomaly comes of it is not.
    share = facts.accounted_for(streams.tolist())
    strength = 0.55 + 0.4 * share if silent else 0.5 + 0.25 * share
    cause = cause_of(
        CauseKind.CLOCK_JUMP, f"clock of {whose} {off}", strength, sentence, tuple(streams.tolist())
    )
    return replace(
        cause,
        action=f"{cause.action} The clock to look at is that of {whose}: it is about {off}.",
        clock=ClockEvidence(
            tuple(facts.of.catalogue.group_ids[group] for group in groups),
            clock.ahead,
            since,
            refused,
        ),
    )
