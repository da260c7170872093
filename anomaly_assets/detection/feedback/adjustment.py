"""What people's judgement has changed: a threshold, how far sources are trusted, and rules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Self, get_args

import numpy as np

from anomaly_assets.detection.feedback.evidence import (
    GAP_PREFIX,
    VOICE_PREFIX,
    Evidence,
    minute_of_day,
)
from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import BoolArray

Days = Literal["all", "workdays", "weekend"]

_FIRST_FREE_DAY: Final = 5
_MINUTES_PER_DAY: Final = 24 * 60


@dataclass(frozen=True)
class Rule:
    """A habit that raises no alert: sources that are expected to be odd at certain times.

    A window is suppressed if it lies in the rule's time, one of its anchors stands out, it is not
    odder than the rule's ceiling, and without the sources that the rule covers nothing would be
    left to call for attention. Whatever else is odd in the window speaks as ever.

    Parameters
    ----------
    name
        What the rule is called wherever it acts.
    anchors
        Sources of which one must stand out: ``heart_rate+``, ``steps-``, ``gap:motion``.
    covers
        Sources that count for nothing then: streams, and voices of tier 2 (``voice:gaps``).
    days
        Local days it holds on.
    from_minute, to_minute
        Local minutes of the day, the end exclusive; over midnight if it comes first. None: any.
    ceiling
        Final scores above this are never suppressed, in [0, 1].
    expires
        Epoch seconds: windows from here on are not suppressed.
    labels
        Numbers of the labels it was made from.

    Raises
    ------
    InputError
        If it has no name, no anchor, covers nothing, or a number is out of range.
    """

    name: str
    anchors: tuple[str, ...]
    covers: tuple[str, ...]
    ceiling: float
    expires: int
    days: Days = "all"
    from_minute: int | None = None
    to_minute: int | None = None
    labels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a rule that could not act, or would act on everything."""
        minutes = (self.from_minute, self.to_minute)
        known = [minute for minute in minutes if minute is not None]
        usable = (
            self.name.strip()
            and self.name.isprintable()
            and self.anchors
            and self.covers
            and self.days in get_args(Days)
            and 0.0 <= self.ceiling <= 1.0
            and len(known) in {0, 2}
            and all(0 <= minute < _MINUTES_PER_DAY for minute in known)
        )
        if not usable:
            msg = (
                f"suppression rule {self.name!r}: give a name, anchors, what it covers, days out "
                f"of {get_args(Days)}, a ceiling in [0, 1] and both or no minutes of the day"
            )
            raise InputError(msg)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """Build a rule from what :meth:`to_dict` returned."""
        lists = {name: tuple(stored[name]) for name in ("anchors", "covers", "labels")}
        return cls(**{**stored, **lists})

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as JSON can hold it."""
        lists = {name: list(getattr(self, name)) for name in ("anchors", "covers", "labels")}
        return {**asdict(self), **lists}

    def holds(self, evidence: Evidence) -> BoolArray:
        """Return which windows it is about, shape ``(n,)``."""
        found = (evidence.final <= self.ceiling) & (evidence.starts < self.expires)
        if self.days != "all":
            free = evidence.weekday >= _FIRST_FREE_DAY
            found &= free if self.days == "weekend" else ~free
        if self.from_minute is not None and self.to_minute is not None:
            minute = minute_of_day(evidence.hour)
            after, before = minute >= self.from_minute, minute < self.to_minute
            wraps = self.to_minute <= self.from_minute
            found &= (after | before) if wraps else (after & before)
        anchored = np.zeros(len(evidence), dtype=np.bool_)
        for anchor in self.anchors:
            anchored |= evidence.stands_out(anchor)
        return np.asarray(found & anchored)

    @property
    def sentence(self) -> str:
        """The rule for people.

        Examples
        --------
        >>> rule = Rule("bike", ("steps-",), ("steps",), 0.9, 0, "workdays", 1110, 1230)
        >>> rule.sentence
        'steps lower than expected, on workdays between 18:30 and 20:30, up to a score of 0.90'
        """
        days = {"all": "on any day", "workdays": "on workdays", "weekend": "at the weekend"}
        when = days[self.days]
        if self.from_minute is not None and self.to_minute is not None:
            when += f" between {_clock(self.from_minute)} and {_clock(self.to_minute)}"
        what = " or ".join(_anchor_in_words(anchor) for anchor in self.anchors)
        return f"{what}, {when}, up to a score of {self.ceiling:.2f}"


@dataclass(frozen=True)
class Adjustment:
    """What feedback has changed for an entity.

    Parameters
    ----------
    threshold
        Final scores have to exceed this to raise an alarm; None: the usual limit.
    trust
        Weight in (0, 1] by source: what its p-value is divided by. Those not named have 1.
    rules
        What is suppressed.

    Raises
    ------
    InputError
        If a number is out of range.
    """

    threshold: float | None = None
    trust: Mapping[str, float] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what could not be applied."""
        bad = {name: w for name, w in self.trust.items() if not 0.0 < w <= 1.0}
        limit = 0.0 if self.threshold is None else self.threshold
        if bad or not math.isfinite(limit) or not 0.0 <= limit <= 1.0:
            msg = (
                f"threshold {self.threshold} and weights {bad}: give a threshold in [0, 1] and "
                "weights above 0, up to 1"
            )
            raise InputError(msg)

    @property
    def changes_nothing(self) -> bool:
        """Whether decisions with it are those without."""
        return self.threshold is None and not self.rules and set(self.trust.values()) <= {1.0}


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _anchor_in_words(anchor: str) -> str:
    if anchor.startswith(GAP_PREFIX):
        return f"unusual gaps of {anchor.removeprefix(GAP_PREFIX)}"
    way = "higher" if anchor.endswith("+") else "lower"
    return f"{anchor[:-1]} {way} than expected"


def source_in_words(source: str) -> str:
    """Return a source for people: a stream's name, or a voice of tier 2."""
    if source.startswith(VOICE_PREFIX):
        return f"tier 2's {source.removeprefix(VOICE_PREFIX).replace('_', ' ')}"
    return source
