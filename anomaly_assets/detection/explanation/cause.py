"""One possible cause of an anomaly: its kind, how far it is to be believed, what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from anomaly_assets.detection.explanation.matching import SequenceMatch
from anomaly_assets.detection.explanation.record import ClockEvidence
from anomaly_assets.detection.explanation.wording import capitalised


class CauseKind(StrEnum):
    """Kinds of causes."""

    SEQUENCE = "matched_sequence"
    NOTHING_RECEIVED = "nothing_received"
    DEVICE_OFF = "device_off"
    STREAM_STOPPED = "stream_stopped"
    CLOCK_JUMP = "clock_jump"
    STUCK_SENSOR = "stuck_sensor"
    SPIKE = "single_stream_spike"
    LEVEL_SHIFT = "level_shift"
    UNUSUAL_ABSENCE = "unusual_absence"
    UNUSUAL_PRESENCE = "unusual_presence"
    UPSTREAM = "upstream_cause"
    RELATIONSHIP_BREAK = "relationship_break"
    WIDESPREAD_CHANGE = "widespread_change"
    UNKNOWN = "unknown"


#: What to do about each kind; a matched sequence brings its own action from the catalogue.
RECOMMENDED_ACTIONS = MappingProxyType(
    {
        CauseKind.NOTHING_RECEIVED: (
            "Check that the devices are on and connected, and that readings still reach the system."
        ),
        CauseKind.DEVICE_OFF: "Check that the device is charged, worn and connected.",
        CauseKind.STREAM_STOPPED: (
            "Check the sensor and the permissions of its app; the rest of its group still reports."
        ),
        CauseKind.CLOCK_JUMP: (
            "Check the clock and the time zone of the device, and send again with the right times "
            "what it recorded meanwhile."
        ),
        CauseKind.STUCK_SENSOR: (
            "Restart the sensor or its app, and do not trust its values until they move again."
        ),
        CauseKind.SPIKE: (
            "Look at the raw readings of this stream: label it a false alarm if they are faulty, "
            "otherwise ask what happened."
        ),
        CauseKind.LEVEL_SHIFT: (
            "Ask what changed at that time; if the new level is meant to stay, label it as a false "
            "alarm."
        ),
        CauseKind.UNUSUAL_ABSENCE: (
            "Ask whether everything is all right; if the absence was planned, label it as a false "
            "alarm."
        ),
        CauseKind.UNUSUAL_PRESENCE: (
            "Ask whether this use was intended; if it becomes a habit it will be learnt."
        ),
        CauseKind.UPSTREAM: (
            "Look at the stream named first: ask what changed there; the others follow from it."
        ),
        CauseKind.RELATIONSHIP_BREAK: (
            "Compare these streams side by side: one of them may be miscalibrated, or come from "
            "another person or device."
        ),
        CauseKind.WIDESPREAD_CHANGE: (
            "Look for one event behind all these streams, beginning with the first in the timeline."
        ),
        CauseKind.UNKNOWN: (
            "Look at the timeline and the listed streams, and label this window so that the system "
            "learns from it."
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Cause:
    """One possible cause of an anomaly.

    Parameters
    ----------
    kind
        Its kind.
    title
        It in a few words.
    log_odds
        Against a cause nobody thought of.
    sentence
        The explanation, if this is the primary cause.
    action
        What to do.
    streams
        Positions of the streams it is about.
    match
        The template it follows, for a matched sequence.
    clock
        What is known of the clock, for a wrong one.
    """

    kind: CauseKind
    title: str
    log_odds: float
    sentence: str
    action: str
    streams: tuple[int, ...] = ()
    match: SequenceMatch | None = None
    clock: ClockEvidence | None = None


def cause_of(
    kind: CauseKind, title: str, strength: float, sentence: str, streams: tuple[int, ...] = ()
) -> Cause:
    """Make a cause of the table; a strength of 0.5 is as good as a cause nobody thought of."""
    log_odds = 8.0 * (min(max(strength, 0.0), 1.0) - 0.5)
    action = RECOMMENDED_ACTIONS[kind]
    return Cause(kind, title, log_odds, capitalised(sentence), action, streams)
