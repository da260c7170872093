#!/usr/bin/env python3
"""Run a command with the secrets that Dagster and Celery take from variables alone.

Our own settings read ``<VARIABLE>_FILE`` by themselves. Dagster does not: the address of its
database is taken from ``DAGSTER_POSTGRES_URL_FILE``, or made from that of ours. Nor do Celery's
commands, which are given our broker. The command takes this process's place.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

#: The driver matters: Dagster's notifications need psycopg 2.
_SCHEME = "postgresql+psycopg2"


class SecretError(Exception):
    """A secret cannot be had; the message says which, and what to do."""


def secret(variable: str) -> str | None:
    """Return a secret from the variable or from the file that ``<variable>_FILE`` names.

    Raises
    ------
    SecretError
        If both are given, or the file cannot be read or is empty.
    """
    value, path = os.environ.get(variable), os.environ.get(f"{variable}_FILE")
    if not path:
        return value or None
    if value:
        msg = f"{variable} and {variable}_FILE are both set; remove one of them"
        raise SecretError(msg)
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        msg = f"{variable}_FILE: {path} cannot be read ({why}); make it with deploy/make_secrets.py"
        raise SecretError(msg) from None
    if not text:
        msg = f"{variable}_FILE: {path} is empty; write the secret into it"
        raise SecretError(msg)
    return text


def environment() -> dict[str, str]:
    """Return this process's environment and the secrets in it.

    Raises
    ------
    SecretError
        If one cannot be had.
    """
    found = {}
    dagster, ours = secret("DAGSTER_POSTGRES_URL"), secret("DATABASE_URL")
    if dagster is not None:
        found["DAGSTER_POSTGRES_URL"] = dagster
    elif ours is not None:
        parts = urlsplit(ours)
        beside = parts._replace(scheme=_SCHEME, path=f"{parts.path}_dagster")
        found["DAGSTER_POSTGRES_URL"] = urlunsplit(beside)
    broker = secret("ANOMALY_ASSETS_CELERY_BROKER_URL")
    if broker is not None:
        found["CELERY_BROKER_URL"] = broker
    return {**os.environ, **found}


def main(arguments: list[str]) -> None:
    """Become the command in `arguments`."""
    if not arguments:
        sys.exit("usage: with-secrets COMMAND [ARGUMENT ...]")
    try:
        os.execvpe(arguments[0], arguments, environment())  # noqa: S606 - that is its purpose
    except SecretError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {arguments[0]} cannot be run: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
