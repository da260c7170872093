"""An installation that is broken on purpose, and what the doctor says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anomaly_assets.doctor import dagster, database, machine, models, services
from anomaly_assets.doctor.examine import look
from anomaly_assets.doctor.finding import Installation
from anomaly_assets.pipeline.deployment import Deployment
from anomaly_assets_tests.pipeline.people import execute

if TYPE_CHECKING:
    from anomaly_assets.doctor.finding import Finding
    from anomaly_assets.settings import Settings
    from anomaly_assets.storage.database import Database

CHECKS = {
    check.name: check
    for module in (machine, database, models, dagster, services)
    for check in module.CHECKS
}


@dataclass
class Patient:
    """A deployment of its own.

    Parameters
    ----------
    settings, database
        The deployment's.
    dagster
        Dagster's database.
    """

    settings: Settings
    database: Database
    dagster: Database

    def look(self, check: str) -> list[Finding]:
        """Do one check."""
        return [
            one.safe() for one in look(CHECKS[check], Installation(self.settings, self.database))
        ]

    @property
    def deployment(self) -> Deployment:
        """The deployment, as a process of its own has it."""
        return Deployment(self.settings, self.database, run_id="test")

    def one(self, check: str) -> Finding:
        """Do a check that finds one thing."""
        (found,) = self.look(check)
        return found

    def set(self, **options: Any) -> None:
        """Change settings."""
        self.settings = self.settings.model_copy(update=options)

    def sql(self, statement: str, *parameters: object) -> int:
        """Change our database."""
        return execute(self.database, statement, *parameters)

    def dagster_sql(self, statement: str, *parameters: object) -> int:
        """Change Dagster's database."""
        return execute(self.dagster, statement, *parameters)
