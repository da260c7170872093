"""Names by which rows are told apart."""

from __future__ import annotations

from enum import StrEnum

#: ``stream_id`` of a row that speaks of the entity as a whole.
ENTITY_ROW = "_entity"
#: What the ``stream_id`` of a row that speaks of a stream group begins with.
GROUP_ROW_PREFIX = "_group:"


class Method(StrEnum):
    """Which tier a row of ``anomaly_scores`` comes from."""

    INDIVIDUAL = "river_individual"
    CROSS_STREAM = "river_multivariate"
    ENSEMBLE = "ensemble"


class Verdict(StrEnum):
    """What a person said of an anomaly."""

    CONFIRMED = "confirmed"
    FALSE_ALARM = "false_alarm"
    EXPECTED = "expected"


class SuggestionKind(StrEnum):
    """What a suggestion would add to a catalogue."""

    EDGE = "edge"
    PATTERN = "pattern"


class Decision(StrEnum):
    """How a suggestion stands."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


class RejectionReason(StrEnum):
    """Why a reading was refused."""

    WRONG_TIME = "wrong_time"
    FUTURE_TIME = "future_time"
    UNKNOWN_STREAM = "unknown_stream"
    NOT_A_NUMBER = "not_a_number"
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"
    EMPTY_VALUE = "empty_value"
    MISSING_ENTITY = "missing_entity"
    MALFORMED_ROW = "malformed_row"
    PAST_RETENTION = "past_retention"


def group_row(group_id: str) -> str:
    """Return the ``stream_id`` under which a group's rows are stored."""
    return f"{GROUP_ROW_PREFIX}{group_id}"
