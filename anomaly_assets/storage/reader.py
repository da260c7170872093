"""A role that may read what dashboards show, and nothing else: no token, secret or model state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from anomaly_assets.errors import InputError, StorageError
from anomaly_assets.storage.tables import PARTITIONED

if TYPE_CHECKING:
    from anomaly_assets.storage.database import Connection, Database

ROLE: Final = "grafana_reader"
_SHORTEST: Final = 12
#: Of our tables; partitions are read through their parents. Of entities and alerts all columns.
_OURS: Final = (
    *(table for table in PARTITIONED if table != "readings"),
    "alerts",
    "entities",
    "labels",
    "late_windows",
)
#: Of Dagster's, with the columns; None: all. Events hold what people's runs have logged.
_DAGSTERS: Final[dict[str, tuple[str, ...] | None]] = {
    "asset_check_executions": (
        "id",
        "asset_key",
        "check_name",
        "partition",
        "run_id",
        "execution_status",
        "create_timestamp",
    ),
    "asset_keys": ("id", "asset_key", "last_materialization_timestamp"),
    "daemon_heartbeats": None,
    "event_logs": (
        "id",
        "run_id",
        "dagster_event_type",
        "timestamp",
        "step_key",
        "asset_key",
        "partition",
    ),
    "job_ticks": None,
    "run_tags": None,
    "runs": (
        "id",
        "run_id",
        "pipeline_name",
        "status",
        "partition",
        "create_timestamp",
        "update_timestamp",
        "start_time",
        "end_time",
    ),
}


def make_reader(
    database: Database, dagster: Database | None, password: str, role: str = ROLE
) -> None:
    """Make a role that reads for dashboards, or give it this password and these rights again.

    Its statements end after 30 seconds, so that a careless dashboard holds nothing up.

    Parameters
    ----------
    database, dagster
        The deployment's, and Dagster's own; None where that is not to be read.
    password
        At least 12 characters.
    role
        Its name.

    Raises
    ------
    InputError
        If the password is too short.
    StorageError
        If the user of `database` may not make roles, or `role` is one that can do more.
    """
    if len(password) < _SHORTEST:
        msg = f"the reader's password has {len(password)} characters; give at least {_SHORTEST}"
        raise InputError(msg)
    with database.connect() as connection, connection.transaction():
        _require_harmless(connection, role)
        _make(connection, role, password)
        _grant(connection, role, dict.fromkeys(_OURS))
    if dagster is not None:
        with dagster.connect() as connection, connection.transaction():
            _grant(connection, role, _DAGSTERS)


def _require_harmless(connection: Connection, role: str) -> None:
    row = connection.execute(
        "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls "
        "OR rolname = current_user OR EXISTS (SELECT FROM pg_class WHERE relowner = r.oid) "
        "FROM pg_roles AS r WHERE rolname = %s",
        (role,),
    ).fetchone()
    if row is not None and row[0]:
        msg = f"the role {role!r} exists and can do more than read; choose another name"
        raise StorageError(msg)


def _make(connection: Connection, role: str, password: str) -> None:
    name = sql.Identifier(role)
    known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    # Made here, so that the server's log holds no password.
    hashed = connection.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    ).decode()
    try:
        if known is None:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        connection.execute(
            sql.SQL("ALTER ROLE {} LOGIN PASSWORD {} CONNECTION LIMIT 20").format(
                name, sql.Literal(hashed)
            )
        )
    except psycopg.errors.InsufficientPrivilege as error:
        msg = (
            f"the user of DATABASE_URL may not make the role {role!r}; let an administrator run: "
            f"ALTER ROLE {connection.info.user} CREATEROLE"
        )
        raise StorageError(msg) from error
    connection.execute(sql.SQL("ALTER ROLE {} SET statement_timeout = '30s'").format(name))
    connection.execute(sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(name))


def _grant(connection: Connection, role: str, tables: dict[str, tuple[str, ...] | None]) -> None:
    name = sql.Identifier(role)
    database = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, name))
    connection.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name))
    for table, columns in tables.items():
        what: sql.Composable = sql.SQL("SELECT")
        if columns is not None:
            listed = sql.SQL(", ").join(map(sql.Identifier, columns))
            what = sql.SQL("SELECT ({})").format(listed)
        connection.execute(
            sql.SQL("GRANT {} ON {} TO {}").format(what, sql.Identifier("public", table), name)
        )
