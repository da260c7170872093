"""The parts of a causal equation, and how an equation can be intervened upon."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How the right-hand side of an equation becomes a value."""

    LEVEL = "level"
    COUNT = "count"
    SHARE = "share"
    STORE = "store"


class Transform(StrEnum):
    """What is done to a cause before it is multiplied by its coefficient."""

    IDENTITY = "identity"
    POWER_OF_TEN = "power_of_ten"
    LOGARITHM = "logarithm"
    ABOVE_WALKING = "above_walking"


@dataclass(frozen=True)
class Term:
    """One cause in an equation.

    Parameters
    ----------
    cause
        Stream or hidden cause.
    coefficient
        Units of the effect for one unit of the transformed cause.
    lag
        Minutes of pure delay.
    response
        Time constant in minutes of the exponential response that follows the delay; 0 for none.
    transform
        Applied to the cause first.
    """

    cause: str
    coefficient: float
    lag: int = 0
    response: float = 0.0
    transform: Transform = Transform.IDENTITY


@dataclass(frozen=True)
class Noise:
    """Noise of an equation, in units of the stream.

    Parameters
    ----------
    jitter
        Standard deviation of the heavy-tailed (t, 4 degrees of freedom) minute-to-minute noise.
    wander
        Standard deviation of the slow noise.
    memory
        Minutes after which the slow noise has lost 1/e of itself.
    proportional_to
        A cause or stream that multiplies the jitter (movement shakes a sensor), or ``""``.
    """

    jitter: float = 0.0
    wander: float = 0.0
    memory: float = 30.0
    proportional_to: str = ""


@dataclass(frozen=True)
class Equation:
    """One stream's causes.

    Parameters
    ----------
    stream
        The effect.
    terms
        Its causes.
    intercept
        Value without any cause.
    noise
        What the causes do not say.
    kind
        ``level``: the sum itself. ``count``: a Poisson number with that sum as its rate, set to
        zero with probability `zero_inflation`. ``share``: the sum, but nothing unless positive.
        ``store``: accumulates the sum minute by minute inside `limits`.
    limits
        Values are kept inside.
    zero_inflation
        Of counts, in [0, 1].
    """

    stream: str
    terms: tuple[Term, ...]
    intercept: float = 0.0
    noise: Noise = Noise()
    kind: Kind = Kind.LEVEL
    limits: tuple[float, float] = (-1e9, 1e9)
    zero_inflation: float = 0.0

    @property
    def causes(self) -> tuple[str, ...]:
        """Names of the causes, in the order of the terms."""
        return tuple(term.cause for term in self.terms)


@dataclass(frozen=True)
class Intervention:
    """Something that changes a node from outside, and through it everything downstream.

    Parameters
    ----------
    node
        Stream or hidden cause; or ``"cause->effect"`` for what arrives at one effect only.
    start, stop
        Minutes on the grid, half-open.
    add
        Added to the node's value.
    factor
        Multiplies the node's value first; 0 with `add` replaces it.
    """

    node: str
    start: int
    stop: int
    add: float = 0.0
    factor: float = 1.0
