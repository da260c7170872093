"""Secrets of a deployment: made once, kept, understood by the servers, handed to commands."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from anomaly_assets.storage.database import Database
from anomaly_assets_tests.live.sources.servers import HOST, RedisServer, needs_redis

DEPLOY = Path(__file__).parents[2] / "deploy"


def make(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    command = [sys.executable, str(DEPLOY / "make_secrets.py"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def contents(folder: Path) -> dict[str, str]:
    """Return all secrets by name."""
    return {path.name: path.read_text() for path in folder.iterdir()}


def with_secrets(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command through the image's entry point."""
    return subprocess.run(
        [sys.executable, DEPLOY / "with_secrets.py", *command],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


PRINT = (sys.executable, "-c", "import os; print(dict(os.environ))")


class TestMaking:
    """deploy/make_secrets.py."""

    def test_nothing_is_overwritten(self, tmp_path: Path) -> None:
        """A second run changes nothing, and says so; no secret is printed."""
        first = make(tmp_path / "s")
        before = contents(tmp_path / "s")
        second = make(tmp_path / "s")
        assert (first.returncode, second.returncode) == (0, 0)
        assert contents(tmp_path / "s") == before
        assert "nothing; all were there" in second.stdout
        for secret in before.values():
            assert secret not in first.stdout + second.stdout

    def test_what_is_missing_is_made_to_fit(self, tmp_path: Path) -> None:
        """An address that was lost comes back with the password that is there."""
        make(tmp_path)
        before = contents(tmp_path)
        (tmp_path / "database_url").unlink()
        assert make(tmp_path).returncode == 0
        assert contents(tmp_path) == before

    def test_a_lost_password_is_not_replaced(self, tmp_path: Path) -> None:
        """Where an address is left of it, a new one would not fit: that is said."""
        make(tmp_path)
        (tmp_path / "redis_password").unlink()
        refused = make(tmp_path)
        assert refused.returncode == 1
        assert "redis_password" in refused.stderr
        assert not (tmp_path / "redis_password").exists()

    def test_others_cannot_look(self, tmp_path: Path) -> None:
        """The folder is closed; the files, which containers read as other users, are open."""
        make(tmp_path / "s")
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "s").iterdir()}
        assert modes == {0o444}

    @needs_redis
    def test_redis_knows_its_users(self, tmp_path: Path) -> None:
        """Ours may read and write, the health check may ping, without a password nobody gets in."""
        make(tmp_path / "s")
        server = _ClosedRedis(tmp_path)
        server.acl = tmp_path / "s" / "redis_acl"
        server.start()
        try:
            password = (tmp_path / "s" / "redis_password").read_text()
            ours = redis.Redis(HOST, server.port, username="anomaly_assets", password=password)
            assert ours.set("a", "1")
            with pytest.raises(redis.exceptions.NoPermissionError):
                ours.config_set("dir", "/")
            health = redis.Redis(HOST, server.port, username="health", password="any")  # noqa: S106
            assert health.ping()
            with pytest.raises(redis.exceptions.NoPermissionError):
                health.get("a")
            with pytest.raises(redis.exceptions.AuthenticationError):
                redis.Redis(HOST, server.port).get("a")
            for client in (ours, health):
                client.close()
        finally:
            server.kill()


class _ClosedRedis(RedisServer):
    """Redis with the list of users of docker-compose.yml."""

    acl: Path

    def command(self) -> list[str]:
        """Return the command line."""
        return [*super().command(), "--aclfile", str(self.acl)]

    def answers(self) -> bool:
        """Whether it listens."""
        return super(RedisServer, self).answers()


class TestHandingOn:
    """deploy/with_secrets.py, the image's entry point."""

    def test_dagster_gets_its_address(self, tmp_path: Path) -> None:
        """It is made from ours as our own code makes it; ours stays in its file."""
        url = "postgresql://ann:abc@database:5432/watch"
        (tmp_path / "url").write_text(url + "\n")
        said = with_secrets({"DATABASE_URL_FILE": str(tmp_path / "url")}, *PRINT)
        assert said.returncode == 0, said.stderr
        assert f"'DAGSTER_POSTGRES_URL': '{Database(url).dagster_url()}'" in said.stdout
        assert "'DATABASE_URL_FILE'" in said.stdout
        assert "'DATABASE_URL'" not in said.stdout

    def test_a_given_address_wins(self, tmp_path: Path) -> None:
        """Dagster's own file is taken, and handed on as the variable that Dagster reads."""
        (tmp_path / "url").write_text("postgresql+psycopg2://elsewhere/d")
        environment = {
            "DAGSTER_POSTGRES_URL_FILE": str(tmp_path / "url"),
            "DATABASE_URL": "postgresql://here/ours",
        }
        said = with_secrets(environment, *PRINT)
        assert "'DAGSTER_POSTGRES_URL': 'postgresql+psycopg2://elsewhere/d'" in said.stdout

    def test_celery_gets_its_broker(self, tmp_path: Path) -> None:
        """Its commands ask for it under a name of their own."""
        (tmp_path / "url").write_text("redis://r/1")
        variable = "ANOMALY_ASSETS_CELERY_BROKER_URL_FILE"
        said = with_secrets({variable: str(tmp_path / "url")}, *PRINT)
        assert "'CELERY_BROKER_URL': 'redis://r/1'" in said.stdout

    def test_what_is_wrong_is_said_in_a_line(self, tmp_path: Path) -> None:
        """A missing file, an empty one, both at once, an unknown command: exit code 1, no trace."""
        (tmp_path / "empty").write_text("\n")
        (tmp_path / "good").write_text("postgresql://h/d")
        for environment, message in (
            ({"DATABASE_URL_FILE": str(tmp_path / "none")}, "cannot be read"),
            ({"DATABASE_URL_FILE": str(tmp_path / "empty")}, "is empty"),
            ({"DATABASE_URL_FILE": str(tmp_path / "good"), "DATABASE_URL": "x"}, "are both set"),
        ):
            said = with_secrets(environment, *PRINT)
            assert (said.returncode, said.stdout) == (1, "")
            assert re.fullmatch(rf"error: .*{message}.*\n", said.stderr), said.stderr
        assert "cannot be run" in with_secrets({}, "no-such-command").stderr

    def test_the_exit_code_is_the_commands(self) -> None:
        """The command takes the process's place."""
        assert with_secrets({}, sys.executable, "-c", "raise SystemExit(7)").returncode == 7
