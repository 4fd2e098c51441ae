"""An IMAP session from inside the lab (RFC 3501): log in, read all folders, change nothing.

The server's replies are returned literally. If the server cuts a step short, its reply is
"" and the error has the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import imaplib
import re
import ssl
from collections.abc import Callable
from typing import Any

from operations import operation

# '(\HasNoChildren) "." "Sent Mail"': flags, separator and name of a folder.
_FOLDER = re.compile(rb'\([^)]*\) (?:"[^"]*"|NIL) "?(.*?)"?', re.DOTALL)


@operation(greeting="", login="", folders={}, error="")
async def imap_read(
    *,
    server: str,
    port: int,
    user: str,
    password: str,
    security: str = "",
    trust: str = "",
    timeout_s: float = 30.0,
) -> dict[str, Any]:
    """Return greeting, reply to the password, and the messages of each folder.

    ``server`` is a name or an address. ``security`` is "starttls", "tls" from the first byte,
    or "". With ``trust``, in PEM, that authority must have certified the server's name.
    """
    return await asyncio.to_thread(
        _read,
        lambda: _connect(server, port, security, _context(trust), timeout_s),
        user,
        password,
    )


def _context(trust: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=trust or None)
    if not trust:
        # No authority that the system knows certifies the lab's names.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _connect(
    server: str, port: int, security: str, context: ssl.SSLContext, timeout_s: float
) -> imaplib.IMAP4:
    if security == "tls":
        return imaplib.IMAP4_SSL(server, port, ssl_context=context, timeout=timeout_s)
    session = imaplib.IMAP4(server, port, timeout_s)
    if security == "starttls":
        try:
            session.starttls(context)
        except (OSError, imaplib.IMAP4.error):
            _Closing(session).close()
            raise
    return session


def _read(connect: Callable[[], imaplib.IMAP4], user: str, password: str) -> dict[str, Any]:
    found: dict[str, Any] = {"greeting": "", "login": "", "folders": {}, "error": ""}
    try:
        session = connect()
        with contextlib.closing(_Closing(session)):
            found["greeting"] = _text(session.welcome)
            try:
                found["login"] = _text(session.login(user, password)[1][0])
            except imaplib.IMAP4.error as refused:
                found["login"] = _reply_or_error(refused)
                return found
            for folder in _folders(session):
                found["folders"][folder] = _messages(session, folder)
            session.logout()
    except (OSError, imaplib.IMAP4.error) as error:
        found["error"] = f"{type(error).__name__}: {_reply_or_error(error)}"
    return found


class _Closing:
    """Closes the connection of a session, which may have broken off."""

    def __init__(self, session: imaplib.IMAP4) -> None:
        self._session = session

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._session.shutdown()


def _folders(session: imaplib.IMAP4) -> list[str]:
    """Return the names of the user's folders that hold messages."""
    _, lines = session.list()
    found = [_FOLDER.fullmatch(line) for line in lines if isinstance(line, bytes)]
    return sorted(_text(folder[1]) for folder in found if folder)


def _messages(session: imaplib.IMAP4, folder: str) -> list[str]:
    """Return a folder's messages as they are, without marking them as seen."""
    status, answer = session.select(f'"{folder}"', readonly=True)
    if status != "OK":
        raise imaplib.IMAP4.error(answer[0])
    if answer == [b"0"]:
        return []
    _, parts = session.fetch("1:*", "(BODY.PEEK[])")
    return [_text(part[1]) for part in parts if isinstance(part, tuple)]


def _text(answer: bytes) -> str:
    return answer.decode("latin-1")


def _reply_or_error(error: Exception) -> str:
    """Return the server's reply, or the error if there is none."""
    (reply, *_) = error.args or ("",)
    return _text(reply) if isinstance(reply, bytes) else str(error)
