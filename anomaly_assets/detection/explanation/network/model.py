"""A fitted causal network: plain arrays, so that explaining needs no modelling library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from anomaly_assets.detection.explanation.network.structure import Structure
from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import FloatArray, IntArray

_VECTORS = ("mean", "scale", "noise", "r_squared")

#: A network is refitted every hour; one older than this has missed two fits and is stale.
STALE_AFTER_SECONDS = 3 * 3600


@dataclass(frozen=True, eq=False)
class CausalNetwork:
    """A linear Gaussian Bayesian network (Koller and Friedman 2009, section 7.2) over n nodes.

    Every node is standardised, ``x = (value - mean) / scale``, and is a weighted sum of its causes
    and noise of its own: ``x = coefficients @ x + noise * e``.

    Parameters
    ----------
    structure
        The graph that was asked for.
    mean, scale
        Shape ``(n,)``, in the unit of the stream; NaN for a node that was left out.
    coefficients
        Shape ``(n, n)``, ``[effect, cause]``, of standardised values; 0 where there is no edge. The
        causes of a node that was left out act on its effects directly.
    noise
        Shape ``(n,)``, standard deviation of a standardised node about what its causes say; > 0,
        NaN for a node that was left out.
    r_squared
        Shape ``(n,)``, share in [0, 1] of a node's variance that its causes explain; NaN for a node
        without causes and for one that was left out.
    n_observed
        Shape ``(n,)``, number of values each node was fitted on.
    fitted_at
        Seconds since the epoch: the end of the span that was fitted.
    n_windows
        Windows in that span.
    left_out
        Why each node that is not part of the network is not.

    Raises
    ------
    InputError
        If shapes disagree or a node is left out that does not exist.
    """

    structure: Structure
    mean: FloatArray
    scale: FloatArray
    coefficients: FloatArray
    noise: FloatArray
    r_squared: FloatArray
    n_observed: IntArray
    fitted_at: int
    n_windows: int
    left_out: dict[str, str]

    def __post_init__(self) -> None:
        n = len(self.structure.nodes)
        for name in (*_VECTORS, "n_observed", "coefficients"):
            expected = (n, n) if name == "coefficients" else (n,)
            shape = np.shape(getattr(self, name))
            if shape != expected:
                msg = f"{name} has shape {shape}; a network of {n} nodes needs {expected}"
                raise InputError(msg)
        unknown = sorted(set(self.left_out).difference(self.structure.nodes))
        if unknown:
            msg = f"left out, but no nodes of the network: {', '.join(unknown)}"
            raise InputError(msg)

    def age(self, now: float) -> float:
        """Return the seconds from the end of the fitted span to `now` (seconds since the epoch)."""
        return float(now) - self.fitted_at

    @property
    def fit_quality(self) -> float:
        """Mean share in [0, 1] of variance explained, over nodes with causes; NaN without any."""
        known = self.r_squared[np.isfinite(self.r_squared)]
        return float(known.mean()) if len(known) else float("nan")

    @property
    def edges(self) -> tuple[tuple[str, str, float], ...]:
        """Edges in use as ``(cause, effect, coefficient)``, past the nodes that were left out."""
        nodes = self.structure.nodes
        used = self.structure.without(self.left_out)
        return tuple(
            (nodes[cause], nodes[effect], float(self.coefficients[effect, cause]))
            for effect, causes in enumerate(used.parents)
            for cause in causes
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the network as JSON can hold it; what is unknown is None."""
        return {
            "nodes": list(self.structure.nodes),
            "parents": [list(parents) for parents in self.structure.parents],
            **{name: _without_nan(getattr(self, name)) for name in _VECTORS},
            "coefficients": [_without_nan(row) for row in self.coefficients],
            "n_observed": self.n_observed.tolist(),
            "fitted_at": self.fitted_at,
            "n_windows": self.n_windows,
            "left_out": dict(self.left_out),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> CausalNetwork:
        """Return the network that :meth:`to_dict` wrote, the same to the last bit.

        Raises
        ------
        InputError
            If a part is missing or is not what :meth:`to_dict` writes.
        """
        needed = {"nodes", "parents", *(f.name for f in fields(cls))} - {"structure"}
        missing = sorted(needed.difference(stored))
        if missing:
            msg = f"not a stored causal network: {', '.join(missing)} missing; fit it again"
            raise InputError(msg)
        try:
            return cls(
                structure=Structure(
                    tuple(stored["nodes"]),
                    tuple(tuple(int(p) for p in parents) for parents in stored["parents"]),
                ),
                **{name: _with_nan(stored[name]) for name in _VECTORS},
                coefficients=_with_nan(stored["coefficients"]).reshape((len(stored["nodes"]), -1)),
                n_observed=np.array(stored["n_observed"], dtype=np.int64),
                fitted_at=int(stored["fitted_at"]),
                n_windows=int(stored["n_windows"]),
                left_out=dict(stored["left_out"]),
            )
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            msg = f"not a stored causal network: {error}; fit it again"
            raise InputError(msg) from error


def _without_nan(values: FloatArray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _with_nan(values: object) -> FloatArray:
    # NumPy reads None as NaN when it is asked for floats.
    return np.array(values, dtype=np.float64)
