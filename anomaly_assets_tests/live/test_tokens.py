"""Tokens: who holds one gets what it allows while it lives, and it is written down nowhere."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime, timedelta, tzinfo
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from anomaly_assets.errors import InputError
from anomaly_assets.live import tokens as module
from anomaly_assets.live.tokens import Principal, TokenBook, TokenError
from anomaly_assets.storage.database import Database, DatabaseUnreachableError
from anomaly_assets.storage.tokens import find_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from anomaly_assets.storage.database import Connection
    from anomaly_assets.storage.tokens import Token

SOON = timedelta(days=1)
#: Long enough that nothing is forgotten within a test.
LONG = 3600.0


def now() -> datetime:
    return datetime.now(tz=UTC)


def refusal(check: Callable[[str], object], secret: str) -> str:
    """Return the reason of a refusal, whose message does not hold the secret."""
    with pytest.raises(TokenError) as caught:
        check(secret)
    if secret:
        assert secret not in str(caught.value)
    return caught.value.reason


def age(database: Database, **columns: datetime) -> None:
    """Set moments of every token by hand."""
    with database.connect() as connection:
        for column, moment in columns.items():
            connection.execute(f"UPDATE api_tokens SET {column} = %s", (moment,))  # noqa: S608 - ours


class TestMaking:
    """A secret is made once and known to its holder alone."""

    def test_secrets_are_long_random_and_safe_in_a_header(self, database: Database) -> None:
        """A secret is ``aa_`` and 43 characters that need no quoting; no two are alike."""
        book = TokenBook(database)
        made = [book.create("phone") for _ in range(3)]
        assert all(re.fullmatch(r"aa_[A-Za-z0-9_-]{43}", secret) for secret in made)
        assert len(set(made)) == 3

    def test_only_the_digest_is_stored(self, database: Database) -> None:
        """No column of the table holds the secret or a part of it; the digest is its SHA-256."""
        secret = TokenBook(database).create("phone", entity_id="ann")
        with database.connect() as connection:
            row = connection.execute("SELECT t.digest, t::text FROM api_tokens AS t").fetchone()
        assert row is not None
        assert row[0] == sha256(secret.encode()).digest()
        assert secret[3:11] not in row[1]

    def test_what_is_listed_cannot_be_used(self, database: Database) -> None:
        """The list tells names and standing, and neither secret nor digest."""
        book = TokenBook(database)
        secret = book.create("phone", entity_id="ann", read=False, expires=now() + SOON)
        book.create("desk")
        phone, desk = book.tokens()
        assert (phone.name, phone.entity_id, phone.may_read, phone.may_write) == (
            "phone",
            "ann",
            False,
            True,
        )
        assert (desk.entity_id, desk.expires_at, desk.revoked_at, desk.last_used_at) == (None,) * 4
        assert book.tokens(entity_id="ann") == [phone]
        assert secret not in repr(phone)
        assert sha256(secret.encode()).hexdigest() not in repr(phone)

    def test_useless_tokens_are_refused(self, database: Database) -> None:
        """One that allows nothing, is over, has no zone, no name or no possible entity."""
        book = TokenBook(database)
        with pytest.raises(InputError, match="would allow nothing"):
            book.create("phone", read=False, write=False)
        with pytest.raises(InputError, match="in the future"):
            book.create("phone", expires=now() - timedelta(seconds=1))
        with pytest.raises(InputError, match="no time zone"):
            book.create("phone", expires=datetime(2100, 1, 1))  # noqa: DTZ001 - the mistake
        for name in ("", "  ", "a\nb", "x" * 201):
            with pytest.raises(InputError, match="printable"):
                book.create(name)
        with pytest.raises(InputError, match="entity id"):
            book.create("phone", entity_id="a\0b")
        assert book.tokens() == []


class TestChecking:
    """A secret stands for its principal, or is refused for a reason."""

    def test_principal_is_what_was_made(self, database: Database) -> None:
        """Number, name, entity and rights are those of the token."""
        book = TokenBook(database)
        secret, token = book.issue("phone", entity_id="ann", read=False)
        assert book.check(secret) == Principal(
            token.token_id, "phone", "ann", may_write=True, may_read=False
        )
        assert TokenBook(database).check(book.create("desk")).entity_id is None

    @pytest.mark.parametrize(
        "secret",
        [
            "",
            "aa_",
            "aa_" + "x" * 42,
            "aa_" + "x" * 44,
            "aa_" + "x" * 43,
            "aa_" + "x" * 43 + "\n",
            "bb_" + "x" * 43,
            "aa_" + "ä" * 43,
            "aa_" + "\0" * 43,
            "' OR true; --",
            "\udcff",
        ],
    )
    def test_what_nobody_made_is_unknown(self, database: Database, secret: str) -> None:
        """Whatever its form, it is refused and not an error of another kind."""
        book = TokenBook(database)
        book.create("phone")
        assert refusal(book.check, secret) == "unknown"

    def test_malformed_secrets_cost_no_query(self) -> None:
        """What cannot be a secret is refused although the database is away."""
        book = TokenBook(Database("postgresql://ann@127.0.0.1:1/none"))
        assert refusal(book.check, "aa_short") == "unknown"
        assert refusal(book.recall, "aa_short") == "unknown"

    def test_a_changed_character_is_unknown(self, database: Database) -> None:
        """A secret that is right but for its last character is as wrong as any other."""
        book = TokenBook(database)
        secret = book.create("phone")
        other = secret[:-1] + ("A" if secret[-1] != "A" else "B")
        assert refusal(book.check, other) == "unknown"
        assert book.check(secret).name == "phone"

    def test_the_whole_digest_counts(self, database: Database) -> None:
        """What is remembered of one secret is not said of another whose digest begins alike."""
        book = TokenBook(database, remember_seconds=LONG)
        mine, other = book.create("phone"), book.create("desk")
        book.check(mine)
        key = sha256(other.encode()).digest()[:8]
        book._remembered[key] = book._remembered[sha256(mine.encode()).digest()[:8]]
        assert book.recall(other) is None
        assert book.check(other).name == "desk"

    def test_over_is_over(self, database: Database) -> None:
        """From the moment it expires a token is refused, remembered or not."""
        book = TokenBook(database, remember_seconds=LONG)
        secret = book.create("phone", expires=now() + SOON)
        assert book.check(secret).name == "phone"
        age(database, created_at=now() - 2 * SOON, expires_at=now() - SOON)
        assert refusal(TokenBook(database).check, secret) == "expired"

    def test_expiry_is_seen_without_asking(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A token that runs out while it is remembered is refused at once."""
        book = TokenBook(database, remember_seconds=LONG)
        secret = book.create("phone", expires=now() + SOON)
        assert book.check(secret).name == "phone"

        class Tomorrow:
            @staticmethod
            def now(tz: tzinfo) -> datetime:
                return datetime.now(tz=tz) + SOON

        monkeypatch.setattr(module, "datetime", Tomorrow)
        assert refusal(book.check, secret) == "expired"
        assert refusal(book.recall, secret) == "expired"


class TestRevoking:
    """A revoked token is worth nothing, here at once and elsewhere within seconds."""

    def test_here_at_once(self, database: Database) -> None:
        """The book that revokes forgets what it remembered."""
        book = TokenBook(database, remember_seconds=LONG)
        secret, token = book.issue("phone")
        book.check(secret)
        assert book.revoke(token.token_id).revoked_at is not None
        assert refusal(book.check, secret) == "revoked"

    def test_elsewhere_when_it_asks_again(self, database: Database) -> None:
        """Another process trusts what it remembers, and no longer than it was told to."""
        here = TokenBook(database)
        trusting = TokenBook(database, remember_seconds=LONG)
        strict = TokenBook(database, remember_seconds=0)
        secret, token = here.issue("phone")
        assert trusting.check(secret) == strict.check(secret)
        here.revoke(token.token_id)
        assert trusting.check(secret).name == "phone"
        assert refusal(strict.check, secret) == "revoked"

    def test_again_keeps_the_first_time(self, database: Database) -> None:
        """Revoking twice is revoking once; a number nobody has is an error."""
        book = TokenBook(database)
        token = book.issue("phone")[1]
        assert book.revoke(token.token_id) == book.revoke(token.token_id)
        with pytest.raises(InputError, match="no token has the number 999"):
            book.revoke(999)

    def test_an_answer_from_before_does_not_bring_it_back(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A check that was under way while its token was revoked is not remembered."""
        book = TokenBook(database, remember_seconds=LONG)
        secret, token = book.issue("phone")

        def slowly(connection: Connection, digest: bytes) -> Token | None:
            found = find_token(connection, digest)
            book.revoke(token.token_id)
            return found

        monkeypatch.setattr(module, "find_token", slowly)
        book.check(secret)
        assert book.recall(secret) is None
        monkeypatch.undo()
        assert refusal(book.check, secret) == "revoked"


class TestRemembering:
    """A busy sender costs no query a request, and an outage is noticed."""

    def test_recall_answers_what_was_just_asked(self, database: Database) -> None:
        """Before a check nothing is known, after it the principal, or the refusal."""
        book = TokenBook(database, remember_seconds=LONG)
        secret, unknown = book.create("phone"), "aa_" + "x" * 43
        assert book.recall(secret) is None
        assert book.recall(unknown) is None
        principal = book.check(secret)
        assert refusal(book.check, unknown) == "unknown"
        assert book.recall(secret) == principal
        assert refusal(book.recall, unknown) == "unknown"

    def test_a_database_that_is_away_is_said_so(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is remembered still answers; anything else is an outage, not a wrong token."""
        book = TokenBook(database, remember_seconds=LONG)
        secret, other = book.create("phone"), book.create("desk")
        book.check(secret)
        away = Database("postgresql://ann@127.0.0.1:1/none")
        monkeypatch.setattr(book, "_database", away)
        assert book.check(secret).name == "phone"
        with pytest.raises(DatabaseUnreachableError):
            book.check(other)
        monkeypatch.undo()
        assert book.check(other).name == "desk"

    def test_no_more_than_so_many_are_remembered(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Guessed secrets do not fill the memory; the oldest go first."""
        monkeypatch.setattr(module, "_MOST_REMEMBERED", 2)
        book = TokenBook(database, remember_seconds=LONG)
        made = [book.create("phone") for _ in range(3)]
        for secret in made:
            book.check(secret)
        assert [book.recall(secret) is None for secret in made] == [True, False, False]

    def test_use_is_noted_to_the_hour(self, database: Database) -> None:
        """A check leaves the hour it happened in, never more than that."""
        book = TokenBook(database, remember_seconds=0)
        secret = book.create("phone")
        book.check(secret)
        (token,) = book.tokens()
        assert token.last_used_at is not None
        assert now() - token.last_used_at < timedelta(hours=1, minutes=1)
        assert (token.last_used_at.minute, token.last_used_at.second) == (0, 0)
        age(database, last_used_at=now() - timedelta(days=3))
        book.check(secret)
        (again,) = book.tokens()
        assert again.last_used_at is not None
        assert again.last_used_at >= token.last_used_at

    def test_a_database_that_cannot_write_still_knows_its_tokens(self, database: Database) -> None:
        """Where the use cannot be noted, the token is as good as ever."""
        book = TokenBook(database, remember_seconds=0)
        secret = book.create("phone")
        with database.connect() as connection:
            connection.execute(
                f"ALTER DATABASE {database.name} SET default_transaction_read_only = on"
            )
        assert book.check(secret).name == "phone"
        assert book.tokens()[0].last_used_at is None

    def test_threads_share_a_book(self, database: Database) -> None:
        """Checked by several threads at once, every token is its own principal."""
        book = TokenBook(database, remember_seconds=0)
        made = {name: book.create(name) for name in ("phone", "desk", "watch")}
        wrong: list[str] = []

        def work(name: str) -> None:
            wrong.extend(name for _ in range(10) if book.check(made[name]).name != name)

        threads = [threading.Thread(target=work, args=(name,)) for name in made for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


class TestRights:
    """What a principal may."""

    ANN = Principal(1, "phone", "ann", may_write=True, may_read=False)
    ALL = Principal(2, "desk", None, may_write=False, may_read=True)

    def test_its_entity_and_no_other(self) -> None:
        """A token of one entity is no good for another one, nor for the deployment."""
        assert self.ANN.allows("ann", write=True)
        assert not self.ANN.allows("bob", write=True)
        assert not self.ANN.allows("", write=True)
        assert not self.ANN.allows(None, write=True)

    def test_what_it_was_made_for(self) -> None:
        """Writing does not include reading, nor the other way round."""
        assert not self.ANN.allows("ann", write=False)
        assert self.ALL.allows("bob", write=False)
        assert self.ALL.allows(None, write=False)
        assert not self.ALL.allows("bob", write=True)


def test_what_was_good_is_known_as_such_until_it_is_not(database: Database) -> None:
    """Only a lookup proves a token; once revoked, the next lookup takes that back."""
    book = TokenBook(database, remember_seconds=0.0)
    secret, token = book.issue("phone")
    assert not book.is_proven(secret)
    book.check(secret)
    assert book.is_proven(secret)
    assert not book.is_proven("aa_" + "A" * 43)
    book.revoke(token.token_id)
    with pytest.raises(TokenError):
        book.check(secret)
    assert not book.is_proven(secret)
