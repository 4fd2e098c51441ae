"""More addresses for a host, such as for a second mail server on one machine."""

from __future__ import annotations

import socket
from typing import Any

import netlink
from operations import Handles, operation


async def _delete(added: dict[str, Any]) -> None:
    with netlink.rtnetlink("deleting an address") as route:
        route.addr("del", **added)


_addresses: Handles[dict[str, Any]] = Handles(__name__, _delete, outlives=True)


@operation()
async def address_add(address: str, beside: str) -> dict[str, Any]:
    """Add an address to the interface that has the address ``beside``, in the same network."""
    with netlink.rtnetlink(f"adding the address {address}") as route:
        found = list(route.get_addr(family=socket.AF_INET, address=beside))
        if not found:
            raise ValueError(f"no interface has the address {beside}")
        added = {
            "index": found[0]["index"],
            "address": address,
            "prefixlen": found[0]["prefixlen"],
        }
        route.addr("add", **added)
        _addresses.add(added)
    return {}
