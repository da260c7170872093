"""Tier 2: everything that only several streams together can tell.

Five voices speak. Half-space trees over all streams and over each group ask whether a window has
been seen before, relationships whether the streams moved together as they do, the gap detector
whether what is missing should be; all of these hear how something begins. Levels hear that all
streams together are where they should not be at this time of day, for as long as it lasts.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from anomaly_assets.detection.compiled import compiled
from anomaly_assets.detection.cross_stream.features import (
    TIME_FEATURES,
    FeatureExtractor,
    FeatureLayout,
    RunningScale,
)
from anomaly_assets.detection.cross_stream.half_space_trees import ForestBundle, ForestPlan
from anomaly_assets.detection.cross_stream.levels import LevelModel
from anomaly_assets.detection.cross_stream.relationships import RelationshipModel
from anomaly_assets.detection.cross_stream.selection import choose, value_features
from anomaly_assets.detection.ranking import RankCalibrator
from anomaly_assets.detection.results import CrossStreamScores, GapScores, IndividualScores
from anomaly_assets.detection.scoring import cauchy_combination, p_of_score, score_of_p
from anomaly_assets.errors import InputError
from anomaly_assets.streams.catalogue import Catalogue
from anomaly_assets.streams.windows import (
    WINDOWS_PER_DAY,
    BoolArray,
    FloatArray,
    IntArray,
    WindowBlock,
)

#: Values are clipped here: far beyond any reading, but their squares are still finite.
LARGEST_VALUE = 1e100
MAIN_TREES, MAIN_HEIGHT = 50, 8
GROUP_TREES, GROUP_HEIGHT = 30, 6
RANK_WINDOW = 400
#: How often a split falls on time, availability, values and summaries.
BLOCK_WEIGHTS = (0.2, 1.0, 1.0, 1.5)
VOICES = ("half_space_trees", "groups", "relationships", "gaps", "levels")
#: Weights of all voices but the last, and factors of their p-values. Chosen on simulated people
#: (seeds 0 to 5): forests and groups are ranked among a day and a half only, so that a weekly habit
#: looks odd to them; the gap detector ranks a window among the worst of each hour, and a window is
#: a twelfth of an hour.
VOICE_WEIGHTS = np.array([0.05, 0.03, 0.45, 0.35])
VOICE_FACTORS = np.array([20.0, 20.0, 0.4, 0.3])
#: Weight of the odds of an unusual state. What begins and what lasts are two questions: their
#: answers are not added up, the more unusual one counts.
LEVEL_WEIGHT = 4.0
#: Windows: a deviation after a longer gap tells what happened meanwhile, not what belongs together.
LONGEST_GAP = 12
#: Larger p-values are combined as this, so that no voice outvotes another by being very ordinary:
#: all statistics of the Cauchy combination are then at least 0.
ORDINARY_P = 0.5
#: The combined p-value is doubled at this many windows, and multiplied by more before: the first
#: day has no other to compare with.
WARM_UP = float(WINDOWS_PER_DAY)


def forest_plans(catalogue: Catalogue, layout: FeatureLayout, seed: int) -> list[ForestPlan]:
    """Plan the main forest and one for each group, the main one first.

    Within a forest, availability and values share the splits equally and summaries get a little
    more, however many features each of them has: with 500 streams the summaries would otherwise
    never be looked at. Time gets few splits: a reference window is shorter than a day, so that a
    forest full of them finds every new weekday odd.

    Parameters
    ----------
    catalogue
        Streams and groups.
    layout
        Where each feature lies.
    seed
        Seed of the main forest; the groups' follow.
    """
    time = list(range(len(TIME_FEATURES)))
    bits, values, slots = layout.bits, layout.values, layout.slots
    summaries = list(range(layout.summaries.start, layout.summaries.stop))
    selected = list(range(slots.start, slots.stop))
    main = [time, list(range(bits.start, bits.stop)), selected, summaries]
    plans = [_plan(main, MAIN_TREES, MAIN_HEIGHT, seed)]
    for group in range(layout.n_groups):
        members = np.flatnonzero(catalogue.group_of_stream == group).tolist()
        own_bits = [bits.start + stream for stream in members]
        own_values = [values.start + stream for stream in members]
        blocks = [time, own_bits, own_values, list(layout.summaries_of(group))]
        plans.append(_plan(blocks, GROUP_TREES, GROUP_HEIGHT, seed + 1 + group))
    return plans


def _plan(blocks: list[list[int]], n_trees: int, height: int, seed: int) -> ForestPlan:
    features = [feature for block in blocks for feature in block]
    widths = [
        weight / len(block)
        for weight, block in zip(BLOCK_WEIGHTS, blocks, strict=True)
        for _ in block
    ]
    return ForestPlan(tuple(features), tuple(widths), n_trees, height, seed)


def _combined(p: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """Combine each row's p-values."""
    used = np.ones(p.shape[1]) if weights is None else weights
    return cauchy_combination(np.minimum(p, ORDINARY_P), used)


def combine_voices(begins: FloatArray, lasts: FloatArray, counted: BoolArray) -> FloatArray:
    """Combine what the voices say into one p-value a window.

    Parameters
    ----------
    begins
        p-values of all voices but the last, shape ``(n_windows, len(VOICES) - 1)``; NaN: silent.
    lasts
        Those of the last one, shape ``(n_windows,)``.
    counted
        Which voices count, shape ``(len(VOICES),)``.

    Returns
    -------
    numpy.ndarray
        Shape ``(n_windows,)``; NaN where every voice is silent.
    """
    # A factor on the odds: small p-values are multiplied by it, and 1 stays 1.
    calibrated = VOICE_FACTORS * begins / (1.0 - begins + VOICE_FACTORS * begins)
    return np.fmin(
        _combined(calibrated, VOICE_WEIGHTS * counted[:-1]),
        lasts if counted[-1] else np.nan,
    )


@compiled
def _count_missing(available: BoolArray, missing: IntArray, lately: BoolArray) -> None:
    """Write whether each stream's last gap was short, and count missing windows."""
    for t in range(len(available)):
        for i in range(missing.size):
            lately[t, i] = missing[i] <= LONGEST_GAP
            missing[i] = 0 if available[t, i] else missing[i] + 1


class CrossStreamDetector:
    """Half-space forests, relationships and gaps of all streams, as one score a window.

    Parameters
    ----------
    catalogue
        Streams and groups.
    seed
        Seed of the forests.
    max_features
        Budget of the main forest's time, availability and value features, and the largest number of
        streams whose relationships are tracked.
    rank_window
        Number of windows among which a raw score is ranked.
    voices
        Those that count in the score; the others are computed and shown only.

    Raises
    ------
    InputError
        If `max_features` is less than 1, or a voice is unknown.
    """

    version: int = 2

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        seed: int = 42,
        max_features: int = 40,
        rank_window: int = RANK_WINDOW,
        voices: Collection[str] = VOICES,
    ) -> None:
        if unknown := set(voices) - set(VOICES):
            msg = f"voices {sorted(unknown)} are unknown; choose among {VOICES}"
            raise InputError(msg)
        if max_features < 1:
            msg = f"max_features is {max_features}; give at least 1 (40 is usual)"
            raise InputError(msg)
        n_streams = len(catalogue.streams)
        n_slots = value_features(n_streams, len(TIME_FEATURES), max_features)
        self.n_windows = 0
        self._counted = np.array([voice in voices for voice in VOICES])
        self._n_streams = n_streams
        self._n_groups = len(catalogue.groups)
        self._features = FeatureExtractor(catalogue, n_slots)
        self._scale = RunningScale(n_streams)
        self._relationships = RelationshipModel(n_streams, max_features)
        self._levels = LevelModel(n_streams)
        self._missing = np.full(n_streams, LONGEST_GAP + 1, dtype=np.int64)
        self._slots = np.arange(n_slots, dtype=np.int64)
        self._forests = ForestBundle(forest_plans(catalogue, self._features.layout, seed))
        # Channels: main forest, groups.
        self._ranks = RankCalibrator(1 + self._n_groups, rank_window)

    def process(
        self, block: WindowBlock, individual: IndividualScores, gaps: GapScores
    ) -> CrossStreamScores:
        """Score the windows of a block, then learn them, one after the other.

        Parameters
        ----------
        block
            Consecutive windows, following those processed before.
        individual
            Tier 1 of the same windows; only `score` and `deviation` are used.
        gaps
            Gap detector of the same windows; only `score` is used.

        Returns
        -------
        CrossStreamScores
            Scores of the windows.

        Raises
        ------
        InputError
            If the arrays do not belong to the block or to the catalogue.
        """
        shape = (len(block), self._n_streams)
        if not block.values.shape == individual.deviation.shape == individual.score.shape == shape:
            msg = (
                f"entity {block.entity_id!r}: values {block.values.shape}, tier-1 scores "
                f"{individual.score.shape} and deviations {individual.deviation.shape} must all "
                f"be {shape}"
            )
            raise InputError(msg)
        if gaps.score.shape != (len(block),):
            msg = f"entity {block.entity_id!r}: gap scores {gaps.score.shape}, expected {shape[:1]}"
            raise InputError(msg)
        inputs = self._features.prepare(block, individual)
        # One column for each ranked channel, the last for the relationships.
        p = np.full((len(block), self._ranks.n + 1), np.nan)
        any_available = np.asarray(block.available.any(axis=1))
        values = np.ascontiguousarray(block.values)
        bounded = np.minimum(np.maximum(values, -LARGEST_VALUE), LARGEST_VALUE)
        odds, evidence = self._levels.process(block, bounded)
        known = np.isfinite(individual.deviation) & self._seen_lately(block.available)
        deviation = np.where(known, individual.deviation, np.nan)
        deviation = np.minimum(np.maximum(deviation, -LARGEST_VALUE), LARGEST_VALUE)
        numeric = np.ascontiguousarray(known, dtype=np.float64)
        for window in range(len(block)):
            if any_available[window]:
                scaled = self._scale.scale(bounded[window])
                x, active = self._features.vector(inputs, window, scaled, self._slots)
                p[window, :-1] = self._rank(x, active)
                p[window, -1] = self._relate(deviation[window], numeric[window])
                self._scale.learn(bounded[window], inputs.available[window])
            self.n_windows += 1
            if self.n_windows % WINDOWS_PER_DAY == 0:
                self._reselect()
        return self._combine(p, gaps.score, odds, evidence)

    def figures(self) -> dict[str, FloatArray]:
        """Return what is known of each stream among the others, streams in catalogue order.

        Returns
        -------
        dict
            ``usual_level`` and ``usual_spread`` in the stream's unit, ``learnt`` values,
            ``predictiveness`` of its deviations by those of others, and ``windows`` learnt
            altogether, the same for all. NaN where nothing was learnt.
        """
        level, spread, learnt = self._levels.usual()
        return {
            "usual_level": level,
            "usual_spread": spread,
            "learnt": learnt,
            "predictiveness": self._relationships.predictiveness(),
            "windows": np.full(self._n_streams, float(self.n_windows)),
        }

    def _rank(self, x: FloatArray, active: BoolArray) -> FloatArray:
        """Return the p-value of every forest, and learn the window."""
        learning = np.concatenate(([True], active))
        raw = self._forests.score_and_learn(x, learning)
        # The raw score is bounded by 1; its distance from 1 has an exponential tail in the
        # logarithm.
        channels = np.where(learning, -np.log(np.maximum(1.0 - raw, 1e-12)), np.nan)
        p = self._ranks.p(channels)
        self._ranks.learn(channels)
        return p

    def _relate(self, deviation: FloatArray, known: FloatArray) -> float:
        """Return the p-value of the relationships, and learn the window."""
        relationships = self._relationships
        z = relationships.standardise(deviation)
        residuals = relationships.residuals(z, known)
        p = relationships.p(residuals)
        relationships.learn(deviation, z, residuals, known)
        return p

    def _seen_lately(self, available: BoolArray) -> BoolArray:
        """Return which streams were there in the last hour before each window, and move on."""
        lately = np.empty(available.shape, dtype=np.bool_)
        _count_missing(available, self._missing, lately)
        return lately

    def _reselect(self) -> None:
        """Choose the streams of the value features and of the relationships, once a day."""
        relationships = self._relationships
        score = relationships.predictiveness()
        relationships.reselect(score, self.n_windows // WINDOWS_PER_DAY)
        eligible = np.where(self._scale.seen > 0.0, score, -1.0)
        self._slots = choose(eligible, self._slots, self._slots.size)

    def _combine(
        self, p: FloatArray, gap_score: FloatArray, odds: FloatArray, evidence: FloatArray
    ) -> CrossStreamScores:
        group_p = p[:, 1:-1]
        begins = np.stack([p[:, 0], _combined(group_p), p[:, -1], p_of_score(gap_score)], axis=1)
        # The p-value at which the Cauchy statistic equals the odds.
        lasts = np.arctan2(1.0, LEVEL_WEIGHT * odds) / np.pi
        worst = combine_voices(begins, lasts, self._counted)
        # These windows have been counted already.
        age = np.arange(self.n_windows - len(p), self.n_windows, dtype=np.float64)
        penalty = 1.0 + WARM_UP / (age + 1.0)
        voices = score_of_p(np.concatenate([begins, lasts[:, np.newaxis]], axis=1))
        return CrossStreamScores(
            score=score_of_p(np.minimum(penalty * worst, 1.0)),
            group_score=score_of_p(group_p),
            voices={name: voices[:, i].copy() for i, name in enumerate(VOICES)},
            evidence=evidence,
        )
