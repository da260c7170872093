"""One deployment: its settings, its database and the entities it watches."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from anomaly_assets.errors import AnomalyAssetsError, CatalogueError
from anomaly_assets.pipeline.handover import Handover
from anomaly_assets.state.keys import signing_key
from anomaly_assets.storage.entities import list_entities
from anomaly_assets.streams.catalogue import Catalogue
from anomaly_assets.streams.loading import load_catalogue

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anomaly_assets.settings import Settings
    from anomaly_assets.storage.database import Database

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entity:
    """A watched entity with everything needed to process it.

    Parameters
    ----------
    entity_id
        Its identifier.
    catalogue
        What is observed of it.
    time_zone
        IANA zone its hours are taken in.
    first_window
        Epoch seconds of its first window; None before its first reading.
    handover
        What steps of this run have written of it.
    """

    entity_id: str
    catalogue: Catalogue
    time_zone: str
    first_window: int | None
    handover: Handover


@dataclass
class Deployment:
    """Settings, database and entities of one deployment.

    Parameters
    ----------
    settings
        The deployment's settings.
    database
        An open database, migrated to the current schema.
    run_id
        Who writes, as recorded with every snapshot.
    """

    settings: Settings
    database: Database
    run_id: str = "library"
    failures: dict[str, str] = field(default_factory=dict)
    handover: Handover = field(default_factory=Handover)

    @cached_property
    def key(self) -> bytes:
        """The signing key of the snapshots."""
        return signing_key(self.settings)

    def catalogue(self, name: str | None) -> Catalogue:
        """Load a catalogue by name or path; None is the deployment's default."""
        return _load(name or self.settings.catalogue, tuple(self.settings.catalogue_directories))

    def entities(self, only: Callable[[str], bool] = lambda _: True) -> list[Entity]:
        """Return every entity whose catalogue can be loaded, by identifier.

        With `only`, those whose identifiers it holds for. One entity's unusable catalogue is
        recorded in `failures` and leaves the others alone.
        """
        with self.database.connect() as connection:
            rows = [row for row in list_entities(connection) if only(row.entity_id)]
        entities = []
        for row in rows:
            try:
                catalogue = self.catalogue(row.catalogue)
            except CatalogueError as error:
                self.fail(row.entity_id, error)
                continue
            entities.append(
                Entity(
                    row.entity_id,
                    catalogue,
                    row.time_zone or catalogue.time_zone,
                    None if row.first_window is None else int(row.first_window.timestamp()),
                    self.handover,
                )
            )
        return entities

    def entity(self, entity_id: str) -> Entity:
        """Return one entity.

        Raises
        ------
        AnomalyAssetsError
            If there is none of that name, or its catalogue cannot be loaded.
        """
        entities = self.entities()
        for entity in entities:
            if entity.entity_id == entity_id:
                return entity
        if entity_id in self.failures:
            raise AnomalyAssetsError(self.failures[entity_id])
        known = ", ".join(entity.entity_id for entity in entities[:10]) or "none yet"
        msg = f"no entity {entity_id!r} here; known entities: {known}"
        raise AnomalyAssetsError(msg)

    def reread(self, entity_id: str) -> Entity:
        """Return one entity, to be processed by what the database holds and nothing else.

        Raises
        ------
        AnomalyAssetsError
            As :meth:`entity`.
        """
        return replace(self.entity(entity_id), handover=Handover())

    def fail(self, entity_id: str, error: Exception) -> None:
        """Record that an entity could not be processed; the others go on."""
        self.failures[entity_id] = f"{type(error).__name__}: {error}"
        extra = {"entity": entity_id}
        logger.error(
            "entity %r is quarantined: %s", entity_id, self.failures[entity_id], extra=extra
        )


@lru_cache(maxsize=64)
def _load(name: str, directories: tuple[Path, ...]) -> Catalogue:
    return load_catalogue(name, extra_directories=directories)
