"""Which node of a causal network an anomaly began in, how sure that is, and what it explains.

Everything here is closed-form linear algebra on a network already fitted, cheap enough for the
scoring path. Three ideas carry it:

*Single shock.* Exactly one node's own noise is assumed to have been inflated, by
:data:`SHOCK` standard deviations, and Bayes' rule compares the nodes: the likelihood of what was
observed when node j was hit, over its likelihood when none was. Marginal likelihoods of Gaussian
models with a mean-shift or variance-inflation outlier are those of Box and Tiao (1968) and West
(1984); attributing an anomaly to the noise terms of a causal model follows Budhathoki et al.
(2022). Missing streams are integrated out.

*Mechanism error.* A linear network is wrong about how an effect answers to a cause far outside its
ordinary range. Each coefficient b is therefore uncertain by ``tau * b``, as in a random coefficient
regression (Swamy 1970), which adds ``(tau * b * x)**2`` to the variance of an effect whose cause
stands at x: an effect that answers to a wild cause in an unforeseen way is no cause itself.

*Additive shares.* The value of one stream is the sum of the noise of its ancestors and its own,
each carried along the edges, with the coefficients at their most likely values in this window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anomaly_assets.detection.explanation.network.model import CausalNetwork
from anomaly_assets.errors import InputError
from anomaly_assets.streams.windows import BoolArray, FloatArray

#: A shock's standard deviation in those of the node's own noise.
SHOCK = 5.0
#: Relative standard deviation of a coefficient outside the ordinary range of its cause.
MECHANISM_ERROR = 0.5
#: Probability kept for causes outside the network, however well one inside fits.
OTHER_CAUSE = 0.05
#: Roots less probable than this are counted among the other causes.
SMALLEST_PROBABILITY = 0.005
#: Below this share of its ancestors observed, an explanation is capped at :data:`CAPPED`.
ENOUGH_ANCESTORS = 0.6
CAPPED = 0.6
#: Residuals are scaled down together until none exceeds this: beyond it only their ratios count.
LARGEST_RESIDUAL = 1e6
#: Times the mechanism errors are worked out anew from the values imputed for missing streams.
PASSES = 2
#: Added to a precision of unit diagonal, so that coefficients that all but cancel can be inverted.
JITTER = 1e-10


@dataclass(frozen=True)
class RootCause:
    """A stream in which the anomaly may have begun.

    Parameters
    ----------
    stream
        Its identifier; it need not have been observed.
    probability
        In [0, 1].
    path
        From the stream to the one explained along the strongest edges; only the stream itself where
        none leads there.
    """

    stream: str
    probability: float
    path: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class NetworkFindings:
    """What a causal network says of one window.

    Parameters
    ----------
    roots
        By falling probability; with `other` their probabilities sum to 1.
    other
        Probability that the anomaly began elsewhere, in one of the streams not listed, or that
        there is none.
    target
        The stream whose value is shared out; None where no stream of the network was observed.
    contributions
        Shares of its ancestors in the target's deviation, positive, the largest first.
    unexplained
        Share of the target's own noise, >= 0: what its causes do not say. NaN without a target or
        if it does not deviate at all.
    offsetting
        What pushed the other way, as a positive share: contributions plus `unexplained` minus
        `offsetting` make 1. NaN where `unexplained` is.
    confidence_cap
        The highest confidence the observed share of the target's ancestors justifies, in [0, 1].
    log_likelihood_ratio
        Shape ``(n,)``, for each node of the network how much better (in nats) a shock there fits
        what was observed than none; NaN for the time of day and nodes left out.
    """

    roots: tuple[RootCause, ...]
    other: float
    target: str | None
    contributions: dict[str, float]
    unexplained: float
    offsetting: float
    confidence_cap: float
    log_likelihood_ratio: FloatArray


@dataclass(frozen=True, eq=False)
class _Posterior:
    """Values of all nodes given those observed, their noise, and how unsure the noise is."""

    value: FloatArray
    noise: FloatArray
    uncertainty: FloatArray


class Attributor:
    """Explains windows by one causal network.

    Parameters
    ----------
    network
        As fitted. The time of day is known and is never a root; nodes left out are ignored.
    shock
        Standard deviation of a shock in those of the noise of the node it hits, > 0.
    mechanism_error
        Relative standard deviation of the coefficients, >= 0.

    Raises
    ------
    InputError
        If a setting is out of range, or the network holds a noise that is not positive.

    Examples
    --------
    >>> from anomaly_assets.detection.explanation.network.structure import Structure
    >>> network = CausalNetwork(
    ...     structure=Structure.from_edges(("steps", "pulse"), [("steps", "pulse")]),
    ...     mean=np.zeros(2),
    ...     scale=np.ones(2),
    ...     coefficients=np.array([[0.0, 0.0], [0.8, 0.0]]),
    ...     noise=np.array([1.0, 0.6]),
    ...     r_squared=np.array([np.nan, 0.64]),
    ...     n_observed=np.array([288, 288]),
    ...     fitted_at=0,
    ...     n_windows=288,
    ...     left_out={},
    ... )
    >>> findings = Attributor(network).explain(np.array([7.0, 5.8]), target="pulse")
    >>> findings.roots[0].path, round(findings.roots[0].probability, 2)
    (('steps', 'pulse'), 0.95)
    >>> round(findings.contributions["steps"], 2), round(findings.unexplained, 2)
    (1.0, 0.0)
    """

    def __init__(
        self,
        network: CausalNetwork,
        *,
        shock: float = SHOCK,
        mechanism_error: float = MECHANISM_ERROR,
    ) -> None:
        if not 0.0 < shock < np.inf:
            msg = f"shock is {shock} standard deviations; give a positive number"
            raise InputError(msg)
        if not 0.0 <= mechanism_error < np.inf:
            msg = f"mechanism_error is {mechanism_error}; give a number that is 0 or more"
            raise InputError(msg)
        structure = network.structure
        self.network = network
        self._streams = structure.streams
        left_out = network.left_out
        kept = [i for i in structure.stream_positions if structure.nodes[i] not in left_out]
        self._kept = np.array(kept, dtype=np.int64)
        self._names = tuple(structure.nodes[i] for i in kept)
        self._position = {name: i for i, name in enumerate(self._names)}
        stream_axis = {name: i for i, name in enumerate(self._streams)}
        self._of_streams = np.array([stream_axis[name] for name in self._names], dtype=np.int64)
        noise = network.noise[self._kept]
        if not (noise > 0.0).all():
            msg = f"noise of {self._names[int(np.argmin(noise > 0.0))]!r} is not positive; fit anew"
            raise InputError(msg)
        if not np.isfinite(network.coefficients).all():
            msg = "the network holds coefficients that are not finite; fit anew"
            raise InputError(msg)
        # The time of day does not deviate from itself, so its edges carry nothing here.
        self._coefficients = network.coefficients[np.ix_(kept, kept)]
        self._mixing = np.eye(len(kept)) - self._coefficients
        self._own = noise**2
        self._shock = shock**2 * self._own
        self._error = mechanism_error**2 * self._coefficients**2
        self._ancestors = self._ancestors_by_stream(stream_axis)
        self._next = self._strongest_steps(structure.without(left_out).order)

    def _ancestors_by_stream(self, stream_axis: dict[str, int]) -> dict[str, list[int]]:
        """Return the positions on the stream axis of each modelled stream's ancestors."""
        structure = self.network.structure
        return {
            name: sorted(
                stream_axis[structure.nodes[a]]
                for a in structure.ancestors(node)
                if structure.nodes[a] in stream_axis
            )
            for name, node in zip(self._names, self._kept.tolist(), strict=True)
        }

    def _strongest_steps(self, order: tuple[int, ...]) -> list[list[int]]:
        """Return for each pair (from, to) the first step of the strongest path, -1 for none.

        The strength of a path is the product of its coefficients: what arrives of a unit.
        """
        n = len(self._names)
        size = np.abs(self._coefficients)
        strength = np.eye(n)
        step = np.full((n, n), -1, dtype=np.int64)
        local = {int(node): i for i, node in enumerate(self._kept)}
        # Effects first: paths of a cause are its edges followed by the paths of its effects.
        for node in [local[i] for i in reversed(order) if i in local]:
            for effect in np.nonzero(size[:, node])[0].tolist():
                reached = size[effect, node] * strength[effect]
                better = reached > strength[node]
                strength[node, better], step[node, better] = reached[better], effect
        return step.tolist()

    def explain(
        self,
        z: FloatArray,
        *,
        observed: BoolArray | None = None,
        target: str | None = None,
    ) -> NetworkFindings:
        """Explain one window.

        Parameters
        ----------
        z
            Shape ``(n_streams,)``, residuals in units of the network's `scale`, as
            :func:`~anomaly_assets.detection.explanation.network.onset.frozen_residuals` returns
            them; what is not finite is missing.
        observed
            Shape ``(n_streams,)``; False makes a stream missing whatever its residual.
        target
            The stream to share out; by default the one that deviates most. Where it was not
            observed or is not part of the network, the default is taken.

        Raises
        ------
        InputError
            If a shape is wrong or `target` is no stream.
        """
        residual, known, seen = self._residuals(z, observed)
        if target is not None and target not in self._streams:
            msg = f"target {target!r} is no stream of the network: {', '.join(self._streams)}"
            raise InputError(msg)
        ratios = np.full(len(self.network.structure.nodes), np.nan)
        if not known.any():
            return NetworkFindings((), 1.0, None, {}, float("nan"), float("nan"), CAPPED, ratios)
        ratio, probability, variance = self._rank(residual, known)
        ratios[self._kept] = ratio
        explained = self._position.get(target or "", -1)
        if explained < 0 or not known[explained]:
            explained = int(np.argmax(np.where(known, np.abs(residual), -1.0)))
        shares = self._shares(residual, known, probability, variance, explained)
        unexplained = float(shares[explained])
        shares[explained] = 0.0
        negative = min(unexplained, 0.0) + float(np.minimum(shares, 0.0).sum())
        roots = self._roots(probability, explained)
        return NetworkFindings(
            roots=roots,
            other=max(1.0 - sum(root.probability for root in roots), 0.0),
            target=self._names[explained],
            contributions={
                self._names[i]: float(shares[i])
                for i in np.argsort(-shares, kind="stable").tolist()
                if shares[i] > 0.0
            },
            unexplained=float(np.maximum(unexplained, 0.0)),
            offsetting=float(-negative) if np.isfinite(unexplained) else float("nan"),
            confidence_cap=self._cap(explained, seen),
            log_likelihood_ratio=ratios,
        )

    def share_unexplained(self, z: FloatArray, target: str) -> float:
        """Return the share of a stream's deviation that its causes do not explain, >= 0.

        Parameters
        ----------
        z
            As for :meth:`explain`.
        target
            The stream.

        Returns
        -------
        float
            NaN where the target was not observed, does not deviate or was left out.

        Raises
        ------
        InputError
            If the shape is wrong or `target` is no stream.
        """
        findings = self.explain(z, target=target)
        return findings.unexplained if findings.target == target else float("nan")

    def _residuals(
        self, z: FloatArray, observed: BoolArray | None
    ) -> tuple[FloatArray, BoolArray, BoolArray]:
        """Return residuals of the modelled streams, 0 where missing; which are known; all known."""
        z = np.asarray(z, dtype=np.float64)
        if z.shape != (len(self._streams),):
            msg = f"z has shape {z.shape}; the network has {len(self._streams)} streams"
            raise InputError(msg)
        seen = np.isfinite(z)
        if observed is not None:
            if np.shape(observed) != z.shape:
                msg = f"observed has shape {np.shape(observed)} but z has {z.shape}"
                raise InputError(msg)
            seen &= np.asarray(observed, dtype=bool)
        known = seen[self._of_streams]
        residual = np.where(known, z[self._of_streams], 0.0)
        largest = float(np.abs(residual).max(initial=0.0))
        if largest > LARGEST_RESIDUAL:
            residual *= LARGEST_RESIDUAL / largest
        modelled = np.zeros_like(seen)
        modelled[self._of_streams] = known
        return residual, known, modelled

    def _posterior(
        self, residual: FloatArray, known: BoolArray, variance: FloatArray
    ) -> _Posterior:
        """Return the values and noise of all nodes, given noise variances and what is known.

        With ``x = mixing**-1 @ noise`` the precision of x is ``mixing' / variance @ mixing``; its
        block of the missing nodes is all that has to be inverted, nothing if none is missing.
        """
        if known.all():
            return _Posterior(residual, self._mixing @ residual, np.zeros(len(residual)))
        missing = ~known
        columns = self._mixing[:, missing]
        weighted = columns / variance[:, None]
        precision = columns.T @ weighted
        # Scaled to a unit diagonal, it inverts well even where variances differ by 1e12.
        root = 1.0 / np.sqrt(np.diagonal(precision))
        scaled = precision * root[:, None] * root + JITTER * np.eye(len(root))
        spread = np.linalg.inv(scaled) * root[:, None] * root
        value = residual.copy()
        value[missing] = -spread @ (weighted.T @ (self._mixing @ residual))
        uncertainty = np.einsum("ij,ij->i", columns @ spread, columns)
        return _Posterior(value, self._mixing @ value, uncertainty)

    def _rank(
        self, residual: FloatArray, known: BoolArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return log likelihood ratio, probability and noise variance of every node."""
        value, variance = residual, self._own
        for _ in range(1 if known.all() else PASSES):
            if not known.all():
                value = self._posterior(residual, known, variance).value
            variance = self._own + self._error @ value**2
        posterior = self._posterior(residual, known, variance)
        # Score and information of a shift in each node's noise, over the observed streams only.
        score = posterior.noise / variance
        information = np.maximum(1.0 - posterior.uncertainty / variance, 0.0) / variance
        gain = 1.0 + self._shock * information
        ratio = 0.5 * (self._shock * score**2 / gain - np.log(gain))
        # No shock at all stands beside the nodes as a hypothesis of its own, at ratio 0.
        top = max(float(ratio.max()), 0.0)
        weight = np.exp(ratio - top)
        probability = (1.0 - OTHER_CAUSE) * weight / (float(weight.sum()) + np.exp(-top))
        return ratio, probability, variance

    def _shares(
        self,
        residual: FloatArray,
        known: BoolArray,
        probability: FloatArray,
        variance: FloatArray,
        target: int,
    ) -> FloatArray:
        """Return every node's share of the target's deviation; they sum to 1.

        A node's noise is divided between the node itself, as likely to have been hit as it is, and
        the coefficients of its causes, in proportion to their variances.
        """
        if residual[target] == 0.0:
            return np.full(len(residual), np.nan)
        variance = variance + probability * self._shock
        posterior = self._posterior(residual, known, variance)
        value = posterior.value
        shift = self._error * value * (posterior.noise / variance)[:, None]
        own = posterior.noise - shift @ value
        carried = np.linalg.solve((self._mixing - shift).T, np.eye(len(value))[target])
        return carried * own / residual[target]

    def _roots(self, probability: FloatArray, target: int) -> tuple[RootCause, ...]:
        least = min(SMALLEST_PROBABILITY, float(probability.max()))
        return tuple(
            RootCause(self._names[i], float(probability[i]), self._path(i, target))
            for i in np.argsort(-probability, kind="stable").tolist()
            if probability[i] >= least
        )

    def _path(self, start: int, end: int) -> tuple[str, ...]:
        steps = [start]
        while steps[-1] != end:
            following = self._next[steps[-1]][end]
            if following < 0:
                return (self._names[start],)
            steps.append(following)
        return tuple(self._names[i] for i in steps)

    def _cap(self, target: int, seen: BoolArray) -> float:
        ancestors = self._ancestors[self._names[target]]
        if not ancestors or float(seen[ancestors].mean()) >= ENOUGH_ANCESTORS:
            return 1.0
        return CAPPED
