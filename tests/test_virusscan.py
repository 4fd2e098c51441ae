"""The stand-in scanner, spoken to as Postfix speaks to it."""

from __future__ import annotations

import io
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

import virusscan
from virusscan import NAME, TEST_STRING, Relay, find_string, milter, packet

INFECTED = b"Subject: x\r\n\r\n" + TEST_STRING + b"\r\n"


def unavailable(_: bytes) -> str:
    raise OSError("not there")


class Server:
    """A listener that answers each connection as told, and keeps what it was sent."""

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
    """Postfix behind the filter: takes everything but mail to "no"."""

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
    """The Postfix behind the filter."""
    server = Server(speak_smtp)
    yield server
    server.close()


def session(behind: Server, *lines: bytes, scan: virusscan.Scan = find_string) -> list[bytes]:
    """What the filter says to a client that says all this."""
    out = io.BytesIO()
    Relay((io.BytesIO(b"".join(lines)), out), behind.address, scan).serve()
    return out.getvalue().splitlines()


ENVELOPE = (b"EHLO me\r\n", b"MAIL FROM:<a>\r\n", b"RCPT TO:<b>\r\n", b"DATA\r\n")
GREETED = [b"220 scanner ESMTP", b"250-behind", b"250 XFORWARD NAME"]
OK = b"250 2.0.0 Ok"


def test_clean_mail_is_passed_on_with_the_answer(behind: Server) -> None:
    """Dots stay stuffed; the header says that somebody looked."""
    said = session(behind, *ENVELOPE, b"Subject: x\r\n\r\n..dot\r\n.\r\n", b"QUIT\r\n")

    queued = b"250 2.0.0 Ok: queued as ABCDEF1"
    assert said == [*GREETED, OK, OK, b"354 go on", queued, OK]
    assert behind.heard[-2] == virusscan.SCANNED + b"Subject: x\r\n\r\n..dot\r\n"


def test_an_infected_message_is_refused_and_goes_no_further(behind: Server) -> None:
    """The next message of the session is taken all the same."""
    said = session(
        behind, *ENVELOPE, INFECTED + b".\r\n", *ENVELOPE[1:], b"\r\nfine\r\n.\r\n", b"QUIT\r\n"
    )

    assert said[6] == b"550 5.7.1 infected: " + NAME.encode()
    assert said[-2] == b"250 2.0.0 Ok: queued as ABCDEF1"
    assert not any(TEST_STRING in line for line in behind.heard)


def test_a_refused_command_is_refused_by_whoever_refused_it(behind: Server) -> None:
    """The filter adds nothing to what Postfix says."""
    said = session(behind, b"EHLO me\r\n", b"RCPT TO:<no>\r\n", b"QUIT\r\n")

    assert said == [*GREETED, b"550 5.1.1 no", OK]


def test_without_a_scanner_mail_has_to_wait(behind: Server) -> None:
    """A scanner that does not answer is no reason to lose mail, or to pass it."""
    said = session(behind, *ENVELOPE, b"x\r\n.\r\n", b"QUIT\r\n", scan=unavailable)

    assert said[6] == b"451 4.3.0 scanner: not there"


def test_a_client_that_goes_away_leaves_nothing(behind: Server) -> None:
    """Neither a command nor half a message hangs."""
    assert session(behind, b"EHLO me\r\n") == GREETED


def talk(*packets: bytes, scan: virusscan.Scan = find_string, discard: bool = False) -> bytes:
    """What the Milter answers to all this."""
    out = io.BytesIO()
    milter(io.BytesIO(b"".join(packets)), out, scan, discard=discard)
    return out.getvalue()


@pytest.mark.parametrize(("theirs", "ours"), [(2, 2), (6, 6), (7, 6)])
def test_the_milter_agrees_on_a_version_it_knows(theirs: int, ours: int) -> None:
    """It wants no rights, and to hear of nothing but bodies, as far as that is offered."""
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
    """However the body is cut into packets."""
    packets = [packet(b"B", body[:3]), packet(b"B", body[3:]), packet(b"E")]

    assert talk(*packets, scan=scan, discard=discard) == packet(b"c") * 2 + answer


def test_the_milter_forgets_what_was_broken_off() -> None:
    """Macros and an abort want no answer, and quitting ends it."""
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
def test_clamd_is_given_the_message_and_believed(answer: bytes, found: str) -> None:
    """By INSTREAM: a length, the message, and a length of nothing."""
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


def test_what_clamd_says_else_is_an_error() -> None:
    """Nobody takes it for a clean message."""

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
    """And a text with an enhanced status code, for pipe(8) and local(8)."""
    monkeypatch.setattr("sys.argv", ["virusscan", "file"])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(message)))

    assert virusscan.main() == status
    assert capsys.readouterr().out == ("5.7.1 infected: Maillab.Test\n" if status else "")
