"""All settings in one typed object, read from the environment and from ``.env``."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from anomaly_assets.errors import SettingsError

#: Without these two a range run over 288 partitions takes ten times as long (see docs/decisions).
DAGSTER_ENVIRONMENT = {
    "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1",
    "DAGSTER_EVENT_BATCH_SIZE": "1000",
}


class Settings(BaseSettings):
    """Settings of one deployment.

    Every field is read from ``ANOMALY_ASSETS_<FIELD>``; the database alone keeps its customary
    name, ``DATABASE_URL``. Unset, an embedded PostgreSQL in `home` is used.
    """

    model_config = SettingsConfigDict(
        env_prefix="ANOMALY_ASSETS_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    database_url: Annotated[str | None, Field(validation_alias="DATABASE_URL")] = None
    home: Path = Field(
        Path(".anomaly_assets"),
        description="folder of the embedded database, Dagster's home and the signing key",
    )
    data: Path = Field(
        Path("../shared/data"), description="labelled recordings for tests and evaluation"
    )
    catalogue: str = Field(
        "default", description="catalogue of an entity that names none: shipped name or path"
    )
    catalogue_directories: tuple[Path, ...] = Field(
        (), description="where further catalogues are looked up by name (JSON list)"
    )

    window_start: datetime | None = Field(
        None,
        description="first window Dagster knows; default: `rolling_days` ago, at a month's start",
    )
    window_end: datetime | None = Field(
        None, description="end of the last window Dagster knows (old recordings); default: now"
    )
    rolling_days: int = Field(300, ge=1, le=345)
    allowed_lateness: timedelta = Field(
        timedelta(minutes=10), description="how long after its end a window waits for slow streams"
    )
    late_horizon: timedelta = Field(
        timedelta(hours=24), description="a late reading younger than this causes a replay"
    )
    future_tolerance: timedelta = Field(timedelta(minutes=5), description="clock skew accepted")
    max_windows_per_run: int = Field(2016, ge=1, description="cap on a sensor's range (a week)")

    explanation_mode: Literal["fast", "thorough"] = "fast"
    explanation_threshold: float = Field(0.7, ge=0.0, le=1.0)
    network_hours: int = Field(
        24, ge=24, le=168, description="span that a causal network is fitted on"
    )
    ensemble: Literal["cauchy", "mean"] = "cauchy"
    seed: int = Field(42, ge=0, description="of every random choice a detector makes")

    signing_key: SecretStr | None = Field(
        None, description="key of the snapshot signatures; default: a file made in `home`"
    )
    keep_hourly_snapshots: int = Field(24, ge=1)
    keep_daily_snapshots: int = Field(30, ge=1)
    keep_monthly_snapshots: int = Field(12, ge=1)
    keep_network_days: int = Field(90, ge=1)
    partition_months_ahead: int = Field(3, ge=1, le=24)

    port: int = Field(3000, ge=1, le=65535, description="of the Dagster webserver")
    host: str = "127.0.0.1"

    @field_validator("window_start", "window_end")
    @classmethod
    def _aware(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            msg = f"{value.isoformat()} has no time zone; write for example 2026-01-01T00:00:00Z"
            raise ValueError(msg)
        return value


def load_settings() -> Settings:
    """Read the settings afresh.

    Raises
    ------
    SettingsError
        Naming each unusable setting, what it was and why it is refused.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"  {_variable(problem['loc'])}: {problem['msg']} (got {problem.get('input')!r})"
            for problem in error.errors(include_url=False)
        ]
        msg = "unusable settings:\n" + "\n".join(lines)
        raise SettingsError(msg) from error


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings of this process, read once."""
    return load_settings()


def _variable(location: tuple[int | str, ...]) -> str:
    field = str(location[0]) if location else "?"
    return field if field.isupper() else f"ANOMALY_ASSETS_{field.upper()}"
