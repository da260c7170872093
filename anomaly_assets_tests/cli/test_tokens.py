"""``tokens``: made, shown once, listed without secrets, revoked."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from anomaly_assets.live.tokens import TokenBook, TokenError
from anomaly_assets_tests.cli.test_commands import call, deployed, refused
from anomaly_assets_tests.pipeline.people import execute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anomaly_assets.storage.database import Database

SECRET = re.compile(r"^aa_[A-Za-z0-9_-]{43}$", re.MULTILINE)


@pytest.fixture
def deployment(database: Database, tmp_path: Path) -> Iterator[Database]:
    """Return the database of a deployment that watches ann, made that of the settings."""
    execute(database, "INSERT INTO entities (entity_id) VALUES ('ann')")
    with deployed(database, tmp_path):
        yield database


def made(*arguments: object) -> dict[str, Any]:
    """Return what ``tokens create`` prints as JSON."""
    document: dict[str, Any] = call("tokens", "create", *arguments, "--json").document
    return document


class TestCreate:
    """``tokens create``: a secret that works, printed once."""

    def test_the_printed_secret_works(self, deployment: Database) -> None:
        """The last line is the secret, alone; it stands for what the words before it say."""
        shown = call("tokens", "create", "phone", "--entity", "ann", "--write").out
        (secret,) = SECRET.findall(shown)
        assert shown.endswith(f"\n{secret}\n")
        assert "phone: write, entity ann, never expires" in shown
        principal = TokenBook(deployment).check(secret)
        assert (principal.entity_id, principal.may_write, principal.may_read) == (
            "ann",
            True,
            False,
        )

    @pytest.mark.parametrize(
        ("options", "rights"),
        [
            ((), (True, True)),
            (("--read",), (True, False)),
            (("--write",), (False, True)),
            (("--read", "--write"), (True, True)),
        ],
    )
    def test_rights_are_those_asked_for(
        self, deployment: Database, options: tuple[str, ...], rights: tuple[bool, bool]
    ) -> None:
        """Both without an option, otherwise what is named."""
        token = made("phone", *options)
        principal = TokenBook(deployment).check(token["secret"])
        assert (principal.may_read, principal.may_write) == rights
        assert (token["may_read"], token["may_write"], token["entity_id"]) == (*rights, None)

    @pytest.mark.parametrize(("text", "days"), [("90d", 90), ("2w", 14), ("36h", 1.5)])
    def test_it_expires_after_a_span(self, deployment: Database, text: str, days: float) -> None:
        """Days, weeks and hours count from now."""
        before = datetime.now(tz=UTC)
        expires = datetime.fromisoformat(made("phone", "--expires", text)["expires_at"])
        assert before <= expires - timedelta(days=days) <= datetime.now(tz=UTC)
        assert TokenBook(deployment).tokens()[0].expires_at == expires

    def test_it_expires_at_a_date(self, deployment: Database) -> None:
        """A date is its beginning in UTC, and is shown."""
        assert made("phone", "--expires", "2999-01-31")["expires_at"] == "2999-01-31T00:00:00+00:00"
        shown = call("tokens", "create", "desk", "--expires", "2999-01-31T08:00+01:00").out
        assert "until 2999-01-31 07:00" in shown
        assert len(TokenBook(deployment).tokens()) == 2

    @pytest.mark.usefixtures("deployment")
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--expires", "soon"), "no date or time"),
            (("--expires", "2020-01-01"), "in the future"),
            (("--expires", "0d"), "in the future"),
            (("--expires", "999999w"), "beyond the year 9999"),
            (("--entity", "a\tb"), "entity id"),
        ],
    )
    def test_mistakes_are_refused(self, options: tuple[str, ...], message: str) -> None:
        """One line says what is wrong, and no token is made."""
        assert message in refused("tokens", "create", "phone", *options)
        assert call("tokens", "list", "--json").document == []

    @pytest.mark.usefixtures("deployment")
    def test_an_unknown_entity_is_noted(self) -> None:
        """A token may come before its entity's first reading, but a slip of the pen is seen."""
        assert (
            "nothing is known of an entity 'anne'"
            in call("tokens", "create", "phone", "--entity", "anne").out
        )
        assert not made("phone", "--entity", "anne")["entity_known"]
        assert made("phone", "--entity", "ann")["entity_known"]
        assert "note:" not in call("tokens", "create", "phone", "--entity", "ann").out

    @pytest.mark.usefixtures("deployment")
    def test_markup_in_a_name_is_shown_as_it_is(self) -> None:
        """A name with brackets is no markup."""
        assert "[red]phone[/]" in call("tokens", "create", "[red]phone[/]").out


@pytest.mark.usefixtures("deployment")
class TestList:
    """``tokens list``: everything but the secrets."""

    def test_standing_and_rights(self, deployment: Database) -> None:
        """Valid, expired and revoked ones, with what they allow and whom they are for."""
        first = made("phone", "--entity", "ann", "--expires", "1d")
        made("desk", "--read")
        third = made("old")
        execute(
            deployment,
            "UPDATE api_tokens SET created_at = now() - interval '2 days', "
            "expires_at = now() - interval '1 day' WHERE token_id = %s",
            first["token_id"],
        )
        call("tokens", "revoke", third["token_id"])
        listed = call("tokens", "list", "--json").document
        assert [one["standing"] for one in listed] == ["expired", "valid", "revoked"]
        assert [one["name"] for one in listed] == ["phone", "desk", "old"]
        assert [
            one["name"] for one in call("tokens", "list", "--entity", "ann", "--json").document
        ] == ["phone"]
        shown = call("tokens", "list").out
        for word in ("phone", "ann", "(all)", "read", "expired", "revoked", "never"):
            assert word in shown

    def test_secrets_are_nowhere(self) -> None:
        """Neither the list nor its JSON holds a secret or its digest."""
        secret = made("phone")["secret"]
        for options in ((), ("--json",)):
            shown = call("tokens", "list", *options).out
            assert secret not in shown
            assert "digest" not in shown

    def test_nothing_to_list_is_said(self) -> None:
        """Without a token, how to make one."""
        assert "tokens create" in call("tokens", "list").out


class TestRevoke:
    """``tokens revoke``: worthless for good."""

    def test_a_revoked_secret_does_not_work(self, deployment: Database) -> None:
        """It is refused from then on; revoking again changes nothing."""
        token = made("phone")
        book = TokenBook(deployment, remember_seconds=0)
        assert book.check(token["secret"]).name == "phone"
        assert "phone: revoked" in call("tokens", "revoke", token["token_id"]).out
        with pytest.raises(TokenError) as caught:
            book.check(token["secret"])
        assert caught.value.reason == "revoked"
        once = call("tokens", "revoke", token["token_id"], "--json").document
        assert call("tokens", "revoke", token["token_id"], "--json").document == once

    @pytest.mark.usefixtures("deployment")
    def test_unknown_numbers_are_refused(self) -> None:
        """A number that no token has is an error."""
        assert "no token has the number 7" in refused("tokens", "revoke", 7)
