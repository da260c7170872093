"""What a request is told of its readings."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from fastapi import Response

from anomaly_assets.live.intake import Taken
from anomaly_assets.live.readings import ENTITY_UNAVAILABLE

_MOST_BAD_ROWS: Final = 1000
_JSON: Final = "application/json"
_UNAVAILABLE_SECONDS: Final = "60"


@dataclass
class Tally:
    """What became of the rows of one request; grows while they are taken in.

    Parameters
    ----------
    single
        Whether the request is a single reading, which is told what it looks like.
    most_looks
        First looks that are told of several readings.
    """

    single: bool = False
    most_looks: int = 0
    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    unavailable: int = 0
    bad: list[dict[str, Any]] = field(default_factory=list)
    first_look: dict[str, Any] | None = None
    looks: list[dict[str, Any] | None] = field(default_factory=list)
    elsewhere: Counter[int] = field(default_factory=Counter)

    def add(self, taken: Taken) -> None:
        """Count further rows."""
        for result in taken.results:
            self.rows += 1
            if result.accepted:
                self.duplicates += result.duplicate
                self.accepted += not result.duplicate
                continue
            self.rejected += 1
            self.unavailable += result.reason == ENTITY_UNAVAILABLE
            if len(self.bad) < _MOST_BAD_ROWS:
                self.bad.append(
                    {"row": self.rows, "reason": result.reason, "detail": result.detail}
                )
        self.elsewhere.update(taken.elsewhere)
        if self.single and taken.first_looks and taken.first_looks[0] is not None:
            self.first_look = plain(taken.first_looks[0])
        room = self.most_looks - len(self.looks)
        if room > 0:
            self.looks += [None if one is None else plain(one) for one in taken.first_looks[:room]]

    def response(self) -> Response:
        """Answer 202, or an error if not a single row was taken."""
        document = {
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "rejected": self.rejected,
            "rows": self.bad,
            "first_look": self.first_look,
            "first_looks": self.looks,
            "scored_elsewhere": {str(shard): n for shard, n in sorted(self.elsewhere.items())},
        }
        status, headers = 202, {}
        if self.rows and self.unavailable == self.rows:
            status, headers = 503, {"Retry-After": _UNAVAILABLE_SECONDS}
        elif self.rows and self.rejected == self.rows:
            status = 422
        content = json.dumps(document, separators=(",", ":"), allow_nan=False)
        return Response(content, status, headers, _JSON)


def plain(record: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass
    """Return a record as JSON-safe builtins; unknown is None.

    Parameters
    ----------
    record
        An instance of a dataclass of scalars.
    """
    return {field.name: _safe(getattr(record, field.name)) for field in dataclasses.fields(record)}


def _safe(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, datetime) else value
