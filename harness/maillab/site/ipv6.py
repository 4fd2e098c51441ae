"""The lab's IPv6 addresses: the IPv4 addresses behind one prefix. Pure."""

from __future__ import annotations

import ipaddress

# For documentation (RFC 3849); images/inside/network/closed.sh gives these addresses to hosts.
PREFIX = "2001:db8::"


def behind_prefix(address: str) -> str:
    """Return the IPv6 address of the host with an IPv4 address, as programs print it."""
    return str(ipaddress.IPv6Address(PREFIX + address))


def is_ipv6(address: str) -> bool:
    """Return True for an IPv6 address or network, and False for IPv4."""
    return ":" in address
