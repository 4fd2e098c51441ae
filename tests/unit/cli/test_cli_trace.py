"""``maillab trace`` shows a message from its beginning, by any of its names."""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace

import pytest

from cli_calls import HAND_1, status_of
from maillab.cli import mail
from maillab.errors import UnknownName
from maillab.scenario.state import ScenarioState
from maillab.scenario.stream import Stream

LINES = {
    "mail": """\
postfix/pickup[1]: AAAAAAA1: uid=1000 from=<bob>
postfix/cleanup[1]: AAAAAAA1: message-id=<one@maillab.test>
postfix/qmgr[1]: AAAAAAA1: from=<bob@example.com>, size=300, nrcpt=1 (queue active)
postfix/smtp[1]: AAAAAAA1: to=<joe@example.net>, relay=remote.example.net[198.18.7.20]:25, \
delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as BBBBBBB2)
postfix/qmgr[1]: AAAAAAA1: removed
""",
    "remote": """\
postfix/smtpd[1]: BBBBBBB2: client=mail.example.com[198.18.7.10]
postfix/cleanup[1]: BBBBBBB2: message-id=<one@maillab.test>
postfix/qmgr[1]: BBBBBBB2: from=<bob@example.com>, size=400, nrcpt=1 (queue active)
postfix/local[1]: BBBBBBB2: to=<joe@example.net>, relay=local, \
delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (delivered to mailbox)
postfix/qmgr[1]: BBBBBBB2: removed
""",
}


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Provide a lab with one message in its logs."""
    stream = Stream()
    for host, lines in LINES.items():
        stream.feed(host, [f"Nov 23 09:00:00 x {line}".encode() for line in lines.splitlines()])
    scenario = ScenarioState(stream, {"198.18.7.10": "mail", "198.18.7.20": "remote"})
    lab = SimpleNamespace(
        history_of=lambda _: scenario.history(), project=SimpleNamespace(name=HAND_1)
    )
    monkeypatch.setattr(mail, "_lab", lambda *_, **__: contextlib.nullcontext(lab))


@pytest.mark.parametrize(
    "message", ["<one@maillab.test>", "one@maillab.test", "AAAAAAA1", "BBBBBBB2"]
)
def test_trace_begins_where_the_message_began(
    message: str, logged: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("trace", message) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["message <one@maillab.test>, from <bob@example.com>", "  mail AAAAAAA1"]
    assert "    sent: remote BBBBBBB2" in lines
    assert status_of("trace", message, "--json") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["host"], first["from"], first["state"]) == ("mail", None, "removed")
    assert second == {
        "host": "remote",
        "queue_id": "BBBBBBB2",
        "message_id": "<one@maillab.test>",
        "sender": "bob@example.com",
        "size": 400,
        "state": "removed",
        "waits": False,
        "from": {"host": "mail", "queue_id": "AAAAAAA1", "how": "sent"},
        "attempts": [
            {
                "to": "joe@example.net",
                "orig_to": "",
                "status": "sent",
                "dsn": "2.0.0",
                "relay": "local",
                "reply": "delivered to mailbox",
            }
        ],
    }


def test_a_message_without_a_log_line_is_an_error(
    logged: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("trace", "CCCCCCC3") == UnknownName.exit_code
    assert f"no message 'CCCCCCC3' in the logs of {HAND_1}" in capsys.readouterr().err
