"""Dagster's event log in PostgreSQL, with the two writes that decide how long a backfill takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import sqlalchemy as sa
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
)
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.utils import pg_url_from_config

from anomaly_assets.automation import window_partitions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dagster._core.events.log import EventLogEntry
    from dagster._serdes import ConfigurableClassData

window_partitions.install()


class RangeEventLogStorage(PostgresEventLogStorage):
    """Dagster's own storage, for runs over thousands of partitions.

    Dagster 1.13 plans an asset check of such a run once for every partition, each time with the
    whole event, and the evaluation, which is of the range, then updates none of those rows: they
    would be an eighth of a backfill's time, and stay for ever. And it writes a batch of events as
    one statement with a parameter for every field, whose compilation takes as long again.
    """

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> RangeEventLogStorage:
        """Open the storage that the instance's configuration describes."""
        return cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
        )

    def prepare_insert_event_batch(self, events: Sequence[EventLogEntry]) -> Any:  # noqa: ANN401 - as Dagster's
        """Return the statement that inserts the events, a column being one parameter."""
        rows = [self._event_to_row(event) for event in events]
        columns = [column for column in SqlEventLogStorageTable.c if column.name in rows[0]]
        unnested = (
            sa.func.unnest(
                *(
                    sa.cast([row[column.name] for row in rows], sa.ARRAY(column.type))
                    for column in columns
                )
            )
            .table_valued(*(column.name for column in columns))
            .render_derived()
        )
        return SqlEventLogStorageTable.insert().from_select(
            [column.name for column in columns], sa.select(unnested)
        )

    def _store_asset_check_evaluation_planned(
        self, event: EventLogEntry, event_id: int | None
    ) -> None:
        dagster_event = event.get_dagster_event()
        planned = cast("AssetCheckEvaluationPlanned", dagster_event.event_specific_data)
        of_the_run = dagster_event._replace(
            event_specific_data=AssetCheckEvaluationPlanned(
                asset_key=planned.asset_key, check_name=planned.check_name
            )
        )
        super()._store_asset_check_evaluation_planned(
            event._replace(dagster_event=of_the_run), event_id
        )
