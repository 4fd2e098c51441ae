"""The load generator against servers of known behaviour on loopback, as its crew runs it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from stories import run

import load
import loadgen
import loadlimits
from maillab.errors import BadInput
from maillab.loadplan import Load
from maillab.loadreport import Attempted, Band, Report, Sample


class Sink:
    """A server that answers as told, and keeps what it took."""

    def __init__(self, **replies: str) -> None:
        self.replies = replies
        self.stored: list[bytes] = []
        self.commands: Counter[str] = Counter()
        self.sessions = 0
        self.open = 0
        self.open_max = 0
        self.hangs_up_after = 0

    async def start(self) -> asyncio.Server:
        return await asyncio.start_server(self.serve, "127.0.0.1", 0)

    async def before_the_end(self, data: bytes) -> None:
        """For servers that take their time."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sessions += 1
        self.open += 1
        self.open_max = max(self.open_max, self.open)
        writer.write(f"{self.replies.get('greeting', '220 sink')}\r\n".encode())
        while line := await reader.readline():
            word = line.split()[0].decode().upper()
            self.commands[word] += 1
            if word == "DATA":
                writer.write(b"354 go on\r\n")
                data = await reader.readuntil(b"\r\n.\r\n")
                if self.hangs_up_after and len(self.stored) >= self.hangs_up_after:
                    break
                await self.before_the_end(data)
                self.stored.append(data)
                writer.write(
                    f"{self.replies.get('end', '250 2.0.0 Ok: queued as A1')}\r\n".encode()
                )
            elif word == "QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(f"{self.replies.get(word, '250 ok')}\r\n".encode())
        self.open -= 1
        writer.close()


async def until_it_is(number: int, what: str) -> dict[str, Any]:
    """Wait until a load is "ready" or has "ended"; returns its status."""
    while not (status := await load.load_status(number))[what]:  # noqa: ASYNC110  # no event tells
        await asyncio.sleep(0.02)
    return status


def plan(port: int, **changes: Any) -> dict[str, Any]:
    """A small load."""
    return {
        "address": "127.0.0.1", "port": port, "name": "client.test", "sender": "load@client.test",
        "token": "tok", "templates": ["To: @TO@\r\n\r\nmessage @TOKEN@\r\n"],
        "template_weights": [1.0], "recipients": ["a@x.test", "b@x.test", "c@x.test"],
        "recipient_counts": [[1, 1.0]], "sessions": 4, "messages": 20, "messages_per_session": 1,
        "rate": 0, "barrier": False, "tls": False, "auth": "", "retries": 0, "timeout_s": 20,
        "seed": 1, "first_number": 0, "step": 1,
    } | changes  # fmt: skip


async def play(sink: Sink, **changes: Any) -> tuple[list[Attempted], dict[str, Any]]:
    """A load from its start to its report."""
    server = await sink.start()
    async with server:
        port = server.sockets[0].getsockname()[1]
        started = await load.load_start([plan(port, **changes)])
        number = started["load"]
        if changes.get("barrier"):
            await until_it_is(number, "ready")
        await load.load_go(number)
        await until_it_is(number, "ended")
        done = await load.load_stop(number)
    return [Attempted.of(line) for line in done["messages"]], done["status"]


def outcomes(messages: list[Attempted]) -> Counter[str]:
    return Counter(one.outcome for one in messages)


def test_every_message_is_told_and_arrived_once() -> None:
    """Numbers, recipients and texts agree with what the server stored."""
    sink = Sink()

    messages, status = run(play(sink))

    assert outcomes(messages) == {"acknowledged": 20}
    assert sorted(one.number for one in messages) == list(range(20))
    stored = sorted(sink.stored)
    assert stored == sorted(
        f"To: {', '.join(one.recipients)}\r\n\r\nmessage tok-{one.number}\r\n.\r\n".encode()
        for one in messages
    )
    assert (sink.sessions, sink.commands["QUIT"]) == (20, 20)
    assert status["replies"] == {"220": 20, "250": 80, "354": 20, "221": 20}
    assert set(messages[0].phases) == {*loadgen.PHASES, "whole"}


def test_sessions_take_as_many_messages_as_asked_for() -> None:
    """Ten in two sessions each of five."""
    sink = Sink()

    messages, _ = run(play(sink, sessions=1, messages=10, messages_per_session=5))

    assert outcomes(messages) == {"acknowledged": 10}
    assert sink.sessions == 2


def test_all_are_connected_before_any_sends() -> None:
    """The barrier opens when every session was greeted."""
    sink = Sink()

    messages, _ = run(play(sink, sessions=8, messages=8, barrier=True))

    assert sink.open_max == 8
    assert outcomes(messages) == {"acknowledged": 8}


def test_in_open_loop_all_that_is_due_is_sent() -> None:
    """By few sessions, at the rate; each message counts from when it was due."""
    sink = Sink()

    messages, _ = run(play(sink, sessions=2, messages=30, rate=300))

    assert outcomes(messages) == {"acknowledged": 30}
    dues = sorted(one.due_s for one in messages)
    assert dues[-1] - dues[0] == pytest.approx(29 / 300)


@pytest.mark.parametrize(
    ("replies", "outcome", "code"),
    [
        ({"greeting": "421 busy"}, "refused", 421),
        ({"MAIL": "450 later"}, "refused", 450),
        ({"RCPT": "550 5.1.1 nobody"}, "refused", 550),
        ({"end": "452 4.3.1 full"}, "refused", 452),
    ],
)
def test_what_a_server_refuses_is_refused(replies: dict[str, str], outcome: str, code: int) -> None:
    """At any stage, with its code."""
    messages, _ = run(play(Sink(**replies), messages=5))

    assert {(one.outcome, one.code) for one in messages} == {(outcome, code)}


def test_a_session_that_breaks_off_after_the_data_leaves_the_outcome_unknown() -> None:
    """And it is not tried anew: the server may have it."""
    sink = Sink()
    sink.hangs_up_after = 3

    messages, status = run(play(sink, sessions=1, messages=6, retries=5))

    assert outcomes(messages) == {"acknowledged": 3, "unknown": 3}
    assert status["counts"]["broken"] == 3
    assert all(one.attempts == 1 for one in messages)


def test_what_is_put_off_is_tried_anew() -> None:
    """As often as allowed, not when it is final."""
    put_off, _ = run(play(Sink(MAIL="450 later"), messages=2, retries=3))
    final, _ = run(play(Sink(RCPT="550 no"), messages=2, retries=3))

    assert [one.attempts for one in put_off] == [4, 4]
    assert [one.attempts for one in final] == [1, 1]


def test_a_load_that_is_ended_tells_what_it_did() -> None:
    """Those sent, and that the others were not."""

    async def story() -> tuple[list[Attempted], Sink]:
        sink = Sink()
        server = await sink.start()
        async with server:
            port = server.sockets[0].getsockname()[1]
            many = plan(port, messages=1_000_000)
            number = (await load.load_start([many]))["load"]
            await load.load_go(number)
            while len(sink.stored) < 10:  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(0.01)
            done = await load.load_stop(number)
        return [Attempted.of(line) for line in done["messages"]], sink

    messages, sink = run(story())

    known = outcomes(messages)
    assert 10 <= known["acknowledged"] <= len(sink.stored)
    assert load._crews == {}


@pytest.mark.parametrize("address", ["192.0.2.1", "198.18.7.1", "10.0.0.1"])
def test_nothing_is_sent_to_an_address_outside_the_lab(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is the /24 of its name server, and loopback."""
    monkeypatch.setenv("NAMESERVER", "198.18.6.2")

    with pytest.raises(ValueError, match=f"{address} is outside the lab"):
        loadlimits.check_address(address)
    loadlimits.check_address("198.18.6.10")
    loadlimits.check_address("127.0.0.1")


def test_more_sessions_than_files_are_refused_with_the_limit() -> None:
    """And how to raise it; nothing was connected."""

    async def story() -> dict[str, Any]:
        number = (await load.load_start([plan(9, sessions=10_000_000)]))["load"]
        status = await until_it_is(number, "ended")
        await load.load_stop(number)
        return status

    error = run(story())["error"]

    assert "10000000 sessions need 10000064 open files, the limit is" in error
    assert "nofile" in error


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"sessions": 0}, "sessions: at least 1"),
        ({"sessions": 30_000}, "at most 20000"),
        ({"rate_per_s": -1.0}, "not below 0"),
        ({"sizes_bytes": {}}, "sizes_bytes: a number above 0"),
        ({"recipients_each": {0: 1.0}}, "recipients_each"),
        ({"held": True, "sessions": 10, "messages": 5}, "give each at least one"),
    ],
)
def test_impossible_loads_are_refused(settings: dict[str, Any], complaint: str) -> None:
    """Before anything is started."""
    with pytest.raises(BadInput, match=complaint):
        Load(**settings)


def test_a_report_tells_percentiles_by_phase_and_the_bands_of_faults() -> None:
    """As text and as JSON."""
    messages = tuple(
        Attempted(n, ("a@x",), 0, "acknowledged", 250, "ok", (), 1, 0.0, 1.0, {"MAIL": n / 1000})
        for n in range(1, 101)
    )
    report = Report(
        "asked", messages, (Sample(0.1, 3, 0, {"mail": 1}),), {"250": 100}, {}, 3, 1.0,
        bands=(Band("Noop on mail", 0.5, 0.7),), complaints=("too slow",), ledger="conserved",
    )  # fmt: skip

    assert report.latency_s("MAIL", 50) == pytest.approx(0.050, rel=0.01)
    assert report.latency_s("MAIL", 99) == pytest.approx(0.099, rel=0.01)
    text = report.text()
    for words in ("asked", "100 acknowledged", "250: 100", "Noop on mail: from 0.5", "too slow"):
        assert words in text
    assert report.as_json()["latency_s"]["MAIL"]["p100"] == pytest.approx(0.1, rel=0.01)
    assert text.endswith("conserved")
