"""The documentation names everything there is, and its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

from anomaly_assets.cli import app
from anomaly_assets.cli.loading import COMMANDS
from anomaly_assets.definitions import defs
from anomaly_assets.settings import Settings
from anomaly_assets.storage.tables import PARTITIONED, Base

if TYPE_CHECKING:
    from sqlalchemy import Table

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
TABLES = list(Base.metadata.tables.values())
FIELDS = list(Settings.model_fields)


def variable(field: str) -> str:
    """Return the environment variable of a setting."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"ANOMALY_ASSETS_{field.upper()}"


def everything_said() -> str:
    """Return the text of the front page and of all pages of the documentation."""
    return "\n".join(page.read_text() for page in PAGES)


def section(table: str) -> str:
    """Return what the data model says under the heading of a table."""
    page = (DOCS / "data-model.md").read_text()
    found = re.search(rf"^## {table}\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL)
    assert found, f"docs/data-model.md has no section '## {table}'"
    return found[1]


def first_cells(text: str) -> set[str]:
    """Return the names in the first column of the tables of a page."""
    return set(re.findall(r"^\| `([^`]+)` \|", text, flags=re.MULTILINE))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_column_is_documented(table: Table) -> None:
    """The data model has a row for every column of a table, and names its key and its indexes."""
    text = section(table.name)
    assert {column.name for column in table.columns} <= first_cells(text)
    key = ", ".join(f"`{column.name}`" for column in table.primary_key)
    assert f"Key: {key}" in " ".join(text.split())
    assert [index.name for index in table.indexes if f"`{index.name}`" not in text] == []


def test_no_table_is_invented() -> None:
    """Every section of the data model that lists columns is that of a table."""
    page = (DOCS / "data-model.md").read_text()
    headings = set(re.findall(r"^## (\S+)$", page, flags=re.MULTILINE)) - {"Partitions"}
    assert headings == {table.name for table in TABLES}


@pytest.mark.parametrize("table", sorted(PARTITIONED))
def test_partitioned_tables_are_named(table: str) -> None:
    """The section on partitions names every table that is cut into months, and says so there."""
    assert f"`{table}`" in section("Partitions")
    assert "by month" in section(table)


def test_settings_page_lists_exactly_the_settings() -> None:
    """Every setting has a row in the page of settings, and every row is that of a setting."""
    assert first_cells((DOCS / "settings.md").read_text()) == set(map(variable, FIELDS))


@pytest.mark.parametrize("field", FIELDS)
def test_documented_default_is_the_default(
    field: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Setting a variable to its documented default changes nothing."""
    monkeypatch.chdir(tmp_path)
    name = variable(field)
    text = (DOCS / "settings.md").read_text()
    row = re.search(rf"^\| `{name}` \| (.+?) \| .{{15,}} \|$", text, flags=re.MULTILINE)
    assert row, f"docs/settings.md has no row with default and meaning of {name}"
    monkeypatch.delenv(name, raising=False)
    default = getattr(Settings(), field)
    if row[1] == "unset":
        assert default is None
    else:
        monkeypatch.setenv(name, row[1].strip("`"))
        assert getattr(Settings(), field) == default


def test_every_command_is_documented_with_an_example() -> None:
    """The page of commands has a row for every command, with an example of exactly that one."""
    text = (DOCS / "commands.md").read_text()
    commands = set(COMMANDS)
    examples = re.findall(r"^\| `(\w+)` \| `anomaly-assets (\w+)[^`]*` \|", text, re.MULTILINE)
    assert {command for command, example in examples if command == example} == commands
    assert len(examples) == len(commands)


def shown_commands() -> list[tuple[str, str]]:
    """Return the commands of ours that pages show in blocks, each with its page."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for block in re.findall(r"^ *```(?:sh|bash)?\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
            joined = block.replace("\\\n", " ")
            found += [
                (str(page.relative_to(ROOT)), line)
                for line in re.findall(
                    r"^(?!kubectl)(?:.*[$(/ ])?anomaly-assets +([a-z].*)$", joined, re.MULTILINE
                )
            ]
    return found


@pytest.mark.parametrize(("page", "line"), shown_commands())
def test_shown_commands_are_understood(page: str, line: str) -> None:
    """Every command a page shows has the options and arguments that it is shown with."""
    words = shlex.split(re.split(r" [|&]|\)$|&& ", line.partition(" #")[0])[0], comments=True)
    # Typer's own copy of click: its classes are not those of the package.
    command: Any = typer.main.get_group(app)
    context = command.context_class(command, info_name=command.name)
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"{page}: {line}"
        name, command, words = command.resolve_command(context, words)
        context = command.context_class(command, parent=context, info_name=name)
    command.make_context(command.name, list(words), parent=context.parent)


def test_the_site_has_every_page() -> None:
    """Nothing that is written is missing from the site's navigation."""
    text = (ROOT / "mkdocs.yml").read_text()
    pages = [str(page.relative_to(DOCS)) for page in PAGES if DOCS in page.parents]
    assert [page for page in pages if page not in text] == []


def test_every_asset_is_named() -> None:
    """Each asset of the graph is named somewhere in the documentation."""
    said = everything_said()
    keys = defs.resolve_asset_graph().get_all_asset_keys()
    assert [key for key in keys if f"`{key.to_user_string()}`" not in said] == []


def test_every_decision_is_listed() -> None:
    """The list of decision records links to each of them once, under its number and title."""
    listed = (DOCS / "decisions" / "README.md").read_text()
    for record in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        assert listed.count(f"[{record.name[:4]}]({record.name})") == 1, record.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    """What a page links to within the project exists."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if ":" not in target]
    broken = [
        target
        for target in targets
        if not target.startswith("#") and not (page.parent / target.partition("#")[0]).exists()
    ]
    assert broken == []
