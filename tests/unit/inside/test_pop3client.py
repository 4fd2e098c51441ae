"""The agent's POP3 client, against a scripted server on this machine's loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest

import pop3client
from lineserver import BOUND_S, HERE, Session, line_server

GREETING = "+OK ready"
LOGIN = ["+OK", "+OK Logged in."]


def scripted(replies: Sequence[str]) -> AbstractContextManager[tuple[int, list[str]]]:
    """Return a server that replies line by line, then closes; see ``line_server``."""

    def talk(session: Session) -> None:
        session.write(replies[0])
        for reply in replies[1:]:
            session.read()
            session.write(reply)

    return line_server(talk)


def read(port: int) -> dict[str, Any]:
    """Run one session as alice."""
    account: dict[str, Any] = {"user": "alice", "password": "wonder"}
    session = pop3client.pop3_read(address=HERE, port=port, timeout_s=BOUND_S, **account)
    return asyncio.run(session)


def test_messages_are_complete_and_stay() -> None:
    """Bytes are unchanged except for line ends and stuffed dots; nothing is deleted."""
    messages = ["Subject: one\r\n\r\n..\r\ncaf\xe9\r\n.", "Subject: two\r\n\r\ntext\r\n."]
    replies = [GREETING, *LOGIN, "+OK 2 99", *(f"+OK\r\n{text}" for text in messages), "+OK bye"]

    with scripted(replies) as (port, commands):
        found = read(port)

    assert found == {
        "greeting": "+OK ready",
        "login": "+OK Logged in.",
        "messages": ["Subject: one\n\n.\ncaf\xe9\n", "Subject: two\n\ntext\n"],
        "error": "",
    }
    assert commands == ["USER alice", "PASS wonder", "STAT", "RETR 1", "RETR 2", "QUIT"]


@pytest.mark.parametrize(
    ("replies", "commands"),
    [
        ([GREETING, "+OK", "-ERR [AUTH] no"], ["USER alice", "PASS wonder"]),
        ([GREETING, "-ERR [AUTH] no"], ["USER alice"]),
    ],
    ids=["password", "user"],
)
def test_a_refused_login_is_an_answer(replies: list[str], commands: list[str]) -> None:
    """The server's reply is the result of the login, and there are no messages."""
    with scripted(replies) as (port, heard):
        found = read(port)

    assert (found["greeting"], found["login"]) == ("+OK ready", "-ERR [AUTH] no")
    assert (found["messages"], found["error"]) == ([], "")
    assert heard == commands


def test_an_error_as_greeting_is_reported() -> None:
    """The greeting is "", and the error has the server's text."""
    with scripted(["-ERR busy"]) as (port, _):
        found = read(port)

    assert (found["greeting"], found["error"]) == ("", "error_proto: -ERR busy")


def test_a_session_cut_short_keeps_the_messages_so_far() -> None:
    """The messages read before the server closed are there, and so is the reason."""
    with scripted([GREETING, *LOGIN, "+OK 2 99", "+OK\r\nSubject: one\r\n\r\n."]) as (port, _):
        found = read(port)

    assert found["login"] == "+OK Logged in."
    assert found["messages"] == ["Subject: one\n\n"]
    assert found["error"]


def test_a_refused_connection_is_reported() -> None:
    """A refused connection is a result, not an error of the harness."""
    with socket.create_server((HERE, 0)) as listener:
        port = listener.getsockname()[1]

    found = read(port)

    assert found["greeting"] == ""
    assert found["error"].startswith("ConnectionRefusedError: ")
