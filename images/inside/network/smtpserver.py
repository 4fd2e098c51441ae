"""An SMTP server that misbehaves at one stage of the session and is correct at all others.

It forwards each command to the real server and returns that server's reply, so that only
the chosen stage is false. It does not offer CHUNKING, which would hide commands from it, and
STARTTLS only if it has the real server's certificate: then it speaks TLS with both sides.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from interception import FRONTS, SMTP_PORT, LineTooLong, Session, Wire, front
from operations import Handles, operation
from turns import Turns

CONNECT, GREETING, END_OF_DATA = "connect", "greeting", "end of data"
GO_AHEAD = b"354 End data with <CR><LF>.<CR><LF>\r\n"
TOO_LONG = b"500 5.5.2 Error: line too long\r\n"
BYE = b"221 2.0.0 Bye\r\n"
NOT_HERE = b"502 5.5.1 Error: command not implemented\r\n"
# RFC 8314: TLS from the first byte.
SUBMISSIONS_PORT = 465
# What the server asks for in AUTH LOGIN: a name, and a password.
_PROMPTS = {"LOGIN": [b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n"]}
_CANCELLED = b"501 5.7.0 Authentication aborted\r\n"
# Extensions that make the rest of a session unreadable.
_HIDDEN = re.compile(rb"\d{3}[ -]CHUNKING\b", re.IGNORECASE)
_HIDDEN_WITHOUT_TLS = re.compile(rb"\d{3}[ -](STARTTLS|CHUNKING)\b", re.IGNORECASE)
_RECIPIENT = re.compile(rb"RCPT\s+TO:\s*<([^>]*)>", re.IGNORECASE)

RealReply = Callable[[], Awaitable[bytes]]


@dataclass
class FaultyServer(Turns):
    """Acts at one stage, on the selected occasions; ``acted`` counts what clients saw of it.

    At the stage it waits ``delay_s``, sends ``reply`` (lines separated by LF) or else the
    real server's reply, with ``byte_interval_s`` between its bytes, and ``then`` is silent,
    closes or resets; with ``then`` alone it sends no reply. The real server gets a command
    only if its reply is passed on or ``reply`` means the same. At the end of data it gets
    the message if ``stored``.

    `Turns` selects from the occasions that match. ``above_sessions`` matches while more
    sessions than that are open.

    ``pem`` is the real server's key and certificate (PEM), for TLS.
    """

    stage: str
    reply: str = ""
    then: str = ""
    delay_s: float = 0.0
    byte_interval_s: float = 0.0
    stored: bool = False
    recipient: str = ""
    client: str = ""
    above_sessions: int = -1
    port: int = SMTP_PORT
    pem: str = ""
    acted: int = 0
    open_sessions: int = 0
    tls: ssl.SSLContext | None = field(default=None, init=False)
    lifted: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        if self.pem:
            self.tls = server_tls(self.pem)

    @property
    def lies(self) -> bool:
        """True if the client does not get the real server's reply, not even late."""
        return bool(self.reply or self.then)

    def lift(self) -> None:
        """Stop acting, and release the clients that it keeps waiting."""
        self.lifted.set()

    def takes_turn(self, client: str, recipients: set[str]) -> bool:
        """Count an occasion that matches; return True if the fault acts on it."""
        if (
            self.lifted.is_set()
            or self.client not in ("", client)
            or (self.recipient and self.recipient.lower() not in recipients)
            or (0 <= self.above_sessions > self.open_sessions)
        ):
            return False
        return self.count()

    async def talk(self, session: Session) -> None:
        """Handle a session from beginning to end."""
        dialogue = _Dialogue(self, session)
        try:
            await dialogue.run()
        finally:
            dialogue.end()

    async def act(self, client: Wire, real: RealReply | None = None) -> bytes:
        """Act at the stage; return the reply that was sent.

        Raise EOFError when the session is over.

        If the fault is lifted meanwhile, the real reply passes at once, and a session that
        already got a false reply ends.
        """
        in_time = await self._pause(client, self.delay_s)
        if self.lies and not in_time:
            raise EOFError
        reply = b""
        if self.reply:
            reply = self.reply.replace("\n", "\r\n").encode() + b"\r\n"
        elif real is not None and not self.then:
            reply = await real()
        if self.byte_interval_s:
            in_time = await self._send_slowly(client, reply) and in_time
        else:
            await client.send(reply)
        self.acted += in_time
        if self.then == "silence":
            await self._pause(client)
        if self.then == "reset":
            client.reset()
        elif self.then == "close" and self.tls is not None:
            client.hang_up()
        # RFC 5321 section 3.8: a server that sends 421 closes the connection.
        if self.then or self.reply.startswith("421"):
            raise EOFError
        return reply

    async def _send_slowly(self, client: Wire, reply: bytes) -> bool:
        """Send byte by byte; return False if lifted, raise EOFError if the client left."""
        in_time = True
        for byte in reply:
            try:
                await client.send(bytes([byte]))
            except ConnectionError:
                # As in a pause: the client had waited for this byte.
                self.acted += in_time
                raise EOFError from None
            in_time = await self._pause(client, self.byte_interval_s) and in_time
        return in_time

    async def _pause(self, client: Wire, seconds: float | None = None) -> bool:
        """Wait; return False if the fault was lifted, raise EOFError if the client left."""
        if seconds is not None and seconds <= 0:
            return True
        gone = asyncio.ensure_future(client.ended())
        lifted = asyncio.ensure_future(self.lifted.wait())
        try:
            await asyncio.wait((gone, lifted), timeout=seconds, return_when="FIRST_COMPLETED")
            # The kernel may know that the client has left before asyncio does.
            if gone.done() or (lifted.done() and client.gone):
                # The client saw all it waited for. A silence was counted at its beginning.
                self.acted += seconds is not None
                raise EOFError
            return not lifted.done()
        finally:
            gone.cancel()
            lifted.cancel()
            await asyncio.gather(gone, lifted, return_exceptions=True)


class _Dialogue:
    """One client's session: the real server answers its commands, except at the stage."""

    def __init__(self, fault: FaultyServer, session: Session) -> None:
        self._fault = fault
        self._session = session
        self._client = session.wire
        self._server: Wire | None = None
        self._recipients: set[str] = set()
        self._admitted = False
        self._in_tls = False

    async def run(self) -> None:
        """Run the session, starting with the greeting."""
        fault = self._fault
        if fault.stage == CONNECT and self._turn():
            await fault.act(self._client)
        if fault.port == SUBMISSIONS_PORT and fault.tls is not None:
            await self._client.start_tls(fault.tls)
            self._in_tls = True
        acts = fault.stage == GREETING and self._turn()
        if not (acts and fault.lies):
            # A session counts as open while it waits for its greeting, too.
            self._admitted = True
            fault.open_sessions += 1
        await self._greet(acts=acts)
        while True:
            line = await self._command_line()
            verb = line.split(maxsplit=1)[0].decode("latin-1").upper() if line.strip() else ""
            await self._answer(verb, line)
            if verb == "QUIT":
                return

    async def _answer(self, verb: str, line: bytes) -> None:
        fault = self._fault
        if verb == "BDAT" or (verb == "STARTTLS" and fault.tls is None):
            await self._client.send(NOT_HERE)
        elif verb == "STARTTLS" and fault.stage == verb and self._turn():
            await fault.act(self._client)
        elif verb == "STARTTLS":
            await self._start_tls(line)
        elif verb == "DATA":
            await self._data(line)
        elif verb == "AUTH":
            await self._auth(line)
        else:
            await self._command(verb, line)

    async def _command_line(self) -> bytes:
        try:
            return await self._client.line()
        except LineTooLong:
            await self._client.send(TOO_LONG)
            raise

    def end(self) -> None:
        """Close the connection to the real server."""
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
            # The client may still send one command, QUIT (RFC 5321 section 3.1).
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
        if self._in_tls:
            await self._server.start_tls(client_tls())
        return b"".join(await self._server.reply())

    async def _start_tls(self, line: bytes) -> None:
        """Start TLS with both sides, if the real server agrees."""
        tls, server = self._fault.tls, self._server
        assert tls is not None  # noqa: S101  # for mypy: it was offered
        assert server is not None  # noqa: S101  # for mypy: we have been greeted
        reply = await self._ask(line)
        if not reply.startswith(b"220"):
            await self._client.send(reply)
            return
        await server.start_tls(client_tls())
        await self._client.start_tls(tls, last=reply)
        # RFC 3207 section 4.2: the session starts again.
        self._recipients = set()

    async def _auth(self, line: bytes) -> None:
        """Handle AUTH (RFC 4954) to its last reply; credentials for a lie stay here."""
        fault = self._fault
        acts = fault.stage == "AUTH" and self._turn()
        if acts and fault.lies:
            _, mechanism, *initial = [*line.decode("latin-1").upper().split(), ""]
            prompts = _PROMPTS.get(mechanism, [b"334 \r\n"])
            # An initial response answers the first prompt.
            for prompt in prompts[1:] if initial[:-1] else prompts:
                await self._client.send(prompt)
                if (await self._command_line()).strip() == b"*":
                    await self._client.send(_CANCELLED)
                    return
            await fault.act(self._client)
            return
        reply = await self._ask(line)
        while reply.startswith(b"334"):
            await self._client.send(reply)
            reply = await self._ask(await self._command_line())

        async def real() -> bytes:
            return reply

        await (fault.act(self._client, real) if acts else self._client.send(reply))

    async def _ask(self, line: bytes) -> bytes:
        assert self._server is not None  # noqa: S101  # for mypy: we have been greeted
        await self._server.send(line)
        lines = await self._server.reply()
        if line[:4].upper() == b"EHLO":
            hidden = _HIDDEN if self._fault.tls is not None else _HIDDEN_WITHOUT_TLS
            lines = [lines[0], *(offer for offer in lines[1:] if not hidden.match(offer))]
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


def server_tls(pem: str) -> ssl.SSLContext:
    """Return the TLS of a server with this key and certificate.

    The size of each record tells the size of the reply in it: TLS 1.3 adds a constant.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A ticket is a record, too, and would come before the first reply.
    context.num_tickets = 0
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def client_tls() -> ssl.SSLContext:
    """Return the TLS of a client that takes any certificate: the server is on this host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _take_away(fault: FaultyServer) -> None:
    await front(fault.port).remove(fault)


_faults: Handles[FaultyServer] = Handles(__name__, _take_away)


@operation(fault=0)
async def smtp_fault_start(**settings: Any) -> dict[str, Any]:
    """Put a misbehaving server in front of the real one; FaultyServer has the settings."""
    fault = FaultyServer(**settings)
    await front(fault.port).insert(fault)
    return {"fault": _faults.add(fault)}


@operation(acted=0)
async def smtp_fault_stop(fault: int) -> dict[str, Any]:
    """Remove a misbehaving server; return how often it acted."""
    if fault not in _faults:
        return {"acted": 0}
    server = _faults[fault]
    await _faults.undo(fault)
    return {"acted": server.acted}


async def undo() -> None:
    """End every session and remove every fault, also those of an agent that died."""
    for intercepting in list(FRONTS.values()):
        await intercepting.clear()
