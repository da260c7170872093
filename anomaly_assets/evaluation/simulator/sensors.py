"""How the simulated streams are reported: by which device, how often, and how precisely."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from anomaly_assets.streams.windows import BoolArray, IntArray


class Device(StrEnum):
    """What carries the sensors."""

    WATCH = "watch"
    PHONE = "phone"


class Reporting(StrEnum):
    """When a sensor sends a reading."""

    REGULAR = "regular"
    EVENTS = "events"
    POSITION_FIX = "position_fix"


@dataclass(frozen=True)
class Sensor:
    """How one stream is reported.

    Parameters
    ----------
    stream
        Identifier in the default catalogue.
    group
        Its group there.
    interval
        Minutes between readings.
    decimals
        Digits after the point.
    reporting
        ``regular``: every `interval`. ``events``: only minutes whose value is not 0.
        ``position_fix``: only while satellites are seen.
    """

    stream: str
    group: str
    interval: int
    decimals: int
    reporting: Reporting = Reporting.REGULAR

    @property
    def device(self) -> Device:
        """The watch measures the body, the phone everything else."""
        return Device.WATCH if self.group in {"motion", "biometric"} else Device.PHONE

    def due(self, seconds: IntArray) -> BoolArray:
        """Return the minutes at which a regular reading is due."""
        return np.asarray((seconds // 60) % self.interval == 0)


_EVENTS = Reporting.EVENTS
_FIX = Reporting.POSITION_FIX

#: Every stream of the default catalogue, in its order.
SENSORS: tuple[Sensor, ...] = (
    Sensor("accel_x", "motion", 1, 3),
    Sensor("accel_y", "motion", 1, 3),
    Sensor("accel_z", "motion", 1, 3),
    Sensor("accel_magnitude", "motion", 1, 3),
    Sensor("gyro_magnitude", "motion", 1, 3),
    Sensor("steps", "motion", 1, 0, _EVENTS),
    Sensor("activity_intensity", "motion", 1, 3),
    Sensor("gps_speed", "location", 1, 2, _FIX),
    Sensor("gps_displacement", "location", 1, 1, _FIX),
    Sensor("gps_accuracy", "location", 1, 1, _FIX),
    Sensor("wifi_networks", "location", 5, 0),
    Sensor("cell_changes", "location", 1, 0, _EVENTS),
    Sensor("app_launches", "interaction", 1, 0, _EVENTS),
    Sensor("notifications", "interaction", 1, 0, _EVENTS),
    Sensor("screen_on_events", "interaction", 1, 0, _EVENTS),
    Sensor("screen_on_seconds", "interaction", 1, 0, _EVENTS),
    Sensor("keystrokes", "interaction", 1, 0, _EVENTS),
    Sensor("calls", "interaction", 1, 0, _EVENTS),
    Sensor("speech_activity", "interaction", 1, 2, _EVENTS),
    Sensor("media_playing", "interaction", 1, 2, _EVENTS),
    Sensor("heart_rate", "biometric", 1, 0),
    Sensor("hrv_rmssd", "biometric", 5, 1),
    Sensor("respiration_rate", "biometric", 1, 1),
    Sensor("skin_temperature", "biometric", 1, 2),
    Sensor("blood_oxygen", "biometric", 5, 0),
    Sensor("stress_index", "biometric", 5, 0),
    Sensor("electrodermal_activity", "biometric", 1, 3),
    Sensor("ambient_light", "environment", 1, 1),
    Sensor("audio_level", "environment", 1, 1),
    Sensor("ambient_temperature", "environment", 5, 2),
    Sensor("barometric_pressure", "environment", 5, 2),
    Sensor("humidity", "environment", 5, 1),
    Sensor("battery_level", "device", 5, 0),
    Sensor("battery_temperature", "device", 5, 1),
    Sensor("cpu_load", "device", 1, 1),
    Sensor("screen_brightness", "device", 2, 0),
)

STREAM_IDS: tuple[str, ...] = tuple(sensor.stream for sensor in SENSORS)
#: Groups of the default catalogue, in its order.
GROUP_IDS: tuple[str, ...] = tuple(dict.fromkeys(sensor.group for sensor in SENSORS))


def streams_of_group(group: str) -> tuple[str, ...]:
    """Return the streams of `group`, in catalogue order; none if there is no such group."""
    return tuple(sensor.stream for sensor in SENSORS if sensor.group == group)
