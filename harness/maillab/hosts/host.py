"""A machine of the lab: commands, files, faults and SMTP sessions."""

from __future__ import annotations

import contextlib
import copy
import ipaddress
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, Self

from maillab.engine.channel import Channel
from maillab.engine.container import set_network
from maillab.errors import BadInput
from maillab.hosts import command
from maillab.hosts.command import Done
from maillab.hosts.connections import Connections
from maillab.hosts.filters import Filter
from maillab.hosts.nameserver import Nameserver
from maillab.hosts.network import Network
from maillab.hosts.session import Session
from maillab.hosts.withheld import WithheldChannel
from maillab.mail import message
from maillab.mail.history import Stored
from maillab.scenario.advice import Advice
from maillab.scenario.state import Mail, ScenarioState, Withheld, Witness
from maillab.site.ipv6 import behind_prefix
from maillab.site.topology import Role

# The packet mark for ICMP that ``let_icmp_through`` exempts from the faults that drop it.
LET_THROUGH = 0x6D6C

_LET_ICMP_THROUGH = f"""
table ip TABLE {{
  chain output {{
    type filter hook output priority filter - 10;
    icmp type destination-unreachable meta mark set {LET_THROUGH}
  }}
  chain forward {{
    type filter hook forward priority filter - 10;
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


# The longest string of a TXT record (RFC 1035 section 3.3); a longer text has several.
_STRING_BYTES_MAX = 255


class Fault(Protocol):
    """A fault that can be injected into a host, see ``maillab.faults``."""

    def on(self, host: Host) -> AbstractContextManager[Witness]:
        """Apply the fault to the host, and lift it when the block ends; yield its witness."""


class Host:
    """One host of a lab, by its role: ``lab.primary``, ``lab.client`` and so on."""

    def __init__(self, role: Role, net: str, agent: Channel, scenario: ScenarioState) -> None:
        self.name = role.name
        # The host whose mail server answers at this host's address.
        self.mail_name = role.name
        self.fqdn = role.fqdn
        self.addresses = role.addresses(net)
        self.addresses6 = role.addresses6(net)
        self.agent = agent
        self.scenario = scenario
        # The channels into the lab's name servers, by address.
        self.name_servers: Mapping[str, Channel] = {}
        # The channels into the containers with resolvers, of all hosts.
        self.resolvers: Sequence[Channel] = ()
        # The channel into the container with the host's filters, if there is one.
        self.filters: Channel | None = None
        # The kernel's values before ``sysctl``, for the reset.
        self.kernel_before: dict[str, str] = {}
        # True in the copy that ``cure`` returns.
        self._advising = False

    @property
    def address(self) -> str:
        """The host's first address."""
        return self.addresses[0]

    @property
    def address6(self) -> str:
        """The host's first IPv6 address, as programs print it."""
        return self.addresses6[0]

    @property
    def channel(self) -> Channel:
        """The channel that commands go through."""
        return self.agent

    @property
    def network(self) -> Network:
        """The host's network namespace: commands, state and packets."""
        return Network(self.name, self.agent)

    @property
    def nameserver(self) -> Nameserver:
        """The lab's nameserver that the host asks; raises BadInput if it asks none of the lab."""
        found = self.find_nameserver()
        if found is None:
            raise BadInput(f"{self.name} asks no nameserver of the lab")
        return found

    def find_nameserver(self) -> Nameserver | None:
        """Return the lab's nameserver that the host asks, or None if it asks none of the lab."""
        asks = self.agent.call("nameserver")
        channel = self.name_servers.get(asks["server"])
        return Nameserver(channel, asks["client"]) if channel else None

    @property
    def cure(self) -> Self:
        """The same verbs, for what the FAQ advises; no-ops when cures are withheld.

        The scenario's state records each step.
        """
        advising = copy.copy(self._idle("cures"))
        advising._advising = True  # noqa: SLF001  # a copy of ourselves
        return advising

    @property
    def mistake(self) -> Self:
        """The same verbs, for the mistake behind a symptom; no-ops when faults are withheld."""
        return self._idle("faults")

    def _idle(self, withheld: Withheld) -> Self:
        if self.scenario.withhold != withheld:
            return self
        self.scenario.left_out += 1
        idle = copy.copy(self)
        idle._withhold()  # noqa: SLF001  # a copy of ourselves
        return idle

    def _withhold(self) -> None:
        self.agent = WithheldChannel(self.agent)
        self.filters = WithheldChannel(self.filters) if self.filters else None

    def run(
        self,
        *argv: str,
        user: str = "",
        stdin: str = "",
        timeout_s: float = 30.0,
        check: bool = True,
    ) -> Done:
        """Run a command; raise CommandFailed if ``check`` is set and it fails or takes too long.

        ``user`` is a name, or "4242:4242" for a user and group id without an account.
        """
        self._record(argv, stdin)
        return self._run(*argv, user=user, stdin=stdin, timeout_s=timeout_s, check=check)

    def _record(self, argv: tuple[str, ...], stdin: str) -> None:
        """Record a command as an instruction of the scenario, and as a step of the cure."""
        self._instruct(" ".join(argv), stdin)
        self._advise("", argv[2] if argv[:2] == ("sh", "-c") and not argv[3:] else shlex.join(argv))

    def _run(
        self,
        *argv: str,
        user: str = "",
        stdin: str = "",
        timeout_s: float = 30.0,
        check: bool = True,
    ) -> Done:
        """Run a command without recording it as an instruction of the scenario."""
        return command.run(
            self.channel,
            self.name,
            argv,
            user=user,
            stdin=stdin,
            timeout_s=timeout_s,
            check=check,
        )

    def _instruct(self, *texts: str) -> None:
        """Record what the scenario sets, writes or runs here, unless it is withheld."""
        if not isinstance(self.channel, WithheldChannel):
            self.scenario.instructions += [(self.name, text) for text in texts if text]

    def _advise(self, place: str, text: str) -> None:
        """Record a step of the cure, unless it is withheld."""
        if self._advising and not isinstance(self.channel, WithheldChannel):
            self.scenario.advice.append(Advice(self.name, place, text))

    def read(self, path: str) -> str | None:
        """Return a file's content, or None if there is no such file."""
        content: str | None = self.channel.call("read", path=path)["content"]
        return content

    def write(self, path: str, content: str, *, mode: int | None = None, owner: str = "") -> None:
        """Write a file, and the folders above it."""
        self._instruct(path, content)
        self._advise(path, content)
        self.channel.call("write", path=path, content=content, mode=mode, owner=owner)

    def stored(self) -> list[Stored]:
        """Return the messages in the host's mailboxes; a host without a mail server has none."""
        return []

    def filter(self, name: str) -> Filter:
        """Return a filter beside this host, such as ``opendkim``, whether it runs or not.

        Raise BadInput if the topology has no filters here.
        """
        if self.filters is None:
            raise BadInput(
                f"{self.name} has no filters; see compose/authenticated.yaml for a host with some"
            )

        def note(place: str, text: str) -> None:
            self._instruct(place, text)
            self._advise(place, text)

        return Filter(self.name, name, self.filters, note)

    def publish(self, name: str, kind: str, *data: str) -> None:
        """Replace a name's DNS records of one type, as the administrator of its domain does.

        For the PTR record of an address, ``name`` is the address. A TXT record's data is its
        text, of any length; other data is as in a zone file. Without data the name has no such
        record. A signed zone is signed again, and resolvers in the lab forget the old answers,
        as after their time to live. Lasts until the reset.
        """
        if kind.upper() == "TXT":
            data = tuple(_quoted(text) for text in data)
        with contextlib.suppress(ValueError):
            name = ipaddress.ip_address(name).reverse_pointer
        self._advise("DNS", "\n".join(f"{name}. {kind} {text}" for text in data))
        if not isinstance(self.agent, WithheldChannel):
            self.nameserver.channel.call("publish", name=name, kind=kind, rdata=list(data))
            self.forget_names()

    def forget_names(self) -> None:
        """Let every resolver in the lab forget its answers, as after their time to live."""
        for resolver in self.resolvers:
            resolver.call("forget_names")

    @contextlib.contextmanager
    def faulty(self, fault: Fault) -> Iterator[None]:
        """Break the host while a block runs; if no witness sees the fault, the test is void."""
        if not self.scenario.faults_act:
            self.scenario.left_out += 1
            if self.scenario.withhold == "witnesses":
                self.scenario.witnesses.append(
                    Witness(repr(fault), self.name, "actions, with witnesses withheld")
                )
            yield
            return
        # A fault may look at what was logged before it begins.
        self.agent.starts.make()
        with fault.on(self) as witness:
            self.scenario.witnesses.append(witness)
            witness.began_s = time.monotonic()
            try:
                yield
            finally:
                witness.ended_s = time.monotonic()

    def let_icmp_through(self) -> None:
        """Stop dropping "fragmentation needed", for the rest of the scenario (RFC 2923 2.1)."""
        self._advise("nftables", "icmp type destination-unreachable accept")
        self.agent.call("filter_add", rules=_LET_ICMP_THROUGH)

    def clamp_mss(self) -> None:
        """Clamp the segment size of TCP sessions routed here (nft(8) "maxseg", "rt mtu").

        Lasts for the rest of the scenario.
        """
        self._advise("nftables", "tcp flags syn tcp option maxseg size set rt mtu")
        self.agent.call("filter_add", rules=_CLAMP_MSS)

    def limit_mtu(self, peer: str, mtu_bytes: int) -> None:
        """Send only small packets to ``peer``, an address or a network (ip-route(8) "mtu").

        Lasts for the rest of the scenario. A host can do this about a path that it knows
        to be narrow.
        """
        self._advise("", f"ip route change {peer} … mtu {mtu_bytes}")
        narrow = {"destination": peer, "mtu_bytes": mtu_bytes}
        self.agent.call("filter_add", rules="table ip TABLE { }", narrow=narrow)

    def sysctl(self, name: str, value: str) -> None:
        """Set a kernel parameter of the host's network (sysctl(8)), until the reset.

        Raise HostGone with the engine's words for a parameter of the whole machine.
        """
        self._advise("", f"sysctl -w {name}={value}")
        path = f"/proc/sys/{name.replace('.', '/')}"
        before = self.agent.call("read", path=path)["content"]
        if self.agent.container:
            set_network(self.agent.container, {name: value})
            self.kernel_before.setdefault(name, str(before).strip())

    def before_flush(self) -> int:
        """Return the log position after which a flush finds all mail deferred so far."""
        return self.scenario.stream.position

    def session(
        self,
        server: Host | str,
        *,
        address: str = "",
        port: int = 25,
        timeout_s: float = 30.0,
        tls: bool = False,
    ) -> Session:
        """Connect to a server and return the session, to run it step by step.

        ``address`` is the one to connect to, by default the server's first.

        With ``tls`` the session is in TLS from its first byte (RFC 8314), with any
        certificate. A reply that does not arrive within ``timeout_s`` has code 0.
        """
        address = address or (server if isinstance(server, str) else server.address)
        return Session(self, server, address, port, timeout_s, tls=tls)

    def connections(self, server: Host | str, count: int, *, port: int = 25) -> Connections:
        """Open ``count`` connections to a server at once, and send nothing."""
        address = server if isinstance(server, str) else server.address
        return Connections(self.agent, address, port, count)

    # Its name in 0.1.0.
    crowd = connections

    def add_address(self, number: int) -> str:
        """Add an address in the host's first network, until the reset, and return it.

        ``number`` is the last number of the address.
        """
        address = f"{self.address.rpartition('.')[0]}.{number}"
        return self._add_address(address, beside=self.address)

    def add_address6(self, number: int) -> str:
        """Add an IPv6 address there, until the reset, and return it: that of ``add_address``."""
        address = behind_prefix(f"{self.address.rpartition('.')[0]}.{number}")
        return self._add_address(address, beside=self.address6)

    def _add_address(self, address: str, beside: str) -> str:
        self.agent.call("address_add", address=address, beside=beside)
        self.scenario.added[address] = self.name
        return address

    def ipv6_only(self) -> None:
        """Take the host's IPv4 addresses, and its names' A records, until the reset.

        The host then asks its name server by IPv6.
        """
        self._only("ipv6", but_not=self.addresses)

    def ipv4_only(self) -> None:
        """Take the host's IPv6 addresses, and its names' AAAA records, until the reset."""
        self._only("ipv4", but_not=self.addresses6)

    def ipv6_off(self) -> None:
        """Leave the host no IPv6, not even on its loopback interface, until the reset.

        So does the kernel with net.ipv6.conf.all.disable_ipv6=1. Its names keep their records.
        """
        self._advise("", "sysctl -w net.ipv6.conf.all.disable_ipv6=1")
        self.agent.call("addresses_only", version="ipv4", loopback=True)

    def _only(self, version: str, but_not: Sequence[str]) -> None:
        if not isinstance(self.agent, WithheldChannel):
            self.nameserver.channel.call("unpublish", addresses=list(but_not))
            self.forget_names()
            self.agent.call("addresses_only", version=version)

    def smtp(
        self,
        to: str | Iterable[str],
        *,
        server: Host,
        address: str = "",
        port: int = 25,
        tls: bool = False,
        starttls: bool = False,
        login: tuple[str, str] | None = None,
        sender: str | None = None,
        subject: str = "probe",
        body: str = "",
        size_bytes: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> Mail:
        """Send a message by SMTP from this host to a server.

        The session is EHLO, MAIL, RCPT for each recipient, DATA if a recipient was
        accepted, QUIT (RFC 5321 section 3.3). ``address`` is the one to connect to, by default
        the server's first: ``server.address6`` for IPv6. With ``tls`` the session is in TLS
        from its first byte, with ``starttls`` it switches to TLS before MAIL, with ``login`` it
        authenticates as (user, password).
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
        with self.session(server, address=address, port=port, tls=tls) as session:
            return session.send(probe, starttls=starttls, login=login)

    # The name of before 0.1.0, for one release.
    submit = smtp


def _quoted(text: str) -> str:
    """Return a text as the strings of a TXT record."""
    raw = text.encode()
    parts = [raw[at : at + _STRING_BYTES_MAX] for at in range(0, len(raw), _STRING_BYTES_MAX)]
    escaped = ("".join(map(_escaped, part)) for part in parts or [b""])
    return " ".join(f'"{part}"' for part in escaped)


def _escaped(byte: int) -> str:
    """Return a byte as a string in a zone file has it (RFC 1035 section 5.1)."""
    plain = chr(byte).isascii() and chr(byte).isprintable() and chr(byte) not in '"\\'
    return chr(byte) if plain else f"\\{byte:03d}"
