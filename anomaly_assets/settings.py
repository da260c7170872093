"""All settings in one typed object, read from the environment and from ``.env``."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.exceptions import SettingsError as UnreadableError

from anomaly_assets.errors import SettingsError

#: Without these two a range run over 288 partitions takes ten times as long (see docs/decisions).
DAGSTER_ENVIRONMENT = {
    "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1",
    "DAGSTER_EVENT_BATCH_SIZE": "1000",
}


_SCHEMES: Final = {
    "redis_url": ("redis", "rediss", "unix"),
    "mqtt_url": ("mqtt", "mqtts"),
    "live_public_url": ("http", "https"),
    "celery_broker_url": ("redis", "rediss"),
}
_HIGH_FREQUENCY_THRESHOLD: Final = 0.8
_HIGH_FREQUENCY_INTERVAL: Final = timedelta(minutes=1)


class Settings(BaseSettings):
    """Settings of one deployment.

    Every field is read from ``ANOMALY_ASSETS_<FIELD>``; the database alone keeps its customary
    name, ``DATABASE_URL``. Unset, an embedded PostgreSQL in `home` is used. A secret may be in a
    file instead, which the variable with ``_FILE`` behind its name gives.
    """

    model_config = SettingsConfigDict(
        env_prefix="ANOMALY_ASSETS_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        # Some inputs are secrets, and an error may be logged with its cause.
        hide_input_in_errors=True,
    )

    database_url: Annotated[str | None, Field(validation_alias="DATABASE_URL", repr=False)] = None
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
    feedback_threshold_range: tuple[float, float] = Field(
        (0.7, 0.9), description="between what labels may move an entity's alarm threshold (JSON)"
    )
    feedback_weight_range: tuple[float, float] = Field(
        (0.25, 1.0), description="between what labels may move a stream's weight (JSON)"
    )
    feedback_least_labels: int = Field(
        10, ge=1, description="judged alarms without which nothing is recalibrated"
    )
    feedback_rule_days: int = Field(
        90, ge=1, le=3650, description="how long an accepted suppression rule holds"
    )
    meta_least_labels: int = Field(
        20, ge=5, description="alarms of each kind without which no meta-learner is trained"
    )
    meta_margin: float = Field(
        0.05, ge=0.0, le=1.0, description="by how much the meta-learner must be better to take over"
    )

    signing_key: SecretStr | None = Field(
        None, description="key of the snapshot signatures; default: a file made in `home`"
    )
    keep_hourly_snapshots: int = Field(24, ge=1)
    keep_daily_snapshots: int = Field(30, ge=1)
    keep_monthly_snapshots: int = Field(12, ge=1)
    keep_network_days: int = Field(90, ge=1)
    partition_months_ahead: int = Field(3, ge=1, le=24)
    raw_months: int = Field(
        6, ge=0, le=1200, description="months that raw readings are kept; 0: for ever"
    )
    retrain_days: int = Field(14, ge=2, le=90, description="span that a model is retrained on")
    retrain_margin: float = Field(
        0.05, ge=0.0, le=1.0, description="by which a retrained model must do better to take over"
    )
    degraded_share: float = Field(
        0.1, ge=0.0, le=1.0, description="share of windows above 0.7 that is never a degradation"
    )
    degraded_factor: float = Field(
        2.0, gt=1.0, allow_inf_nan=False, description="times its own past a model may come to"
    )
    keep_superseded_days: int = Field(
        90, ge=1, description="replaced results and models are kept for comparison"
    )
    backup_url: SecretStr | None = Field(
        None, description="where backups of models go, any fsspec URL; default: `home`/backups"
    )
    backup_keep_days: int = Field(30, ge=1)

    port: int = Field(3000, ge=1, le=65535, description="of the Dagster webserver")
    host: str = "127.0.0.1"

    shards: int = Field(1, ge=1, le=10_000, description="parts that a run's entities are cut into")
    executor: Literal["in_process", "multiprocess", "celery", "kubernetes"] = "in_process"
    executor_concurrency: int | None = Field(
        None, ge=1, description="processes or pods of a run at once; default: as many as there are"
    )
    celery_broker_url: SecretStr | None = Field(
        None, description="Redis that steps are queued in; default: `redis_url`"
    )
    celery_queue: str = Field("anomaly_assets", min_length=1, description="one a deployment")
    celery_redelivery_seconds: int = Field(
        600, ge=5, description="after which a step of a worker that is gone is given to another"
    )
    kubernetes_namespace: str = Field("default", min_length=1)
    kubernetes_image: str | None = Field(None, description="of the steps; default: the run's")
    kubernetes_service_account: str | None = Field(None, description="of the steps' pods")
    kubernetes_secrets: tuple[str, ...] = Field(
        (), description="whose keys are the steps' environment (JSON list)"
    )

    live_host: str = Field("127.0.0.1", description="address the live API listens on")
    live_port: int = Field(8000, ge=1, le=65535, description="of the live API")
    live_public_url: str | None = Field(
        None, description="where people reach the live API: links in alerts begin with it"
    )
    live_max_body_bytes: int = Field(
        8_388_608, ge=1024, description="largest request body, after it was unpacked"
    )
    live_max_rows: int = Field(10_000, ge=1, description="most readings in a request")
    live_max_pending_rows: int = Field(
        50_000, ge=1, description="readings waiting for the database before senders must wait"
    )
    live_requests_per_second: float = Field(
        200.0, gt=0.0, allow_inf_nan=False, description="that a token may make, on average"
    )
    live_readings_per_second: float = Field(
        20_000.0, gt=0.0, allow_inf_nan=False, description="that a token may send, on average"
    )
    live_burst_seconds: float = Field(
        10.0, ge=1.0, allow_inf_nan=False, description="of saved-up rate a rested token may use"
    )
    live_trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = Field(
        (), description="whose X-Forwarded-For is believed (JSON list)"
    )
    idempotency_hours: int = Field(
        24, ge=1, le=720, description="how long the answer to a request with a key is kept"
    )
    live_profile: Literal["standard", "high_frequency"] = "standard"
    live_shards: int = Field(
        1, ge=1, le=1024, description="that entities are shared out among, for several instances"
    )
    live_shard: Annotated[tuple[int, ...] | None, NoDecode] = Field(
        None, description="which of them this instance takes: 0, or 0,2; default: all that are free"
    )

    redis_url: SecretStr | None = Field(
        None, description="cache of latest scores and source of readings"
    )
    redis_stream: str = Field("anomaly_assets:readings", min_length=1)
    redis_group: str = Field("anomaly_assets", min_length=1, description="consumer group")
    mqtt_url: SecretStr | None = Field(None, description="broker that readings come from")
    mqtt_topic: str = Field("+/+", description="its last two levels: entity and stream")
    mqtt_client_id: str = Field(
        "anomaly-assets", min_length=1, description="under which the broker keeps our session"
    )
    mqtt_ca_file: Path | None = Field(
        None, description="authorities the broker is verified by; default: the system's"
    )
    mqtt_certificate_file: Path | None = Field(None, description="ours, where the broker asks")
    mqtt_key_file: Path | None = Field(
        None, validate_default=True, description="of our certificate"
    )

    alert_urls: tuple[SecretStr, ...] = Field(
        (), description="apprise addresses that alerts are sent to (JSON list)"
    )
    alert_urls_file: Path | None = Field(None, description="further ones, one a line")
    report_urls: tuple[SecretStr, ...] = Field(
        (), description="apprise addresses that the daily report is sent to (JSON list)"
    )
    alerts_per_hour: int = Field(12, ge=1)
    alerts_per_hour_per_entity: int = Field(4, ge=0)
    alert_quiet_hours: str | None = Field(
        None, description="22:00-07:00, on the entity's clock: alerts are held back"
    )
    alert_quiet_passing: Literal["info", "warning", "critical"] = Field(
        "critical", description="severity from which on quiet hours do not matter"
    )
    alert_anomaly_rate: float = Field(
        0.1, ge=0.0, le=1.0, description="a larger share of an hour's windows raises an alert"
    )
    alert_streams_available: float = Field(
        0.7, ge=0.0, le=1.0, description="a smaller share of an entity's streams raises an alert"
    )
    alert_batch_seconds: float = Field(
        10.0, gt=0.0, allow_inf_nan=False, description="a slower batch raises an alert"
    )
    webhook_secret: SecretStr | None = Field(
        None,
        min_length=16,
        description="signs what is posted to webhooks; default: a secret for each",
    )
    webhook_networks: tuple[IPv4Network | IPv6Network, ...] = Field(
        (), description="that webhooks may reach besides the public internet (JSON list)"
    )
    dashboard: bool = Field(default=True, description="whether the live API serves the pages too")
    dashboard_port: int = Field(8001, ge=1, le=65535, description="of the pages served alone")
    dashboard_session_hours: int = Field(
        12, ge=1, le=720, description="after which people have to log in again"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take secrets from the files that variables name, besides the usual places."""
        files = _SecretFiles(settings_cls, dotenv_settings, env_settings)
        return init_settings, files, env_settings, dotenv_settings, file_secret_settings

    log_format: Literal["text", "json"] = Field("text", description="of log lines")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_access: bool = Field(default=False, description="a line for each request of the live API")
    metrics_entities: int = Field(
        50, ge=0, le=10_000, description="entities that metrics name at most; none beyond"
    )
    metrics_seconds: float = Field(
        15.0, ge=1.0, allow_inf_nan=False, description="between two looks into the database"
    )

    @field_validator("window_start", "window_end")
    @classmethod
    def _aware(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            msg = f"{value.isoformat()} has no time zone; write for example 2026-01-01T00:00:00Z"
            raise ValueError(msg)
        return value

    @field_validator("redis_url", "mqtt_url", "live_public_url", "celery_broker_url")
    @classmethod
    def _is_reachable(
        cls, value: str | SecretStr | None, info: ValidationInfo
    ) -> str | SecretStr | None:
        schemes = _SCHEMES[str(info.field_name)]
        if value is not None and not _is_address(_text(value), schemes):
            msg = f"no address; it begins with {' or '.join(f'{one}://' for one in schemes)}"
            raise ValueError(msg)
        return value

    @field_validator("mqtt_topic")
    @classmethod
    def _names_entity_and_stream(cls, value: str) -> str:
        *prefix, entity, stream = ("", "", *value.split("/"))
        wild = [level for level in prefix if "+" in level or "#" in level]
        if (entity, stream) != ("+", "+") or wild:
            msg = "the topic ends with +/+, entity and stream, and has no other wildcard"
            raise ValueError(msg)
        return value

    @field_validator("mqtt_key_file")
    @classmethod
    def _belongs_to_a_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if (value is None) != (info.data.get("mqtt_certificate_file") is None):
            msg = "a certificate and its key belong together; set both files, or neither"
            raise ValueError(msg)
        return value

    @field_validator("live_shard", mode="before")
    @classmethod
    def _reads_as_numbers(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.strip("[] ").split(","))

    @field_validator("live_shard")
    @classmethod
    def _is_one_of_them(
        cls, value: tuple[int, ...] | None, info: ValidationInfo
    ) -> tuple[int, ...] | None:
        shards = info.data.get("live_shards", 1)
        if value is not None and not all(0 <= one < shards for one in value):
            msg = f"shards are numbered from 0 to {shards - 1}; write for example 0, or 0,2"
            raise ValueError(msg)
        return value

    @field_validator("alert_quiet_hours")
    @classmethod
    def _is_part_of_a_day(cls, value: str | None) -> str | None:
        if value is not None:
            start, end = _clock_times(value)
            if start == end:
                msg = "the quiet hours take no time; write for example 22:00-07:00"
                raise ValueError(msg)
        return value

    @property
    def quiet_hours(self) -> tuple[time, time] | None:
        """Begin and end of the quiet hours, local times; over midnight if the end comes first."""
        return None if self.alert_quiet_hours is None else _clock_times(self.alert_quiet_hours)

    @property
    def idempotency_span(self) -> timedelta:
        """How long the answer to a request with a key is kept."""
        return timedelta(hours=self.idempotency_hours)

    @property
    def live_explanation_threshold(self) -> float:
        """Final score above which the live path explains."""
        if self.live_profile == "high_frequency":
            return max(self.explanation_threshold, _HIGH_FREQUENCY_THRESHOLD)
        return self.explanation_threshold

    @property
    def live_explanation_interval(self) -> timedelta:
        """For how long the live path gathers windows to explain; zero: each at once."""
        return _HIGH_FREQUENCY_INTERVAL if self.live_profile == "high_frequency" else timedelta(0)

    def alert_targets(self) -> tuple[SecretStr, ...]:
        """Return the addresses of `alert_urls` and of the file, each once.

        In the file, empty lines and lines that begin with ``#`` are passed over.

        Raises
        ------
        SettingsError
            If the file cannot be read; the message holds nothing of what is in it.
        """
        lines: list[str] = []
        if self.alert_urls_file is not None:
            try:
                lines = self.alert_urls_file.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
                msg = (
                    f"ANOMALY_ASSETS_ALERT_URLS_FILE: {self.alert_urls_file} cannot be read "
                    f"({why}); give a file with one address a line"
                )
                raise SettingsError(msg) from None
        stripped = (line.strip() for line in lines)
        further = [line for line in stripped if line and not line.startswith("#")]
        known = [one.get_secret_value() for one in self.alert_urls]
        return tuple(SecretStr(one) for one in dict.fromkeys([*known, *further]))


class _SecretFiles(PydanticBaseSettingsSource):
    """Secrets out of files: of ``X_FILE`` wherever ``X`` is a secret."""

    def __init__(
        self, settings_cls: type[BaseSettings], *variables: PydanticBaseSettingsSource
    ) -> None:
        super().__init__(settings_cls)
        self._variables = {
            name.upper(): value
            for source in variables
            if isinstance(source, EnvSettingsSource | DotEnvSettingsSource)
            for name, value in source.env_vars.items()
        }

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | None, str, bool]:
        """Return what is in the file of a field, if one is given."""
        name = variable_of(field_name)
        path = self._variables.get(f"{name}_FILE")
        if not path or not _is_one_secret(field_name, field):
            return None, field_name, False
        if self._variables.get(name):
            msg = f"unusable settings:\n  {name} and {name}_FILE are both set; remove one of them"
            raise SettingsError(msg)
        return read_secret(f"{name}_FILE", Path(path)), field_name, False

    def __call__(self) -> dict[str, str]:
        """Return the secrets by field."""
        values = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in values.items() if value is not None}


def variable_of(field: str) -> str:
    """Return the environment variable of a field of :class:`Settings`."""
    return "DATABASE_URL" if field == "database_url" else f"ANOMALY_ASSETS_{field.upper()}"


def secret_variables() -> tuple[str, ...]:
    """Return the variables that may also be given by file, ``<variable>_FILE``."""
    return tuple(
        variable_of(name)
        for name, field in Settings.model_fields.items()
        if _is_one_secret(name, field)
    )


def read_secret(variable: str, path: Path) -> str:
    """Return what is in the file of a secret, without blanks and line ends around it.

    Parameters
    ----------
    variable
        The variable that names the file, for the message.
    path
        The file: UTF-8 text.

    Raises
    ------
    SettingsError
        If it cannot be read or is empty; the message holds nothing of what is in it.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        msg = (
            f"unusable settings:\n  {variable}: {path} cannot be read ({why}); give a file that "
            "the user who runs this may read, with the secret and nothing else in it"
        )
        raise SettingsError(msg) from None
    if not text:
        msg = f"unusable settings:\n  {variable}: {path} is empty; write the secret into it"
        raise SettingsError(msg)
    return text


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
            f"  {_variable(problem['loc'])}: {problem['msg']}"
            + ("" if _is_secret(problem["loc"]) else f" (got {problem.get('input')!r})")
            for problem in error.errors(include_url=False)
        ]
        msg = "unusable settings:\n" + "\n".join(lines)
        raise SettingsError(msg) from error
    except UnreadableError as error:
        # Its cause holds what could not be read, which may be a secret.
        msg = f'unusable settings:\n  {error}; write a JSON list, ["one", "two"]'
        raise SettingsError(msg) from None


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings of this process, read once."""
    return load_settings()


def _variable(location: tuple[int | str, ...]) -> str:
    field = str(location[0]) if location else "?"
    return field if field.isupper() else variable_of(field)


def _is_secret(location: tuple[int | str, ...]) -> bool:
    field = Settings.model_fields.get(str(location[0])) if location else None
    # Without a field of that name it is the database's address, which holds a password.
    return field is None or "SecretStr" in str(field.annotation)


def _is_one_secret(name: str, field: FieldInfo) -> bool:
    # A database's address holds a password; a list of secrets has a file of its own format.
    return name == "database_url" or field.annotation == SecretStr | None


def _text(value: str | SecretStr) -> str:
    return value if isinstance(value, str) else value.get_secret_value()


def _is_address(text: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(text)
        place = parts.path if parts.scheme == "unix" else parts.hostname
        return parts.scheme in schemes and bool(place) and parts.port != 0
    except ValueError:
        return False


def _clock_times(text: str) -> tuple[time, time]:
    try:
        start, end = (time.fromisoformat(part.strip()) for part in text.split("-"))
    except ValueError:
        start = end = time(tzinfo=UTC)
    if start.tzinfo is not None or end.tzinfo is not None:
        msg = "no span of the day; write for example 22:00-07:00"
        raise ValueError(msg)
    return start, end
