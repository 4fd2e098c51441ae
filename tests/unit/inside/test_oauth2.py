"""The provider's token endpoint: tokens that last for a time, and questions about them."""

from __future__ import annotations

import pytest

import oauth2

SETTINGS = oauth2.configuration("# x\nRefreshTokens r1=office, r2=alice\nLifetime_s 3600\n")
LOGIN = oauth2.Login(SETTINGS, b"secret")
NOW = 1_000_000.0


def token(login: oauth2.Login, refresh_token: str = "r1") -> str:  # noqa: S107  # of no account
    """Return a new access token."""
    question = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    status, answer = login.token(question, NOW)
    assert (status, answer["expires_in"]) == (200, 3600)
    return str(answer["access_token"])


@pytest.mark.parametrize(("after_s", "active"), [(0, True), (3599, True), (3600, False)])
def test_a_token_lasts_for_its_time(after_s: float, *, active: bool) -> None:
    """A restart of the program forgets no token."""
    given = token(LOGIN, "r2")
    restarted = oauth2.Login(SETTINGS, b"secret")

    _, answer = restarted.introspect({"token": given}, NOW + after_s)

    assert answer["active"] is active
    assert answer.get("username") == ("alice" if active else None)


@pytest.mark.parametrize("forged", ["", "secret", "a.b", "e30=.e30=", "\xff.\xff"])
def test_a_token_that_was_not_issued_is_not_active(forged: str) -> None:
    assert LOGIN.introspect({"token": forged}, NOW) == (200, {"active": False})


def test_a_token_with_another_seal_is_not_active() -> None:
    other = oauth2.Login(SETTINGS, b"another secret")

    assert LOGIN.introspect({"token": token(other)}, NOW) == (200, {"active": False})


def test_a_refresh_token_that_was_revoked_gives_nothing() -> None:
    """RFC 6749 section 5.2."""
    question = {"grant_type": "refresh_token", "refresh_token": "r3"}

    status, answer = LOGIN.token(question, NOW)

    assert (status, answer["error"]) == (400, "invalid_grant")
    assert LOGIN.token({}, NOW)[1]["error"] == "unsupported_grant_type"
