"""Thresholds and weights move cautiously, within limits, and lose nothing that was confirmed."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly_assets.detection.feedback.adjustment import Adjustment
from anomaly_assets.detection.feedback.labelled import Labelled
from anomaly_assets.detection.feedback.recalibration import Limits, recalibrate
from anomaly_assets.errors import InputError
from anomaly_assets_tests.detection.feedback.made import DECIDING, alarms

HEART, NOISE, DAMP = range(3)
#: Weak and strong: final scores of about 0.73 and 0.98.
WEAK, STRONG = 0.88, 0.997
NOISY = [(NOISE, WEAK, False)] * 10 + [(HEART, STRONG, True)] * 12


def lost(labelled: Labelled, chosen: Adjustment) -> int:
    """Return how many confirmed anomalies are not raised any more."""
    return DECIDING.effect(labelled, Adjustment(), chosen).confirmed_lost


def test_few_labels_move_nothing() -> None:
    """Below the minimum all stays as it is."""
    assert recalibrate(alarms(NOISY[:9]), Adjustment(), Limits(), DECIDING) == Adjustment()


def test_a_stream_that_cries_wolf_is_trusted_less() -> None:
    """Its weight falls within the limits, the more labels say so the further."""
    labelled = alarms(NOISY)
    trust = recalibrate(labelled, Adjustment(), Limits(), DECIDING).trust
    assert set(trust) == {"noise"}
    assert 0.25 < trust["noise"] < 0.6
    fewer = recalibrate(alarms(NOISY[6:]), Adjustment(), Limits(), DECIDING).trust
    assert trust["noise"] < fewer["noise"] < 1.0
    bounded = recalibrate(labelled, Adjustment(), Limits(weight=(0.4, 1.0)), DECIDING).trust
    assert trust["noise"] < bounded["noise"]


def test_a_stream_that_was_right_once_is_not() -> None:
    """A confirmed anomaly that rests on the same stream keeps its weight where it is."""
    labelled = alarms([*NOISY, (NOISE, WEAK, True)])
    chosen = recalibrate(labelled, Adjustment(), Limits(), DECIDING)
    assert dict(chosen.trust) == {}
    assert lost(labelled, chosen) == 0


def test_the_threshold_keeps_its_distance() -> None:
    """It rises where weak alarms are false and confirmed ones strong, but not up to those."""
    weak = [(stream, WEAK, False) for stream in (HEART, NOISE, DAMP) * 2]
    strong = [(stream, STRONG, True) for stream in (HEART, NOISE, DAMP) * 5]
    labelled = alarms([*weak, *strong])
    chosen = recalibrate(labelled, Adjustment(), Limits(weight=(1.0, 1.0)), DECIDING)
    assert chosen.threshold is not None
    weakest = float(labelled.evidence.final[labelled.confirmed].min())
    assert 0.7 < chosen.threshold < weakest - 0.03
    assert lost(labelled, chosen) == 0
    low = Limits(threshold=(0.7, 0.75), weight=(1.0, 1.0))
    bounded = recalibrate(labelled, Adjustment(), low, DECIDING).threshold
    assert bounded is not None
    assert 0.7 < bounded <= 0.75


def test_a_weak_confirmed_anomaly_holds_the_threshold() -> None:
    """There is no room below it."""
    weak = [(stream, WEAK, False) for stream in (HEART, NOISE, DAMP) * 2]
    strong = [(stream, STRONG, True) for stream in (HEART, NOISE, DAMP) * 5]
    labelled = alarms([*weak, *strong, (HEART, WEAK, True)])
    chosen = recalibrate(labelled, Adjustment(), Limits(weight=(1.0, 1.0)), DECIDING)
    assert chosen.threshold is None


@pytest.mark.parametrize("seed", range(8))
def test_wrong_labels_are_bounded(seed: int) -> None:
    """With a fifth of the labels wrong, nothing that was confirmed, rightly or not, is lost."""
    rng = np.random.default_rng(seed)
    what = [
        (int(rng.integers(3)), float(rng.uniform(0.93, 0.9999)), bool(rng.random() < 0.5))
        for _ in range(60)
    ]
    truth = alarms(what)
    wrong = rng.random(60) < 0.2
    labelled = Labelled(
        truth.evidence, truth.alarm, truth.confirmed ^ wrong, truth.ends, truth.label_ids
    )
    limits = Limits()
    chosen = recalibrate(labelled, Adjustment(), limits, DECIDING)
    assert lost(labelled, chosen) == 0
    assert all(limits.weight[0] <= weight <= 1.0 for weight in chosen.trust.values())
    assert chosen.threshold is None or 0.7 <= chosen.threshold <= limits.threshold[1]
    # What is true of streams that are right half of the time: nothing is to be gained.
    assert lost(truth, chosen) <= 1


@pytest.mark.parametrize(
    "wrong", [{"threshold": (0.5, 0.9)}, {"weight": (0.0, 1.0)}, {"least_labels": 0}]
)
def test_limits_without_sense_are_refused(wrong: dict[str, object]) -> None:
    """The usual limit cannot be undercut, no stream silenced."""
    with pytest.raises(InputError, match="feedback"):
        Limits(**wrong)  # type: ignore[arg-type]
