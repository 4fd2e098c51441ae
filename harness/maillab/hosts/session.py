"""An SMTP session that a scenario runs step by step (RFC 5321)."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

from maillab.engine.channel import Channel
from maillab.errors import UnknownName
from maillab.mail.history import Submission
from maillab.mail.message import Probe
from maillab.scenario.state import Mail, ScenarioState

OK, WILL_FORWARD = 250, 251
TLS_READY, AUTHENTICATED, GO_ON = 220, 235, 334
# Replies of a server that has started to send the mail that it holds (RFC 1985 section 5.2).
_QUEUING = (250, 251, 252, 253)


@dataclass(frozen=True)
class Reply:
    """An SMTP reply (RFC 5321 section 4.2); code 0 if the server sent none."""

    code: int
    text: str

    @property
    def dsn(self) -> str:
        """The enhanced status code (RFC 2034), or ""."""
        found = re.match(r"[245]\.\d{1,3}\.\d{1,3}", self.text)
        return found[0] if found else ""

    @property
    def queue_id(self) -> str:
        """The queue id of the message that Postfix accepted, or ""."""
        found = re.search(r"queued as (\w+)", self.text)
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class Party(Protocol):
    """The parts of a host that a session needs."""

    name: str
    mail_name: str
    fqdn: str
    agent: Channel
    scenario: ScenarioState

    def before_flush(self) -> int:
        """Return the log position after which a flush finds all mail deferred so far."""


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@dataclass
class _Transaction:
    """The recipients since MAIL FROM, and the number of the last event before it."""

    after_seq: int = -1
    accepted: list[str] = field(default_factory=list)
    rejections: list[tuple[str, int, str, str]] = field(default_factory=list)


class Session:
    """An SMTP session that a scenario runs step by step; it keeps all replies."""

    def __init__(
        self,
        client: Party,
        server: Party | str,
        address: str,
        port: int,
        timeout_s: float,
        *,
        tls: bool = False,
    ) -> None:
        self._client = client
        self._server = server
        self._timeout_s = timeout_s
        self._transaction = _Transaction()
        opened = client.agent.call(
            "smtp_open", address=address, port=port, timeout_s=timeout_s, tls=tls, bounded=True
        )
        self._number = opened["session"]
        # From the connection attempt to the greeting, or to its end without one.
        self.waited_s: float = opened["waited_s"]
        self.greeting = Reply(opened["code"], opened["text"])
        self.replies: list[tuple[str, Reply]] = [("", self.greeting)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def open(self) -> bool:
        """Return True if the server greeted with 220 and has not closed since."""
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
        """Send text unchanged, and do not wait for a reply."""
        if self.open:
            self._client.agent.call("smtp_say", session=self._number, text=text)

    def etrn(self, domain: str) -> Reply:
        """Ask for the mail that the server holds for a domain (RFC 1985).

        If the server agrees, ``lab.settle`` waits for its next delivery attempts.
        """
        server = self._server
        position = -1 if isinstance(server, str) else server.before_flush()
        reply = self.command(f"ETRN {domain}")
        if reply.code in _QUEUING and not isinstance(server, str):
            self._client.scenario.flushed[server.name] = position
        return reply

    def ehlo(self, name: str | None = None) -> Reply:
        """Send EHLO, with this host's name unless another name is given."""
        return self.command(f"EHLO {name or self._client.fqdn}")

    def starttls(self, *, trust: str = "", certificate: str = "") -> Reply:
        """Switch to TLS (RFC 3207); send EHLO again afterwards.

        ``trust`` is the CA that must have certified the server's name; without it any
        server is accepted. ``certificate`` is the client's, with its key. Both are PEM.
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
        """Log in (RFC 4954) by PLAIN, LOGIN or XOAUTH2; return the server's last reply.

        For XOAUTH2 the password is an access token.
        """
        whole = f"\0{user}\0{password}"
        bearer = f"user={user}\1auth=Bearer {password}\1\1"
        lines = {
            "PLAIN": [f"AUTH PLAIN {_base64(whole)}"],
            "LOGIN": ["AUTH LOGIN", _base64(user), _base64(password)],
            # A server that refuses gives its reason first, and waits for an empty line.
            "XOAUTH2": [f"AUTH XOAUTH2 {_base64(bearer)}", ""],
        }
        if mechanism not in lines:
            raise UnknownName.among("mechanism", mechanism, list(lines))
        for line in lines[mechanism]:
            reply = self.command(line)
            if reply.code != GO_ON:
                break
        return reply

    def mail(self, sender: str, parameters: str = "") -> Reply:
        """Send MAIL FROM, which starts a transaction."""
        self._transaction = _Transaction(self._client.scenario.stream.position - 1)
        return self.command(f"MAIL FROM:<{sender}> {parameters}".rstrip())

    def rcpt(self, recipient: str, parameters: str = "") -> Reply:
        """Send RCPT TO."""
        reply = self.command(f"RCPT TO:<{recipient}> {parameters}".rstrip())
        if reply.code in (OK, WILL_FORWARD):
            self._transaction.accepted.append(recipient)
        else:
            self._transaction.rejections.append((recipient, reply.code, reply.dsn, reply.text))
        return reply

    def data(self, probe: Probe) -> Mail:
        """Send DATA and the message, and return the mail, which is followed from here."""
        answer = self._client.agent.call(
            "smtp_data", session=self._number, content=probe.raw.decode("latin-1"),
            timeout_s=self._timeout_s,
        )  # fmt: skip
        reply = self._keep("DATA", Reply(answer["code"], answer["text"]))
        return self._submitted(probe, reply)

    def quit(self) -> Reply:
        """Send QUIT."""
        return self.command("QUIT")

    def close(self) -> None:
        """Drop the connection."""
        if self._number:
            self._client.agent.call("smtp_close", session=self._number)
            self._number = 0

    def send(
        self, probe: Probe, *, starttls: bool = False, login: tuple[str, str] | None = None
    ) -> Mail:
        """Run a complete ordinary session after the greeting."""
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
        return self._client.scenario.add(
            Submission(
                number=0,
                probe=probe,
                host=self._client.scenario.host_at(server)
                if isinstance(server, str)
                else server.mail_name,
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
