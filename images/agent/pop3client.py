"""A POP3 session from inside the lab (RFC 1939): log in, read all messages, leave them there.

What the server answers comes back in its own words; a step it cuts short comes
back as "" for its answer, and the reason as the error.
"""

from __future__ import annotations

import asyncio
import contextlib
import poplib
from typing import Any


async def pop3_read(
    address: str, port: int, user: str, password: str, timeout_s: float = 30.0
) -> dict[str, Any]:
    """Greeting, answer to the password, and the messages, which stay on the server."""
    return await asyncio.to_thread(_read, address, port, user, password, timeout_s)


class _Session(poplib.POP3):
    def __init__(self, address: str, port: int, timeout_s: float) -> None:
        try:
            super().__init__(address, port, timeout=timeout_s)
        except poplib.error_proto:
            # Greeted with -ERR: connected all the same.
            self.close()
            raise


def _read(address: str, port: int, user: str, password: str, timeout_s: float) -> dict[str, Any]:
    found: dict[str, Any] = {"greeting": "", "login": "", "messages": [], "error": ""}
    try:
        mailbox = _Session(address, port, timeout_s)
        with contextlib.closing(mailbox):
            found["greeting"] = _text(mailbox.getwelcome())
            try:
                mailbox.user(user)
                found["login"] = _text(mailbox.pass_(password))
            except poplib.error_proto as refused:
                found["login"] = _said(refused)
                return found
            count, _ = mailbox.stat()
            for number in range(1, count + 1):
                _, lines, _ = mailbox.retr(number)
                raw = b"".join(line + b"\n" for line in lines)
                found["messages"].append(raw.decode("latin-1"))
            mailbox.quit()
    except (OSError, poplib.error_proto) as error:
        found["error"] = f"{type(error).__name__}: {_said(error)}"
    return found


def _text(answer: bytes) -> str:
    return answer.decode("latin-1")


def _said(error: Exception) -> str:
    """What the server said where it said something, else what went wrong."""
    (said, *_) = error.args or ("",)
    return _text(said) if isinstance(said, bytes) else str(error)


OPERATIONS = {"pop3_read": pop3_read}
