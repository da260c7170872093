"""Forgetting an entity: all of it in one transaction, and a line that says that it was done."""

from __future__ import annotations

import hashlib
import hmac
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psycopg

from anomaly_assets.errors import InputError, StateError
from anomaly_assets.pipeline.tiers import CrossStreamTier, GapTier, IndividualTier
from anomaly_assets.storage import erasing
from anomaly_assets.storage.windows import entity_lock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anomaly_assets.pipeline.deployment import Deployment

#: Components of whose states there is one writer at a time.
COMPONENTS: Final = (IndividualTier.component, GapTier.component, CrossStreamTier.component)
#: How long a run is waited for.
_PATIENCE_SECONDS: Final = 60


@dataclass(frozen=True)
class Forgotten:
    """What was deleted of an entity.

    Parameters
    ----------
    subject
        Under which the table ``erasures`` has it.
    counts
        Rows by table.
    """

    subject: str
    counts: Mapping[str, int]

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(self.counts.values())


def subject_of(deployment: Deployment, entity_id: str) -> str:
    """Return what stands for an entity in the table ``erasures``.

    Who has the deployment's signing key can tell whether it was a certain person, nobody else.
    """
    named = f"erasure/{entity_id}".encode()
    return hmac.new(deployment.key, named, hashlib.sha256).hexdigest()


def count_stored(deployment: Deployment, entity_id: str) -> dict[str, int]:
    """Return how many rows each table holds of an entity.

    Raises
    ------
    InputError
        If there are none.
    """
    with deployment.database.connect() as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        counts = erasing.count_rows(connection, entity_id)
    if not counts:
        raise InputError(_nothing(entity_id))
    return counts


def forget_entity(deployment: Deployment, entity_id: str, *, by: str) -> Forgotten:
    """Delete everything of an entity, in one transaction; a kill leaves all or nothing.

    A run that is at it is waited for; one that comes later finds that there is no such entity.

    Parameters
    ----------
    deployment
        Where from.
    entity_id
        Whom.
    by
        Who has decided so, for the record.

    Raises
    ------
    InputError
        If nothing is stored of it.
    StateError
        If a run does not come to an end.
    """
    subject = subject_of(deployment, entity_id)
    with deployment.database.connect() as connection, ExitStack() as locks:
        connection.execute(f"SET lock_timeout = '{_PATIENCE_SECONDS}s'")
        try:
            for component in COMPONENTS:
                locks.enter_context(entity_lock(connection, entity_id, component))
            with connection.transaction():
                counts = erasing.erase(connection, entity_id)
                if not counts:
                    raise InputError(_nothing(entity_id))
                erasing.record_erasure(connection, subject, by, counts)
        except psycopg.errors.LockNotAvailable as error:
            msg = (
                f"entity {entity_id!r} has been processed for {_PATIENCE_SECONDS} s and still is; "
                "nothing was deleted: try again when the run has finished, or cancel it"
            )
            raise StateError(msg) from error
    return Forgotten(subject, counts)


def _nothing(entity_id: str) -> str:
    return (
        f"nothing is stored of an entity {entity_id!r}; see anomaly-assets status for those "
        "there are"
    )
