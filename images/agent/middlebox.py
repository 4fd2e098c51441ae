"""A transparent box on the way that meddles with SMTP sessions, byte by byte.

It offers nothing itself: client and server talk to each other, see each other's
addresses, and what passes is changed on its way. What it cannot read, the inside
of TLS, it leaves alone.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any, ClassVar

from interception import END_OF_DATA, FRONT, Session, pump

# RFC 821 section 4.5.1: all that "fixup protocol smtp" lets pass.
_MINIMUM = {b"HELO", b"MAIL", b"RCPT", b"DATA", b"RSET", b"NOOP", b"QUIT"}

_boxes: dict[int, Middlebox] = {}
_numbers = itertools.count(1)


class Conversation:
    """Follows one session from its bytes; what a box changes, its methods below do.

    Commands are matched with their replies, since clients pipeline (RFC 2920).
    """

    def __init__(self, counts: dict[str, int], **settings: Any) -> None:
        self.counts = counts
        self.settings = settings
        # Whether the client waits for what will never come.
        self.stuck = False
        self._asked: deque[bytes] = deque([b"greeting"])
        self._mode = "commands"
        self._tail = b""
        self._bytes_left = 0
        self._from_client = b""
        self._from_server = b""
        self._reply: list[bytes] = []

    def command(self, line: bytes, verb: bytes) -> bytes:
        """What the server gets of a command line."""
        del verb
        return line

    def reply(self, lines: list[bytes], asked: bytes) -> list[bytes]:
        """What the client gets of a reply to the command it asked."""
        del asked
        return lines

    def last_piece(self, piece: bytes, *, alone: bool) -> bytes:
        """What the server gets of the end of a message; ``alone`` when a packet of its own."""
        del alone
        return piece

    def count(self, what: str) -> None:
        """Take down that something was changed."""
        self.counts[what] += 1

    def from_client(self, chunk: bytes) -> bytes:
        """What the server gets of what the client said."""
        out = b""
        rest = self._from_client + chunk
        self._from_client = b""
        while rest:
            if self._mode == "commands":
                line, newline, after = rest.partition(b"\n")
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
        """What the client gets of what the server said."""
        if self._mode == "closed to us":
            return chunk
        *lines, self._from_server = (self._from_server + chunk).split(b"\n")
        out = b""
        for line in lines:
            self._reply.append(line + b"\n")
            if line[3:4] != b"-":
                out += b"".join(self._one_reply(self._reply))
                self._reply = []
        return out

    def _one_command(self, line: bytes) -> bytes:
        words = line.upper().split()
        verb = words[0] if words else b""
        self._asked.append(verb)
        if verb == b"BDAT" and len(words) > 1 and words[1].isdigit():
            self._bytes_left = int(words[1])
            self._mode = "chunk" if self._bytes_left else "commands"
        return self.command(line, verb)

    def _message(self, data: bytes) -> tuple[bytes, bytes]:
        """Split off what belongs to the message, as the server will get it."""
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
    """What "fixup protocol smtp" of a Cisco PIX did, each part of it if its setting is true.

    ``masks_banner`` shows the greeting as stars, ``blocks_esmtp`` makes commands
    other than RFC 821's minimum unknown ones, ``swallows_dot`` loses the end of
    data where it does not come in a packet of its own.
    """

    COUNTS: ClassVar = ("banners masked", "commands blocked", "ends of data swallowed")

    def command(self, line: bytes, verb: bytes) -> bytes:
        """Write X for each letter of a command that is not allowed."""
        if not self.settings["blocks_esmtp"] or verb in _MINIMUM:
            return line
        self.count("commands blocked")
        return _unknown(line)

    def reply(self, lines: list[bytes], asked: bytes) -> list[bytes]:
        """Show nothing of a greeting but its digits 2 and 0."""
        if asked != b"greeting" or not self.settings["masks_banner"]:
            return lines
        self.count("banners masked")
        return [line[:4] + re.sub(rb"[^20 \r\n]", b"*", line[4:]) for line in lines]

    def last_piece(self, piece: bytes, *, alone: bool) -> bytes:
        """Lose the dot and its line end, unless they come alone."""
        if alone or not self.settings["swallows_dot"]:
            return piece
        self.count("ends of data swallowed")
        self.stuck = True
        return piece[:-3]


class StarttlsStripper(Conversation):
    """Keeps a session from TLS: STARTTLS is not offered, or where it ``offers``, is unknown."""

    COUNTS: ClassVar = ("offers stripped", "commands blocked")

    def command(self, line: bytes, verb: bytes) -> bytes:
        """Make STARTTLS a command that the server does not know."""
        if verb != b"STARTTLS":
            return line
        self.count("commands blocked")
        return _unknown(line)

    def reply(self, lines: list[bytes], asked: bytes) -> list[bytes]:
        """Leave the line STARTTLS out of the reply to EHLO."""
        if asked != b"EHLO" or self.settings["offers"]:
            return lines
        left = [line for line in lines if _keyword(line) != b"STARTTLS"]
        if left != lines:
            self.count("offers stripped")
        return _relined(left)


class ExtensionRewriter(Conversation):
    """Shows one ``extension`` of the reply to EHLO as ``becomes``, or not at all when empty."""

    COUNTS: ClassVar = ("replies rewritten",)

    def reply(self, lines: list[bytes], asked: bytes) -> list[bytes]:
        """Put the other line in the extension's place."""
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
    """Separate code and text as RFC 5321 section 4.2.1 wants it."""
    *others, last = lines
    return [line[:3] + b"-" + line[4:] for line in others] + [last[:3] + b" " + last[4:]]


@dataclass
class Middlebox:
    """A box of one kind with its settings; ``counts`` says what it changed how often."""

    kind: str
    settings: dict[str, Any]
    counts: dict[str, int] = field(default_factory=dict)
    open: dict[asyncio.Task[Any], Conversation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.counts = dict.fromkeys(KINDS[self.kind].COUNTS, 0)

    async def talk(self, session: Session) -> None:
        """Stand between a client and its server; a session keeps its box to the end."""
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
        """Cut off who waits for what will never come."""
        for task, conversation in self.open.items():
            if conversation.stuck:
                task.cancel()


async def middlebox_start(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Put a box in the way of all sessions that begin from now on."""
    box, number = Middlebox(kind, settings), next(_numbers)
    await FRONT.insert(box)
    _boxes[number] = box
    return {"box": number}


async def middlebox_stop(box: int) -> dict[str, Any]:
    """Take it out; returns what it changed, and how often."""
    taken = _boxes.pop(box, None)
    if taken is None:
        return {"counts": {}}
    await FRONT.remove(taken)
    return {"counts": taken.counts}


async def heal() -> None:
    """Lift what a scenario left."""
    await FRONT.clear()
    _boxes.clear()


OPERATIONS = {operation.__name__: operation for operation in (middlebox_start, middlebox_stop)}
