"""SMTP sessions from inside the lab, step by step, on aiosmtplib.

A session stays open between requests, so that a scenario can script each step. Replies are
returned as code and text. If the server cuts a step short, the code is 0 and the text is the
reason.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
import time
from typing import Any

import aiosmtplib
from aiosmtplib.errors import SMTPException, SMTPResponseException, SMTPServerDisconnected

from operations import Handles, operation


async def _drop(client: aiosmtplib.SMTP) -> None:
    client.close()


_sessions: Handles[aiosmtplib.SMTP] = Handles(__name__, _drop)


def reply(code: int, text: str) -> dict[str, Any]:
    """Return a reply in the form that the channel sends."""
    return {"code": code, "text": text}


def broken(error: BaseException) -> dict[str, Any]:
    """Return the reply that stands for a server's missing reply."""
    if isinstance(error, SMTPResponseException):
        return reply(error.code, error.message)
    return reply(0, f"{type(error).__name__}: {error}")


@operation(session=0, code=0, text="", waited_s=0.0)
async def smtp_open(
    address: str, port: int, source: str = "", timeout_s: float = 30.0, *, tls: bool = False
) -> dict[str, Any]:
    """Connect and read the greeting; with ``tls`` in TLS from the first byte (RFC 8314)."""
    client = aiosmtplib.SMTP(
        hostname=address,
        port=port,
        timeout=timeout_s,
        start_tls=False,
        use_tls=tls,
        tls_context=tls_context("", "") if tls else None,
        # Otherwise aiosmtplib would ask the DNS for its own name, which no scenario intends.
        local_hostname=socket.gethostname(),
        source_address=(source, 0) if source else None,
    )
    began = time.monotonic()
    try:
        greeting = await client.connect()
    except (SMTPException, OSError) as error:
        return {"session": 0, **broken(error), "waited_s": time.monotonic() - began}
    waited_s = time.monotonic() - began
    session = _sessions.add(client)
    return {"session": session, **reply(greeting.code, greeting.message), "waited_s": waited_s}


@operation(code=0, text="")
async def smtp_command(session: int, line: str) -> dict[str, Any]:
    """Send one command line and return its reply."""
    client = _sessions[session]
    try:
        answer = await client.execute_command(line.encode("latin-1"))
    except (SMTPException, OSError) as error:
        return broken(error)
    return reply(answer.code, answer.message)


def tls_context(trust: str, certificate: str) -> ssl.SSLContext:
    """Return a client's TLS settings: the certificates that it trusts, by default any, and its own.

    Both are PEM texts; ``certificate`` also contains its private key.
    """
    context = ssl.create_default_context(cadata=trust or None)
    if not trust:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        # The library reads certificates from files only.
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(certificate)
            file.flush()
            context.load_cert_chain(file.name)
    return context


@operation(code=0, text="")
async def smtp_starttls(
    session: int, name: str, trust: str = "", certificate: str = ""
) -> dict[str, Any]:
    """Send STARTTLS and do the handshake (RFC 3207); ``name`` is the server's expected name.

    Return the server's reply, or code 0 if the handshake fails. EHLO is not repeated.
    """
    client = _sessions[session]
    try:
        if client.protocol is None:
            raise SMTPServerDisconnected("Connection lost")
        answer = await client.protocol.start_tls(
            tls_context(trust, certificate), server_hostname=name, timeout=client.timeout
        )
    except (SMTPException, OSError) as error:
        return broken(error)
    return reply(answer.code, answer.message)


@operation()
async def smtp_say(session: int, text: str) -> dict[str, Any]:
    """Send bytes unchanged, and wait for nothing."""
    client = _sessions[session]
    if client.protocol is not None:
        client.protocol.write(text.encode("latin-1"))
    return {}


@operation(code=0, text="")
async def smtp_data(session: int, content: str) -> dict[str, Any]:
    """Send DATA and the message, dot-stuffed and with CRLF; return the final reply."""
    client = _sessions[session]
    try:
        if client.protocol is None:
            raise SMTPServerDisconnected("Connection lost")
        # client.data() does not know of our EHLO and would repeat it.
        answer = await client.protocol.execute_data_command(
            content.encode("latin-1"), timeout=client.timeout
        )
    except (SMTPException, OSError) as error:
        return broken(error)
    return reply(answer.code, answer.message)


@operation()
async def smtp_close(session: int) -> dict[str, Any]:
    """Close the connection without QUIT, which is a command like any other."""
    if session in _sessions:
        await _sessions.undo(session)
    return {}
