"""A POP3 session from inside the lab (RFC 1939): log in, read all messages, leave them there.

The server's replies are returned literally. If the server cuts a step short, its reply is
"" and the error has the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import poplib
import socket
import ssl
from collections.abc import Callable
from typing import Any

from operations import operation


@operation(greeting="", login="", messages=[], error="")
async def pop3_read(
    *, address: str, port: int, user: str, password: str, tls: bool = False, timeout_s: float = 30.0
) -> dict[str, Any]:
    """Return greeting, reply to the password, and messages, which stay on the server.

    With ``tls`` the session is in TLS from its first byte, with any certificate.
    """
    return await asyncio.to_thread(
        _read, lambda: (_TlsSession if tls else _Session)(address, port, timeout_s), user, password
    )


class _Session(poplib.POP3):
    def __init__(self, address: str, port: int, timeout_s: float) -> None:
        try:
            super().__init__(address, port, timeout=timeout_s)
        except poplib.error_proto:
            # Greeted with -ERR: the connection is open nevertheless.
            self.close()
            raise


class _TlsSession(_Session):
    def _create_socket(self, timeout: float) -> ssl.SSLSocket:
        context = ssl.create_default_context()
        # No authority that the system knows certifies the lab's names.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain: socket.socket = super()._create_socket(timeout)  # type: ignore[misc]
        return context.wrap_socket(plain)


def _read(connect: Callable[[], _Session], user: str, password: str) -> dict[str, Any]:
    found: dict[str, Any] = {"greeting": "", "login": "", "messages": [], "error": ""}
    try:
        mailbox = connect()
        with contextlib.closing(mailbox):
            found["greeting"] = _text(mailbox.getwelcome())
            try:
                mailbox.user(user)
                found["login"] = _text(mailbox.pass_(password))
            except poplib.error_proto as refused:
                found["login"] = _reply_or_error(refused)
                return found
            count, _ = mailbox.stat()
            for number in range(1, count + 1):
                _, lines, _ = mailbox.retr(number)
                raw = b"".join(line + b"\n" for line in lines)
                found["messages"].append(raw.decode("latin-1"))
            mailbox.quit()
    except (OSError, poplib.error_proto) as error:
        found["error"] = f"{type(error).__name__}: {_reply_or_error(error)}"
    return found


def _text(answer: bytes) -> str:
    return answer.decode("latin-1")


def _reply_or_error(error: Exception) -> str:
    """Return the server's reply, or the error if there is none."""
    (reply, *_) = error.args or ("",)
    return _text(reply) if isinstance(reply, bytes) else str(error)
