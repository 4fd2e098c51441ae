"""The lab's IPv6 addresses: the IPv4 addresses behind one prefix, see closed.sh."""

from __future__ import annotations

import ipaddress
from pathlib import Path

# For documentation (RFC 3849).
PREFIX = "2001:db8::"
# "1" if new interfaces have no IPv6.
OFF = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")


def has_ipv6() -> bool:
    """Return True if this network namespace has IPv6."""
    return OFF.exists() and OFF.read_text().strip() == "0"


def is_ipv6(address: str) -> bool:
    """Return True for an IPv6 address."""
    return ":" in address


def behind_prefix(address: str) -> str:
    """Return the IPv6 address of the host with an IPv4 address."""
    return str(ipaddress.IPv6Address(PREFIX + address))


def ipv4_of(address: str) -> str:
    """Return the last 32 bits of an IPv6 address as an IPv4 address; an IPv4 address itself."""
    if not is_ipv6(address):
        return address
    return str(ipaddress.IPv4Address(ipaddress.IPv6Address(address).packed[-4:]))
