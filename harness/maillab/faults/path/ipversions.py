"""The versions of IP in the words of nftables, for faults that act on both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from maillab.errors import BadInput
from maillab.site.ipv6 import is_ipv6

Over = Literal["both", "ipv4", "ipv6"]


@dataclass(frozen=True)
class IpVersion:
    """One version: its name here and in nftables, and the type of its addresses there."""

    name: Literal["ipv4", "ipv6"]
    family: str
    address_type: str

    @property
    def client(self) -> str:
        """The key of a session in packets from its client."""
        return f"{self.family} saddr . tcp sport"

    @property
    def to_client(self) -> str:
        """The key of a session in packets to its client."""
        return f"{self.family} daddr . tcp dport"


IPV4 = IpVersion("ipv4", "ip", "ipv4_addr")
IPV6 = IpVersion("ipv6", "ip6", "ipv6_addr")


def check_over(fault: object, over: str, address: str) -> None:
    """Raise BadInput for an unknown version, or one that is not the address's own."""
    if over not in get_args(Over):
        raise BadInput(
            f"{fault!r}: unknown version {over!r} (choose from {', '.join(get_args(Over))})"
        )
    if address and over == ("ipv4" if is_ipv6(address) else "ipv6"):
        raise BadInput(f"{fault!r}: {address} is not of {over}; leave out one of the two")


def versions(over: str, address: str = "") -> tuple[IpVersion, ...]:
    """Return the versions on which a fault acts; an address has only its own."""
    if address:
        return (IPV6,) if is_ipv6(address) else (IPV4,)
    return tuple(version for version in (IPV4, IPV6) if over in ("both", version.name))
