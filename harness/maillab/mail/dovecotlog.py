"""Parser for Dovecot's log: LMTP deliveries, Sieve actions and logins. Pure.

The texts are those of Dovecot 2.4. An LMTP session has an id, which is also in Dovecot's reply
to Postfix and in the Received header; it takes the place of a queue id. As in ``maillog``,
each pattern takes time proportional to the line's length.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from maillab.mail.maillog import Delivery, Event, NotStarted, Started

_FLAGS = re.ASCII | re.DOTALL
# ":R2" marks the second recipient of a transaction, ":T2" the second transaction.
_LMTP = re.compile(
    r"lmtp\((?P<user>[^)]*+)\)<\d+><(?P<session>[^>:]++(?::T\d+)?+)[^>]*+>: (?P<sieve>sieve: )?"
    r"(?:msgid=(?:<(?P<message_id>[^>]*+)>|[^:]*+)(?: \([^)]*+\))?: )?(?P<text>.*)",
    _FLAGS,
)
_SAVED = re.compile(
    r"(?:saved mail to (?P<saved>.*)"
    r"|(?:fileinto action: )?stored mail into mailbox '(?P<stored>.*)')",
    _FLAGS,
)
_REDIRECTED = re.compile(r"redirect action: forwarded to <(?P<to>[^>]*+)>", _FLAGS)
_DISCARDED = re.compile(r"discard action: .*", _FLAGS)
_RETURNED = re.compile(r"reject action: rejected message from <(?P<sender>[^>]*+)>.*", _FLAGS)
_ANSWERED = re.compile(r"vacation action: sent vacation response to <(?P<to>[^>]*+)>", _FLAGS)
_SESSION = r"user=<(?P<user>[^>]*+)>(?:, method=(?P<method>[^,]*+))?, rip=(?P<address>[^,]*+), .*"
_LOGIN = re.compile(rf"(?P<protocol>\w+)-login: Logged in: {_SESSION}", _FLAGS)
_REFUSED = re.compile(
    rf"(?P<protocol>\w+)-login: Login aborted: (?P<reason>[^:]*+): {_SESSION}", _FLAGS
)
_PASSWORD = re.compile(
    r"auth\((?P<user>[^,)]*+),(?P<address>[^,)]*+),sasl:(?P<method>[^,)]*+)[^)]*+\)(?:<[^>]*+>)?: "
    r"(?P<database>[\w-]+): (?P<reason>Password mismatch|unknown user).*",
    _FLAGS,
)
_STARTED = re.compile(
    r"master: Dovecot v(?P<version>\S+) \(\w+\) starting up for (?P<configuration>.*)", _FLAGS
)
_NOT_STARTED = re.compile(r"(?:doveconf|master|setup): (?:[^:]*+: )?Fatal: (?P<words>.*)", _FLAGS)


@dataclass(frozen=True, slots=True)
class LmtpDelivery(Delivery):
    """lmtp: the outcome of a message that Dovecot took."""

    message_id: str


@dataclass(frozen=True, slots=True)
class MailSaved(LmtpDelivery):
    """lmtp: a message is in a folder of a user's mailbox; the folder is the ``relay``."""


@dataclass(frozen=True, slots=True)
class MailRedirected(LmtpDelivery):
    """lmtp: a user's Sieve script sent a message on, to ``to``."""


@dataclass(frozen=True, slots=True)
class MailDiscarded(LmtpDelivery):
    """lmtp: a user's Sieve script throws a message away unless it also stores it."""


@dataclass(frozen=True, slots=True)
class MailReturned(LmtpDelivery):
    """lmtp: a user's Sieve script returned a message to its sender."""

    sender: str


@dataclass(frozen=True, slots=True)
class VacationSent(Event):
    """lmtp: a user's Sieve script answered a message to its sender."""

    user: str
    to: str


@dataclass(frozen=True, slots=True)
class LoggedIn(Event):
    """A user logged in; ``protocol`` is imap, pop3 or managesieve."""

    protocol: str
    user: str
    method: str
    address: str


@dataclass(frozen=True, slots=True)
class LoginRefused(Event):
    """A login by imap, pop3 or managesieve (``protocol``) failed."""

    protocol: str
    user: str
    method: str
    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class PasswordRefused(Event):
    """auth: a password database refused a login; Dovecot may still ask the next one.

    For a SASL login through Postfix, Dovecot logs only this line.
    """

    user: str
    address: str
    method: str
    database: str
    reason: str


# The named groups of each pattern are the fields of its event.
_KINDS: tuple[tuple[re.Pattern[str], Callable[..., Event]], ...] = (
    (_LOGIN, LoggedIn),
    (_REFUSED, LoginRefused),
    (_PASSWORD, PasswordRefused),
    (_STARTED, Started),
    (_NOT_STARTED, NotStarted),
)


def read(event: Event) -> Event | None:
    """Return a line of Dovecot as an event of its kind, or None if it has none."""
    if delivered := _LMTP.fullmatch(event.text):
        return _delivered(event, delivered)
    for pattern, kind in _KINDS:
        if found := pattern.fullmatch(event.text):
            return event.becomes(kind, **found.groupdict(default=""))
    return None


def _delivered(event: Event, found: re.Match[str]) -> Event | None:
    session, user, text = found["session"], found["user"], found["text"]
    message_id = f"<{found['message_id']}>" if found["message_id"] else ""
    common = {"queue_id": session, "message_id": message_id, "reply": text}
    if saved := _SAVED.fullmatch(text):
        folder = saved["saved"] or saved["stored"] or ""
        return _attempt(event, MailSaved, to=user, relay=folder, **common)
    if sent := _REDIRECTED.fullmatch(text):
        return _attempt(event, MailRedirected, to=sent["to"], relay="sieve", **common)
    if _DISCARDED.fullmatch(text):
        return _attempt(event, MailDiscarded, to=user, relay="sieve", status="discarded", **common)
    if returned := _RETURNED.fullmatch(text):
        fields = {"status": "bounced", "dsn": "5.7.1", "sender": returned["sender"]}
        return _attempt(event, MailReturned, to=user, relay="sieve", **fields, **common)
    if answered := _ANSWERED.fullmatch(text):
        return event.becomes(VacationSent, session, user=user, to=answered["to"])
    return None


def _attempt(
    event: Event,
    kind: Callable[..., Event],
    *,
    queue_id: str,
    relay: str,
    dsn: str = "2.0.0",
    status: str = "sent",
    **fields: object,
) -> Event:
    return event.becomes(
        kind, queue_id, orig_to="", relay=relay, relay_host="", relay_address="",
        relay_port=0, delay=0.0, delays="", dsn=dsn, status=status, **fields,
    )  # fmt: skip
