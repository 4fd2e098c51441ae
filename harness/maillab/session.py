"""An SMTP session in which each step is the scenario's (RFC 5321)."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

from maillab.engine.channel import Channel
from maillab.errors import UnknownName
from maillab.history import Submission
from maillab.message import Probe
from maillab.record import Mail, Record

OK, WILL_FORWARD = 250, 251
TLS_READY, AUTHENTICATED, GO_ON = 220, 235, 334
# What a server says that has begun to send what it holds (RFC 1985 section 5.2).
_QUEUING = (250, 251, 252, 253)


@dataclass(frozen=True)
class Reply:
    """An SMTP reply (RFC 5321 section 4.2); code 0 when the server gave none."""

    code: int
    text: str

    @property
    def dsn(self) -> str:
        """The enhanced status code (RFC 2034), or nothing."""
        found = re.match(r"[245]\.\d{1,3}\.\d{1,3}", self.text)
        return found[0] if found else ""

    @property
    def queue_id(self) -> str:
        """The id under which Postfix queued what it took."""
        found = re.search(r"queued as (\w+)", self.text)
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class Party(Protocol):
    """What a session needs of the hosts at its ends."""

    name: str
    fqdn: str
    agent: Channel
    record: Record

    def before_flush(self) -> int:
        """Where its log stands once a flush would find all that was deferred by now."""


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@dataclass
class _Transaction:
    """What was said since MAIL FROM, and the number of the last event before it."""

    after_seq: int = -1
    accepted: list[str] = field(default_factory=list)
    rejections: list[tuple[str, int, str, str]] = field(default_factory=list)


class Session:
    """An SMTP session in which each step is the scenario's; all replies are kept."""

    def __init__(
        self, client: Party, server: Party | str, address: str, port: int, timeout_s: float
    ) -> None:
        self._client = client
        self._server = server
        self._timeout_s = timeout_s
        self._transaction = _Transaction()
        opened = client.agent.call(
            "smtp_open", address=address, port=port, timeout_s=timeout_s, bounded=True
        )
        self._number = opened["session"]
        self.greeting = Reply(opened["code"], opened["text"])
        self.replies: list[tuple[str, Reply]] = [("", self.greeting)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def open(self) -> bool:
        """Whether the server greeted with 220 and has not gone since."""
        return bool(self._number) and self.replies[-1][1].code not in (0, 421)

    def command(self, line: str) -> Reply:
        """Send one line and return its reply."""
        if not self.open:
            return self._keep(line, self.replies[-1][1])
        answer = self._client.agent.call(
            "smtp_command", session=self._number, line=line, timeout_s=self._timeout_s
        )
        return self._keep(line, Reply(answer["code"], answer["text"]))

    def say(self, text: str) -> None:
        """Send text as it is, and do not wait for an answer."""
        if self.open:
            self._client.agent.call("smtp_say", session=self._number, text=text)

    def etrn(self, domain: str) -> Reply:
        """Ask for the mail that the server holds for a domain (RFC 1985).

        When it agrees, ``lab.settle`` waits for its next attempts.
        """
        server = self._server
        position = -1 if isinstance(server, str) else server.before_flush()
        reply = self.command(f"ETRN {domain}")
        if reply.code in _QUEUING and not isinstance(server, str):
            self._client.record.flushed[server.name] = position
        return reply

    def ehlo(self, name: str | None = None) -> Reply:
        """Greet with ESMTP, as this host unless another name is given."""
        return self.command(f"EHLO {name or self._client.fqdn}")

    def starttls(self, *, trust: str = "", certificate: str = "") -> Reply:
        """Go on in TLS (RFC 3207); EHLO is to be said again.

        ``trust`` is the CA by which the server must prove its name; without one any
        server will do. ``certificate`` is ours, its key with it. Both in PEM.
        """
        if not self.open:
            return self._keep("STARTTLS", self.replies[-1][1])
        server = self._server
        answer = self._client.agent.call(
            "smtp_starttls", session=self._number,
            name=server if isinstance(server, str) else server.fqdn,
            trust=trust, certificate=certificate,
        )  # fmt: skip
        return self._keep("STARTTLS", Reply(answer["code"], answer["text"]))

    def auth(self, user: str, password: str, mechanism: str = "PLAIN") -> Reply:
        """Log in (RFC 4954) by the mechanism PLAIN or LOGIN; the server's last reply."""
        whole = f"\0{user}\0{password}"
        lines = {
            "PLAIN": [f"AUTH PLAIN {_base64(whole)}"],
            "LOGIN": ["AUTH LOGIN", _base64(user), _base64(password)],
        }
        if mechanism not in lines:
            raise UnknownName.among("mechanism", mechanism, list(lines))
        for line in lines[mechanism]:
            reply = self.command(line)
            if reply.code != GO_ON:
                break
        return reply

    def mail(self, sender: str, parameters: str = "") -> Reply:
        """Begin a transaction with the envelope sender."""
        self._transaction = _Transaction(self._client.record.stream.position - 1)
        return self.command(f"MAIL FROM:<{sender}> {parameters}".rstrip())

    def rcpt(self, recipient: str, parameters: str = "") -> Reply:
        """Name a recipient."""
        reply = self.command(f"RCPT TO:<{recipient}> {parameters}".rstrip())
        if reply.code in (OK, WILL_FORWARD):
            self._transaction.accepted.append(recipient)
        else:
            self._transaction.rejections.append((recipient, reply.code, reply.dsn, reply.text))
        return reply

    def data(self, probe: Probe) -> Mail:
        """DATA and the message; what becomes of it is followed from here."""
        answer = self._client.agent.call(
            "smtp_data", session=self._number, content=probe.raw.decode("latin-1"),
            timeout_s=self._timeout_s,
        )  # fmt: skip
        reply = self._keep("DATA", Reply(answer["code"], answer["text"]))
        return self._submitted(probe, reply)

    def quit(self) -> Reply:
        """Say QUIT."""
        return self.command("QUIT")

    def close(self) -> None:
        """Drop the connection."""
        if self._number:
            self._client.agent.call("smtp_close", session=self._number)
            self._number = 0

    def send(
        self, probe: Probe, *, starttls: bool = False, login: tuple[str, str] | None = None
    ) -> Mail:
        """The whole of an ordinary session after the greeting."""
        refused = self.greeting
        if self.open:
            refused = self.ehlo()
        if starttls and self.open and refused.code == OK:
            refused = self.starttls()
            if refused.code == TLS_READY:
                refused = self.ehlo()
        if login and self.open and refused.code == OK:
            refused = self.auth(*login)
        if self.open and refused.code in (OK, AUTHENTICATED):
            refused = self.mail(probe.sender)
        if self.open and refused.code == OK:
            for recipient in probe.recipients:
                self.rcpt(recipient)
            if self._transaction.accepted:
                mail = self.data(probe)
                self.quit()
                return mail
            _, code, _, text = self._transaction.rejections[-1]
            refused = Reply(code, text)
            self.quit()
        return self._submitted(probe, refused, began=False)

    def _submitted(self, probe: Probe, reply: Reply, *, began: bool = True) -> Mail:
        outcome: Literal["acknowledged", "refused", "unknown"] = "refused"
        if began and reply.code in (0, OK):
            outcome = "acknowledged" if reply.code else "unknown"
        server = self._server
        return self._client.record.add(
            Submission(
                number=0,
                probe=probe,
                host=self._client.record.host_at(server)
                if isinstance(server, str)
                else server.name,
                via="smtp",
                accepted=tuple(self._transaction.accepted) if outcome != "refused" else (),
                outcome=outcome,
                code=reply.code,
                dsn=reply.dsn,
                reply=reply.text,
                queue_id=reply.queue_id,
                rejections=tuple(self._transaction.rejections),
                after_seq=self._transaction.after_seq,
            )
        )

    def _keep(self, line: str, reply: Reply) -> Reply:
        self.replies.append((line, reply))
        return reply
