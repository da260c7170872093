"""Log lines: what they are about, and what is never in them."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest

from anomaly_assets import logs
from anomaly_assets.logs import about, bind, configure, current, mask

logger = logging.getLogger("anomaly_assets.somewhere")
SECRET = "tell-nobody-of-this"  # noqa: S105 - of nothing


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Write JSON lines to memory, and leave logging as it was."""
    # A server that writes no access log cuts its logger off for good.
    monkeypatch.setattr(logging.getLogger("uvicorn.access"), "propagate", True)
    stream = io.StringIO()
    configure("json", "info", stream)
    yield stream
    root = logging.getLogger()
    for handler in [one for one in root.handlers if type(one).__module__ == logs.__name__]:
        root.removeHandler(handler)
    for name in ("anomaly_assets", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def read(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_document_with_its_surroundings(lines: io.StringIO) -> None:
    """Time in UTC, level, logger, message, and whatever the block it was written in is about."""
    berlin = timezone(timedelta(hours=1))
    with about(run_id="r1", entity="ann"):
        with about(window=datetime(2026, 1, 31, 9, tzinfo=berlin), stream=None):
            logger.warning("two\nlines of %s", "text")
        logger.info("within")
    logger.info("outside", extra={"stream": "heart_rate"})
    first, second, third = read(lines)
    assert datetime.fromisoformat(str(first.pop("time"))).tzinfo == UTC
    assert first == {
        "level": "warning",
        "logger": "anomaly_assets.somewhere",
        "message": "two\nlines of text",
        "run_id": "r1",
        "entity": "ann",
        "window": "2026-01-31T08:00:00Z",
    }
    assert (second["entity"], "window" in second) == ("ann", False)
    assert "entity" not in third
    assert third["stream"] == "heart_rate"


def test_our_lines_have_a_level_and_libraries_only_warn(lines: io.StringIO) -> None:
    """Below the level nothing is written; a library's chatter is not either."""
    logger.debug("too low")
    logging.getLogger("alembic").info("chatter")
    logging.getLogger("alembic").warning("trouble")
    assert [line["message"] for line in read(lines)] == ["trouble"]
    configure("json", "debug", lines)
    logger.debug("low enough")
    assert read(lines)[-1]["message"] == "low enough"
    assert len(read(lines)) == 2


def test_an_exception_comes_with_its_traceback_and_without_its_secret(lines: io.StringIO) -> None:
    """Type and traceback are fields of the same line; a password in the message is masked."""
    error = RuntimeError(f"cannot connect to postgresql://ann:{SECRET}@db/watch")
    logger.error("it broke", exc_info=error)
    (line,) = read(lines)
    assert SECRET not in lines.getvalue()
    exception = line["exception"]
    assert isinstance(exception, dict)
    assert exception["type"] == "RuntimeError"
    assert "ann:***@db" in exception["traceback"]


@pytest.mark.parametrize(
    "text",
    [
        f"redis://:{SECRET}@cache:6379/0",
        f"postgresql+psycopg2://ann:{SECRET}@db/x and more",
        f"/v1/events?token={SECRET}&entity_id=ann",
        f"Authorization: Bearer {SECRET}",
        f'{{"webhook_secret": "{SECRET}"}}',
        f"ANOMALY_ASSETS_SIGNING_KEY={SECRET}",
        f"api-key: {SECRET}",
        f"aa_{'x' * 20}{SECRET}",
        f"whsec_{SECRET}",
    ],
)
def test_secrets_are_masked(text: str) -> None:
    """Passwords in addresses, tokens in queries and headers, keys by their name."""
    assert SECRET not in mask(text)
    assert "***" in mask(text)


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:8000/docs", "ann: 3 windows", "2026-01-31T08:00:00Z", "a@b.example"]
)
def test_what_is_no_secret_stays(text: str) -> None:
    """A port is no password, and a mail address no login."""
    assert mask(text) == text


def test_a_request_is_told_in_parts(lines: io.StringIO) -> None:
    """The access log of uvicorn has client, method, path and status as fields, tokens masked."""
    logging.getLogger("uvicorn.access").info(
        '%s - "%s %s HTTP/%s" %d',
        "127.0.0.1:5000",
        "GET",
        f"/v1/latest?token={SECRET}",
        "1.1",
        200,
    )
    (line,) = read(lines)
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/latest?token=***", 200)
    assert SECRET not in lines.getvalue()


def test_surroundings_end_with_their_block_and_belong_to_their_thread() -> None:
    """A generator left half-way, an exception and another thread leave nothing behind."""

    def windows() -> Generator[int]:
        with about(entity="ann"):
            yield 1
            yield 2

    steps = windows()
    next(steps)
    steps.close()
    assert current() == {}
    with pytest.raises(ValueError, match="on purpose"), about(entity="bob"):
        raise ValueError("on purpose")  # noqa: EM101, TRY003 - of the test alone
    assert current() == {}
    with ThreadPoolExecutor(1) as pool:
        pool.submit(bind, entity="carl").result()
    assert current() == {}


def test_text_is_for_people(lines: io.StringIO) -> None:
    """One line with the surroundings in brackets, the traceback below, and no secret."""
    stream = io.StringIO()
    configure("text", "info", stream)
    with about(entity="ann"):
        logger.warning("postgresql://ann:%s@db is away", SECRET)
    assert stream.getvalue().endswith(
        "WARNING anomaly_assets.somewhere: postgresql://ann:***@db is away [entity=ann]\n"
    )
    assert lines.getvalue() == ""


def test_a_command_writes_json_where_it_is_asked_to() -> None:
    """The command line takes form and level from the settings before it does anything."""
    code = (
        "import logging, sys, anomaly_assets.cli as cli\n"
        "cli.app = lambda: logging.getLogger('anomaly_assets.x').warning('hello')\n"
        "cli.main()\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"ANOMALY_ASSETS_LOG_FORMAT": "json", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(run.stderr)["message"] == "hello"
