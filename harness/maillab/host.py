"""A machine of the lab: what it can run, and how it speaks SMTP to others."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Self

from maillab import message
from maillab.crowd import Crowd
from maillab.engine.channel import Channel
from maillab.engine.container import set_network
from maillab.errors import CommandFailed
from maillab.history import Stored
from maillab.record import Mail, Record, Withheld, Witness
from maillab.session import Session
from maillab.topology import Role

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
