"""Session cookies: forged, old and ended ones are refused, and forms of other sessions too."""

from __future__ import annotations

from anomaly_assets.dashboard.sessions import Sessions

KEY = b"0123456789abcdef"


def test_a_cookie_is_good_until_its_time_is_over() -> None:
    """A session ends by itself, to the second."""
    now = 1000.0
    sessions = Sessions(KEY, seconds=60, clock=lambda: now)
    cookie = sessions.open(3)
    now = 1059.0
    assert sessions.read(cookie) is not None
    now = 1060.0
    assert sessions.read(cookie) is None


def test_a_changed_cookie_is_refused() -> None:
    """Neither another token, nor a later end, nor another key's signature is taken."""
    sessions = Sessions(KEY, seconds=60, clock=lambda: 1000.0)
    cookie = sessions.open(3)
    version, token, until, *rest = cookie.split(".")
    for forged in (
        ".".join([version, "1", until, *rest]),
        ".".join([version, token, "9999999999", *rest]),
        cookie[:-1] + ("0" if cookie[-1] != "0" else "1"),
        Sessions(b"another key of sixteen", seconds=60, clock=lambda: 1000.0).open(3),
        "",
        "v1....",
        cookie + "\n",
    ):
        assert sessions.read(forged) is None


def test_ending_a_session_ends_every_copy_of_its_cookie() -> None:
    """After logging out a stolen cookie is worth nothing; other sessions go on."""
    sessions = Sessions(KEY, seconds=60, clock=lambda: 1000.0)
    one, other = sessions.open(3), sessions.open(3)
    session = sessions.read(one)
    assert session is not None
    sessions.end(session)
    assert sessions.read(one) is None
    assert sessions.read(other) is not None


def test_a_mark_belongs_to_one_session_and_is_new_each_time() -> None:
    """A form of one session is none of another's, and no two pages hold the same mark."""
    sessions = Sessions(KEY, seconds=60, clock=lambda: 1000.0)
    one, other = (sessions.read(sessions.open(3)) for _ in range(2))
    assert one is not None
    assert other is not None
    mark = sessions.mark(one)
    assert sessions.accepts(one, mark)
    assert mark != sessions.mark(one)
    assert not sessions.accepts(other, mark)
    assert not sessions.accepts(one, mark[::-1])
    assert not sessions.accepts(one, "")
