"""The commands there are, each imported only when it is called.

Dagster alone takes a second to import, and a shell that completes a name asks every time.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup


class Place(NamedTuple):
    """Where a command is, and its first line of help."""

    module: str
    about: str


COMMANDS: Final = {
    "up": Place(
        "up",
        "Start database, migrations, Dagster's pages, daemon and live API; Ctrl-C stops them all.",
    ),
    "demo": Place(
        "demo",
        "Simulate 14 days of 3 people with a dozen faults, process them, and say what was found.",
    ),
    "ingest": Place(
        "data",
        "Take files of readings into the journal; a killed run is resumed by running it again.",
    ),
    "import": Place("importing", "Take in exports of phones and trackers, and watched folders."),
    "backfill": Place(
        "runs", "Process a range of windows as one Dagster run; by default all that have readings."
    ),
    "replay": Place(
        "runs",
        "Process again from a window to the last processed one, with all late readings taken in.",
    ),
    "status": Place("views", "How far each entity has been processed, and how it is doing."),
    "anomalies": Place(
        "views",
        "List the episodes with the highest final scores, each with its one-sentence explanation.",
    ),
    "explain": Place(
        "views", "Explain an anomaly by its identifier, or any processed window by entity and time."
    ),
    "watch": Place("watch", "Show final scores and episodes as they come; Ctrl-C ends it."),
    "labels": Place("labels", "Judge windows and episodes; take it back."),
    "suggestions": Place("suggestions", "List, accept and reject what the data suggest."),
    "patterns": Place("suggestions", "Courses of events in past anomalies."),
    "feedback": Place("feedback", "Let labels change what raises an alarm, see how, take it back."),
    "serve": Place(
        "serve",
        "Take readings, score them at once and answer questions; Ctrl-C stores what waits.",
    ),
    "tokens": Place("tokens", "Make, list and revoke the tokens of the live API."),
    "alerts": Place("alerts", "Try, list and snooze alerts."),
    "webhooks": Place("webhooks", "Have results posted to addresses, and see how they fare."),
    "models": Place("models", "Versions of models: look, compare, go back."),
    "dashboard": Place(
        "dashboard", "Serve the pages without the live API; people log in with its tokens."
    ),
    "metrics": Place(
        "monitoring",
        "Print the metrics of the deployment for Prometheus, where no live API serves them.",
    ),
    "reader": Place(
        "monitoring",
        "Make the database role that Grafana reads with, or renew its password and its rights.",
    ),
    "doctor": Place(
        "monitoring",
        "Check the installation, and say of each thing found what to do; exit code 1 on a problem.",
    ),
    "evaluate": Place(
        "evaluate",
        "Score a labelled data set: train part learnt in order, then score before learning.",
    ),
    "export": Place(
        "privacy", "Write everything that is stored of an entity to Parquet files, with a manifest."
    ),
    "forget": Place(
        "privacy",
        "Delete an entity entirely: readings, scores, states, labels, tokens, everything.",
    ),
    "retention": Place(
        "retention", "Aggregate readings past retention by the hour and drop them; scores stay."
    ),
    "migrate": Place(
        "migrations", "Bring the database's tables, and Dagster's own, to the version of this code."
    ),
    "backup": Place(
        "backups",
        "Write our database and Dagster's into one file, each as of one moment, while all goes on.",
    ),
    "restore": Place(
        "backups", "Bring both databases back to what a backup holds; the services must be stopped."
    ),
    "worker": Place(
        "worker",
        "Carry out steps of runs that are queued in Redis, in the foreground, until Ctrl-C.",
    ),
}


def load(name: str) -> Any:  # noqa: ANN401 - of typer's own copy of click, which has no public names
    """Return a command, its module imported."""
    app = typer.Typer()
    import_module(f"anomaly_assets.cli.{COMMANDS[name].module}").register(app)
    return typer.main.get_group(app).commands[name]


class Commands(TyperGroup):
    """All commands, of which only names and first lines are known before one is called."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - typer's
        super().__init__(**options)
        self.commands = {
            name: TyperCommand(name, help=place.about) for name, place in COMMANDS.items()
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401 - as above
        """Import the command that the arguments begin with."""
        if args and args[0] in COMMANDS:
            self.commands[args[0]] = load(args[0])
        return super().resolve_command(ctx, args)
