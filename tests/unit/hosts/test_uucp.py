"""UUCP: parsing of its log and its spool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import uucpspool
from maillab.engine.channel import Channel
from maillab.errors import CommandFailed
from maillab.hosts import uucp
from maillab.hosts.postfix import PostfixHost
from maillab.scenario.state import ScenarioState
from maillab.scenario.stream import Stream
from maillab.site.topology import Role

COMPLETED = """\
uucico gateway - (2026-11-25 15:15:30.21 31) Calling system gateway (port TCP)
uucico gateway - (2026-11-25 15:15:31.32 31) Login successful
uucico gateway - (2026-11-25 15:15:31.41 31) Handshake successful (protocol 't')
uucico gateway uucp (2026-11-25 15:15:31.50 31) Sending rmail joe@example.net (D.0001) (400 bytes)
uucico gateway uucp (2026-11-25 15:15:31.51 31) Receiving rmail a@x.test b@x.test (425 bytes)
uucico gateway uucp (2026-11-25 15:15:31.52 31) Receiving rsmtp (512 bytes)
uucico gateway - (2026-11-25 15:15:31.62 31) Call complete (0 seconds 425 bytes 0 bps)
uuxqt gateway uucp (2026-11-25 15:15:31.69 57) Executing X.gatewayN0001 (rmail a@x.test b@x.test)
"""
REFUSED = """\
uucico gateway - (2026-11-25 15:15:30.21 31) Calling system gateway (port TCP)
uucico gateway - (2026-11-25 15:15:30.22 31) ERROR: connect: Connection refused
"""


class Caller(Channel):
    """A host on which a command appends to UUCP's log, or prints."""

    def __init__(self, appends: str = "", stdout: str = "", status: int | None = 0) -> None:
        super().__init__("", "")
        self.log = "of an earlier call\n"
        self.appends, self.stdout, self.status = appends, stdout, status
        self.argv: list[str] = []

    def call(self, operation: str, **given: Any) -> dict[str, Any]:  # type: ignore[override]
        if operation == "read":
            return {"content": self.log}
        self.argv = list(given["argv"])
        self.log += self.appends
        return {"status": self.status, "stdout": self.stdout, "stderr": "no such system"}


def host(channel: Channel, name: str = "leaf") -> PostfixHost:
    role = Role(name, f"{name}.example.com", (10,), "postfix")
    return PostfixHost(role, "198.18.0", channel, channel, ScenarioState(Stream(), {}))


def test_a_call_is_described_by_the_log_since_its_start() -> None:
    call = uucp.call(host(Caller(COMPLETED)), host(Caller(), "gateway"))

    assert call.log == COMPLETED
    assert call.completed
    assert call.sent == ["rmail joe@example.net"]
    assert call.received == ["rmail a@x.test b@x.test", "rsmtp"]
    assert call.errors == []


def test_a_failed_call_has_its_reason() -> None:
    call = uucp.call(host(Caller(REFUSED, status=1)), host(Caller(), "gateway"))

    assert not call.completed
    assert call.errors == ["connect: Connection refused"]


@pytest.mark.parametrize(("force", "option"), [(True, "-S"), (False, "-s")])
def test_a_forced_call_does_not_wait(*, force: bool, option: str) -> None:
    caller = Caller(REFUSED)

    uucp.call(host(caller), host(Caller(), "gateway"), force=force)

    assert caller.argv[-2:] == [option, "gateway"]


@pytest.mark.parametrize(("appends", "status"), [("", 1), (REFUSED, None)])
def test_a_command_that_made_no_call_is_an_error(appends: str, status: int | None) -> None:
    with pytest.raises(CommandFailed, match="no such system"):
        uucp.call(host(Caller(appends, status=status)), host(Caller(), "gateway"))


def test_jobs_are_what_uustat_shows() -> None:
    shown = (
        "leaf.NOR7Fe0AAAAt leaf uucp 11-25 15:15 Executing rmail a@x.test b@x.test"
        " (sending 425 bytes)\nwhatever else\n"
    )

    assert uucp.jobs(host(Caller(stdout=shown))) == [
        uucp.Job("leaf", "rmail a@x.test b@x.test", 425)
    ]


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(uucpspool, "SPOOL", tmp_path)
    return tmp_path


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_host_without_a_spool_has_nothing_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uucpspool, "SPOOL", tmp_path / "none")

    assert uucpspool.spooled() == []


def test_outgoing_and_incoming_mail_are_distinguished(spool: Path) -> None:
    put(spool / "Log", b"Message-ID: <log@t>\n")
    put(spool / "leaf/C./C.Nabc", b"E D.0001 D.0001 uucp -CR D.0001 0666 uucp 425 rmail a@x\n")
    put(spool / "leaf/D./D.0001", b"From joe\nMessage-ID: <m1@t>\n\nhello\n")
    put(spool / "leaf/D./D.leafN0001", b"From joe\nmessage-id:\n <m2@t>\n\nhello\n")
    put(spool / "leaf/X./X.leafN0001", b"U uucp leaf\nF D.leafN0001\nI D.leafN0001\nC rmail b@x\n")
    put(spool / "leaf/D./D.leafN0002", b"From joe\n\nhello\n")

    assert sorted(uucpspool.spooled()) == [
        ["uucp", "D.0001", "<m1@t>"],
        ["uucp", "D.leafN0002", ""],
        ["uuxqt", "D.leafN0001", "<m2@t>"],
    ]
