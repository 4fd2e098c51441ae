"""SMTP sessions from inside the lab, step by step, on aiosmtplib.

A session stays open between requests, so that a scenario can script each step.
Replies come back as code and text; a step the server cuts short comes back with
code 0 and the reason.
"""

from __future__ import annotations

import itertools
import socket
import ssl
import tempfile
from typing import Any

import aiosmtplib
from aiosmtplib.errors import SMTPException, SMTPResponseException, SMTPServerDisconnected

_sessions: dict[int, aiosmtplib.SMTP] = {}
_numbers = itertools.count(1)


def reply(code: int, text: str) -> dict[str, Any]:
    """A reply as it travels through the channel."""
    return {"code": code, "text": text}


def broken(error: BaseException) -> dict[str, Any]:
    """What stands for the reply of a server that gave none."""
    if isinstance(error, SMTPResponseException):
        return reply(error.code, error.message)
    return reply(0, f"{type(error).__name__}: {error}")


async def smtp_open(
    address: str, port: int, source: str = "", timeout_s: float = 30.0
) -> dict[str, Any]:
    """Connect and read the greeting."""
    client = aiosmtplib.SMTP(
        hostname=address,
        port=port,
        timeout=timeout_s,
        start_tls=False,
        # Else it would ask the DNS for its own name, which no scenario means to do.
        local_hostname=socket.gethostname(),
        source_address=(source, 0) if source else None,
    )
    number = next(_numbers)
    try:
        greeting = await client.connect()
    except (SMTPException, OSError) as error:
        return {"session": 0, **broken(error)}
    _sessions[number] = client
    return {"session": number, **reply(greeting.code, greeting.message)}


async def smtp_command(session: int, line: str) -> dict[str, Any]:
    """Send one command line and return its reply."""
    client = _sessions[session]
    try:
        answer = await client.execute_command(line.encode("latin-1"))
    except (SMTPException, OSError) as error:
        return broken(error)
    return reply(answer.code, answer.message)


def tls_context(trust: str, certificate: str) -> ssl.SSLContext:
    """A client's side of TLS: whom it believes, nobody in particular by default, and who it is.

    Both are PEM texts; ``certificate`` has its private key in it, too.
    """
    context = ssl.create_default_context(cadata=trust or None)
    if not trust:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        # The library reads these from files only.
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(certificate)
            file.flush()
            context.load_cert_chain(file.name)
    return context


async def smtp_starttls(
    session: int, name: str, trust: str = "", certificate: str = ""
) -> dict[str, Any]:
    """STARTTLS and the handshake (RFC 3207) with a server that should have that name.

    The reply is the server's; code 0 when the handshake fails. EHLO is not said again.
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


async def smtp_say(session: int, text: str) -> dict[str, Any]:
    """Send bytes as they are, and wait for nothing."""
    client = _sessions[session]
    if client.protocol is not None:
        client.protocol.write(text.encode("latin-1"))
    return {}


async def smtp_data(session: int, content: str) -> dict[str, Any]:
    """DATA, the message with dots stuffed and line ends made CRLF, and the final reply."""
    client = _sessions[session]
    try:
        if client.protocol is None:
            raise SMTPServerDisconnected("Connection lost")
        # Not client.data(), which does not know of our EHLO and would say it again.
        answer = await client.protocol.execute_data_command(
            content.encode("latin-1"), timeout=client.timeout
        )
    except (SMTPException, OSError) as error:
        return broken(error)
    return reply(answer.code, answer.message)


async def smtp_close(session: int) -> dict[str, Any]:
    """Drop the connection without a word; QUIT is a command like the others."""
    client = _sessions.pop(session, None)
    if client is not None:
        client.close()
    return {}


OPERATIONS = {
    operation.__name__: operation
    for operation in (smtp_open, smtp_command, smtp_say, smtp_starttls, smtp_data, smtp_close)
}
