"""The doctor's findings: each thing is broken, and the doctor says so and what to do."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfoNotFoundError

import pytest
from pydantic import SecretStr

from anomaly_assets.doctor import machine
from anomaly_assets.doctor.examine import examine, look
from anomaly_assets.doctor.finding import Check, Finding, Installation, ok
from anomaly_assets.live.tokens import TokenBook
from anomaly_assets.storage.webhooks import WebhookEvent, add_webhook
from anomaly_assets_tests.doctor.patient import CHECKS, Patient
from anomaly_assets_tests.live.api.serving import free_port

SECRET = "tell-nobody-of-this"  # noqa: S105 - of nothing


def test_a_sound_installation_has_no_problem_but_what_is_not_running(patient: Patient) -> None:
    """On fresh data everything is in order, apart from the run that was seeded as failed."""
    TokenBook(patient.database).create("phone")
    patient.set(live_port=free_port(), port=free_port())
    for name in CHECKS:
        bad = [one for one in patient.look(name) if one.state == "problem"]
        assert [one.check for one in bad] == (["runs"] if name == "runs" else []), bad


@pytest.mark.usefixtures("patient")
def test_everything_is_examined_whatever_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the database away the rest is looked at all the same, and no password is told."""
    findings = examine()
    assert {one.check for one in findings} >= set(CHECKS) - {"connections"}
    assert {one.state for one in findings if one.check == "database"} == {"ok"}
    monkeypatch.setenv("DATABASE_URL", f"postgresql://ann:{SECRET}@127.0.0.1:1/none")
    findings = examine()
    (found,) = [one for one in findings if one.check == "database"]
    assert found.state == "problem"
    assert "DATABASE_URL" in found.advice
    assert {"python", "disk", "redis", "live API"} <= {one.check for one in findings}
    assert SECRET not in repr(findings)


def test_unusable_settings_are_all_that_is_said(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The setting is named, its value not where it is a secret."""
    del patient
    monkeypatch.setenv("ANOMALY_ASSETS_REDIS_URL", f"http://:{SECRET}@cache")
    (found,) = examine()
    assert (found.check, found.state) == ("settings", "problem")
    assert "ANOMALY_ASSETS_REDIS_URL" in found.found
    assert SECRET not in repr(found)


def test_without_a_database_none_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at an installation that never ran leaves nothing behind."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("ANOMALY_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    findings = {one.check: one for one in examine()}
    assert findings["database"].state == "warning"
    assert "anomaly-assets up" in findings["database"].advice
    assert not (tmp_path / "home").exists()


def test_the_doctor_comes_without_extras() -> None:
    """It works where the extra `live` is not installed, and so does Dagster."""
    code = (
        "import sys\n"
        "for name in ('prometheus_client', 'fastapi', 'aiomqtt', 'redis', 'uvicorn'):\n"
        "    sys.modules[name] = None\n"
        "import anomaly_assets.doctor.examine, anomaly_assets.definitions, anomaly_assets.cli\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_check_that_fails_or_hangs_stops_no_other(patient: Patient) -> None:
    """An error becomes a problem with its message, masked; a hanging check is given up."""

    def fail(_: Installation) -> Finding:
        msg = f"postgresql://ann:{SECRET}@db"
        raise RuntimeError(msg)

    def hang(_: Installation) -> Finding:
        time.sleep(30)
        return ok("slow", "never")

    (failed,) = look(Check("bad", fail), Installation(patient.settings))
    assert (failed.state, "RuntimeError" in failed.found) == ("problem", True)
    assert SECRET not in failed.safe().found
    started = time.monotonic()
    (late,) = look(Check("slow", hang, 0.2), Installation(patient.settings))
    assert (late.state, "no answer" in late.found) == ("problem", True)
    assert time.monotonic() - started < 10


class TestMachine:
    """Python, packages, folders, disk, key, ports."""

    def test_a_package_of_the_wrong_version(
        self, patient: Patient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is too old or missing is named."""
        needs = ["numpy>=99", "nothing-of-this-name>=1", "aiomqtt>=99; extra == 'live'"]
        monkeypatch.setattr("anomaly_assets.doctor.machine.metadata.requires", lambda _: needs)
        found = patient.one("packages")
        assert found.state == "problem"
        assert "numpy is" in found.found
        assert "nothing-of-this-name is missing" in found.found
        assert "aiomqtt" not in found.found

    def test_an_old_python(self, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
        """Below 3.11 and above 3.13 it is a problem."""
        for version in ((3, 10, 9), (3, 14, 0)):
            monkeypatch.setattr("anomaly_assets.doctor.machine.sys.version_info", version)
            assert patient.one("python").state == "problem"

    def test_an_extra_that_the_settings_call_for(
        self, patient: Patient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A broker without the extra `live` is a problem, so is no database without `embedded`."""
        monkeypatch.setattr(machine, "find_spec", lambda _: None)
        assert patient.one("extras").state == "ok"
        patient.set(mqtt_url=SecretStr("mqtt://broker"), database_url=None)
        told = [one.advice for one in patient.look("extras")]
        assert told == [
            "pip install anomaly-assets[embedded]",
            "pip install anomaly-assets[live]",
        ]

    def test_a_slip_of_the_pen(self, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable that nothing reads is named, with what was meant."""
        monkeypatch.setenv("ANOMALY_ASSETS_ALERT_URL", SECRET)
        found = patient.one("variables")
        assert found.state == "warning"
        assert "ANOMALY_ASSETS_ALERT_URLS" in found.advice
        assert SECRET not in repr(found)

    def test_folders(self, patient: Patient, tmp_path: Path) -> None:
        """What is missing or no folder is a problem, each by name."""
        (tmp_path / "file").write_text("")
        patient.set(catalogue_directories=(tmp_path / "none",), mqtt_ca_file=tmp_path / "ca.pem")
        told = " ".join(one.found for one in patient.look("folders"))
        assert f"no folder {tmp_path / 'none'}" in told
        assert "ca.pem cannot be read" in told
        patient.set(home=tmp_path / "file", catalogue_directories=(), mqtt_ca_file=None)
        found = patient.one("folders")
        assert (found.state, "cannot be written to" in found.found) == ("problem", True)
        patient.set(home=tmp_path / "later")
        assert patient.one("folders").state == "warning"

    @pytest.mark.parametrize(("free", "state"), [(50, "ok"), (9, "warning"), (1, "problem")])
    def test_a_full_disk(
        self, patient: Patient, monkeypatch: pytest.MonkeyPatch, free: int, state: str
    ) -> None:
        """Below a tenth a warning, below a fiftieth a problem."""
        usage = type("usage", (), {"total": 100, "free": free})
        monkeypatch.setattr("anomaly_assets.doctor.machine.shutil.disk_usage", lambda _: usage)
        assert patient.one("disk").state == state

    def test_no_time_zones(self, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without data on zones local times cannot be told."""

        def unknown(name: str) -> None:
            raise ZoneInfoNotFoundError(name)

        monkeypatch.setattr("anomaly_assets.doctor.machine.zoneinfo.ZoneInfo", unknown)
        assert patient.one("time zones").state == "problem"

    def test_the_signing_key(self, patient: Patient) -> None:
        """One that others may read is a warning, and so is none; it is never made or shown."""
        path = patient.settings.home / "signing.key"
        assert patient.one("signing key").state == "ok"
        path.chmod(0o644)
        assert patient.one("signing key").advice == f"chmod 600 {path}"
        path.unlink()
        assert patient.one("signing key").state == "warning"
        assert not path.exists()
        patient.set(signing_key=SecretStr(SECRET))
        assert patient.one("signing key").state == "ok"
        assert SECRET not in repr(patient.one("signing key"))

    def test_dagster_by_hand(self, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where Dagster's home is set, both variables must be."""
        monkeypatch.setenv("DAGSTER_HOME", str(patient.settings.home / "dagster"))
        assert patient.one("dagster environment").state == "ok"
        monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE")
        found = patient.one("dagster environment")
        assert (found.state, "DAGSTER_EVENT_BATCH_SIZE=1000" in found.advice) == ("warning", True)

    def test_nobody_is_told(self, patient: Patient) -> None:
        """Without an address alerts are stored only; the addresses themselves are never shown."""
        assert patient.one("alert addresses").state == "warning"
        patient.set(alert_urls=(SecretStr(f"ntfy://{SECRET}"),))
        found = patient.one("alert addresses")
        assert (found.state, SECRET in repr(found)) == ("ok", False)
        patient.set(alert_urls_file=patient.settings.home / "none")
        assert patient.one("alert addresses").state == "problem"


class TestDatabase:
    """Schema, partitions, clock, entities, progress, tokens, webhooks."""

    def test_an_older_schema(self, patient: Patient) -> None:
        """Another revision is a problem, an altered table too, and no table at all."""
        assert patient.one("schema").state == "ok"
        patient.sql("ALTER TABLE labels DROP COLUMN reason")
        found = patient.one("schema")
        assert (found.state, "reason" in found.found) == ("problem", True)
        patient.sql("UPDATE alembic_version SET version_num = '0001'")
        assert "at revision 0001" in patient.one("schema").found
        patient.sql("DROP TABLE alembic_version")
        assert "none of our tables" in patient.one("schema").found

    def test_no_place_for_next_month(self, patient: Patient) -> None:
        """A table without the partition of the month to come is named."""
        month = (datetime.now(tz=UTC).replace(day=1) + timedelta(days=32)).strftime("%Y_%m")
        from anomaly_assets.pipeline.upkeep import prepare_partitions  # noqa: PLC0415

        deployment = patient.deployment
        prepare_partitions(deployment, datetime.now(tz=UTC))
        assert patient.one("partitions").state == "ok"
        patient.sql(f"DROP TABLE partitions.readings_{month}")
        found = patient.one("partitions")
        assert (found.state, found.found.startswith("readings have no place")) == ("warning", True)

    @pytest.mark.parametrize(
        ("skew", "state"), [(0.0, "ok"), (30.0, "warning"), (-300.0, "problem")]
    )
    def test_a_wrong_clock(
        self, patient: Patient, monkeypatch: pytest.MonkeyPatch, skew: float, state: str
    ) -> None:
        """Seconds are a warning, minutes a problem."""
        real = time.time
        monkeypatch.setattr("anomaly_assets.doctor.database.time.time", lambda: real() + skew)
        assert patient.one("clock").state == state

    def test_entities_that_cannot_be_processed(self, patient: Patient) -> None:
        """Unknown catalogues and zones are problems, a quarantine is a warning with its reason."""
        assert patient.one("entities").state == "ok"
        patient.sql("UPDATE entities SET catalogue = 'none.yaml' WHERE entity_id = 'ann'")
        patient.sql("UPDATE entities SET time_zone = 'Europe/Nowhere' WHERE entity_id = 'bob'")
        patient.sql("UPDATE entities SET quarantined_reason = 'on purpose', quarantined_at = now()")
        patient.set(catalogue="not-there")
        states = [one.state for one in patient.look("entities")]
        assert states == ["problem", "problem", "problem", "warning", "warning"]
        told = " ".join(one.found for one in patient.look("entities"))
        for part in ("none.yaml", "Europe/Nowhere", "on purpose", "not-there"):
            assert part in told

    @pytest.mark.parametrize(("windows", "state"), [(0, "ok"), (8, "warning"), (30, "problem")])
    def test_a_pipeline_that_lags(self, patient: Patient, windows: int, state: str) -> None:
        """A few windows are a warning, hours are a problem, and the slowest entity is named."""
        patient.sql(
            "UPDATE entities SET aggregated_until = date_bin('5 minutes', now(), 'epoch') "
            "- interval '5 minutes' * CASE entity_id WHEN 'bob' THEN %s ELSE 0 END",
            windows,
        )
        found = patient.one("progress")
        assert found.state == state
        assert ("bob" in found.found) == (state != "ok")

    def test_nothing_has_arrived(self, patient: Patient) -> None:
        """A deployment without readings is told how to send some, then how to process them."""
        patient.sql("UPDATE entities SET aggregated_until = NULL")
        assert "backfill" in patient.one("progress").advice
        patient.sql("UPDATE entities SET first_window = NULL")
        assert "ingest" in patient.one("progress").advice

    def test_tokens(self, patient: Patient) -> None:
        """None that is good is a warning, and one that soon ends."""
        book = TokenBook(patient.database)
        assert patient.one("tokens").state == "warning"
        secret = book.create("soon", expires=datetime.now(tz=UTC) + timedelta(days=3))
        found = patient.one("tokens")
        assert (found.state, "soon" in found.found) == ("warning", True)
        assert secret not in repr(found)
        patient.sql("UPDATE api_tokens SET revoked_at = now()")
        assert "create" in patient.one("tokens").advice
        book.create("for ever")
        assert patient.one("tokens").state == "ok"

    def test_a_paused_webhook(self, patient: Patient) -> None:
        """It is named with what went wrong, and how to go on."""
        with patient.database.connect() as connection:
            add_webhook(connection, "https://example.com/hook", [WebhookEvent.ANOMALY])
        assert patient.one("webhooks").state == "ok"
        patient.sql("UPDATE webhooks SET disabled_at = now(), last_error = 'status 500'")
        found = patient.one("webhooks")
        assert (found.state, "status 500" in found.found) == ("warning", True)
        assert "webhooks resume" in found.advice

    def test_few_connections_are_left(self, patient: Patient) -> None:
        """Versions, extension and connections are told."""
        server, connections = patient.look("server")
        assert server.found.startswith("PostgreSQL")
        assert "without TimescaleDB" in server.found
        assert connections.state == "ok"
        assert " of 100 " in connections.found or "connections" in connections.found


class TestModels:
    """Snapshots and their key."""

    def test_snapshots_open(self, patient: Patient) -> None:
        """Three models of two people are opened and verified."""
        assert patient.one("snapshots").found.startswith("6 of the newest")

    def test_a_damaged_snapshot(self, patient: Patient) -> None:
        """A flipped bit is found, and whose it is."""
        changed = patient.sql(
            "UPDATE model_snapshots SET blob = set_bit(blob, 4000, 1 - get_bit(blob, 4000)) "
            "WHERE entity_id = 'ann' AND component = 'gap_patterns'"
        )
        assert changed > 0
        found = patient.one("snapshots")
        assert found.state == "warning"
        assert "gap_patterns" in found.found
        assert "'ann'" in found.found

    def test_another_key(self, patient: Patient) -> None:
        """All are refused; beyond five they are counted."""
        patient.set(signing_key=SecretStr("another key, long enough"))
        found = patient.look("snapshots")
        assert len(found) == 6
        assert "signature is not ours" in found[0].found
        assert found[-1].found == "1 more are refused"

    def test_a_lost_key(self, patient: Patient) -> None:
        """It is a problem, and none is made in its place."""
        path = patient.settings.home / "signing.key"
        path.unlink()
        found = patient.one("snapshots")
        assert (found.state, "key that is gone" in found.found) == ("problem", True)
        assert not path.exists()
