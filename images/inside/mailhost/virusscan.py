"""A stand-in virus scanner: finds a test string itself, or asks a clamd(8).

Each process handles one message or session on standard input and output, as spawn(8)
and pipe(8) start it. The first argument selects the kind:
    relay HOST PORT   SMTP, passed on to the Postfix there (FILTER_README)
    milter            the Milter protocol, version 2 to 6
    file              a message; exit status 77 (EX_NOPERM) if infected

Further arguments: ``--clamd HOST:PORT`` asks that scanner; ``--discard`` makes the Milter
discard infected mail, not reject it. Runs on every Python from 3.9 on.
"""

from __future__ import annotations

import argparse
import re
import socket
import struct
import sys
from typing import BinaryIO, Callable, Tuple

TEST_STRING = b"MAILLAB-EICAR-TEST-STRING"
NAME = "Maillab.Test"
SCANNED = b"X-Scanned: by the lab's scanner\r\n"
EX_NOPERM = 77
_CLAMD_WITHIN_S = 20.0
_CHUNK_BYTES = 65536
_LINE_BYTES_MAX = 65536
# libmilter's maximum (MILTER_MDS_1M), and the three numbers of an option negotiation.
_PACKET_BYTES_MAX = (1 << 20) + 1
_OPTIONS_BYTES = 12

# Returns the name of what was found in a message, or "".
Scan = Callable[[bytes], str]


def find_string(message: bytes) -> str:
    """Return the test string if the raw message contains it, as body_checks would find it."""
    return NAME if TEST_STRING in message else ""


def clamd(address: str, port: int) -> Scan:
    """Return a scan that asks a clamd daemon (INSTREAM) and raises OSError if it fails."""

    def scan(message: bytes) -> str:
        with socket.create_connection((address, port), _CLAMD_WITHIN_S) as connection:
            chunk = struct.pack("!I", len(message)) + message if message else b""
            connection.sendall(b"zINSTREAM\0" + chunk + struct.pack("!I", 0))
            answer = b""
            while part := connection.recv(4096):
                answer += part
        text = answer.rstrip(b"\0").decode(errors="replace")
        if text == "stream: OK":
            return ""
        found = re.fullmatch(r"stream: (.*?)(?:\.UNOFFICIAL)? FOUND", text)
        if not found:
            raise OSError(f"clamd: {text or 'no answer'}")
        return found[1]

    return scan


class Relay:
    """A filter between two Postfix: passes on every command, and scanned messages."""

    def __init__(
        self, client: Tuple[BinaryIO, BinaryIO], server: Tuple[str, int], scan: Scan
    ) -> None:
        self._in, self._out = client
        self._address = server
        self._scan = scan
        self._hello = b""
        self._connect()

    def _connect(self) -> bytes:
        self._socket = socket.create_connection(self._address)
        self._server = self._socket.makefile("rwb")
        greeting = self._reply()
        if self._hello:
            self._ask(self._hello)
        return greeting

    def _reply(self) -> bytes:
        """Read one reply of the server with all its lines (RFC 5321 section 4.2.1)."""
        lines = []
        while True:
            lines.append(self._server.readline())
            if lines[-1][3:4] != b"-":
                return b"".join(lines)

    def _ask(self, line: bytes) -> bytes:
        self._server.write(line)
        self._server.flush()
        return self._reply()

    def _say(self, reply: bytes) -> None:
        self._out.write(reply)
        self._out.flush()

    def serve(self) -> None:
        """Serve one session, from the greeting to QUIT."""
        try:
            self._session()
        finally:
            self._leave()

    def _leave(self) -> None:
        self._server.close()
        self._socket.close()

    def _session(self) -> None:
        self._say(b"220 scanner ESMTP\r\n")
        while line := self._in.readline(_LINE_BYTES_MAX):
            if not line.endswith(b"\n"):
                # A line without an end, or too long.
                self._say(b"500 5.5.2 Error: line too long\r\n")
                return
            verb = line[:4].upper()
            if verb in (b"EHLO", b"HELO"):
                self._hello = line
            reply = self._ask(line)
            self._say(reply)
            if verb == b"DATA" and reply.startswith(b"354"):
                self._say(self._pass_on(self._content()))
            elif verb == b"QUIT":
                return

    def _content(self) -> bytes:
        """Return the content up to the final dot, dots still stuffed."""
        lines = []
        while (line := self._in.readline()) not in (b".\r\n", b""):
            lines.append(line)
        return b"".join(lines)

    def _pass_on(self, content: bytes) -> bytes:
        try:
            found = self._scan(re.sub(rb"(?m)^\.", b"", content))
            refused = b"550 5.7.1 infected: %b\r\n" % found.encode() if found else b""
        except OSError as error:
            refused = f"451 4.3.0 scanner: {error}\r\n".encode()
        if refused:
            # In the middle of the data, the only way to stop is to close the connection.
            self._leave()
            self._connect()
            return refused
        return self._ask(SCANNED + content + b".\r\n")


# Steps of the session that the Milter asks to skip (libmilter/mfdef.h, SMFIP_*):
# connect, HELO, MAIL, RCPT, headers, end of headers, unknown commands, DATA.
_UNHEARD = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40 | 0x100 | 0x200
_VERSION = 6


def packet(command: bytes, data: bytes = b"") -> bytes:
    """Return one packet of the Milter protocol: length, command, data."""
    return struct.pack("!I", len(data) + 1) + command + data


def milter(source: BinaryIO, answers: BinaryIO, scan: Scan, *, discard: bool = False) -> None:
    """Serve one Milter session: read bodies, answer with a verdict at the end of each."""
    body = b""
    while len(head := source.read(4)) == len(b"size"):
        (length,) = struct.unpack("!I", head)
        if length > _PACKET_BYTES_MAX:
            return
        whole = source.read(length)
        command, data = whole[:1], whole[1:]
        answer = packet(b"c")
        if command == b"O" and len(data) < _OPTIONS_BYTES:
            return
        if command == b"O":
            version, _, steps = struct.unpack("!III", data[:12])
            answer = packet(b"O", struct.pack("!III", min(version, _VERSION), 0, steps & _UNHEARD))
        elif command == b"B":
            body += data
        elif command == b"E":
            answer, body = _verdict(scan, body + data, discard=discard), b""
        elif command in (b"A", b"K"):
            answer, body = b"", b""
        elif command == b"Q":
            return
        elif command == b"D":
            answer = b""
        answers.write(answer)
        answers.flush()


def _verdict(scan: Scan, body: bytes, *, discard: bool) -> bytes:
    try:
        found = scan(body)
    except OSError as error:
        return packet(b"y", f"451 4.3.0 scanner: {error}\0".encode())
    if not found:
        return packet(b"c")
    return packet(b"d") if discard else packet(b"y", f"550 5.7.1 infected: {found}\0".encode())


def main() -> int:
    """Run the kind of scanner that the arguments select; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("relay", "milter", "file"))
    parser.add_argument("server", nargs="*")
    parser.add_argument("--clamd", default="")
    parser.add_argument("--discard", action="store_true")
    options = parser.parse_args()
    scan: Scan = find_string
    if options.clamd:
        address, _, port = options.clamd.rpartition(":")
        scan = clamd(address, int(port))
    client = (sys.stdin.buffer, sys.stdout.buffer)
    if options.what == "relay":
        host, port = options.server
        Relay(client, (host, int(port)), scan).serve()
    elif options.what == "milter":
        milter(*client, scan, discard=options.discard)
    elif found := scan(sys.stdin.buffer.read()):
        print(f"5.7.1 infected: {found}")
        return EX_NOPERM
    return 0


if __name__ == "__main__":
    sys.exit(main())
