"""What the answers look like."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Self

from pydantic import BaseModel, Field

from anomaly_assets.live.cache import LatestScore
from anomaly_assets.live.subscriptions import known


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


#: What every route that takes a token may answer.
REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    401: {"model": Problem, "description": "the token is missing or refused"},
    403: {"model": Problem, "description": "the token is not good for this"},
    422: {"description": "something given is unusable"},
    429: {"model": Problem, "description": "too much at once; see Retry-After"},
    503: {"model": Problem, "description": "the database is away; see Retry-After"},
}


class BadRow(BaseModel):
    """A row that was refused."""

    row: int = Field(description="its number in the request, from 1", ge=1)
    reason: str
    detail: str


class FirstLookModel(BaseModel):
    """What the current models say of a reading at once, before its window is over."""

    entity_id: str
    stream_id: str
    at: datetime
    value: float
    window_start: datetime
    compared: float | None = None
    expected: float | None = None
    deviation: float | None = None
    score: float | None = None
    is_anomaly: bool


class TakenModel(BaseModel):
    """What became of the readings of a request."""

    accepted: int = Field(description="newly durable", ge=0)
    duplicates: int = Field(description="were durable before; the first value stays", ge=0)
    rejected: int = Field(description="refused for good, and recorded", ge=0)
    rows: list[BadRow] = Field(description="the first 1,000 refused rows")
    first_look: FirstLookModel | None = Field(
        None, description="of a single reading, where the streaming pipeline runs"
    )
    first_looks: list[FirstLookModel | None] = Field(
        default_factory=list,
        description="of the accepted readings in their order, if they were asked for; null where "
        "none can be given",
    )
    scored_elsewhere: dict[str, int] = Field(
        default_factory=dict,
        description="newly durable readings that another instance scores, by shard; they have no "
        "first look here",
    )


class AnomalyModel(BaseModel):
    """An episode with a high score."""

    entity_id: str
    window: datetime
    score: float
    confidence: float | None
    anomaly_id: str | None
    summary: str | None
    primary_cause: str | None
    recommended_action: str | None
    episode_start: datetime
    episode_end: datetime
    windows: int
    ongoing: bool
    suppressed_by: str | None


class AnomaliesModel(BaseModel):
    """Episodes, the highest score first."""

    anomalies: list[AnomalyModel]


class ExplanationModel(BaseModel):
    """Why an anomaly happened."""

    entity_id: str
    explanation: dict[str, Any]


class StreamModel(BaseModel):
    """A stream, and how it is doing."""

    stream_id: str
    group: str
    type: str
    unit: str
    description: str
    valid_range: tuple[float, float] | None
    availability: float | None
    consecutive_missing: int | None
    health: float | None
    as_of: datetime | None


class EntityModel(BaseModel):
    """An entity with its streams; none where its catalogue cannot be read."""

    entity_id: str
    last_reading_at: datetime | None
    processed_until: datetime | None
    quarantined: bool
    streams: list[StreamModel]


class StreamsModel(BaseModel):
    """Entities by identifier."""

    entities: list[EntityModel]
    next: str | None = Field(description="give it as `after` to go on; null at the end")


class LatestScoreModel(BaseModel):
    """The newest window of an entity."""

    entity_id: str
    window_start: datetime
    score: float | None = Field(description="null where nothing could be scored")
    confidence: float | None
    is_anomaly: bool

    @classmethod
    def of(cls, latest: LatestScore) -> Self:
        """Return what is known, with unknown as null."""
        return cls(
            entity_id=latest.entity_id,
            window_start=latest.window_start,
            score=known(latest.score),
            confidence=known(latest.confidence),
            is_anomaly=latest.is_anomaly,
        )


class LatestModel(BaseModel):
    """Entities by identifier; those without a score yet are left out."""

    entities: list[LatestScoreModel]
    next: str | None = Field(description="give it as `after` to go on; null at the end")


class HealthModel(BaseModel):
    """Whether readings can be taken, and from where."""

    status: str
    database: str | None = None
    writer: str | None = None
    pipeline: str | None = Field(None, description="starting, running, standby, or off")
    sources: dict[str, str] = Field(
        default_factory=dict,
        description="connected, away, or standby, by source beside this API",
    )
    shards: int | None = Field(None, description="that entities are shared out among")
    role: str | None = Field(
        None, description="owner of a shard, standby for one, or store: readings are only stored"
    )
    roles: dict[str, str] = Field(
        default_factory=dict, description="owner or standby, by shard that this instance takes"
    )
    handed_over: int | None = Field(
        None, description="readings stored here that another instance scores"
    )
