"""The agent's IMAP client, against a scripted server on this machine's loopback."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Iterator, Mapping
from threading import Thread
from typing import Any

import pytest

import imapclient

HERE = "127.0.0.1"
BOUND_S = 20.0
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


@contextlib.contextmanager
def scripted(
    answers: Mapping[str, str], greeting: str = GREETING
) -> Iterator[tuple[int, list[str]]]:
    """Yield the port of a server, and its input; it closes at a command without an answer.

    The longest key that a command starts with decides; TAG stands for the command's tag.
    """
    lines: list[str] = []
    with socket.create_server((HERE, 0)) as listener:
        listener.settimeout(BOUND_S)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rwb") as stream:
                stream.write(f"{greeting}\r\n".encode())
                stream.flush()
                for line in stream:
                    tag, _, command = line.decode(errors="replace").strip().partition(" ")
                    command = command.replace('"', "")
                    lines.append(command)
                    known = [key for key in answers if command.startswith(key)]
                    if not known:
                        return
                    answer = re.sub("(?m)^TAG", tag, answers[max(known, key=len)])
                    stream.write(answer.encode("latin-1") + b"\r\n")
                    stream.flush()

        server = Thread(target=serve)
        server.start()
        yield listener.getsockname()[1], lines
        server.join(BOUND_S)


def read(port: int, **more: str) -> dict[str, Any]:
    """Run one session as alice."""
    account = {"user": "alice", "password": "wonder"}
    session = imapclient.imap_read(server=HERE, port=port, timeout_s=BOUND_S, **account, **more)
    return asyncio.run(session)


def test_every_folder_is_read_and_nothing_is_changed() -> None:
    """Bytes are unchanged; folders are opened for reading, and messages are not marked as seen."""
    with scripted(ANSWERS) as (port, commands):
        found = read(port)

    assert found == {
        "greeting": GREETING,
        "login": "Logged in",
        "folders": {"INBOX": [LETTER], "My Lists": []},
        "error": "",
    }
    assert "EXAMINE My Lists" in commands
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
