"""A host without routes for one version of IP, although it has addresses of it."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import netlink
from addresses import FAMILIES
from operations import Handles, operation

# Packets for which the kernel found no route, by IP version (proc(5), RFC 4293).
COUNTERS = {"ipv4": ("snmp", "OutNoRoutes"), "ipv6": ("snmp6", "Ip6OutNoRoutes")}
PROC = Path("/proc/net")


async def _give_back(routes: list[Any]) -> None:
    with netlink.rtnetlink("restoring the routes") as route:
        for message in routes:
            netlink.add_route(route, message)


_taken: Handles[list[Any]] = Handles(__name__, _give_back, outlives=True)


@operation(routes=0)
async def routes_take(version: str) -> dict[str, Any]:
    """Delete all routes of an IP version except those on the link (fe80::/10); return a handle."""
    with netlink.rtnetlink(f"deleting the routes of {version}") as route:
        routes = [
            message
            for message in route.get_routes(family=FAMILIES[version], table=netlink.TABLE_MAIN)
            if not message["flags"] & netlink.CLONED and not on_link(message.get_attr("RTA_DST"))
        ]
        # First those through a gateway, which need the others.
        routes.sort(key=lambda message: message.get_attr("RTA_GATEWAY") is None)
        for message in routes:
            netlink.delete_route(route, message)
    return {"routes": _taken.add(routes[::-1])}


@operation()
async def routes_give_back(routes: int) -> dict[str, Any]:
    """Add the routes again."""
    await _taken.undo(routes)
    return {}


@operation(packets=0)
async def routes_missed(version: str) -> dict[str, Any]:
    """Return how many packets the kernel has not sent for want of a route."""
    file, name = COUNTERS[version]
    return {"packets": counted((PROC / file).read_text(), name)}


def counted(text: str, name: str) -> int:
    """Return a counter: of a line with its name, or of a line of names above one of values."""
    lines = [line.split() for line in text.splitlines()]
    for number, words in enumerate(lines):
        if words[:1] == [name]:
            return int(words[1])
        if name in words:
            return int(lines[number + 1][words.index(name)])
    raise ValueError(f"no counter {name}")


def on_link(destination: Any) -> bool:
    """Return True for a network of link-local or multicast addresses."""
    if destination is None:
        return False
    address = ipaddress.ip_address(destination)
    return address.version == 6 and (address.is_link_local or address.is_multicast)  # noqa: PLR2004  # the version
