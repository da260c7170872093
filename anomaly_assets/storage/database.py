"""Where the database is, and how the different clients have to be told."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
from psycopg import sql
from sqlalchemy import create_engine
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError

from anomaly_assets.errors import SettingsError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

Connection = psycopg.Connection[Any]

_CONNECT_TIMEOUT_SECONDS = 10


class DatabaseUnreachableError(StorageError, psycopg.OperationalError):
    """No connection to the server; also an ``OperationalError``, since trying again may help."""


class Database:
    """One PostgreSQL database, addressed by URL.

    Parameters
    ----------
    url
        ``postgresql://user:password@host:port/name``; a driver (``+psycopg``) is accepted and
        ignored.

    Raises
    ------
    SettingsError
        If `url` is not the URL of a PostgreSQL database.

    Examples
    --------
    >>> database = Database("postgres://ann@db.example/watch")
    >>> database.sqlalchemy_url()
    'postgresql+psycopg://ann@db.example/watch'
    >>> database.dagster_url()
    'postgresql+psycopg2://ann@db.example/watch_dagster'
    """

    def __init__(self, url: str) -> None:
        self._url = _parse(url)

    def __repr__(self) -> str:
        """Return the address without its password."""
        return f"Database({self._url.render_as_string(hide_password=True)!r})"

    @property
    def name(self) -> str:
        """Name of the database on its server."""
        return str(self._url.database)

    @property
    def url(self) -> str:
        """The address without a driver, as libpq understands it; holds the password."""
        return _render(self._url.set(drivername="postgresql"))

    def sqlalchemy_url(self) -> str:
        """Return the address for SQLAlchemy and alembic, which use psycopg 3."""
        return _render(self._url.set(drivername="postgresql+psycopg"))

    def dagster_url(self) -> str:
        """Return the address of Dagster's own database beside this one.

        The driver is psycopg2: dagster-postgres fails at ``NOTIFY`` under psycopg 3. Create the
        database with :func:`ensure_database`.
        """
        own = self._url.set(drivername="postgresql+psycopg2", database=f"{self.name}_dagster")
        return _render(own)

    def sibling_url(self, name: str) -> str:
        """Return the address of the database `name` on the same server."""
        return _render(self._url.set(drivername="postgresql", database=name))

    @cached_property
    def engine(self) -> Engine:
        """SQLAlchemy's engine, to query by the models; bulk work uses :meth:`connect`."""
        return create_engine(self.sqlalchemy_url())

    def dispose(self) -> None:
        """Close the connections that the engine keeps."""
        self.engine.dispose()

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a connection in autocommit mode and close it at the end.

        Group statements with ``connection.transaction()``; every writing function of this package
        does so itself, and joins a transaction of its caller.

        Raises
        ------
        DatabaseUnreachableError
            If there is no connection to be had.
        """
        connection = _open(self.url, repr(self))
        try:
            yield connection
        finally:
            connection.close()


def ensure_database(url: str, name: str) -> str:
    """Create the database `name` on the server of `url` unless it exists.

    Returns
    -------
    str
        `url` with the database replaced by `name`.

    Raises
    ------
    StorageError
        If it does not exist and the user of `url` may not create it.
    """
    address = _parse(url)
    with Database(url).connect() as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        if found.fetchone() is None:
            try:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                pass  # another process was faster
            except psycopg.errors.InsufficientPrivilege as error:
                msg = (
                    f"database {name!r} does not exist and {address.username!r} may not create it; "
                    f"let an administrator run: CREATE DATABASE {name} OWNER {address.username}"
                )
                raise StorageError(msg) from error
    return _render(address.set(database=name))


def connect_again(connection: Connection) -> Connection:
    """Open a second, independent connection to where `connection` is connected.

    Raises
    ------
    DatabaseUnreachableError
        If the server does not accept another one.
    """
    parameters = {**connection.info.get_parameters(), "password": connection.info.password}
    conninfo = psycopg.conninfo.make_conninfo(
        **{name: value for name, value in parameters.items() if value}
    )
    return _open(conninfo, connection.info.dbname)


def _open(conninfo: str, what: str) -> Connection:
    try:
        return psycopg.connect(
            conninfo,
            autocommit=True,
            connect_timeout=_CONNECT_TIMEOUT_SECONDS,
            application_name="anomaly_assets",
            options="-c TimeZone=UTC",
            # A server whose machine is gone is missed after a minute, not after two hours.
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
        )
    except psycopg.OperationalError as error:
        msg = (
            f"cannot connect to {what}: {str(error).strip()}; "
            "is the server up, is DATABASE_URL right?"
        )
        raise DatabaseUnreachableError(msg) from error


def _parse(url: str) -> URL:
    try:
        address = make_url(url)
    except ArgumentError as error:
        msg = "DATABASE_URL is not a URL; write postgresql://user:password@host:5432/name"
        raise SettingsError(msg) from error
    if address.drivername.partition("+")[0] not in {"postgresql", "postgres"}:
        msg = f"DATABASE_URL names {address.drivername!r}; only PostgreSQL is supported"
        raise SettingsError(msg)
    if not address.database:
        msg = "DATABASE_URL names no database; write postgresql://user:password@host:5432/name"
        raise SettingsError(msg)
    return address


def _render(address: URL) -> str:
    # SQLAlchemy leaves a blank in the name as it is and writes one inside the query as "+"; libpq
    # refuses the former and takes the latter literally.
    bare = address.set(query={}, database="").render_as_string(hide_password=False)
    bare += quote(address.database or "", safe="")
    query = "&".join(
        f"{quote(key, safe='')}={quote(value, safe='')}"
        for key, values in address.query.items()
        for value in ((values,) if isinstance(values, str) else values)
    )
    return f"{bare}?{query}" if query else bare
