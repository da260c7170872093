"""Entities that were deleted while this process had them in memory."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from anomaly_assets.storage.database import Database

logger = logging.getLogger(__name__)


def gone_entities(database: Database, known: Mapping[str, datetime | None]) -> list[str]:
    """Return the entities that are not there any more, or are others of the same name.

    Parameters
    ----------
    database
        Where they are stored.
    known
        By entity, when it was made, as its state was restored.
    """
    if not known:
        return []
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT entity_id, created_at FROM entities WHERE entity_id = ANY(%s)", (list(known),)
        ).fetchall()
    made: dict[str, datetime] = dict(rows)
    gone = [entity_id for entity_id, born in known.items() if made.get(entity_id) != born]
    if gone:
        logger.info("%d entities were forgotten; nothing is kept of them in memory", len(gone))
    return gone
