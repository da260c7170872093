"""Backups of models and of what people decided, to wherever fsspec can write, and back from there.

The signing key is not part of a backup: whoever could read it there could forge models. Keep it
apart, and put it in place before restoring.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from typing import TYPE_CHECKING

from anomaly_assets.errors import CatalogueError, InputError, SnapshotRefusedError
from anomaly_assets.pipeline.models import COMPONENTS, Verdict
from anomaly_assets.pipeline.rollback import Change, RollbackReport, begin, complete_all
from anomaly_assets.pipeline.tiers import tier_of
from anomaly_assets.state.archives import (
    ArchivedSnapshot,
    ArchivedTable,
    BackupFolder,
    Manifest,
    name_of,
)
from anomaly_assets.state.format import ADVICE, Provenance, Refusal, unseal
from anomaly_assets.state.store import Learnt, SnapshotStore
from anomaly_assets.storage import model_versions, portable
from anomaly_assets.storage.entities import ensure_entity, list_entities
from anomaly_assets.storage.model_actions import (
    ActionKind,
    ActionOutcome,
    finish_action,
    standing_bases,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.state.format import Snapshot
    from anomaly_assets.storage.database import Connection
    from anomaly_assets.storage.model_versions import ModelVersion
    from anomaly_assets.streams.catalogue import Catalogue


@dataclass(frozen=True)
class BackupReport:
    """What was backed up.

    Parameters
    ----------
    name, url
        The backup's folder, and where it lies (without what is secret in the address).
    entities, snapshots, size
        How many entities and models, and their bytes.
    rows
        By table, how many rows of what people decided.
    pruned
        Older backups that were deleted.
    """

    name: str
    url: str
    entities: int
    snapshots: int
    size: int
    rows: dict[str, int]
    pruned: tuple[str, ...]


@dataclass(frozen=True)
class RestoreReport:
    """What was restored.

    Parameters
    ----------
    name, url
        The backup it came from.
    restored, present
        Models that were put in place, and how many were there already.
    refused
        Those that failed verification, with reason and advice; they were left out.
    rows
        By table, how many rows were added or changed.
    replayed
        What the replay from there changed, by entity.
    """

    name: str
    url: str
    restored: int
    present: int
    refused: tuple[Verdict, ...]
    rows: dict[str, int]
    replayed: tuple[RollbackReport, ...]


def folder(deployment: Deployment, url: str | None = None) -> BackupFolder:
    """Return where backups are: at `url`, where the settings say, or in the home folder."""
    if url is None:
        setting = deployment.settings.backup_url
        default = str((deployment.settings.home / "backups").absolute())
        url = default if setting is None else setting.get_secret_value()
    return BackupFolder(url, deployment.key)


def backup(deployment: Deployment, *, url: str | None = None, who: str) -> BackupReport:
    """Write the newest and the pinned models of every entity, labels, networks and decisions.

    Everything is of one moment. Older backups than `backup_keep_days` are deleted afterwards.
    """
    place = folder(deployment, url)
    began = datetime.now(tz=UTC)
    name = name_of(began)
    with deployment.database.connect() as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        entities = {
            row.entity_id: {"catalogue": row.catalogue, "time_zone": row.time_zone}
            for row in list_entities(connection)
        }
        snapshots = [
            _write_snapshot(connection, place, name, version, latest=latest)
            for version, latest in _worth_keeping(model_versions.read_versions(connection))
        ]
        tables = []
        for table in portable.TABLES:
            document, rows = portable.rows_as_json(connection, table, list(entities))
            path = f"tables/{table.name}.json"
            digest = place.write(name, path, document.encode())
            tables.append(ArchivedTable(path, table.name, rows, digest))
    place.finish(
        name,
        Manifest(
            created_at=began.isoformat(),
            created_by=who,
            code_version=metadata.version("anomaly-assets"),
            entities=entities,
            snapshots=tuple(snapshots),
            tables=tuple(tables),
        ),
    )
    keep = timedelta(days=deployment.settings.backup_keep_days)
    return BackupReport(
        name,
        place.shown,
        len(entities),
        len(snapshots),
        sum(one.size for one in snapshots),
        {table.name: table.rows for table in tables},
        tuple(place.prune(began - keep)),
    )


def verify_backup(
    deployment: Deployment, url: str | None = None, entity_id: str | None = None
) -> list[Verdict]:
    """Open every model of a backup (the newest one at `url`), and return what was found of each.

    Raises
    ------
    SnapshotRefusedError
        If its list, or a table's rows, cannot be trusted.
    StorageError
        If there is no backup.
    """
    place = folder(deployment, url)
    name = place.newest()
    manifest = place.manifest(name)
    for table in manifest.tables:
        place.table(name, table)
    _, verdicts = _open_all(deployment, place, name, manifest, entity_id)
    return verdicts


def restore(
    deployment: Deployment, *, url: str | None = None, entity_id: str | None = None, who: str
) -> RestoreReport:
    """Put models and decisions of a backup (the newest one at `url`) in place, and replay.

    Each model is verified first; what fails is left out and reported. The newest of each component
    becomes the present one, from which all stored windows since are replayed; pinned ones join the
    archive. What is there already is left alone, so that restoring twice is restoring once.

    Raises
    ------
    SnapshotRefusedError
        If its list, or a table's rows, cannot be trusted: nothing is changed then.
    StorageError
        If there is no backup.
    InputError
        If it holds nothing of the entity.
    """
    place = folder(deployment, url)
    name = place.newest()
    manifest = place.manifest(name)
    if entity_id is not None and entity_id not in manifest.entities:
        known = ", ".join(sorted(manifest.entities)[:10]) or "nobody"
        msg = f"backup {name or place.shown} holds nothing of {entity_id!r}; it is of {known}"
        raise InputError(msg)
    entities = [one for one in manifest.entities if entity_id in {None, one}]
    documents = {table.name: place.table(name, table) for table in manifest.tables}
    opened, verdicts = _open_all(deployment, place, name, manifest, entity_id)
    rows = {}
    with deployment.database.connect() as connection, connection.transaction():
        for entity in entities:
            about = manifest.entities[entity]
            ensure_entity(
                connection, entity, catalogue=about["catalogue"], time_zone=about["time_zone"]
            )
        for table_name, document in documents.items():
            table = portable.portable(table_name)
            rows[table_name] = portable.take_rows(connection, table, document, entities)
    restored = present = 0
    replayed: list[RollbackReport] = []
    for entity in entities:
        own = [one for one in opened if one[0].provenance.entity_id == entity]
        why = f"from backup {name or place.shown}"
        count, reports = _restore_entity(deployment, entity, own, who, why)
        restored += count
        present += len(own) - count
        replayed += reports
    refused = tuple(one for one in verdicts if one.reason)
    return RestoreReport(name, place.shown, restored, present, refused, rows, tuple(replayed))


def _worth_keeping(versions: Sequence[ModelVersion]) -> list[tuple[ModelVersion, bool]]:
    """Return the newest version of each component of the present courses, and all pinned ones."""
    newest: dict[tuple[str, str], int] = {}
    for one in versions:
        if not one.archived:
            newest.setdefault((one.entity_id, one.component), one.version)
    latest = set(newest.values())
    return [
        (one, one.version in latest)
        for one in versions
        if one.version in latest or one.pinned_at is not None
    ]


def _write_snapshot(
    connection: Connection, place: BackupFolder, name: str, version: ModelVersion, *, latest: bool
) -> ArchivedSnapshot:
    blob = model_versions.read_blob(connection, version.version) or b""
    # Identifiers may hold anything, names of files may not.
    whose = hashlib.sha256(version.entity_id.encode()).hexdigest()[:16]
    path = f"snapshots/{whose}/{version.component}-{version.version}.snapshot"
    place.write(name, path, blob)
    since = version.learnt_from
    return ArchivedSnapshot(
        path=path,
        provenance=Provenance(
            entity_id=version.entity_id,
            component=version.component,
            as_of=int(version.as_of.timestamp()),
            detector=version.detector,
            catalogue_digest=version.catalogue_digest,
            code_version=version.code_version,
            river_version=version.river_version,
            numpy_version=version.numpy_version,
            format_version=version.format_version,
        ),
        sha256=version.sha256,
        signature=version.signature,
        size=len(blob),
        version=version.version,
        created_at=version.created_at.isoformat(),
        created_by=version.created_by,
        learnt_from=None if since is None else int(since.timestamp()),
        learnt_windows=version.learnt_windows,
        learnt_values=version.learnt_values,
        latest=latest,
        pin=None
        if version.pinned_at is None
        else (str(version.pinned_by), str(version.pin_reason)),
    )


def _open_all(
    deployment: Deployment,
    place: BackupFolder,
    name: str,
    manifest: Manifest,
    entity_id: str | None,
) -> tuple[list[tuple[ArchivedSnapshot, Snapshot]], list[Verdict]]:
    """Verify models one by one; return those that are sound, and what was found of all."""
    opened, verdicts = [], []
    watched = {entity.entity_id: entity.catalogue for entity in deployment.entities()}
    for entry in manifest.snapshots:
        found = entry.provenance
        if entity_id not in {None, found.entity_id}:
            continue
        as_of = datetime.fromtimestamp(found.as_of, tz=UTC)
        which = (entry.version, found.entity_id, found.component, as_of)
        try:
            snapshot = place.snapshot(name, entry)
            _open(deployment, manifest, snapshot, watched.get(found.entity_id))
        except SnapshotRefusedError as error:
            advice = ADVICE.get(Refusal(error.reason), "")
            verdicts.append(Verdict(*which, error.reason, str(error), advice))
        else:
            opened.append((entry, snapshot))
            verdicts.append(Verdict(*which))
    return opened, verdicts


def _open(
    deployment: Deployment, manifest: Manifest, snapshot: Snapshot, catalogue: Catalogue | None
) -> None:
    found = snapshot.provenance
    if found.component not in COMPONENTS or found.entity_id not in manifest.entities:
        msg = f"{found.component!r} of {found.entity_id!r} is nothing that is restored"
        raise SnapshotRefusedError(msg, Refusal.COMPONENT)
    if catalogue is None:
        try:
            catalogue = deployment.catalogue(manifest.entities[found.entity_id]["catalogue"])
        except CatalogueError as error:
            msg = f"snapshot of {found.component} for entity {found.entity_id!r}: {error}"
            raise SnapshotRefusedError(msg, Refusal.CATALOGUE_DIGEST) from error
    expected = Provenance.of(
        tier_of(found.component, deployment.settings).build(catalogue),
        entity_id=found.entity_id,
        component=found.component,
        as_of=found.as_of,
        catalogue_digest=catalogue.digest,
    )
    unseal(snapshot, expected, deployment.key)


def _restore_entity(
    deployment: Deployment,
    entity_id: str,
    opened: list[tuple[ArchivedSnapshot, Snapshot]],
    who: str,
    why: str,
) -> tuple[int, list[RollbackReport]]:
    """Put one entity's models in place; return how many, and what the replay changed."""
    entity = deployment.reread(entity_id)
    restored = 0
    begun: list[int] = []
    for entry, snapshot in sorted(opened, key=lambda one: one[0].latest):
        with deployment.database.connect() as connection:
            if _is_there(connection, entry, only_present=entry.latest):
                continue
            restored += 1
            if not entry.latest:
                _put_aside(connection, entry, snapshot, who)
                continue
            component, as_of = entry.provenance.component, entry.provenance.as_of
            later = [
                one.action_id
                for one in standing_bases(connection, entity_id, component)
                if one.as_of is not None and int(one.as_of.timestamp()) >= as_of
            ]

        def put(
            connection: Connection,
            action_id: int,
            entry: ArchivedSnapshot = entry,
            snapshot: Snapshot = snapshot,
        ) -> None:
            version = _put(connection, deployment, entry, snapshot, who, action_id)
            finish_action(connection, action_id, ActionOutcome.PENDING, version_after=version)

        change = Change(as_of, withdrawn=tuple(later), put=put, components=(component,))
        begun.append(
            begin(
                deployment,
                entity,
                change,
                kind=ActionKind.RESTORE,
                who=who,
                why=why,
                keep=not begun,
            )
        )
    return restored, complete_all(deployment, entity, begun) if begun else []


def _is_there(connection: Connection, entry: ArchivedSnapshot, *, only_present: bool) -> bool:
    found = model_versions.read_versions(
        connection, entity_id=entry.provenance.entity_id, component=entry.provenance.component
    )
    return any(
        one.sha256 == entry.sha256
        and one.signature == entry.signature
        and int(one.as_of.timestamp()) == entry.provenance.as_of
        and hashlib.sha256(model_versions.read_blob(connection, one.version) or b"").hexdigest()
        == entry.sha256
        and not (only_present and one.archived)
        for one in found
    )


def _put(  # noqa: PLR0913, PLR0917 - what, where, and what goes on record of it
    connection: Connection,
    deployment: Deployment,
    entry: ArchivedSnapshot,
    snapshot: Snapshot,
    who: str,
    action_id: int | None,
) -> int:
    """Store a model as the newest of the present course, and pin it; returns its version."""
    found = entry.provenance
    tier = tier_of(found.component, deployment.settings)
    store = SnapshotStore(found.component, tier.build, deployment.key)
    moment = datetime.fromtimestamp(found.as_of, tz=UTC)
    there = model_versions.version_at(connection, found.entity_id, found.component, moment)
    model_versions.archive(connection, [] if there is None else [there])
    store.save(
        connection,
        snapshot,
        created_by=entry.created_by,
        base_action=action_id,
        learnt=Learnt(entry.learnt_from, entry.learnt_windows, entry.learnt_values),
    )
    version = model_versions.version_at(connection, found.entity_id, found.component, moment)
    reason = entry.pin[1] if entry.pin else f"base of restore {action_id}"
    model_versions.pin(
        connection,
        found.entity_id,
        version or 0,
        who=entry.pin[0] if entry.pin else who,
        reason=reason,
    )
    return version or 0


def _put_aside(
    connection: Connection, entry: ArchivedSnapshot, snapshot: Snapshot, who: str
) -> None:
    """Store a pinned model in the archive."""
    found = snapshot.provenance
    learnt_from = entry.learnt_from
    by, reason = entry.pin or (who, "was pinned in a backup")
    version = model_versions.add_to_archive(
        connection,
        {
            **asdict(found),
            "as_of": datetime.fromtimestamp(found.as_of, tz=UTC),
            "sha256": snapshot.sha256,
            "signature": snapshot.signature,
            "size": entry.size,
            "blob": snapshot.blob,
            "created_at": datetime.fromisoformat(entry.created_at),
            "created_by": entry.created_by,
            "learnt_from": None
            if learnt_from is None
            else datetime.fromtimestamp(learnt_from, tz=UTC),
            "learnt_windows": entry.learnt_windows,
            "learnt_values": entry.learnt_values,
        },
    )
    model_versions.pin(connection, found.entity_id, version, who=by, reason=reason)
