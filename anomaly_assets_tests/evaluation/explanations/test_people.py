"""Whether the injected cause of a simulated person's fault is named."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from anomaly_assets.detection.explanation.causes import CauseKind
from anomaly_assets.evaluation.explanations.people import is_cause, measure_people, summary
from anomaly_assets.evaluation.simulator import FaultKind, InjectedFault

MOMENT = datetime(2026, 1, 20, 12, tzinfo=UTC)
BODY = ("heart_rate", "respiration_rate", "skin_temperature", "electrodermal_activity")
PHONE = ("wifi_networks", "cpu_load", "battery_level", "audio_level")


def label(kind: FaultKind, cause: str, *streams: str) -> InjectedFault:
    """Return what was injected."""
    return InjectedFault("ann", kind, MOMENT, MOMENT, streams or (cause,), 1.0, cause)


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """Measure one person of one seed."""
    return measure_people([0], people=1)


def test_the_injected_cause_is_named(measured: dict[str, Any]) -> None:
    """Mostly first, nearly always among the first three, and with something to do about it."""
    assert measured["found"] >= 15
    assert measured["primary"] >= 0.8
    assert measured["first_three"] >= 0.9
    assert measured["actionable"] >= 0.9


def test_the_figures_belong_together(measured: dict[str, Any]) -> None:
    """Counts by kind add up to the shares; everything is JSON."""
    kinds = measured["by_kind"].values()
    assert sum(kind["found"] for kind in kinds) == measured["found"] <= measured["faults"]
    assert sum(kind["primary"] for kind in kinds) == round(measured["primary"] * measured["found"])
    assert all(kind["primary"] <= kind["first_three"] <= kind["found"] for kind in kinds)
    for kind, row in measured["confusion"].items():
        assert sum(row.values()) == measured["by_kind"][kind]["found"]
    json.dumps(measured, allow_nan=False)


def test_nothing_found_is_no_share() -> None:
    """Without anything to divide by a share is None, not 0 and not 1."""
    nothing = summary([], [], 3)
    assert (nothing["faults"], nothing["found"]) == (3, 0)
    assert nothing["primary"] is nothing["first_three"] is nothing["actionable"] is None


@pytest.mark.parametrize(
    ("injected", "kind", "streams", "right"),
    [
        (label(FaultKind.SPIKE, "cpu_load"), CauseKind.SPIKE, ("cpu_load",), True),
        (label(FaultKind.SPIKE, "cpu_load"), CauseKind.SPIKE, ("audio_level",), False),
        (label(FaultKind.SPIKE, "cpu_load"), CauseKind.WIDESPREAD_CHANGE, ("cpu_load",), False),
        (label(FaultKind.FLAT_LINE, "cpu_load"), CauseKind.STUCK_SENSOR, ("cpu_load",), True),
        (label(FaultKind.FLAT_LINE, "cpu_load"), CauseKind.SPIKE, ("cpu_load",), False),
        (label(FaultKind.GROUP_OUTAGE, "biometric", *BODY), CauseKind.DEVICE_OFF, BODY, True),
        (label(FaultKind.GROUP_OUTAGE, "biometric", *BODY), CauseKind.DEVICE_OFF, BODY[:1], False),
        (
            label(FaultKind.GROUP_OUTAGE, "biometric", *BODY),
            CauseKind.DEVICE_OFF,
            (*BODY, "steps"),
            False,
        ),
        (
            label(FaultKind.DEVICE_DOWN, "watch", *BODY),
            CauseKind.DEVICE_OFF,
            (*BODY, "steps"),
            True,
        ),
        (label(FaultKind.DEVICE_DOWN, "phone", *PHONE), CauseKind.DEVICE_OFF, BODY, False),
        (label(FaultKind.DEVICE_DOWN, "phone", *PHONE), CauseKind.UNUSUAL_ABSENCE, PHONE, False),
        (label(FaultKind.DEVICE_DOWN, "all", *BODY), CauseKind.NOTHING_RECEIVED, (), True),
        (label(FaultKind.DEVICE_DOWN, "all", *BODY), CauseKind.DEVICE_OFF, BODY, False),
        (
            label(FaultKind.USE_AT_3AM, "person", "keystrokes"),
            CauseKind.UNUSUAL_PRESENCE,
            ("keystrokes",),
            True,
        ),
        (
            label(FaultKind.USE_AT_3AM, "person", "keystrokes"),
            CauseKind.UNUSUAL_PRESENCE,
            (),
            False,
        ),
        (
            label(FaultKind.UNUSUAL_ABSENCE_AT_WORK, "person", "keystrokes"),
            CauseKind.UNUSUAL_ABSENCE,
            ("keystrokes", "app_launches"),
            True,
        ),
        (
            label(FaultKind.RELATIONSHIP_BREAK, "heart_rate"),
            CauseKind.RELATIONSHIP_BREAK,
            ("heart_rate", "accel_magnitude", "stress_index"),
            True,
        ),
        (
            label(FaultKind.RELATIONSHIP_BREAK, "heart_rate"),
            CauseKind.RELATIONSHIP_BREAK,
            ("respiration_rate", "accel_magnitude"),
            False,
        ),
        (label(FaultKind.RELATIONSHIP_BREAK, "heart_rate"), CauseKind.SPIKE, BODY[:1], True),
        (label(FaultKind.RELATIONSHIP_BREAK, "heart_rate"), CauseKind.SEQUENCE, BODY[:1], False),
    ],
)
def test_kind_and_streams_must_both_be_right(
    injected: InjectedFault,
    kind: CauseKind,
    streams: tuple[str, ...],
    right: bool,  # noqa: FBT001 - a parameter of the cases
) -> None:
    """A cause of another kind, or about other streams, does not count."""
    assert is_cause(injected, kind, streams) is right
