"""Suggestions accepted into catalogues, or rejected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomaly_assets.errors import CatalogueError, InputError
from anomaly_assets.storage.entities import find_entity, list_entities, set_catalogue
from anomaly_assets.storage.identifiers import Decision, SuggestionKind
from anomaly_assets.storage.suggestions import Suggestion, decide, find_suggestion
from anomaly_assets.streams.catalogue import CausalEdge, SequenceTemplate
from anomaly_assets.streams.editing import read_text, replace_file, with_edge, with_template
from anomaly_assets.streams.loading import catalogue_file, parse_catalogue, shipped_text

if TYPE_CHECKING:
    import psycopg

    from anomaly_assets.pipeline.deployment import Deployment
    from anomaly_assets.storage.entities import EntityRow

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Accepted:
    """What accepting a suggestion did.

    Parameters
    ----------
    suggestion
        As it stands now.
    path
        The catalogue file that holds it.
    changed
        Whether the file was changed; it was not if it held the suggestion already.
    entities
        Everybody who is watched with that file.
    """

    suggestion: Suggestion
    path: Path
    changed: bool
    entities: tuple[str, ...]


def accept(
    deployment: Deployment, suggestion_id: int, by: str, *, catalogue_path: Path | None = None
) -> Accepted:
    """Write a suggestion into its entity's catalogue file, and record who wanted it.

    Accepting again changes nothing. The new catalogue is loaded before it replaces the file.

    Parameters
    ----------
    deployment
        Whose suggestion.
    suggestion_id
        Its number.
    by
        Who accepts it.
    catalogue_path
        File to write to instead of the entity's own, which the entity uses from then on: needed
        where its catalogue comes with the package. If the file exists, it must describe the same
        streams.

    Raises
    ------
    InputError
        If there is no such suggestion, or nobody is named.
    CatalogueError
        If there is no file to write to, or the catalogue with the suggestion is refused: a cycle,
        an unknown stream, a template of the same name.
    """
    with deployment.database.connect() as connection, connection.transaction():
        suggestion = find_suggestion(connection, suggestion_id, lock=True)
        entity = find_entity(connection, suggestion.entity_id)
        if entity is None:
            msg = f"suggestion {suggestion_id}: entity {suggestion.entity_id!r} is gone"
            raise InputError(msg)
        path, text = _file_of(deployment, entity, catalogue_path)
        _wait_for_others(connection, path)
        if path.exists():
            text = read_text(path)
        changed = _with_suggestion(text, path, suggestion)
        # Recorded first: should writing fail, the record is undone; the other way round the file
        # would hold what nobody is known to have accepted.
        decided = decide(connection, suggestion_id, Decision.ACCEPTED, by)
        if catalogue_path is not None:
            set_catalogue(connection, entity.entity_id, str(path))
        if changed != text or not path.exists():
            replace_file(path, changed)
        sharing = _watched_with(deployment, connection, path)
    return Accepted(decided, path, changed != text, sharing)


def reject(deployment: Deployment, suggestion_id: int, by: str) -> Suggestion:
    """Record that a suggestion is not wanted; it is not shown again.

    Raises
    ------
    InputError
        If there is no such suggestion, nobody is named, or it is in the catalogue already.
    """
    with deployment.database.connect() as connection, connection.transaction():
        suggestion = find_suggestion(connection, suggestion_id, lock=True)
        if suggestion.status is Decision.ACCEPTED:
            msg = (
                f"suggestion {suggestion_id} ({suggestion.subject}) was accepted by "
                f"{suggestion.decided_by}; remove it from the catalogue file by hand"
            )
            raise InputError(msg)
        return decide(connection, suggestion_id, Decision.REJECTED, by)


def _file_of(deployment: Deployment, entity: EntityRow, wanted: Path | None) -> tuple[Path, str]:
    """Return the file to write, and the text to begin with where there is no file yet."""
    settings = deployment.settings
    name = entity.catalogue or settings.catalogue
    own = catalogue_file(name, extra_directories=settings.catalogue_directories)
    if wanted is None:
        if own is None:
            msg = (
                f"entity {entity.entity_id!r} uses the catalogue {name!r} that comes with the "
                "package and is not written to; name a file with --catalogue-file: it becomes a "
                "copy with the suggestion, and the entity uses it from then on"
            )
            raise CatalogueError(msg)
        return own.resolve(), ""
    path = wanted.resolve()
    text = shipped_text(name) if own is None else read_text(own)
    if path.exists():
        here = parse_catalogue(text, name).streams
        if parse_catalogue(read_text(path), str(path)).streams != here:
            msg = (
                f"{path}: describes other streams than the catalogue {name!r} of entity "
                f"{entity.entity_id!r}; name that entity's own file, or one that does not exist"
            )
            raise CatalogueError(msg)
    return path, text


def _with_suggestion(text: str, path: Path, suggestion: Suggestion) -> str:
    payload = suggestion.payload
    if suggestion.kind is SuggestionKind.EDGE:
        edge = CausalEdge(
            cause=payload["cause"], effect=payload["effect"], reason=payload["reason"]
        )
        return with_edge(text, str(path), edge)
    return with_template(text, str(path), SequenceTemplate.model_validate(payload["template"]))


def _wait_for_others(connection: Connection, path: Path) -> None:
    """Let nobody else edit the file until the transaction ends."""
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"catalogue\x1f{path}",)
    )


def _watched_with(deployment: Deployment, connection: Connection, path: Path) -> tuple[str, ...]:
    settings = deployment.settings
    found = []
    for row in list_entities(connection):
        try:
            own = catalogue_file(
                row.catalogue or settings.catalogue,
                extra_directories=settings.catalogue_directories,
            )
        except CatalogueError:
            # Its own trouble is told when it is processed.
            continue
        if own is not None and own.resolve() == path:
            found.append(row.entity_id)
    return tuple(found)
