"""Shared parts of the faults that are rules of the packet filter (nft(8))."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from maillab.errors import BadInput
from maillab.faults import counters
from maillab.faults.turns import check_turns
from maillab.hosts.host import Host
from maillab.scenario.state import Witness

# The key of a session in packets from and to the client.
CLIENT, TO_CLIENT = "ip saddr . tcp sport", "ip daddr . tcp dport"

# Matches the ICMP that reports a packet too big for the next link (RFC 1191).
FRAG_NEEDED = "icmp type destination-unreachable icmp code frag-needed"

_PORT_MAX = 65535
# Sets of the rules below. Their sizes do not say how often the rules acted.
_SETS = ("seen", "chosen", "spent", "broken")


def check_address(fault: object, name: str, value: str, *, optional: bool = True) -> None:
    """Raise BadInput unless the value is an IPv4 address or a network."""
    try:
        if value or not optional:
            ipaddress.IPv4Network(value)
    except ValueError as error:
        raise BadInput(
            f"{fault!r}: {name}: {error}; must be an IPv4 address, such as lab.sender.address, "
            "or a network"
        ) from None


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
            del packets[name]
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
    it to the sessions of one ``client`` (an address or a network), to the ``first`` N
    matching sessions (0: no limit), every Nth (``every``), or those after the ``after``
    first ones.
    """

    port: int = 25
    client: str = ""
    first: int = 0
    every: int = 1
    after: int = 0

    VERDICT: ClassVar[str]
    COUNTED: ClassVar[str]

    def __post_init__(self) -> None:
        if not 0 < self.port <= _PORT_MAX:
            raise BadInput(f"{self!r}: port must be 1 to {_PORT_MAX}")
        check_address(self, "client", self.client)
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
        client = f"ip saddr {self.client}" if self.client else ""
        ours = f'iifname != "lo" {client} tcp dport {self.port}'
        begins = f"{ours} tcp flags & (fin|syn|rst|ack) == syn"
        session = CLIENT
        return f"""
table ip TABLE {{
  set seen {{ type ipv4_addr . inet_service; flags dynamic; size {_PORT_MAX}; }}
  set chosen {{ type ipv4_addr . inet_service; flags dynamic; size {_PORT_MAX}; }}
  set spent {{ type ipv4_addr . inet_service; flags dynamic; size {_PORT_MAX}; }}
  set broken {{ type ipv4_addr . inet_service; flags dynamic; size {_PORT_MAX}; }}
  chain prerouting {{
    type filter hook prerouting priority raw;
    {begins} {session} != @seen {choice} add @chosen {{ {session} }}
    {begins} add @seen {{ {session} }}
    {self.acting(f"{ours} {session} @chosen")}
  }}
}}
"""

    def acting(self, chosen: str) -> str:
        """Return the rules for packets from clients in the chosen sessions."""
        return f"{chosen} counter {self.VERDICT}"
