"""A machine of the lab: what it can run, and how it speaks SMTP to others."""

from __future__ import annotations

import base64
import contextlib
import copy
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

from maillab import message
from maillab.crowd import Crowd
from maillab.engine.channel import Channel
from maillab.engine.container import set_network
from maillab.errors import CommandFailed, UnknownName
from maillab.history import Stored, Submission
from maillab.message import Probe
from maillab.record import Mail, Record, Withheld, Witness
from maillab.topology import Role

OK, WILL_FORWARD = 250, 251
TLS_READY, AUTHENTICATED, GO_ON = 220, 235, 334
# What a server says that has begun to send what it holds (RFC 1985 section 5.2).
_QUEUING = (250, 251, 252, 253)
_PCAP = "/tmp/capture.pcap"  # noqa: S108  # in the agent
# Marks the ICMP that ``let_icmp_through`` is about, for the faults that drop it.
LET_THROUGH = 0x6D6C

_LET_ICMP_THROUGH = f"""
table ip TABLE {{
  chain output {{
    type filter hook output priority filter - 10;
    icmp type destination-unreachable meta mark set {LET_THROUGH}
  }}
}}
"""
_CLAMP_MSS = """
table ip TABLE {
  chain forward {
    type filter hook forward priority mangle;
    tcp flags syn tcp option maxseg size set rt mtu
  }
}
"""


@dataclass(frozen=True)
class Done:
    """A command that ended: its exit status and what it printed."""

    status: int | None
    stdout: str
    stderr: str


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


class Fault(Protocol):
    """Something that can be wrong with a host, see ``maillab.faults``."""

    def on(self, host: Host) -> AbstractContextManager[Witness]:
        """Apply it to the host and lift it in the end; the witness counts by then."""


class Host:
    """One host by its role: ``lab.primary``, ``lab.client`` and so on."""

    def __init__(self, role: Role, net: str, agent: Channel, record: Record) -> None:
        self.name = role.name
        self.fqdn = role.fqdn
        self.addresses = role.addresses(net)
        self.agent = agent
        self.record = record
        # What the kernel had before ``sysctl``, for the reset.
        self.kernel_before: dict[str, str] = {}

    @property
    def address(self) -> str:
        """Its first address."""
        return self.addresses[0]

    @property
    def channel(self) -> Channel:
        """The way in for commands."""
        return self.agent

    @property
    def cure(self) -> Self:
        """The same verbs, for what the FAQ advises; does nothing when cures are withheld."""
        return self._idle("cures")

    @property
    def mistake(self) -> Self:
        """The same verbs, for the mistake a symptom is about; does nothing without faults."""
        return self._idle("faults")

    def _idle(self, withheld: Withheld) -> Self:
        if self.record.withhold != withheld:
            return self
        idle = copy.copy(self)
        idle._withhold()  # noqa: SLF001  # a copy of ourselves
        return idle

    def _withhold(self) -> None:
        self.agent = Nothing()

    def run(
        self,
        *argv: str,
        user: str = "",
        stdin: str = "",
        timeout_s: float = 30.0,
        check: bool = True,
    ) -> Done:
        """Run a command; raises CommandFailed when ``check`` and it fails or takes too long.

        ``user`` is a name, or "4242:4242" for a user and group id without an account.
        """
        answer = self.channel.call(
            "run", argv=argv, user=user, stdin=stdin, timeout_s=timeout_s, bounded=True
        )
        done = Done(answer["status"], answer["stdout"], answer["stderr"])
        if check and done.status != 0:
            words = (done.stderr or done.stdout).strip()
            raise CommandFailed(f"{self.name}: {' '.join(argv)}: status {done.status}: {words}")
        return done

    def read(self, path: str) -> str | None:
        """A file's content, or None when there is no such file."""
        content: str | None = self.channel.call("read", path=path)["content"]
        return content

    def write(self, path: str, content: str, *, mode: int | None = None, owner: str = "") -> None:
        """Write a file, and the folders above it."""
        self.channel.call("write", path=path, content=content, mode=mode, owner=owner)

    def stored(self) -> list[Stored]:
        """What is in its mailboxes; a host without Postfix has none."""
        return []

    @contextlib.contextmanager
    def faulty(self, fault: Fault) -> Iterator[None]:
        """Break the host for the length of a block; a fault nobody saw makes the test void."""
        if not self.record.faults_act:
            if self.record.withhold == "witnesses":
                self.record.witnesses.append(Witness(repr(fault), self.name, "nobody looked"))
            yield
            return
        with fault.on(self) as witness:
            self.record.witnesses.append(witness)
            witness.began_s = time.monotonic()
            try:
                yield
            finally:
                witness.ended_s = time.monotonic()

    def let_icmp_through(self) -> None:
        """Stop dropping "fragmentation needed", for the rest of the scenario (RFC 2923 2.1)."""
        self.agent.call("filter_add", rules=_LET_ICMP_THROUGH)

    def clamp_mss(self) -> None:
        """Have TCP sessions routed here agree on segments that fit (nft(8) "maxseg", "rt mtu").

        For the rest of the scenario.
        """
        self.agent.call("filter_add", rules=_CLAMP_MSS)

    def limit_mtu(self, peer: str, mtu_bytes: int) -> None:
        """Send only small packets to ``peer``, an address or a network (ip-route(8) "mtu").

        For the rest of the scenario; what a host can do about a path it knows to be narrow.
        """
        narrow = {"destination": peer, "mtu_bytes": mtu_bytes}
        self.agent.call("filter_add", rules="table ip TABLE { }", narrow=narrow)

    def sysctl(self, name: str, value: str) -> None:
        """Set a parameter of the host's network in the kernel (sysctl(8)), until the reset.

        Raises HostGone with the engine's words for one that is not the namespace's own.
        """
        path = f"/proc/sys/{name.replace('.', '/')}"
        before = self.agent.call("read", path=path)["content"]
        if self.agent.container:
            set_network(self.agent.container, {name: value})
            self.kernel_before.setdefault(name, str(before).strip())

    def packets(self, expression: str) -> list[str]:
        """Packets of the host's capture, one a line, that pcap-filter(7) describes.

        After ``lab.capture()`` and ``lab.captured()``.
        """
        argv = ["tcpdump", "-n", "-r", _PCAP, expression]
        done = self.agent.call("run", argv=argv)
        if done["status"]:
            raise CommandFailed(f"{self.name}: {' '.join(argv)}: {done['stderr'].strip()}")
        return str(done["stdout"]).splitlines()

    def before_flush(self) -> int:
        """Where its log stands once a flush would find all that was deferred by now."""
        return self.record.stream.position

    def session(self, server: Host | str, *, port: int = 25, timeout_s: float = 30.0) -> Session:
        """Connect to a server and keep the session for step after step.

        A reply that has not come within ``timeout_s`` has code 0.
        """
        address = server if isinstance(server, str) else server.address
        return Session(self, server, address, port, timeout_s)

    def crowd(self, server: Host | str, count: int, *, port: int = 25) -> Crowd:
        """Connect to a server so many times at once, and say nothing."""
        address = server if isinstance(server, str) else server.address
        return Crowd(self.agent, address, port, count)

    def add_address(self, number: int) -> str:
        """Have the host answer at another address of its first network, until the reset.

        ``number`` is the address's last; returns the whole of it.
        """
        address = f"{self.address.rpartition('.')[0]}.{number}"
        self.agent.call("address_add", address=address, beside=self.address)
        self.record.added[address] = self.name
        return address

    def submit(
        self,
        to: str | Iterable[str],
        *,
        server: Host,
        port: int = 25,
        starttls: bool = False,
        login: tuple[str, str] | None = None,
        sender: str | None = None,
        subject: str = "probe",
        body: str = "",
        size_bytes: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> Mail:
        """Send a message by SMTP from this host to a server.

        EHLO, MAIL, RCPT for each recipient, DATA when one was accepted, QUIT; before
        MAIL it goes on in TLS and logs in as (user, password) where it is told to.
        """
        recipients = (to,) if isinstance(to, str) else tuple(to)
        probe = message.compose(
            sender=f"bob@{self.fqdn}" if sender is None else sender,
            recipients=recipients,
            subject=subject,
            body=body,
            size_bytes=size_bytes,
            headers=headers,
        )
        with self.session(server, port=port) as session:
            return session.send(probe, starttls=starttls, login=login)


class Nothing(Channel):
    """Takes every request and does nothing: where withheld cures go."""

    def __init__(self) -> None:
        super().__init__("", "")

    def call(self, *_: object, **__: object) -> dict[str, Any]:
        """Give the empty answer to any operation."""
        return {
            "status": 0,
            "stdout": "",
            "stderr": "",
            "content": None,
            "unknown": [],
            "mailboxes": [],
            "queued": [],
            "session": 0,
            "code": 0,
            "text": "",
        }


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
        self, client: Host, server: Host | str, address: str, port: int, timeout_s: float
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
