"""Settings: unusable ones are named and refused, and secrets are never shown."""

from __future__ import annotations

import traceback
from datetime import time, timedelta
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from anomaly_assets.errors import SettingsError
from anomaly_assets.settings import Settings, load_settings, secret_variables

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "tell-nobody-of-this"  # noqa: S105 - of nothing
PREFIX = "ANOMALY_ASSETS_"


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Read no ``.env`` of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)


def refusal(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    """Return all that can be read of a refusal, its causes included."""
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(SettingsError, match="unusable settings") as caught:
        load_settings()
    message = str(caught.value)
    assert PREFIX + name in message or name.lower() in message
    return "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LIVE_PORT", "0", "greater than or equal to 1"),
        ("LIVE_MAX_ROWS", "many", "valid integer"),
        ("LIVE_READINGS_PER_SECOND", "inf", "finite"),
        ("LIVE_REQUESTS_PER_SECOND", "0", "greater than 0"),
        ("LIVE_PROFILE", "fast", "high_frequency"),
        ("LIVE_PUBLIC_URL", "watch.example", "begins with http"),
        ("MQTT_TOPIC", "home/+", "ends with"),
        ("MQTT_TOPIC", "+", "ends with"),
        ("MQTT_TOPIC", "#", "ends with"),
        ("MQTT_TOPIC", "+/+/+", "ends with"),
        ("MQTT_CERTIFICATE_FILE", "ours.pem", "belong together"),
        ("MQTT_KEY_FILE", "ours.key", "belong together"),
        ("ALERT_QUIET_HOURS", "22:00", "22:00-07:00"),
        ("ALERT_QUIET_HOURS", "22:00-25:00", "22:00-07:00"),
        ("ALERT_QUIET_HOURS", "22:00Z-07:00Z", "22:00-07:00"),
        ("ALERT_QUIET_HOURS", "22:00-22:00", "take no time"),
        ("ALERTS_PER_HOUR", "0", "greater than or equal to 1"),
        ("ALERT_STREAMS_AVAILABLE", "70", "less than or equal to 1"),
        ("CATALOGUE_DIRECTORIES", "a folder", "JSON list"),
        ("WEBHOOK_NETWORKS", "192.168.1.0/24", "JSON list"),
        ("WEBHOOK_NETWORKS", '["192.168.1.7/24"]', "not a valid IPv4 network"),
        ("LIVE_TRUSTED_PROXIES", '["proxy"]', "not a valid IPv4 network"),
    ],
)
def test_unusable_values_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    """The variable and the reason are named."""
    if name == "MQTT_CERTIFICATE_FILE":
        # What lacks is the key, and that is what is named.
        monkeypatch.setenv(PREFIX + name, value)
        with pytest.raises(SettingsError, match=f"MQTT_KEY_FILE.*{message}"):
            load_settings()
        return
    assert message in refusal(monkeypatch, name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", f"http://:{SECRET}@cache"),
        ("REDIS_URL", f"redis://:{SECRET}@[cache"),
        ("REDIS_URL", SECRET),
        ("MQTT_URL", f"mqtt://ann:{SECRET}@broker:99999"),
        ("MQTT_URL", f"http://ann:{SECRET}@broker"),
        ("ALERT_URLS", f"mailto://ann:{SECRET}@mail"),
        ("ALERT_URLS", f'{{"url": "{SECRET}"}}'),
        ("ALERT_URLS", f'["ntfy://{SECRET}", 1]'),
        ("WEBHOOK_SECRET", SECRET[:15]),
    ],
)
def test_refusing_a_secret_does_not_tell_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Neither the message nor anything it was caused by holds the value."""
    assert SECRET[:15] not in refusal(monkeypatch, name, value)


def test_secrets_are_not_shown() -> None:
    """The settings can be logged: no password, key or address of alerts is in them."""
    settings = Settings(
        _env_file=None,
        database_url=f"postgresql://ann:{SECRET}@db/watch",
        signing_key=SecretStr(SECRET),
        redis_url=SecretStr(f"redis://:{SECRET}@cache/0"),
        mqtt_url=SecretStr(f"mqtts://ann:{SECRET}@broker"),
        alert_urls=(SecretStr(f"ntfy://{SECRET}"),),
        webhook_secret=SecretStr(SECRET),
    )
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in repr(settings.alert_targets())
    assert settings.redis_url is not None
    assert SECRET in settings.redis_url.get_secret_value()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("redis_url", "redis://cache"),
        ("redis_url", "rediss://:password@cache:6380/1"),
        ("redis_url", "unix:///run/redis.sock"),
        ("mqtt_url", "mqtt://broker:1883"),
        ("mqtt_url", "mqtts://ann:password@broker"),
        ("live_public_url", "https://watch.example/anomalies"),
        ("mqtt_topic", "home/sensors/+/+"),
        ("mqtt_topic", "$share/ours/+/+"),
    ],
)
def test_usual_addresses_are_taken(monkeypatch: pytest.MonkeyPatch, field: str, value: str) -> None:
    """What brokers, caches and browsers go by is accepted as it is."""
    monkeypatch.setenv(PREFIX + field.upper(), value)
    taken = getattr(load_settings(), field)
    assert (taken if isinstance(taken, str) else taken.get_secret_value()) == value


def test_certificate_and_key_are_taken_together(tmp_path: Path) -> None:
    """Both files, or neither."""
    both = Settings(_env_file=None, mqtt_certificate_file=tmp_path / "c", mqtt_key_file=tmp_path)
    assert both.mqtt_key_file == tmp_path
    assert Settings(_env_file=None).mqtt_key_file is None


class TestAlertTargets:
    """Where alerts go."""

    def test_list_and_file_are_joined(self, tmp_path: Path) -> None:
        """The addresses of both, each once, in order; blank lines and comments are none."""
        file = tmp_path / "alerts.txt"
        file.write_text("# the family\n\n  ntfy://b \nntfy://a\nntfy://c#fragment\n")
        settings = Settings(
            _env_file=None, alert_urls=(SecretStr("ntfy://a"),), alert_urls_file=file
        )
        assert [one.get_secret_value() for one in settings.alert_targets()] == [
            "ntfy://a",
            "ntfy://b",
            "ntfy://c#fragment",
        ]

    def test_none_is_fine(self) -> None:
        """Without either there is nowhere to send to."""
        assert Settings(_env_file=None).alert_targets() == ()

    def test_an_unreadable_file_is_named_and_not_shown(self, tmp_path: Path) -> None:
        """The message names variable and file; nothing of its content is in the traceback."""
        missing = Settings(_env_file=None, alert_urls_file=tmp_path / "none.txt")
        with pytest.raises(SettingsError, match=r"ALERT_URLS_FILE.*none\.txt"):
            missing.alert_targets()
        file = tmp_path / "alerts.txt"
        file.write_bytes(SECRET.encode() + b"\xff")
        with pytest.raises(SettingsError, match="no UTF-8") as caught:
            Settings(_env_file=None, alert_urls_file=file).alert_targets()
        assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("text", "numbers"), [("0", (0,)), ("0,2", (0, 2)), (" 1, 3 ", (1, 3)), ("[0, 3]", (0, 3))]
)
def test_shards_are_numbers(
    monkeypatch: pytest.MonkeyPatch, text: str, numbers: tuple[int, ...]
) -> None:
    """One shard or several, each of those there are."""
    monkeypatch.setenv("ANOMALY_ASSETS_LIVE_SHARDS", "4")
    monkeypatch.setenv("ANOMALY_ASSETS_LIVE_SHARD", text)
    assert Settings(_env_file=None).live_shard == numbers


@pytest.mark.parametrize("text", ["4", "-1", "one", ""])
def test_a_shard_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The message names the setting."""
    monkeypatch.setenv("ANOMALY_ASSETS_LIVE_SHARDS", "4")
    monkeypatch.setenv("ANOMALY_ASSETS_LIVE_SHARD", text)
    with pytest.raises(SettingsError, match="ANOMALY_ASSETS_LIVE_SHARD"):
        load_settings()


def test_quiet_hours_are_local_times() -> None:
    """They may run over midnight; unset there are none."""
    settings = Settings(_env_file=None, alert_quiet_hours="22:00 - 07:30")
    assert settings.quiet_hours == (time(22), time(7, 30))
    assert Settings(_env_file=None).quiet_hours is None


def test_the_high_frequency_profile_explains_less_and_in_batches() -> None:
    """Above 0.8, or what is asked for if that is more, once a minute; otherwise at once."""
    standard = Settings(_env_file=None)
    assert standard.live_explanation_threshold == standard.explanation_threshold == 0.7
    assert standard.live_explanation_interval == timedelta(0)
    busy = Settings(_env_file=None, live_profile="high_frequency")
    assert (busy.live_explanation_threshold, busy.live_explanation_interval) == (
        0.8,
        timedelta(minutes=1),
    )
    strict = Settings(_env_file=None, live_profile="high_frequency", explanation_threshold=0.95)
    assert strict.live_explanation_threshold == 0.95


def test_answers_are_kept_for_hours() -> None:
    """The setting counts in hours."""
    assert Settings(_env_file=None, idempotency_hours=3).idempotency_span == timedelta(hours=3)


class TestSecretsInFiles:
    """``<VARIABLE>_FILE`` in place of a secret."""

    @pytest.mark.parametrize("variable", secret_variables())
    def test_a_file_stands_for_the_variable(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
    ) -> None:
        """The content counts without the line end, as if the variable held it."""
        scheme = {"DATABASE_URL": "postgresql", "ANOMALY_ASSETS_MQTT_URL": "mqtt"}
        value = f"{scheme.get(variable, 'redis')}://ann:{SECRET}@host/0"
        monkeypatch.delenv(variable, raising=False)
        (tmp_path / "secret").write_text(f"{value}\n")
        monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "secret"))
        field = variable.removeprefix(PREFIX).lower()
        taken = getattr(load_settings(), field)
        assert (taken if isinstance(taken, str) else taken.get_secret_value()) == value

    def test_the_usual_secrets_may_be_in_files(self) -> None:
        """Those of database, signature, Redis, broker and webhooks."""
        assert {
            "DATABASE_URL",
            "ANOMALY_ASSETS_SIGNING_KEY",
            "ANOMALY_ASSETS_REDIS_URL",
            "ANOMALY_ASSETS_MQTT_URL",
            "ANOMALY_ASSETS_WEBHOOK_SECRET",
        } <= set(secret_variables())

    def test_env_files_may_name_them(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """``.env`` is read like the environment."""
        monkeypatch.delenv("DATABASE_URL", raising=False)
        (tmp_path / "secret").write_text("postgresql://h/d")
        (tmp_path / ".env").write_text(f"DATABASE_URL_FILE={tmp_path / 'secret'}\n")
        assert load_settings().database_url == "postgresql://h/d"

    @pytest.mark.parametrize(
        ("content", "message"),
        [(None, "cannot be read"), (b"\n", "is empty"), (SECRET.encode() + b"\xff", "no UTF-8")],
    )
    def test_unusable_files_are_named_and_not_shown(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        content: bytes | None,
        message: str,
    ) -> None:
        """Variable, file and reason are said, and nothing of what is in it."""
        if content is not None:
            (tmp_path / "secret").write_bytes(content)
        monkeypatch.setenv("ANOMALY_ASSETS_SIGNING_KEY_FILE", str(tmp_path / "secret"))
        with pytest.raises(
            SettingsError, match=rf"SIGNING_KEY_FILE: .*secret.*{message}"
        ) as caught:
            load_settings()
        assert SECRET not in "".join(traceback.format_exception(caught.value))

    def test_both_at_once_are_refused(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Nobody has to guess which one counts; an empty variable is none."""
        (tmp_path / "secret").write_text(f"redis://:{SECRET}@cache")
        monkeypatch.setenv("ANOMALY_ASSETS_REDIS_URL_FILE", str(tmp_path / "secret"))
        monkeypatch.setenv("ANOMALY_ASSETS_REDIS_URL", "redis://other")
        with pytest.raises(SettingsError, match=r"REDIS_URL and .*_FILE are both set"):
            load_settings()
        monkeypatch.setenv("ANOMALY_ASSETS_REDIS_URL_FILE", "")
        assert load_settings().redis_url is not None
