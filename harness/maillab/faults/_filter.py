"""What faults that are rules of the packet filter have in common (nft(8))."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from maillab.errors import BadInput
from maillab.host import Host
from maillab.record import Witness

# A session as its packets show it, by the direction they have.
CLIENT, TO_CLIENT = "ip saddr . tcp sport", "ip daddr . tcp dport"

_PORT_MAX = 65535
_SESSIONS_MAX = 100_000


def check_address(fault: object, name: str, value: str, *, optional: bool = True) -> None:
    """Refuse what is neither an IPv4 address nor a network."""
    try:
        if value or not optional:
            ipaddress.IPv4Network(value)
    except ValueError as error:
        raise BadInput(
            f"{fault!r}: {name}: {error}; write an IPv4 address, as lab.sender.address, "
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
    """Have rules in force; their counters are the witness, each named by its comment."""
    witness = Witness(repr(fault), host.name, f"{counted} (nftables)")
    table = host.agent.call("filter_add", rules=rules, narrow=narrow)["table"]
    try:
        yield witness
    finally:
        packets: dict[str, int] = host.agent.call("filter_remove", table=table)["packets"]
        witness.count = sum(packets.values())
        found = ", ".join(f"{count} {comment}" for comment, count in packets.items() if comment)
        if found:
            witness.source = f"{counted} (nftables: {found})"


@dataclass(frozen=True)
class SessionFault:
    """Something that happens to new sessions of clients with one port, here or beyond.

    Of the sessions that begin while it lasts it concerns all, or the ``first`` so
    many, or ``every`` so manieth, or those ``after`` the first so many; all of them
    those of one ``client`` (an address or a network), where it is given. On a
    router it also concerns the sessions that pass.
    """

    port: int = 25
    client: str = ""
    first: int = 0
    every: int = 0
    after: int = 0

    VERDICT: ClassVar[str]
    COUNTED: ClassVar[str]

    def __post_init__(self) -> None:
        if not 0 < self.port <= _PORT_MAX:
            raise BadInput(f"{self!r}: port: a TCP port is 1 to {_PORT_MAX}")
        check_address(self, "client", self.client)
        chosen = [number for number in (self.first, self.every, self.after) if number]
        if len(chosen) > 1 or not all(0 < number <= _SESSIONS_MAX for number in chosen):
            raise BadInput(
                f"{self!r}: one of first, every and after, from 1 to {_SESSIONS_MAX}; "
                "none of them for every session"
            )

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Have it happen to sessions that come to the host, or through it."""
        with filtering(host, self, self.COUNTED, self.rules()) as witness:
            yield witness

    def rules(self) -> str:
        """A session is known by the client's address and port, from its first SYN on."""
        # A bucket that is never filled again counts the first of them, exactly.
        choice = (
            f"limit rate 1/day burst {self.first} packets"
            if self.first
            else f"numgen inc mod {self.every} == {self.every - 1}"
            if self.every
            else f"limit rate over 1/day burst {self.after} packets"
            if self.after
            else ""
        )
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
        """The rules for what clients send in the sessions chosen."""
        return f"{chosen} counter {self.VERDICT}"
