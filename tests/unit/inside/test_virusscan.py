"""The stand-in scanner, used as Postfix uses it."""

from __future__ import annotations

import io
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import virusscan
from virusscan import NAME, TEST_STRING, Relay, find_string, milter, packet

INFECTED = b"Subject: x\r\n\r\n" + TEST_STRING + b"\r\n"


def unavailable(_: bytes) -> str:
    raise OSError("not there")


class Server:
    """A listener that answers each connection with a function, and records its input."""

    def __init__(self, answer: Callable[[io.BufferedRWPair, list[bytes]], None]) -> None:
        self.heard: list[bytes] = []
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                self._answer(stream, self.heard)

    def close(self) -> None:
        self._listener.close()


def speak_smtp(stream: io.BufferedRWPair, heard: list[bytes]) -> None:
    """Act as the Postfix behind the filter: accept everything except mail to "no"."""

    def say(text: bytes) -> None:
        stream.write(text + b"\r\n")
        stream.flush()

    say(b"220 behind")
    while line := stream.readline():
        heard.append(line)
        if line.startswith(b"EHLO"):
            say(b"250-behind\r\n250 XFORWARD NAME")
        elif line == b"DATA\r\n":
            say(b"354 go on")
            content = b""
            while (text := stream.readline()) not in (b".\r\n", b""):
                content += text
            if text:
                heard.append(content)
                say(b"250 2.0.0 Ok: queued as ABCDEF1")
        else:
            say(b"550 5.1.1 no" if b"<no>" in line else b"250 2.0.0 Ok")


@pytest.fixture
def behind() -> Iterator[Server]:
    """Yield the Postfix behind the filter."""
    server = Server(speak_smtp)
    yield server
    server.close()


def session(behind: Server, *lines: bytes, scan: virusscan.Scan = find_string) -> list[bytes]:
    """Return the filter's replies to a client that sends these lines."""
    out = io.BytesIO()
    Relay((io.BytesIO(b"".join(lines)), out), behind.address, scan).serve()
    return out.getvalue().splitlines()


ENVELOPE = (b"EHLO me\r\n", b"MAIL FROM:<a>\r\n", b"RCPT TO:<b>\r\n", b"DATA\r\n")
GREETED = [b"220 scanner ESMTP", b"250-behind", b"250 XFORWARD NAME"]
OK = b"250 2.0.0 Ok"


def test_clean_mail_is_passed_on_with_the_reply(behind: Server) -> None:
    """Dots stay stuffed; a header shows that the message was scanned."""
    replies = session(behind, *ENVELOPE, b"Subject: x\r\n\r\n..dot\r\n.\r\n", b"QUIT\r\n")

    queued = b"250 2.0.0 Ok: queued as ABCDEF1"
    assert replies == [*GREETED, OK, OK, b"354 go on", queued, OK]
    assert behind.heard[-2] == virusscan.SCANNED + b"Subject: x\r\n\r\n..dot\r\n"


def test_an_infected_message_is_refused_and_goes_no_further(behind: Server) -> None:
    """The next message of the session is accepted."""
    replies = session(
        behind, *ENVELOPE, INFECTED + b".\r\n", *ENVELOPE[1:], b"\r\nfine\r\n.\r\n", b"QUIT\r\n"
    )

    assert replies[6] == b"550 5.7.1 infected: " + NAME.encode()
    assert replies[-2] == b"250 2.0.0 Ok: queued as ABCDEF1"
    assert not any(TEST_STRING in line for line in behind.heard)


def test_a_refused_command_has_postfixs_own_reply(behind: Server) -> None:
    """The filter returns Postfix's own reply."""
    replies = session(behind, b"EHLO me\r\n", b"RCPT TO:<no>\r\n", b"QUIT\r\n")

    assert replies == [*GREETED, b"550 5.1.1 no", OK]


def test_without_a_scanner_mail_is_deferred(behind: Server) -> None:
    """A scanner that does not answer causes neither a loss nor a pass."""
    replies = session(behind, *ENVELOPE, b"x\r\n.\r\n", b"QUIT\r\n", scan=unavailable)

    assert replies[6] == b"451 4.3.0 scanner: not there"


def test_a_client_that_leaves_leaves_nothing_behind(behind: Server) -> None:
    """Neither a command nor half a message hangs."""
    assert session(behind, b"EHLO me\r\n") == GREETED


def test_a_command_without_end_is_refused(behind: Server) -> None:
    """The filter does not keep it, and the server behind does not get it."""
    heard = session(behind, b"x" * 200_000)

    assert heard[-1] == b"500 5.5.2 Error: line too long"


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xffO", packet(b"O", b"short"), b"\0\0", b"\0\0\0\0", b"\0\0\0\x05Bab"]
)
def test_an_invalid_packet_ends_the_session(data: bytes) -> None:
    """It ends without an error, and without waiting for 4 GB."""
    assert talk(data) in (b"", packet(b"c"))


@given(st.binary(max_size=60))
def test_any_packets_are_answered_or_end_the_session(data: bytes) -> None:
    """A process that fails would look like a scanner's verdict."""
    talk(data)


def talk(*packets: bytes, scan: virusscan.Scan = find_string, discard: bool = False) -> bytes:
    """Return the Milter's answers to these packets."""
    out = io.BytesIO()
    milter(io.BytesIO(b"".join(packets)), out, scan, discard=discard)
    return out.getvalue()


@pytest.mark.parametrize(("theirs", "ours"), [(2, 2), (6, 6), (7, 6)])
def test_the_milter_agrees_on_a_version_it_knows(theirs: int, ours: int) -> None:
    """It asks for no actions, and for bodies only, as far as offered."""
    asked = packet(b"O", struct.pack("!III", theirs, 0x1FF, 0x7F))

    assert talk(asked) == packet(b"O", struct.pack("!III", ours, 0, 0x6F))


@pytest.mark.parametrize(
    ("body", "scan", "discard", "answer"),
    [
        (b"fine", find_string, False, packet(b"c")),
        (TEST_STRING, find_string, False, packet(b"y", b"550 5.7.1 infected: Maillab.Test\0")),
        (TEST_STRING, find_string, True, packet(b"d")),
        (b"fine", unavailable, True, packet(b"y", b"451 4.3.0 scanner: not there\0")),
    ],
    ids=["clean", "refused", "discarded", "no-scanner"],
)
def test_the_milters_verdict_comes_at_the_end(
    body: bytes, scan: virusscan.Scan, answer: bytes, *, discard: bool
) -> None:
    """The cuts between the packets of a body do not matter."""
    packets = [packet(b"B", body[:3]), packet(b"B", body[3:]), packet(b"E")]

    assert talk(*packets, scan=scan, discard=discard) == packet(b"c") * 2 + answer


def test_the_milter_forgets_an_aborted_message() -> None:
    """Macros and an abort get no answer; quit ends the session."""
    packets = [packet(b"B", TEST_STRING), packet(b"A"), packet(b"D", b"E"), packet(b"E")]

    assert talk(*packets, packet(b"Q"), packet(b"B", b"x")) == packet(b"c") * 2


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b"stream: OK\0", ""),
        (b"stream: Maillab.Test.UNOFFICIAL FOUND\0", "Maillab.Test"),
        (b"stream: Other FOUND\0", "Other"),
    ],
)
def test_clamd_gets_the_message_and_decides(answer: bytes, found: str) -> None:
    """By INSTREAM: a length, the message, and a length of 0."""
    sent = b"zINSTREAM\0" + struct.pack("!I", 2) + b"hi" + struct.pack("!I", 0)

    def respond(stream: io.BufferedRWPair, heard: list[bytes]) -> None:
        heard.append(stream.read(len(sent)))
        stream.write(answer)

    server = Server(respond)
    try:
        assert virusscan.clamd(*server.address)(b"hi") == found
    finally:
        server.close()
    assert server.heard == [sent]


def test_another_answer_of_clamd_is_an_error() -> None:
    """The message does not count as clean."""

    def respond(stream: io.BufferedRWPair, heard: list[bytes]) -> None:
        heard.append(stream.read(14))
        stream.write(b"INSTREAM size limit exceeded. ERROR\0")

    server = Server(respond)
    try:
        with pytest.raises(OSError, match="size limit exceeded"):
            virusscan.clamd(*server.address)(b"")
    finally:
        server.close()


@pytest.mark.parametrize(("message", "status"), [(b"fine", 0), (INFECTED, 77)])
def test_a_file_gets_an_exit_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    message: bytes,
    status: int,
) -> None:
    """There is also a text with an enhanced status code, for pipe(8) and local(8)."""
    monkeypatch.setattr("sys.argv", ["virusscan", "file"])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(message)))

    assert virusscan.main() == status
    assert capsys.readouterr().out == ("5.7.1 infected: Maillab.Test\n" if status else "")
