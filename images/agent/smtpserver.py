"""An SMTP server that misbehaves at one stage of the session and is honest at all others.

Its honesty is the real server's: each command goes on to it and its own reply
comes back, so that only the chosen stage lies. What would hide commands from us,
STARTTLS and CHUNKING, is not offered.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from interception import FRONT, Session, Wire

CONNECT, GREETING, END_OF_DATA = "connect", "greeting", "end of data"
GO_AHEAD = b"354 End data with <CR><LF>.<CR><LF>\r\n"
BYE = b"221 2.0.0 Bye\r\n"
NOT_HERE = b"502 5.5.1 Error: command not implemented\r\n"
# Extensions after whose use the session cannot be followed any more.
_HIDDEN = re.compile(rb"\d{3}[ -](STARTTLS|CHUNKING)\b", re.IGNORECASE)
_RECIPIENT = re.compile(rb"RCPT\s+TO:\s*<([^>]*)>", re.IGNORECASE)

RealReply = Callable[[], Awaitable[bytes]]

_faults: dict[int, FaultyServer] = {}
_numbers = itertools.count(1)


@dataclass
class FaultyServer:
    """Acts at one stage, when it is its turn; ``acted`` counts what clients saw of it.

    At the stage it waits ``delay_s``, says ``reply`` (lines with LF between) or
    else the real server's reply, with ``byte_interval_s`` between its bytes, and
    ``then`` is silent, closes or resets; with ``then`` alone nothing is said. The
    real server hears of a command only when its reply is passed on or ``reply``
    is as good. At the end of data it gets the message when it is ``stored``.

    Of the occasions that match, those behind the ``after``th count, of them each
    ``every``th is taken, and the ``first`` of those only, unless it is 0.
    ``above_sessions`` matches while so many sessions are open already.
    """

    stage: str
    reply: str = ""
    then: str = ""
    delay_s: float = 0.0
    byte_interval_s: float = 0.0
    stored: bool = False
    first: int = 0
    every: int = 1
    after: int = 0
    recipient: str = ""
    client: str = ""
    above_sessions: int = -1
    matched: int = 0
    acted: int = 0
    open_sessions: int = 0
    lifted: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def lies(self) -> bool:
        """Whether the client is kept from the real server's reply, which is not just late."""
        return bool(self.reply or self.then)

    def lift(self) -> None:
        """Act no more, and let go whom it keeps waiting."""
        self.lifted.set()

    def takes_turn(self, client: str, recipients: set[str]) -> bool:
        """Count an occasion that matches; whether it is one of those to act on."""
        if (
            self.lifted.is_set()
            or self.client not in ("", client)
            or (self.recipient and self.recipient.lower() not in recipients)
            or (0 <= self.above_sessions > self.open_sessions)
        ):
            return False
        self.matched += 1
        behind = self.matched - self.after
        turn, rest = divmod(behind, self.every)
        return behind > 0 and not rest and not 0 < self.first < turn

    async def talk(self, session: Session) -> None:
        """Have a session from its beginning to its end."""
        dialogue = _Dialogue(self, session)
        try:
            await dialogue.run()
        finally:
            dialogue.end()

    async def act(self, client: Wire, real: RealReply | None = None) -> bytes:
        """Do what is to be done at the stage; returns the reply that was given.

        Raises EOFError when the session is over.

        A fault that is lifted meanwhile lets the real reply through at once, and
        ends a session that it lied in.
        """
        in_time = await self._pause(client, self.delay_s)
        if self.lies and not in_time:
            raise EOFError
        said = b""
        if self.reply:
            said = self.reply.replace("\n", "\r\n").encode() + b"\r\n"
        elif real is not None and not self.then:
            said = await real()
        if self.byte_interval_s:
            in_time = await self._say_slowly(client, said) and in_time
        else:
            await client.send(said)
        self.acted += in_time
        if self.then == "silence":
            await self._pause(client)
        if self.then == "reset":
            client.reset()
        # RFC 5321 section 3.8: a server that says 421 closes the channel.
        if self.then or self.reply.startswith("421"):
            raise EOFError
        return said

    async def _say_slowly(self, client: Wire, said: bytes) -> bool:
        """Byte by byte; False when lifted meanwhile, EOFError when the client has gone."""
        in_time = True
        for byte in said:
            try:
                await client.send(bytes([byte]))
            except ConnectionError:
                # As in a pause: it had waited for this byte.
                self.acted += in_time
                raise EOFError from None
            in_time = await self._pause(client, self.byte_interval_s) and in_time
        return in_time

    async def _pause(self, client: Wire, seconds: float | None = None) -> bool:
        """Wait that long; False when lifted meanwhile, EOFError when the client has gone."""
        if seconds is not None and seconds <= 0:
            return True
        gone = asyncio.ensure_future(client.ended())
        lifted = asyncio.ensure_future(self.lifted.wait())
        try:
            await asyncio.wait((gone, lifted), timeout=seconds, return_when="FIRST_COMPLETED")
            # That it has gone may be known to the kernel and not yet to us.
            if gone.done() or (lifted.done() and client.gone):
                # It saw as much as it could bear; a silence was counted when it began.
                self.acted += seconds is not None
                raise EOFError
            return not lifted.done()
        finally:
            gone.cancel()
            lifted.cancel()
            await asyncio.gather(gone, lifted, return_exceptions=True)


class _Dialogue:
    """One client's session: what it says goes on to the real server, but at the stage."""

    def __init__(self, fault: FaultyServer, session: Session) -> None:
        self._fault = fault
        self._session = session
        self._client = session.wire
        self._server: Wire | None = None
        self._recipients: set[str] = set()
        self._admitted = False

    async def run(self) -> None:
        """From the greeting on."""
        fault = self._fault
        if fault.stage == CONNECT and self._turn():
            await fault.act(self._client)
        acts = fault.stage == GREETING and self._turn()
        if not (acts and fault.lies):
            # It is one of the server's sessions while it waits for its greeting, too.
            self._admitted = True
            fault.open_sessions += 1
        await self._greet(acts=acts)
        while True:
            line = await self._client.line()
            verb = line.split(maxsplit=1)[0].decode("latin-1").upper() if line.strip() else ""
            if verb in ("STARTTLS", "BDAT"):
                await self._client.send(NOT_HERE)
            elif verb == "DATA":
                await self._data(line)
            else:
                await self._command(verb, line)
            if verb == "QUIT":
                return

    def end(self) -> None:
        """Hang up on the real server."""
        self._fault.open_sessions -= self._admitted
        if self._server is not None:
            self._server.close()

    def _turn(self, recipients: set[str] | None = None) -> bool:
        named = self._recipients if recipients is None else recipients
        return self._fault.takes_turn(self._session.client, named)

    async def _greet(self, *, acts: bool) -> None:
        fault = self._fault
        if not acts:
            await self._client.send(await self._real_greeting())
        elif not fault.lies or fault.reply.startswith("220"):
            await fault.act(self._client, self._real_greeting)
            await self._real_greeting()
        else:
            await fault.act(self._client)
            # It may still say one thing, which is QUIT (RFC 5321 section 3.1).
            await self._last_word()

    async def _last_word(self) -> None:
        word = asyncio.ensure_future(self._client.line())
        lifted = asyncio.ensure_future(self._fault.lifted.wait())
        await asyncio.wait((word, lifted), return_when="FIRST_COMPLETED")
        lifted.cancel()
        if word.done():
            word.result()
            await self._client.send(BYE)
        word.cancel()
        raise EOFError

    async def _real_greeting(self) -> bytes:
        if self._server is not None:
            return b""
        self._server = await self._session.reach()
        return b"".join(await self._server.reply())

    async def _ask(self, line: bytes) -> bytes:
        assert self._server is not None  # noqa: S101  # for mypy: we have been greeted
        await self._server.send(line)
        lines = await self._server.reply()
        if line[:4].upper() == b"EHLO":
            lines = [one for one in lines if not _HIDDEN.match(one)]
            lines[-1] = lines[-1][:3] + b" " + lines[-1][4:]
        return b"".join(lines)

    async def _command(self, verb: str, line: bytes) -> None:
        stage = {"HELO": "EHLO"}.get(verb, verb)
        found = _RECIPIENT.match(line)
        named = {found[1].decode("latin-1").lower()} if found else set()
        if stage in ("MAIL", "RSET", "EHLO"):
            self._recipients = set()
        if stage == self._fault.stage and self._turn(named):
            reply = await self._lie(line)
        else:
            reply = await self._ask(line)
            await self._client.send(reply)
        if reply.startswith(b"2"):
            self._recipients |= named

    async def _lie(self, line: bytes, success: str = "2") -> bytes:
        if self._fault.reply.startswith(success):
            await self._ask(line)
        return await self._fault.act(self._client, lambda: self._ask(line))

    async def _data(self, line: bytes) -> None:
        fault = self._fault
        kept_back = fault.stage == END_OF_DATA and fault.lies and not fault.stored
        if fault.stage == "DATA" and self._turn():
            reply = await self._lie(line, success="3")
        elif kept_back and self._recipients and self._turn():
            await self._client.send(GO_AHEAD)
            async for _ in self._client.message():
                pass
            await fault.act(self._client)
            await self._ask(b"RSET\r\n")
            self._recipients = set()
            return
        else:
            reply = await self._ask(line)
            await self._client.send(reply)
        if reply.startswith(b"3"):
            await self._message()

    async def _message(self) -> None:
        fault, server = self._fault, self._server
        assert server is not None  # noqa: S101  # for mypy: we have been greeted
        async for part in self._client.message():
            await server.send(part)

        async def real() -> bytes:
            return b"".join(await server.reply())

        late = fault.stage == END_OF_DATA and not fault.lies
        if late and self._turn():
            await fault.act(self._client, real)
        else:
            reply = await real()
            # A message that the server refused was not stored.
            lost = fault.stored and fault.lies and reply.startswith(b"2") and self._turn()
            await (fault.act(self._client) if lost else self._client.send(reply))
        self._recipients = set()


async def smtp_fault_start(**settings: Any) -> dict[str, Any]:
    """Put a misbehaving server in front of the real one; FaultyServer says what may be set."""
    fault, number = FaultyServer(**settings), next(_numbers)
    await FRONT.insert(fault)
    _faults[number] = fault
    return {"fault": number}


async def smtp_fault_stop(fault: int) -> dict[str, Any]:
    """Take it away; returns how often it acted."""
    server = _faults.pop(fault, None)
    if server is None:
        return {"acted": 0}
    await FRONT.remove(server)
    return {"acted": server.acted}


async def heal() -> None:
    """Lift what a scenario left."""
    await FRONT.clear()
    _faults.clear()


OPERATIONS = {operation.__name__: operation for operation in (smtp_fault_start, smtp_fault_stop)}
