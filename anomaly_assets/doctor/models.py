"""Model state: whether the newest snapshots open with the key that is here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from anomaly_assets.doctor.finding import Check, Finding, Installation, ok, problem, warning
from anomaly_assets.errors import AnomalyAssetsError
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets.pipeline.tiers import tier_of
from anomaly_assets.state.format import Provenance, Snapshot, unseal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly_assets.storage.database import Connection

#: Entities whose snapshots are opened, those that reported last; each takes some milliseconds.
_MOST: Final = 20
_NAMED: Final = 5


def snapshots(installation: Installation) -> Iterator[Finding]:
    """Open the newest snapshot of each model of the entities that reported last."""
    settings, database = installation.settings, installation.reachable
    deployment = Deployment(settings, database, run_id="doctor")
    if settings.signing_key is None and not (settings.home / "signing.key").exists():
        # Asking for the key would make one.
        with database.connect() as connection:
            row = connection.execute("SELECT count(*) FROM model_snapshots").fetchone()
        if row is not None and row[0]:
            advice = "Bring signing.key back from a backup; without it all state is rebuilt."
            yield problem("snapshots", f"{row[0]} are signed with a key that is gone", advice)
        else:
            yield ok("snapshots", "there are none yet")
        return
    key = deployment.key
    good, refused = 0, []
    with database.connect() as connection:
        for entity_id, name in _newest_entities(connection):
            for snapshot in _newest(connection, entity_id):
                try:
                    _open(deployment, snapshot, name, key)
                    good += 1
                except AnomalyAssetsError as error:
                    refused.append(str(error))
    for why in refused[:_NAMED]:
        advice = (
            "Is the signing key that of this deployment, and the version the same? What is refused "
            "is rebuilt by replay at the next run."
        )
        yield warning("snapshots", why, advice)
    if len(refused) > _NAMED:
        yield warning("snapshots", f"{len(refused) - _NAMED} more are refused", "As above.")
    if not refused:
        yield ok("snapshots", f"{good} of the newest were opened and verified")


def _newest_entities(connection: Connection) -> list[tuple[str, str | None]]:
    return connection.execute(
        "SELECT entity_id, catalogue FROM entities ORDER BY last_reading_at DESC NULLS LAST, "
        "entity_id LIMIT %s",
        (_MOST,),
    ).fetchall()


def _newest(connection: Connection, entity_id: str) -> list[Snapshot]:
    rows = connection.execute(
        "SELECT DISTINCT ON (component) component, extract(epoch FROM as_of)::bigint, detector, "
        "catalogue_digest, code_version, river_version, numpy_version, format_version, sha256, "
        "signature, blob FROM model_snapshots WHERE entity_id = %s "
        "ORDER BY component, as_of DESC",
        (entity_id,),
    ).fetchall()
    return [
        Snapshot(Provenance(entity_id, *row[:8]), row[8], row[9], bytes(row[10])) for row in rows
    ]


def _open(deployment: Deployment, snapshot: Snapshot, name: str | None, key: bytes) -> None:
    found = snapshot.provenance
    catalogue = deployment.catalogue(name)
    expected = Provenance.of(
        tier_of(found.component, deployment.settings).build(catalogue),
        entity_id=found.entity_id,
        component=found.component,
        as_of=found.as_of,
        catalogue_digest=catalogue.digest,
    )
    unseal(snapshot, expected, key)


CHECKS: Final = (Check("snapshots", snapshots, seconds=60.0),)
