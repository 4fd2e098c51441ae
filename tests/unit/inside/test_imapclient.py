"""The agent's IMAP client, against a scripted server on this machine's loopback."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import pytest

import imapclient
from lineserver import BOUND_S, HERE, Session, line_server

GREETING = "* OK [CAPABILITY IMAP4rev1] ready"
LIST = '* LIST (\\HasNoChildren) "." "My Lists"\r\n* LIST () NIL INBOX\r\nTAG OK done'
LETTER = "Subject: one\r\n\r\ncaf\xe9\r\n.\r\n"
ANSWERS = {
    "CAPABILITY": "* CAPABILITY IMAP4rev1\r\nTAG OK done",
    "LOGIN": "TAG OK Logged in",
    "LIST": LIST,
    "EXAMINE INBOX": "* 1 EXISTS\r\nTAG OK [READ-ONLY] done",
    "EXAMINE": "* 0 EXISTS\r\nTAG OK [READ-ONLY] done",
    "FETCH": f"* 1 FETCH (BODY[] {{{len(LETTER)}}}\r\n{LETTER})\r\nTAG OK done",
    "LOGOUT": "* BYE bye\r\nTAG OK done",
}


def scripted(
    answers: Mapping[str, str], greeting: str = GREETING
) -> AbstractContextManager[tuple[int, list[str]]]:
    """Return a server that closes at a command without an answer; see ``line_server``.

    The longest key that a command starts with decides; TAG stands for the command's tag.
    """

    def talk(session: Session) -> None:
        session.write(greeting)
        while line := session.read():
            tag, _, command = line.replace('"', "").partition(" ")
            known = [key for key in answers if command.startswith(key)]
            if not known:
                return
            session.write(re.sub("(?m)^TAG", tag, answers[max(known, key=len)]))

    return line_server(talk)


def read(port: int, **more: str) -> dict[str, Any]:
    """Run one session as alice."""
    account = {"user": "alice", "password": "wonder"}
    session = imapclient.imap_read(server=HERE, port=port, timeout_s=BOUND_S, **account, **more)
    return asyncio.run(session)


def test_every_folder_is_read_and_nothing_is_changed() -> None:
    """Bytes are unchanged; folders are opened for reading, and messages are not marked as seen."""
    with scripted(ANSWERS) as (port, heard):
        found = read(port)

    assert found == {
        "greeting": GREETING,
        "login": "Logged in",
        "folders": {"INBOX": [LETTER], "My Lists": []},
        "error": "",
    }
    commands = [line.partition(" ")[2] for line in heard]
    assert 'EXAMINE "My Lists"' in commands
    assert "FETCH 1:* (BODY.PEEK[])" in commands
    assert commands[-1] == "LOGOUT"


def test_a_refused_password_is_no_error_of_the_session() -> None:
    refused = ANSWERS | {"LOGIN": "TAG NO [AUTHENTICATIONFAILED] Authentication failed."}

    with scripted(refused) as (port, _):
        found = read(port)

    assert found["login"] == "[AUTHENTICATIONFAILED] Authentication failed."
    assert (found["folders"], found["error"]) == ({}, "")


def test_a_folder_that_does_not_open_is_an_error() -> None:
    with scripted(ANSWERS | {"EXAMINE": "TAG NO [SERVERBUG] broken"}) as (port, _):
        found = read(port)

    assert found["error"] == "error: [SERVERBUG] broken"


def test_a_session_that_breaks_off_is_an_error() -> None:
    """The replies until then are there."""
    with scripted({"CAPABILITY": ANSWERS["CAPABILITY"], "LOGIN": ANSWERS["LOGIN"]}) as (port, _):
        found = read(port)

    assert found["login"] == "Logged in"
    assert found["error"].startswith("abort: ")


def test_a_server_that_sends_no_greeting_of_imap_is_an_error() -> None:
    with scripted({}, greeting="220 mail ESMTP") as (port, _):
        found = read(port)

    assert (found["greeting"], found["login"]) == ("", "")
    assert found["error"]


def test_no_server_is_an_error() -> None:
    with socket.create_server((HERE, 0)) as listener:
        port = listener.getsockname()[1]

    assert read(port)["error"].startswith("ConnectionRefusedError: ")


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_server_without_tls_is_an_error(security: str) -> None:
    with scripted(ANSWERS) as (port, _):
        found = read(port, security=security)

    assert found["login"] == ""
    assert found["error"]
