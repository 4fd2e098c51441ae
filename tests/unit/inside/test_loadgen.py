"""The load generator against servers of known behaviour on loopback, as its workers run it."""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import load
import loadlimits
from bounded import run
from certificates import needs_openssl, new_authority, server_context
from loadsession import PHASES, pause_s
from loadsink import Sink, plan, play, until_it_is
from maillab.errors import BadInput
from maillab.load.plan import Load
from maillab.load.report import Attempted, Band, Report, Sample


def outcomes(messages: list[Attempted]) -> Counter[str]:
    return Counter(message.outcome for message in messages)


def test_every_message_is_reported_once_and_arrives_once() -> None:
    """Numbers, recipients and texts agree with what the server stored."""
    sink = Sink()

    messages, status = run(play(sink))

    assert outcomes(messages) == {"acknowledged": 20}
    assert sorted(message.number for message in messages) == list(range(20))
    stored = sorted(sink.stored)
    assert stored == sorted(
        f"To: {', '.join(message.recipients)}\r\n\r\nmessage tok-{message.number}\r\n.\r\n".encode()
        for message in messages
    )
    assert (sink.sessions, sink.commands["QUIT"]) == (20, 20)
    assert status["replies"] == {"220": 20, "250": 80, "354": 20, "221": 20}
    assert set(messages[0].phases) == set(PHASES)


def test_messages_that_fill_several_lines_are_reported_once_each() -> None:
    """A worker reports some messages in a line, and the last ones in a shorter one."""
    messages, _ = run(play(Sink(), messages=250, messages_per_session=25))

    assert [message.number for message in messages] == list(range(250))


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


def test_a_message_that_was_stopped_before_any_reply_is_unsent() -> None:
    """No server took or refused it."""

    class Mute(Sink):
        async def before_a_reply(self, word: str) -> None:
            if word == "MAIL":
                self.asked.set()
                await self.stopped.wait()

        def __init__(self) -> None:
            super().__init__()
            self.asked = asyncio.Event()
            self.stopped = asyncio.Event()

    async def stop_in_the_middle() -> list[Attempted]:
        sink = Mute()
        async with await sink.start() as server:
            port = server.sockets[0].getsockname()[1]
            started = await load.load_start([plan(port, sessions=1, messages=1)])
            await load.load_go(started["load"])
            await sink.asked.wait()
            done = await load.load_stop(started["load"])
            sink.stopped.set()
            await sink.end()
        return [Attempted.of(line) for line in done["messages"]]

    messages = run(stop_in_the_middle())

    assert outcomes(messages) == {"unsent": 1}


@pytest.mark.parametrize(("retries", "never"), [(0, 1), (1, 0)])
def test_a_connection_that_is_never_greeted_does_not_keep_the_others(
    retries: int, never: int
) -> None:
    """The load retries it, or gives it up, once the server greets no other connection."""
    sink = Sink()
    sink.silent = {3}
    patience = {"timeout_s": 300, "greeting_wait_s": 0.5, "retries": retries}

    messages, status = run(play(sink, sessions=8, messages=8, barrier=True, **patience))

    assert outcomes(messages) == {"acknowledged": 8}
    assert status["counts"]["connected"] == 8 - never
    assert status["counts"].get("never connected", 0) == never


def test_sessions_wait_as_long_as_others_are_greeted() -> None:
    """The server greets one a second, and each has four seconds from the last greeting."""

    class SlowSink(Sink):
        def __init__(self) -> None:
            super().__init__()
            self.turn = asyncio.Lock()

        async def before_the_greeting(self) -> None:
            async with self.turn:
                await asyncio.sleep(1)

    messages, status = run(
        play(SlowSink(), sessions=8, messages=8, barrier=True, timeout_s=4, greeting_wait_s=4)
    )

    assert outcomes(messages) == {"acknowledged": 8}
    assert status["counts"]["connected"] == 8
    assert not status["unopened"]


@pytest.mark.parametrize("retries", [0, 1])
def test_held_sessions_that_the_server_closes_are_counted_with_its_reason(retries: int) -> None:
    """A closed one does not count as open; with a retry another takes its place."""
    sink = Sink()
    sink.closed = {2, 5}

    messages, status = run(play(sink, sessions=6, messages=6, barrier=True, retries=retries))

    why = (
        "lost while held open: ConnectionResetError: the server closed it: 421 4.4.2 sink timed out"
    )
    assert status["unopened"] == ({} if retries else {why: 2})
    assert status["counts"]["connected"] == (6 if retries else 4)
    assert status["replies"]["421"] == 2
    assert outcomes(messages) == {"acknowledged": 6}


def test_held_sessions_that_are_refused_are_counted_with_the_reply() -> None:
    """The load sends none of its messages."""
    messages, status = run(
        play(Sink(greeting="421 4.7.0 busy"), sessions=3, messages=3, barrier=True)
    )

    assert status["unopened"] == {"421 4.7.0 busy": 3}
    assert outcomes(messages) == {"refused": 3}


def test_a_wait_that_was_too_long_names_its_bound() -> None:
    """The error also names the awaited reply; the message may be tried again."""

    class Sleeper(Sink):
        async def before_the_end(self, data: bytes) -> None:
            await asyncio.sleep(30)

    mute = Sink()
    mute.silent = {1, 2}
    silent, _ = run(play(mute, sessions=1, messages=2, timeout_s=0.5, greeting_wait_s=0.5))
    slow, _ = run(play(Sleeper(), sessions=1, messages=1, timeout_s=0.5, greeting_wait_s=0.5))

    bound = "TimeoutError: no {} within 0.5 s (timeout_s)"
    assert {message.text for message in silent} == {bound.format("greeting")}
    assert outcomes(silent) == {"refused": 2}
    assert {message.text for message in slow} == {bound.format("reply to the end of data")}
    assert outcomes(slow) == {"unknown": 1}


def test_a_server_that_refuses_before_it_has_read_the_message_gets_all_of_it() -> None:
    """The next message of the session is not mixed with the rest of the first."""

    class Hasty(Sink):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 hasty\r\n")
            while line := await reader.readline():
                self.commands[word := line.split()[0].decode()] += 1
                writer.write(b"354 go on\r\n" if word == "DATA" else b"250 ok\r\n")
                if word == "DATA":
                    writer.write(b"452 4.3.1 full\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.3)
                    while await reader.readline() != b".\r\n":
                        pass
                if word == "QUIT":
                    break

    sink = Hasty()
    large = "To: @TO@\r\n\r\n" + ("x" * 70 + "\r\n") * 100_000
    messages, _ = run(play(sink, sessions=1, messages=3, messages_per_session=3, templates=[large]))

    assert {(message.outcome, message.code) for message in messages} == {("refused", 452)}
    assert sink.commands == {"EHLO": 1, "MAIL": 3, "RCPT": 3, "DATA": 3, "RSET": 3, "QUIT": 1}


def test_the_seed_alone_decides_what_is_sent() -> None:
    """The number of workers that share the messages does not matter."""
    drawn = {"recipient_counts": [[1, 1.0], [2, 1.0]], "seed": 7}

    def sent(**share: int) -> set[tuple[int, tuple[str, ...]]]:
        messages, _ = run(play(Sink(), **drawn, **share))
        return {(message.number, message.recipients) for message in messages}

    halves = [sent(messages=12, first_number=half, step=2) for half in (0, 1)]
    assert halves[0] | halves[1] == sent(messages=24)


@needs_openssl
def test_sessions_with_tls_and_a_login(tmp_path: Path) -> None:
    """EHLO comes again after STARTTLS, and a message larger than a packet arrives whole."""
    sink = Sink(AUTH="235 in")
    sink.tls = server_context(tmp_path, new_authority().issue("sink.test"))
    large = "To: @TO@\r\n\r\n" + ("x" * 70 + "\r\n") * 20_000

    messages, _ = run(
        play(sink, tls=True, auth="AGEAYg==", messages=8, messages_per_session=2, templates=[large])
    )

    assert outcomes(messages) == {"acknowledged": 8}
    assert sink.commands["EHLO"] == 2 * sink.commands["STARTTLS"] == 2 * sink.commands["AUTH"] == 8
    assert {len(data) for data in sink.stored} == {len(large) - len("@TO@") + len("a@x.test") + 3}


@pytest.mark.parametrize("text", ["a@x.test>\r\nRSET", "a\x00@x.test"])
def test_an_address_that_would_end_its_command_is_refused(text: str) -> None:
    """The load fails before it sends anything."""

    async def actions() -> dict[str, Any]:
        number = (await load.load_start([plan(9, recipients=[text])]))["load"]
        status = await until_it_is(number, "ended")
        await load.load_stop(number)
        return status

    assert "must not have control characters" in run(actions())["error"]


def test_a_server_that_greets_nobody_is_given_up_however_many_retries() -> None:
    """The second attempt shows it; the load can be ended, and reports the unsent messages."""

    async def actions() -> list[Attempted]:
        sink = Sink()
        sink.silent = set(range(100))
        server = await sink.start()
        async with server:
            port = server.sockets[0].getsockname()[1]
            patience = {"timeout_s": 300, "greeting_wait_s": 0.2, "retries": 10_000}
            started = await load.load_start([plan(port, barrier=True, **patience)])
            await until_it_is(started["load"], "ready")
            done = await load.load_stop(started["load"])
        return [Attempted.of(line) for line in done["messages"]]

    assert run(actions()) == []


def test_in_open_loop_all_that_is_due_is_sent() -> None:
    """A few sessions keep the rate; a message's time starts when it is due."""
    sink = Sink()

    messages, _ = run(play(sink, sessions=2, messages=30, rate=300))

    assert outcomes(messages) == {"acknowledged": 30}
    dues = sorted(message.due_s for message in messages)
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
    """The refusal may come at any stage; the report has its code."""
    messages, _ = run(play(Sink(**replies), messages=5))

    assert {(message.outcome, message.code) for message in messages} == {(outcome, code)}


def test_a_session_that_breaks_off_after_the_data_leaves_the_outcome_unknown() -> None:
    """The load does not send the message again: the server may have it."""
    sink = Sink()
    sink.hangs_up_after = 3

    messages, status = run(play(sink, sessions=1, messages=6, retries=5))

    assert outcomes(messages) == {"acknowledged": 3, "unknown": 3}
    assert status["counts"]["broken"] == 3
    assert all(message.attempts == 1 for message in messages)


def test_a_temporary_refusal_is_retried() -> None:
    """The load retries at most ``retries`` times, and never a permanent refusal."""
    put_off, _ = run(play(Sink(MAIL="450 later"), messages=2, retries=3))
    final, _ = run(play(Sink(RCPT="550 no"), messages=2, retries=3))

    assert [message.attempts for message in put_off] == [4, 4]
    assert [message.attempts for message in final] == [1, 1]


def test_the_pause_before_a_retry_doubles_up_to_a_second() -> None:
    """So two hundred retries outlast the restart of a server that refuses connections."""
    assert [pause_s(attempts) for attempts in (1, 2, 3)] == [0.01, 0.02, 0.04]
    assert pause_s(8) == pause_s(10_000) == 1.0


def test_a_load_that_is_ended_reports_what_it_did() -> None:
    """The report has the messages that were sent, and those that were not."""

    async def actions() -> tuple[list[Attempted], Sink]:
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

    messages, sink = run(actions())

    known = outcomes(messages)
    assert 10 <= known["acknowledged"] <= len(sink.stored)
    assert list(load._loads) == []


@pytest.mark.parametrize("address", ["192.0.2.1", "198.18.7.1", "10.0.0.1"])
def test_nothing_is_sent_to_an_address_outside_the_lab(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lab is the /24 of its name server, and loopback."""
    monkeypatch.setenv("NAMESERVER", "198.18.6.2")

    with pytest.raises(ValueError, match=f"{address} is outside the lab"):
        loadlimits.check_address(address)
    loadlimits.check_address("198.18.6.10")
    loadlimits.check_address("127.0.0.1")


def test_more_sessions_than_files_are_refused_with_the_limit() -> None:
    """The error says how to raise the limit, and nothing was connected."""

    async def actions() -> dict[str, Any]:
        number = (await load.load_start([plan(9, sessions=10_000_000)]))["load"]
        status = await until_it_is(number, "ended")
        await load.load_stop(number)
        return status

    error = run(actions())["error"]

    assert "10000000 sessions need 10000064 open files, the limit is" in error
    assert "nofile" in error


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"sessions": 0}, "sessions must be >= 1, not 0"),
        ({"sessions": 30_000}, "sessions must be <= 20000"),
        ({"rate_per_s": -1.0}, "must be >= 0"),
        ({"sizes_bytes": {}}, "sizes_bytes must be a number from 1 to"),
        ({"recipients_each": {0: 1.0}}, "recipients_each"),
        ({"recipients_each": {1: 0.0}}, "at least one > 0"),
        ({"sizes_bytes": {10: math.nan}}, "weights must be >= 0"),
        ({"sizes_bytes": {10: math.inf}}, "weights must be >= 0"),
        ({"sizes_bytes": 10**12}, "from 1 to 50000000"),
        ({"rate_per_s": math.nan}, "must be finite"),
        ({"timeout_s": math.inf}, "must be finite"),
        ({"port": 0}, "port must be from 1 to 65535, not 0"),
        (
            {"held": True, "sessions": 10, "messages": 5},
            "messages must be >= sessions (10) if sessions are held, not 5",
        ),
        ({"greeting_wait_s": 0.0}, "greeting_wait_s must be > 0, not 0"),
        ({"timeout_s": 0.0}, "timeout_s > 0"),
    ],
)
def test_impossible_loads_are_refused(settings: dict[str, Any], complaint: str) -> None:
    """The error comes before any worker starts."""
    with pytest.raises(BadInput, match=re.escape(complaint)):
        Load(**settings)


def test_a_time_limit_may_be_below_the_wait_for_greetings() -> None:
    """They bound different waits."""
    assert Load(timeout_s=5.0).greeting_wait_s > 5


def test_a_report_has_percentiles_by_phase_and_the_bands_of_faults() -> None:
    """The text and the JSON have the same figures."""
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
