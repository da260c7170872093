"""Simulated windows of six groups of streams, and a plain stand-in for tiers 1 and gaps."""

from __future__ import annotations

import numpy as np

from anomaly_assets.detection.results import GapScores, IndividualScores, StreamHealth
from anomaly_assets.detection.scoring import score_of_p, student_t_p
from anomaly_assets.streams.catalogue import Catalogue, Group, Stream, StreamType
from anomaly_assets.streams.windows import WINDOW_SECONDS, WindowBlock, WindowRange

GROUPS = ("motion", "location", "interaction", "biometric", "environment", "device")
#: A Monday.
START = 1_767_571_200


def catalogue(n_streams: int) -> Catalogue:
    types = list(StreamType)
    streams = tuple(
        Stream(id=f"s{i}", type=types[i % 4], group=GROUPS[i % 6]) for i in range(n_streams)
    )
    return Catalogue(name="lives", groups=tuple(Group(id=g) for g in GROUPS), streams=streams)


def block_of(values: np.ndarray, first: int = 0) -> WindowBlock:
    start = START + first * WINDOW_SECONDS
    windows = WindowRange(start, start + len(values) * WINDOW_SECONDS)
    return WindowBlock("someone", "Europe/Berlin", windows, values)


def smoothed(noise: np.ndarray, memory: float) -> np.ndarray:
    out = np.empty_like(noise)
    level = np.zeros(noise.shape[1:])
    for i, row in enumerate(noise):
        level = memory * level + np.sqrt(1.0 - memory**2) * row
        out[i] = level
    return out


def simulate(n_streams: int, days: int, seed: int) -> np.ndarray:
    """Draw streams: groups 0 and 3 follow one activity, the others are of four other kinds."""
    rng = np.random.default_rng(seed)
    n = days * 288
    time = np.arange(n)
    day = np.sin(2 * np.pi * (time / 288 - 0.3))
    bursts = np.convolve(rng.random(n) < 0.02 * (1 + day), np.ones(9), "full")[:n] > 0
    activity = 2.5 * np.convolve(bursts, 0.2 * 0.8 ** np.arange(20), "full")[:n]
    own = smoothed(rng.standard_normal((n, n_streams)), 0.8)
    values = np.empty((n, n_streams))
    for stream in range(n_streams):
        kind, noise = stream % 6, own[:, stream]
        if kind in {0, 3}:
            values[:, stream] = 60 + 10 * activity + 4 * day + 2 * noise
        elif kind == 1:
            values[:, stream] = 1000 + np.cumsum(0.3 * rng.standard_normal(n)) + noise
        elif kind == 2:
            values[:, stream] = rng.poisson(np.exp(0.5 + 1.2 * day))
        elif kind == 4:
            values[:, stream] = np.maximum(0.0, 50 * (day + 0.2) + 8 * noise)
        else:
            values[:, stream] = 5 + 0.5 * day + 0.2 * rng.standard_t(4, n) + 0.3 * noise
    values[rng.random(values.shape) < 0.02 * rng.random(n_streams)] = np.nan
    for night in range(days):
        start = night * 288 + 270 + int(rng.integers(-6, 6))
        values[start : start + 96, 0::6] = np.nan
    return values


def tier_1(values: np.ndarray) -> IndividualScores:
    """Student-t residuals of an exponentially weighted forecast."""
    n = values.shape[1]
    level, variance, seen = np.zeros(n), np.zeros(n), np.zeros(n)
    deviation = np.full(values.shape, np.nan)
    for i, x in enumerate(values):
        known = np.isfinite(x)
        error = np.where(known & (seen > 1), x - level, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            deviation[i] = np.where(seen > 4, error / np.sqrt(variance + 1e-12), np.nan)
        most = np.where(seen > 20, 25 * variance, np.inf)
        square = np.where(np.isfinite(error), np.minimum(error**2, most), variance)
        variance += np.maximum(0.02, 1 / np.maximum(seen, 1)) * (square - variance)
        level = np.where(known, np.where(seen == 0, x, level + 0.6 * (x - level)), level)
        seen += known
    score = score_of_p(student_t_p(deviation, np.full(n, 4.0)))
    ones, flags = np.ones(values.shape), np.isfinite(values)
    health = StreamHealth(ones, np.zeros(values.shape, dtype=np.int64), ones, flags, ones, ~flags)
    return IndividualScores(score, np.full(values.shape, np.nan), deviation, health)


def gaps(score: np.ndarray) -> GapScores:
    n = len(score)
    none, flags = np.full((n, len(GROUPS)), np.nan), np.zeros((n, len(GROUPS)), dtype=bool)
    return GapScores(score, none, none, none, flags, np.full(n, np.nan), flags[:, 0])


def clean_gaps(n_windows: int, seed: int) -> GapScores:
    return gaps(score_of_p(np.random.default_rng(seed).random(n_windows)))


def part(scores: IndividualScores, start: int, stop: int) -> IndividualScores:
    h = scores.health
    return IndividualScores(
        scores.score[start:stop],
        scores.expected[start:stop],
        scores.deviation[start:stop],
        StreamHealth(
            h.availability[start:stop],
            h.consecutive_missing[start:stop],
            h.score[start:stop],
            h.predictable[start:stop],
            h.accuracy[start:stop],
            h.needs_retraining[start:stop],
        ),
    )
