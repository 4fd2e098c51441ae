"""Shared parts of the faults that are rules of the packet filter (nft(8))."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from maillab.errors import BadInput
from maillab.faults import counters
from maillab.faults.path.ipversions import IPV4, IPV6, IpVersion, Over, check_over, versions
from maillab.faults.turns import check_turns
from maillab.hosts.host import Host
from maillab.scenario.state import Witness

# The key of a session in packets from and to the client.
CLIENT, TO_CLIENT = IPV4.client, IPV4.to_client
# An IPv4 header's length, which "ip length" contains; "ip6 length" is that of the rest.
_HEADER_BYTES = 20

# Matches the ICMP that reports a packet too big for the next link (RFC 1191).
FRAG_NEEDED = "icmp type destination-unreachable icmp code frag-needed"

_PORT_MAX = 65535
# A session's first packet.
_BEGINS = "tcp flags & (fin|syn|rst|ack) == syn"
# Sets of the rules below. Their sizes do not say how often the rules acted.
_SETS = ("seen", "chosen", "spent", "broken")


def check_address(
    fault: object, name: str, value: str, *, optional: bool = True, ipv6: bool = False
) -> None:
    """Raise BadInput unless the value is an address or a network, of IPv4 or, if so, of IPv6."""
    try:
        if value or not optional:
            (ipaddress.ip_network if ipv6 else ipaddress.IPv4Network)(value)
    except ValueError as error:
        allowed = "an address" if ipv6 else "an IPv4 address"
        raise BadInput(
            f"{fault!r}: {name}: {error}; must be {allowed}, such as lab.sender.address, "
            "or a network"
        ) from None


def with_ipv6(rules: str) -> str:
    """Return a table of rules for IPv4, and one with the same rules for IPv6."""
    by6 = re.sub(
        r"\bip length ([<>=]* ?)(\d+)",
        lambda found: f"ip6 length {found[1]}{int(found[2]) - _HEADER_BYTES}",
        rules,
    )
    by6 = re.sub(r"\bip (saddr|daddr)", r"ip6 \1", by6).replace("table ip ", "table ip6 ")
    return rules + by6.replace(IPV4.address_type, IPV6.address_type)


@contextlib.contextmanager
def filtering(
    host: Host,
    fault: object,
    counted: str,
    rules: str,
    *,
    narrow: Mapping[str, Any] | None = None,
) -> Iterator[Witness]:
    """Apply rules for a block. Their counters are the witness; comments name the counters."""
    witness = Witness(repr(fault), host.name, f"{counted} (nftables)")
    table = host.agent.call("filter_add", rules=rules, narrow=narrow)["table"]
    try:
        yield witness
    finally:
        packets = counters.counted(host.agent, _family(rules), table)
        host.agent.call("filter_remove", table=table)
        for name in _SETS:
            del packets[name], packets[f"{name}_ip"], packets[f"{name}_ip6"]
        witness.count = sum(packets.values())
        found = ", ".join(f"{count} {comment}" for comment, count in packets.items() if comment)
        if found:
            witness.source = f"{counted} (nftables: {found})"


def _family(rules: str) -> str:
    return rules.split()[1]


@dataclass(frozen=True)
class SessionFault:
    """A fault of new sessions with one port, on this host or through it.

    Applies to every new session while active, on a router also to those that pass. Restrict
    it to the sessions of one ``client`` (an address or a network) or one version of IP
    (``over``), to the ``first`` N matching sessions (0: no limit), every Nth (``every``), or
    those after the ``after`` first ones.
    """

    port: int = 25
    client: str = ""
    first: int = 0
    every: int = 1
    after: int = 0
    over: Over = "both"

    VERDICT: ClassVar[str]
    COUNTED: ClassVar[str]

    def __post_init__(self) -> None:
        if not 0 < self.port <= _PORT_MAX:
            raise BadInput(f"{self!r}: port must be 1 to {_PORT_MAX}")
        check_address(self, "client", self.client, ipv6=True)
        check_over(self, self.over, self.client)
        check_turns(self, first=self.first, every=self.every, after=self.after)

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Apply the fault to sessions that come to the host, or pass through it."""
        with filtering(host, self, self.COUNTED, self.rules()) as witness:
            yield witness

    def rules(self) -> str:
        """Return the rules. They know a session by the client's address and port since its SYN."""
        # nftables evaluates a rule from left to right, up to the first part that does not match. A
        # bucket that is never filled again counts the first packets exactly.
        parts = (
            f"limit rate over 1/day burst {self.after} packets" if self.after else "",
            f"numgen inc mod {self.every} == {self.every - 1}" if self.every > 1 else "",
            f"limit rate 1/day burst {self.first} packets" if self.first else "",
        )
        choice = " ".join(part for part in parts if part)
        both = versions(self.over, self.client)
        sets = [
            f"  set {name}_{version.family} {{ type {version.address_type} . inet_service; "
            f"flags dynamic; size {_PORT_MAX}; }}"
            for version in both
            for name in _SETS
        ]
        # Both versions choose by the same rule, so that turns count all sessions.
        looked_at, chosen, acting, answering = [], [], [], []
        for version in both:
            family, client = version.family, version.client
            ours = self._ours(version)
            looked_at += [
                f"    {ours} {_BEGINS} {client} != @seen_{family} jump choose",
                f"    {ours} {_BEGINS} add @seen_{family} {{ {client} }}",
            ]
            chosen.append(f"    add @chosen_{family} {{ {client} }}")
            acting.append(f"    {self.acting(version, f'{ours} {client} @chosen_{family}')}")
            answering.append(f"    {self.answering(version)}")
        return f"""
table inet TABLE {{
{_lines(sets)}
  chain chosen {{
{_lines(chosen)}
  }}
  chain choose {{
    {choice} goto chosen
  }}
  chain prerouting {{
    type filter hook prerouting priority raw;
{_lines([*looked_at, *acting, *answering])}
  }}
  chain output {{
    type filter hook output priority raw;
{_lines(answering)}
  }}
}}
"""

    def _ours(self, version: IpVersion) -> str:
        """Return what matches the packets of clients to the port."""
        client = f"{version.family} saddr {self.client}" if self.client else ""
        return f'iifname != "lo" {client} tcp dport {self.port}'

    def acting(self, _version: IpVersion, chosen: str) -> str:
        """Return the rules for packets from clients in the chosen sessions."""
        return f"{chosen} counter {self.VERDICT}"

    def answering(self, _version: IpVersion) -> str:
        """Return the rules for packets from servers, of other hosts and of this one."""
        return ""


def _lines(rules: list[str]) -> str:
    return "\n".join(rules)
