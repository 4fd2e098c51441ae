"""A transparent middlebox that changes SMTP sessions, byte by byte.

It offers no service itself: client and server talk to each other and see each other's
addresses, and it changes what passes. It passes on what it cannot read, such as TLS.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any, ClassVar

from interception import END_OF_DATA, FRONT, LINE_BYTES_MAX, Session, pump
from operations import Handles, operation

# RFC 821 section 4.5.1: the commands that "fixup protocol smtp" allows.
_MINIMUM = {b"HELO", b"MAIL", b"RCPT", b"DATA", b"RSET", b"NOOP", b"QUIT"}


class Conversation:
    """Parses one session from its bytes; a middlebox overrides the methods below.

    It matches commands with their replies, since clients pipeline (RFC 2920).
    """

    def __init__(self, counts: dict[str, int], **settings: Any) -> None:
        self.counts = counts
        self.settings = settings
        self._asked: deque[bytes] = deque([b"greeting"])
        self._mode = "commands"
        self._tail = b""
        self._bytes_left = 0
        self._from_client = b""
        self._from_server = b""
        self._reply: list[bytes] = []

    @property
    def waits_in_vain(self) -> bool:
        """Return True if the client waits for a reply that will never arrive."""
        return False

    def command(self, line: bytes, verb: bytes) -> bytes:
        """Return a command line as the server gets it."""
        del verb
        return line

    def reply(self, lines: list[bytes], asked: bytes) -> list[bytes]:
        """Return a reply to the command ``asked`` as the client gets it."""
        del asked
        return lines

    def last_piece(self, piece: bytes, *, alone: bool) -> bytes:
        """Return the end of a message as the server gets it; ``alone`` in its packet or not."""
        del alone
        return piece

    def count(self, what: str) -> None:
        """Count a change."""
        self.counts[what] += 1

    def from_client(self, chunk: bytes) -> bytes:
        """Return the client's data as the server gets it."""
        out = b""
        rest = self._from_client + chunk
        self._from_client = b""
        while rest:
            if self._mode == "commands":
                line, newline, after = rest.partition(b"\n")
                if not newline and len(rest) > LINE_BYTES_MAX:
                    # This is not SMTP: pass it on, and everything after it.
                    self._mode = "closed to us"
                    return out + rest
                if not newline:
                    self._from_client = rest
                    break
                rest = after
                out += self._one_command(line + newline)
            elif self._mode == "message":
                piece, rest = self._message(rest)
                out += piece
            elif self._mode == "chunk":
                piece, rest = rest[: self._bytes_left], rest[self._bytes_left :]
                self._bytes_left -= len(piece)
                self._mode = "chunk" if self._bytes_left else "commands"
                out += piece
            else:
                return out + rest
        return out

    def from_server(self, chunk: bytes) -> bytes:
        """Return the server's data as the client gets it."""
        if self._mode == "closed to us":
            return self._held_back() + chunk
        *lines, self._from_server = (self._from_server + chunk).split(b"\n")
        out = b""
        for line in lines:
            self._reply.append(line + b"\n")
            if line[3:4] != b"-":
                out += b"".join(self._one_reply(self._reply))
                self._reply = []
        if len(self._from_server) + sum(map(len, self._reply)) > LINE_BYTES_MAX:
            self._mode = "closed to us"
            return out + self._held_back()
        return out

    def _held_back(self) -> bytes:
        """Return the stored part of an unfinished reply, and forget it."""
        held = b"".join(self._reply) + self._from_server
        self._reply, self._from_server = [], b""
        return held

    def _one_command(self, line: bytes) -> bytes:
        words = line.upper().split()
        verb = words[0] if words else b""
        self._asked.append(verb)
        if verb == b"BDAT" and len(words) > 1 and re.fullmatch(rb"[0-9]{1,18}", words[1]):
            self._bytes_left = int(words[1])
            self._mode = "chunk" if self._bytes_left else "commands"
        return self.command(line, verb)

    def _message(self, data: bytes) -> tuple[bytes, bytes]:
        """Split off the data of the message, as the server gets it."""
        found = (self._tail + data).find(END_OF_DATA)
        if found < 0:
            self._tail = (self._tail + data)[1 - len(END_OF_DATA) :]
            return data, b""
        end = found + len(END_OF_DATA) - len(self._tail)
        piece, rest = data[:end], data[end:]
        passed = self.last_piece(piece, alone=piece == END_OF_DATA[2:] and not rest)
        if passed == piece:
            self._mode = "commands"
            self._asked.append(b"end of data")
        self._tail = b"\r\n"
        return passed, rest

    def _one_reply(self, lines: list[bytes]) -> list[bytes]:
        asked = self._asked.popleft() if self._asked else b""
        if asked == b"DATA" and lines[-1].startswith(b"3"):
            self._mode, self._tail = "message", b"\r\n"
        elif asked == b"STARTTLS" and lines[-1].startswith(b"2"):
            self._mode = "closed to us"
        return self.reply(lines, asked)


class Pix(Conversation):
    """The effects of "fixup protocol smtp" of a Cisco PIX, each switched on by its setting.

    ``masks_banner`` replaces the greeting by stars. ``blocks_esmtp`` makes commands other
    than RFC 821's minimum unknown. ``swallows_dot`` loses an end of data that is not alone in
    its packet. With ``swallows_split_dot`` the packet filter drops the line end of a dot if
    that is alone in its packet: only the kernel sees packets.
    """

    COUNTS: ClassVar = ("banners masked", "commands blocked", "ends of data swallowed")

    def __init__(self, counts: dict[str, int], **settings: Any) -> None:
        super().__init__(counts, **settings)
        self.swallowed = False

    def command(self, line: bytes, verb: bytes) -> bytes:
        """Write X for each letter of a command that is not allowed."""
        if not self.settings["blocks_esmtp"] or verb in _MINIMUM:
            return line
        self.count("commands blocked")
        return _unknown(line)

    def reply(self, lines: list[bytes], asked: bytes) -> list[bytes]:
        """Replace a greeting by stars, except its digits 2 and 0."""
        if asked != b"greeting" or not self.settings["masks_banner"]:
            return lines
        self.count("banners masked")
        return [line[:4] + re.sub(rb"[^20 \r\n]", b"*", line[4:]) for line in lines]

    @property
    def waits_in_vain(self) -> bool:
        """Return True if an end of data, or the second half of one, was lost."""
        half = self._mode == "message" and self._tail.endswith(b"\r\n.")
        return self.swallowed or (half and bool(self.settings["swallows_split_dot"]))

    def last_piece(self, piece: bytes, *, alone: bool) -> bytes:
        """Remove the dot and its line end, unless they are alone in their packet."""
        if alone or not self.settings["swallows_dot"]:
            return piece
        self.count("ends of data swallowed")
        self.swallowed = True
        return piece[:-3]


class StarttlsStripper(Conversation):
    """Prevents TLS: removes the offer of STARTTLS or, with ``offers``, makes it unknown."""

    COUNTS: ClassVar = ("offers stripped", "commands blocked")

    def command(self, line: bytes, verb: bytes) -> bytes:
        """Replace STARTTLS by a command that the server does not know."""
        if verb != b"STARTTLS":
            return line
        self.count("commands blocked")
        return _unknown(line)

    def reply(self, lines: list[bytes], asked: bytes) -> list[bytes]:
        """Remove STARTTLS from the reply to EHLO."""
        if asked != b"EHLO" or self.settings["offers"]:
            return lines
        left = [lines[0], *(line for line in lines[1:] if _keyword(line) != b"STARTTLS")]
        if left != lines:
            self.count("offers stripped")
        return _relined(left)


class ExtensionRewriter(Conversation):
    """Replaces one ``extension`` in replies to EHLO by ``becomes``, or removes it if empty."""

    COUNTS: ClassVar = ("replies rewritten",)

    def reply(self, lines: list[bytes], asked: bytes) -> list[bytes]:
        """Replace the extension's line, or remove it."""
        keyword = self.settings["extension"].upper().encode()
        becomes = self.settings["becomes"].encode()
        if asked != b"EHLO" or keyword not in [_keyword(line) for line in lines[1:]]:
            return lines
        self.count("replies rewritten")
        head, *extensions = lines
        shown = [
            line[:4] + becomes + b"\r\n" if _keyword(line) == keyword else line
            for line in extensions
            if becomes or _keyword(line) != keyword
        ]
        return _relined([head, *shown])


KINDS: dict[str, type[Pix | StarttlsStripper | ExtensionRewriter]] = {
    kind.__name__: kind for kind in (Pix, StarttlsStripper, ExtensionRewriter)
}


def _unknown(line: bytes) -> bytes:
    return re.sub(rb"^\w+", lambda verb: b"X" * len(verb[0]), line.lstrip())


def _keyword(line: bytes) -> bytes:
    return (line[4:].upper().split() or [b""])[0]


def _relined(lines: list[bytes]) -> list[bytes]:
    """Write code and text of a reply's lines as RFC 5321 section 4.2.1 requires."""
    *others, last = lines
    return [line[:3] + b"-" + line[4:] for line in others] + [last[:3] + b" " + last[4:]]


@dataclass
class Middlebox:
    """A middlebox of one kind with its settings; ``counts`` has the number of its changes."""

    kind: str
    settings: dict[str, Any]
    counts: dict[str, int] = field(default_factory=dict)
    open: dict[asyncio.Task[Any], Conversation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.counts = dict.fromkeys(KINDS[self.kind].COUNTS, 0)

    async def talk(self, session: Session) -> None:
        """Pass a session between client and server; it keeps its middlebox to the end."""
        conversation = KINDS[self.kind](self.counts, **self.settings)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # for mypy
        self.open[task] = conversation
        try:
            server = await session.reach()
            await pump(session.wire, server, conversation.from_client, conversation.from_server)
        finally:
            del self.open[task]

    def lift(self) -> None:
        """End the sessions of clients that wait for a reply that will never arrive."""
        for task, conversation in self.open.items():
            if conversation.waits_in_vain:
                task.cancel()


async def _take_out(box: Middlebox) -> None:
    await FRONT.remove(box)


_boxes: Handles[Middlebox] = Handles(__name__, _take_out)


@operation(box=0)
async def middlebox_start(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Put a middlebox in the way of all sessions that start from now on."""
    box = Middlebox(kind, settings)
    await FRONT.insert(box)
    return {"box": _boxes.add(box)}


@operation(counts={})
async def middlebox_stop(box: int) -> dict[str, Any]:
    """Remove a middlebox; return the number of its changes by kind."""
    if box not in _boxes:
        return {"counts": {}}
    counts = _boxes[box].counts
    await _boxes.undo(box)
    return {"counts": counts}


async def undo() -> None:
    """End every session and remove every middlebox, also those of an agent that died."""
    await FRONT.clear()
