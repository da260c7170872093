"""The causal truth: how every simulated stream follows from its causes.

:data:`EQUATIONS` is the one place where this is said. An equation reads

    stream(t) = intercept + sum of coefficient * transform(cause), lag and response, + noise

so the table can be compared with what an explanation layer recovers. A cause is another stream (its
true value, before sensor faults and gaps) or one of the hidden causes of
:func:`~anomaly_assets.evaluation.simulator.lives.hidden_causes`.
"""

from __future__ import annotations

from anomaly_assets.evaluation.simulator.causality import Equation, Kind, Noise, Term, Transform

_TEN = Transform.POWER_OF_TEN
_LOG = Transform.LOGARITHM
_WALKING = Transform.ABOVE_WALKING
_COUNT = Kind.COUNT

#: Every stream, causes before effects.
EQUATIONS: tuple[Equation, ...] = (
    # motion
    Equation(
        "activity_intensity",
        (Term("effort", 1.0),),
        noise=Noise(0.05, proportional_to="effort"),
        limits=(0.0, 1.0),
    ),
    Equation(
        "accel_magnitude",
        (Term("activity_intensity", 4.0),),
        9.81,
        Noise(0.9, proportional_to="effort"),
        limits=(8.0, 30.0),
    ),
    Equation(
        "accel_x",
        (Term("posture_x", 9.81), Term("activity_intensity", 1.5)),
        noise=Noise(2.0, 0.35, 4.0, "effort"),
        limits=(-35.0, 35.0),
    ),
    Equation(
        "accel_y",
        (Term("posture_y", 9.81), Term("activity_intensity", 1.5)),
        noise=Noise(2.0, 0.35, 4.0, "effort"),
        limits=(-35.0, 35.0),
    ),
    Equation(
        "accel_z",
        (Term("posture_z", 9.81), Term("activity_intensity", 1.0)),
        noise=Noise(2.0, 0.35, 4.0, "effort"),
        limits=(-35.0, 35.0),
    ),
    Equation(
        "gyro_magnitude",
        (Term("accel_magnitude", 0.7),),
        -6.82,
        Noise(0.4, proportional_to="effort"),
        limits=(0.0, 20.0),
    ),
    Equation(
        "steps",
        (Term("accel_magnitude", 150.0, transform=_WALKING),),
        kind=_COUNT,
        limits=(0.0, 220.0),
    ),
    # location
    Equation(
        "gps_speed",
        (Term("travel", 1.0), Term("accel_magnitude", 0.3)),
        -2.8,
        Noise(0.25),
        limits=(0.0, 40.0),
    ),
    Equation(
        "gps_displacement",
        (Term("gps_speed", 45.0),),
        2.0,
        Noise(8.0),
        limits=(0.0, 3000.0),
    ),
    Equation(
        "gps_accuracy",
        (Term("outdoors", -14.0),),
        24.0,
        Noise(3.0, 3.0, 20.0),
        limits=(3.0, 90.0),
    ),
    Equation(
        "wifi_networks",
        (Term("outdoors", -2.0), Term("gps_speed", -0.2)),
        9.0,
        Noise(1.2, 1.5, 25.0),
        limits=(0.0, 60.0),
    ),
    Equation("cell_changes", (Term("gps_speed", 0.04),), 0.01, kind=_COUNT, limits=(0.0, 2.0)),
    # interaction
    Equation("notifications", (Term("notifying", 1.0),), kind=_COUNT, limits=(0.0, 30.0)),
    Equation("calls", (Term("calling", 0.6),), kind=_COUNT, limits=(0.0, 4.0)),
    Equation("app_launches", (Term("screen_use", 2.0),), kind=_COUNT, limits=(0.0, 5.0)),
    Equation(
        "screen_on_events",
        (Term("screen_use", 0.9), Term("app_launches", 0.25), Term("notifications", 0.35)),
        kind=_COUNT,
        limits=(0.0, 4.0),
    ),
    Equation(
        "screen_on_seconds",
        (Term("screen_use", 50.0), Term("screen_on_events", 3.0)),
        noise=Noise(1.5, proportional_to="screen_use"),
        kind=Kind.SHARE,
        limits=(0.0, 60.0),
    ),
    Equation(
        "keystrokes",
        (Term("screen_on_seconds", 0.8), Term("app_launches", 2.0)),
        kind=_COUNT,
        limits=(0.0, 400.0),
        zero_inflation=0.5,
    ),
    Equation(
        "speech_activity",
        (Term("talking", 1.0),),
        noise=Noise(0.08, proportional_to="talking"),
        kind=Kind.SHARE,
        limits=(0.0, 1.0),
    ),
    Equation("media_playing", (Term("media", 1.0),), kind=Kind.SHARE, limits=(0.0, 1.0)),
    # environment
    Equation(
        "ambient_light",
        (Term("log_light", 1.0, transform=_TEN),),
        limits=(0.0, 30000.0),
    ),
    Equation(
        "audio_level",
        (Term("sound", 1.0), Term("speech_activity", 5.0), Term("media_playing", 3.0)),
        noise=Noise(2.2, 1.0, 8.0),
        limits=(20.0, 105.0),
    ),
    Equation(
        "ambient_temperature",
        (Term("daylight", 1.2, response=20.0), Term("indoor_climate", 1.0)),
        20.8,
        Noise(0.08, 0.10, 40.0),
        limits=(-10.0, 40.0),
    ),
    Equation(
        "barometric_pressure",
        (Term("weather", 1.0),),
        1013.0,
        Noise(0.05, 0.10, 60.0),
        limits=(960.0, 1050.0),
    ),
    Equation(
        "humidity",
        (Term("ambient_temperature", -1.6, response=10.0),),
        79.0,
        Noise(0.4, 1.0, 150.0),
        limits=(15.0, 90.0),
    ),
    # biometric
    Equation(
        "stress_index",
        (Term("arousal", 7.0), Term("asleep", -10.0, response=15.0)),
        34.0,
        Noise(2.5, 2.0, 30.0),
        limits=(1.0, 99.0),
    ),
    Equation(
        "heart_rate",
        (
            Term("accel_magnitude", 21.0, lag=1, response=3.0),
            Term("stress_index", 0.30),
            Term("asleep", -4.0, response=10.0),
            Term("resting_heart_rate", 1.0),
        ),
        -216.0,
        Noise(1.8, 1.0, 12.0),
        limits=(38.0, 190.0),
    ),
    Equation(
        "respiration_rate",
        (Term("accel_magnitude", 1.5, lag=2, response=4.0), Term("heart_rate", 0.06, lag=1)),
        -4.5,
        Noise(0.7, 0.4, 12.0),
        limits=(6.0, 45.0),
    ),
    Equation(
        "hrv_rmssd",
        (Term("heart_rate", -0.6, response=4.0),),
        90.0,
        Noise(4.0, 3.0, 40.0),
        limits=(5.0, 150.0),
    ),
    Equation(
        "electrodermal_activity",
        (Term("accel_magnitude", 0.7, lag=2, response=6.0), Term("stress_index", 0.03)),
        -5.6,
        Noise(0.15, 0.2, 30.0),
        limits=(0.1, 25.0),
    ),
    Equation(
        "skin_temperature",
        (
            Term("activity_intensity", 1.5, lag=3, response=15.0),
            Term("asleep", 0.7, response=20.0),
            Term("ambient_temperature", 0.2, response=10.0),
        ),
        28.8,
        Noise(0.06, 0.12, 60.0),
        limits=(28.0, 38.0),
    ),
    Equation(
        "blood_oxygen",
        (Term("asleep", -0.5, response=15.0),),
        97.3,
        Noise(0.35, 0.2, 30.0),
        limits=(90.0, 100.0),
    ),
    # device
    Equation(
        "screen_brightness",
        (Term("ambient_light", 22.0, response=2.0, transform=_LOG),),
        6.0,
        Noise(1.5, 1.0, 20.0),
        limits=(1.0, 100.0),
    ),
    Equation(
        "cpu_load",
        (
            Term("screen_on_seconds", 0.30, response=1.5),
            Term("app_launches", 2.0),
            Term("media_playing", 4.0),
        ),
        7.0,
        Noise(1.8, 1.0, 15.0),
        limits=(0.5, 100.0),
    ),
    Equation(
        "battery_temperature",
        (
            Term("cpu_load", 0.10, lag=1, response=6.0),
            Term("charging", 1.0, response=15.0),
            Term("ambient_temperature", 0.5, response=20.0),
        ),
        16.5,
        Noise(0.15, 0.15, 30.0),
        limits=(0.0, 50.0),
    ),
    Equation(
        "battery_level",
        (
            Term("cpu_load", -0.0030),
            Term("screen_on_seconds", -0.0006),
            Term("screen_brightness", -0.0001),
            Term("charging", 0.5),
        ),
        -0.010,
        Noise(0.012),
        Kind.STORE,
        limits=(2.0, 100.0),
    ),
)

#: Hidden causes that are themselves sums, computed before the streams.
HIDDEN_EQUATIONS: tuple[Equation, ...] = (
    Equation(
        "log_light",
        (Term("light", 0.85), Term("daylight", 0.35, response=15.0), Term("outdoors", 0.35)),
        -0.05,
        Noise(0.10, 0.15, 6.0),
        limits=(-1.0, 4.4),
    ),
)


def downstream(*nodes: str) -> tuple[str, ...]:
    """Return the streams that `nodes` cause directly or indirectly, with those that are streams.

    Examples
    --------
    >>> downstream("cpu_load")
    ('cpu_load', 'battery_temperature', 'battery_level')
    """
    reached = set(nodes)
    for equation in (*HIDDEN_EQUATIONS, *EQUATIONS):
        if reached.intersection(equation.causes):
            reached.add(equation.stream)
    return tuple(e.stream for e in EQUATIONS if e.stream in reached)
