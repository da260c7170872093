"""Make the secrets of a new deployment, one a file, for docker-compose.yml and others.

Needs Python alone. Nothing that exists is overwritten, so that it may be run again: what is missing
is made to fit what is there. A new signing key or password of the database would lock out what was
written with the old one.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

USER = "anomaly_assets"
#: Passwords of the broker: user, and the file that holds what they log in with.
MQTT_USERS = {USER: "mqtt_password", "senders": "mqtt_senders_password"}
RANDOM = (
    "database_password",
    "grafana_admin_password",
    "grafana_reader_password",
    "mqtt_password",
    "mqtt_senders_password",
    "redis_password",
    "signing_key",
)
_ROUNDS = 101
_FOLDER = Path(__file__).resolve().parent / "secrets"


class SecretsError(Exception):
    """The secrets cannot be made; the message says why and what to do."""


def _database_url(given: Mapping[str, str]) -> str:
    return f"postgresql://{USER}:{given['database_password']}@database:5432/{USER}"


def _redis_acl(given: Mapping[str, str]) -> str:
    digest = hashlib.sha256(given["redis_password"].encode()).hexdigest()
    return (
        "user default off\n"
        f"user {USER} on #{digest} ~* &* +@all -@admin +info +config|get\n"
        "user health on nopass resetkeys -@all +ping\n"
    )


def _redis_url(given: Mapping[str, str]) -> str:
    return f"redis://{USER}:{given['redis_password']}@redis:6379/0"


def _celery_url(given: Mapping[str, str]) -> str:
    return f"redis://{USER}:{given['redis_password']}@redis:6379/1"


def _mqtt_url(given: Mapping[str, str]) -> str:
    return f"mqtt://{USER}:{given['mqtt_password']}@mqtt:1883"


def _mqtt_passwords(given: Mapping[str, str]) -> str:
    """Return Mosquitto's file of users: PBKDF2 with SHA-512, as mosquitto_passwd writes it."""
    lines = []
    for user, name in MQTT_USERS.items():
        salt = secrets.token_bytes(12)
        digest = hashlib.pbkdf2_hmac("sha512", given[name].encode(), salt, _ROUNDS)
        parts = (base64.b64encode(part).decode() for part in (salt, digest))
        lines.append(f"{user}:$7${_ROUNDS}${'$'.join(parts)}\n")
    return "".join(lines)


#: What follows from others: how, and from which of them.
DERIVED: Mapping[str, tuple[Callable[[Mapping[str, str]], str], tuple[str, ...]]] = {
    "database_url": (_database_url, ("database_password",)),
    "redis_acl": (_redis_acl, ("redis_password",)),
    "redis_url": (_redis_url, ("redis_password",)),
    "celery_url": (_celery_url, ("redis_password",)),
    "mqtt_url": (_mqtt_url, ("mqtt_password",)),
    "mqtt_passwords": (_mqtt_passwords, tuple(MQTT_USERS.values())),
}


def make(folder: Path) -> list[str]:
    """Make what is missing in a folder.

    Parameters
    ----------
    folder
        Made when absent, and closed to everybody else. The files in it can be read by all, since
        the services in the containers run as users of their own.

    Returns
    -------
    list
        Names of the files that were made.

    Raises
    ------
    SecretsError
        If a file is there that follows from one that is not, or a file is empty.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    there = {path.name for path in folder.iterdir()}
    for name, (_, sources) in DERIVED.items():
        lost = [source for source in sources if source not in there]
        if name in there and lost:
            msg = (
                f"{folder / name} is there, and {lost[0]}, from which it was made, is not; bring "
                f"it back, or remove {name} too for new ones"
            )
            raise SecretsError(msg)
    made = []
    for name in RANDOM:
        if name not in there:
            _write(folder / name, secrets.token_hex(32))
            made.append(name)
    given = {name: (folder / name).read_text(encoding="utf-8").strip() for name in RANDOM}
    for name, value in given.items():
        if not value or not value.isalnum():
            msg = f"{folder / name}: a secret has letters and digits only, and at least one"
            raise SecretsError(msg)
    for name, (derive, _) in DERIVED.items():
        if name not in there:
            _write(folder / name, derive(given))
            made.append(name)
    return made


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    path.chmod(0o444)


def main() -> None:
    """Make the secrets, and say where they are; never what they are."""
    parser = argparse.ArgumentParser(description="Make the secrets of a new deployment.")
    parser.add_argument("folder", nargs="?", type=Path, default=_FOLDER)
    folder = parser.parse_args().folder
    try:
        made = make(folder)
    except (SecretsError, OSError) as error:
        sys.exit(f"error: {error}")
    what = ", ".join(made) if made else "nothing; all were there"
    sys.stdout.write(
        f"made in {folder}: {what}\n"
        "Keep a copy of signing_key and database_password where the backups are not.\n"
    )


if __name__ == "__main__":
    main()
