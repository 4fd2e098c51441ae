"""An SMTP session as scenarios use it; the agent is scripted."""

from __future__ import annotations

from typing import Any, cast

import pytest

from maillab.engine.channel import Channel
from maillab.errors import UnknownName
from maillab.hosts.host import Host
from maillab.scenario.state import ScenarioState
from maillab.scenario.stream import Stream
from maillab.site.topology import Role


class Agent:
    """Answers each step of a session with the next reply, and records the requests."""

    def __init__(self, *replies: str) -> None:
        self.replies = list(replies)
        self.asked: list[str] = []

    def call(self, operation: str, **given: Any) -> dict[str, Any]:
        """Perform one operation of the agent's SMTP client."""
        if operation == "smtp_close":
            return {}
        words = given.get("line") or given.get("name") or ""
        self.asked.append(f"{operation.removeprefix('smtp_')} {words}".strip())
        code, _, text = self.replies.pop(0).partition(" ")
        return {"session": 1, "code": int(code), "text": text, "waited_s": 0.0}


def host(name: str, agent: Agent) -> Host:
    role = Role(name, f"{name}.test", (10,))
    return Host(role, "198.18.0", cast("Channel", agent), ScenarioState(Stream(), {}))


def test_auth_plain_is_one_line() -> None:
    """RFC 4616: no authorization identity, then user and password."""
    agent = Agent("220 hi", "235 2.7.0 in")

    with host("me", agent).session("198.18.0.1") as session:
        reply = session.auth("joe", "pw")

    assert reply.code == 235
    assert agent.asked == ["open", "command AUTH PLAIN AGpvZQBwdw=="]


def test_auth_login_answers_every_prompt() -> None:
    """Every reply is kept."""
    agent = Agent("220 hi", "334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "535 5.7.8 no")

    with host("me", agent).session("198.18.0.1") as session:
        reply = session.auth("joe", "pw", "LOGIN")

    assert str(reply) == "535 5.7.8 no"
    assert agent.asked[1:] == ["command AUTH LOGIN", "command am9l", "command cHc="]
    assert [kept.code for _, kept in session.replies] == [220, 334, 334, 535]


def test_auth_stops_when_the_server_refuses() -> None:
    """A server that does not ask for the password does not get it."""
    agent = Agent("220 hi", "503 5.5.1 Error: authentication not enabled")

    with host("me", agent).session("198.18.0.1") as session:
        reply = session.auth("joe", "pw", "LOGIN")

    assert reply.code == 503
    assert agent.asked[1:] == ["command AUTH LOGIN"]


def test_a_refused_token_is_answered_with_an_empty_line() -> None:
    """The server gives its reason first."""
    agent = Agent("220 hi", "334 eyJzdGF0dXMiOiI0MDEifQ==", "535 5.7.8 no")

    with host("me", agent).session("198.18.0.1") as session:
        reply = session.auth("joe", "token", "XOAUTH2")

    assert reply.code == 535
    whole = "dXNlcj1qb2UBYXV0aD1CZWFyZXIgdG9rZW4BAQ=="
    assert agent.asked[1:] == [f"command AUTH XOAUTH2 {whole}", "command"]


def test_an_unknown_mechanism_is_named() -> None:
    """The error lists the known mechanisms."""
    with (
        host("me", Agent("220 hi")).session("198.18.0.1") as session,
        pytest.raises(UnknownName, match=r"'XYZ' \(choose from PLAIN, LOGIN, XOAUTH2\)"),
    ):
        session.auth("joe", "pw", "XYZ")


def test_starttls_checks_the_servers_name_and_keeps_the_result() -> None:
    """A host of the lab has a name; for an address, the name is the address."""
    agent = Agent("220 hi", "220 2.0.0 Ready to start TLS")

    with host("me", agent).session(host("mx", agent)) as session:
        reply = session.starttls()

    assert reply.code == 220
    assert agent.asked == ["open", "starttls mx.test"]
    assert session.replies[-1] == ("STARTTLS", reply)


def test_a_failed_handshake_ends_the_session() -> None:
    """The session sends no more commands."""
    agent = Agent("220 hi", "0 SSLCertVerificationError: no")

    with host("me", agent).session("198.18.0.1") as session:
        session.starttls()
        replies = [session.starttls(), session.ehlo()]

    assert [reply.code for reply in replies] == [0, 0]
    assert agent.asked == ["open", "starttls 198.18.0.1"]


def test_submission_with_a_login_sends_the_commands_in_order() -> None:
    """EHLO is repeated after STARTTLS, and AUTH comes before MAIL."""
    agent = Agent(
        *("220 hi", "250 mx", "220 go", "250 mx", "235 2.7.0 in"),
        *("250 ok", "250 ok", "250 2.0.0 Ok: queued as 1A2B3C", "221 bye"),
    )

    mail = host("me", agent).smtp(
        "joe@example.net", server=host("mx", agent), port=587, starttls=True, login=("joe", "pw")
    )

    assert mail.submission.outcome == "acknowledged"
    assert [asked.split(" ")[1] for asked in agent.asked if " " in asked] == (
        ["EHLO", "mx.test", "EHLO", "AUTH", "MAIL", "RCPT", "QUIT"]
    )


@pytest.mark.parametrize(
    ("replies", "code"),
    [
        (("220 hi", "250 mx", "502 5.5.1 no TLS", "221 bye"), 502),
        (("220 hi", "250 mx", "220 go", "250 mx", "535 5.7.8 no", "221 bye"), 535),
    ],
    ids=["no TLS", "wrong password"],
)
def test_a_failed_login_is_a_refusal_with_the_servers_reply(
    replies: tuple[str, ...], code: int
) -> None:
    """MAIL is not sent."""
    agent = Agent(*replies)

    mail = host("me", agent).smtp(
        "joe@example.net", server=host("mx", agent), starttls=True, login=("joe", "pw")
    )

    assert (mail.submission.outcome, mail.submission.code) == ("refused", code)
    assert mail.rejected(code)
    assert not any("MAIL" in asked for asked in agent.asked)
