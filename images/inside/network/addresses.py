"""More addresses for a host, such as for a second mail server on one machine, and fewer.

A host without addresses of one IP version asks its name server by the other one.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import Any

import netlink
from ipv6 import behind_prefix, is_ipv6
from operations import Handles, operation
from resolver import RESOLV_CONF

FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


async def _delete(added: dict[str, Any]) -> None:
    with netlink.rtnetlink("deleting an address") as route:
        route.addr("del", **added)


_addresses: Handles[dict[str, Any]] = Handles(__name__, _delete, outlives=True)


@operation()
async def address_add(address: str, beside: str) -> dict[str, Any]:
    """Add an address to the interface that has the address ``beside``, in the same network."""
    with netlink.rtnetlink(f"adding the address {address}") as route:
        family = FAMILIES["ipv6" if is_ipv6(address) else "ipv4"]
        found = list(route.get_addr(family=family, address=beside))
        if not found:
            raise ValueError(f"no interface has the address {beside}")
        added = {
            "index": found[0]["index"],
            "address": address,
            "prefixlen": found[0]["prefixlen"],
            **(netlink.AS_ALL if is_ipv6(address) else {}),
        }
        route.addr("add", **added)
        _addresses.add(added)
    return {}


@dataclass
class Taken:
    """The state of a host that was removed with the addresses of an IP version."""

    addresses: list[Any]
    routes: list[Any]
    resolv_conf: str


async def _give_back(taken: Taken) -> None:
    with netlink.rtnetlink("restoring the addresses") as route:
        for message in taken.addresses:
            netlink.add_address(route, message)
        for message in taken.routes:
            netlink.add_route(route, message)
    RESOLV_CONF.write_text(taken.resolv_conf)


_taken: Handles[Taken] = Handles(__name__, _give_back, outlives=True)


@operation()
async def addresses_only(version: str, *, loopback: bool = False) -> dict[str, Any]:
    """Take the host's addresses of the IP version that is not ``version``, and the routes.

    With ``loopback`` also that of lo. ``version`` is "ipv4" or "ipv6".
    """
    (taken,) = (family for name, family in FAMILIES.items() if name != version)
    with netlink.rtnetlink(f"leaving the host {version} only") as route:
        addresses = [
            m for m in route.get_addr(family=taken) if loopback or m["index"] != netlink.LOOPBACK
        ]
        routes = netlink.static_routes(route, taken)
        _taken.add(Taken(addresses, routes, RESOLV_CONF.read_text()))
        for message in routes:
            netlink.delete_route(route, message)
        for message in addresses:
            netlink.delete_address(route, message)
    server = os.environ["NAMESERVER"]
    ways = [server, behind_prefix(server)]
    there, here = ways if version == "ipv6" else reversed(ways)
    # In place, since Postfix's container mounts the file, too.
    text = RESOLV_CONF.read_text()
    RESOLV_CONF.write_text(text.replace(f"nameserver {there}\n", f"nameserver {here}\n"))
    return {}
