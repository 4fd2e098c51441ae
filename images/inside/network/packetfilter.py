"""Rules of nftables and routes that a fault, or a cure, adds to the host and removes.

Each set of rules has a table of its own, so that sets nest and are removed in any order, and
no other program's rules are touched.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import netlink
from operations import Handles, left_to_reset, operation

if TYPE_CHECKING:
    from pyroute2.iproute.linux import IPRoute

PREFIX = "maillab_filter_"
# The prefix of all tables that faults create, in this module or another.
ANY = "maillab_"
# The protocol number of our routes (ip-route(8)); /etc/iproute2/rt_protos does not use it.
ROUTE_PROTOCOL = 109


@dataclass
class Table:
    """A table of this program, and the route with its own MTU that belongs to it, if any."""

    name: str
    route: dict[str, Any] = field(default_factory=dict)
    mtu_bytes: int = 0


def nft(script: str, *, as_json: bool = False, stateless: bool = False) -> str:
    """Run a script of nftables as one transaction; return what it lists.

    A ``stateless`` listing has no counters, and no set elements that traffic has added.
    """
    # Only the agent's image has it. The rest of this module is tested without it.
    from nftables import Nftables  # noqa: PLC0415

    filter_ = Nftables()
    filter_.set_json_output(as_json)
    filter_.set_stateless_output(stateless)
    status, out, error = filter_.cmd(script)
    if status:
        raise RuntimeError(
            f"nftables: {error.strip()} (if a feature is missing, it needs a newer kernel, "
            "or one that has it as a module)"
        )
    return str(out)


def tables(listed: str, prefix: str = PREFIX) -> list[tuple[str, str]]:
    """Return family and name of each table with a prefix, from a listing as JSON."""
    entries = [entry["table"] for entry in json.loads(listed)["nftables"] if "table" in entry]
    return [
        (table["family"], table["name"]) for table in entries if table["name"].startswith(prefix)
    ]


def filled(rules: str, table: str, devices: list[str]) -> str:
    """Return rules with the words TABLE and DEVICES replaced."""
    rules = re.sub(r"\bTABLE\b", table, rules)
    return re.sub(r"\bDEVICES\b", "{ " + ", ".join(devices) + " }", rules)


def devices() -> list[str]:
    """Return the interfaces that lead away from the host."""
    return sorted(path.name for path in Path("/sys/class/net").iterdir() if path.name != "lo")


@operation(table="")
async def filter_add(rules: str, narrow: Optional[dict[str, Any]] = None) -> dict[str, Any]:
    """Add a table, in which ``TABLE`` is its name and ``DEVICES`` all interfaces but lo.

    ``narrow`` is a destination, and from now on the MTU in bytes of the path there.
    Return the table's name. If anything fails, nothing was added.
    """
    taken = {name for _, name in tables(nft("list tables", as_json=True))}
    name = next(f"{PREFIX}{n}" for n in itertools.count(1) if f"{PREFIX}{n}" not in taken)
    table = Table(name)
    nft(filled(rules, name, devices()))
    if narrow:
        # After the rules, which may drop the ICMP that the kernel sends from now on.
        try:
            _narrow(table, **narrow)
        except RuntimeError:
            await _remove(table)
            raise
    return {"table": _tables.add(table, name)}


@operation()
async def filter_remove(table: str) -> dict[str, Any]:
    """Remove a table."""
    if table in _tables:
        await _tables.undo(table)
    else:
        # Another channel added it.
        await _remove(Table(table))
    return {}


async def _remove(table: Table) -> None:
    _widen(table)
    for family, name in tables(nft("list tables", as_json=True)):
        if name == table.name:
            nft(f"delete table {family} {name}")


# The tables by name.
_tables: Handles[Table] = Handles(__name__, _remove, at_reset=left_to_reset, outlives=True)


def _narrow(table: Table, destination: str, mtu_bytes: int) -> None:
    """Add a route to a destination with a smaller MTU; the smallest of several applies."""
    with netlink.rtnetlink(f"narrowing the way to {destination}") as rtnetlink:
        (way,) = rtnetlink.route("get", dst=destination.partition("/")[0])
        (device,) = rtnetlink.get_links(way.get_attr("RTA_OIF"))
        device_mtu_bytes = device.get_attr("IFLA_MTU")
        if mtu_bytes >= device_mtu_bytes:
            raise RuntimeError(
                f"mtu_bytes must be below {device_mtu_bytes}, the MTU of "
                f"{device.get_attr('IFLA_IFNAME')}, not {mtu_bytes}"
            )
        gateway = way.get_attr("RTA_GATEWAY")
        route = {
            "dst": destination,
            "gateway": gateway,
            "oif": device["index"],
            "scope": netlink.SCOPE_GLOBAL if gateway else netlink.SCOPE_LINK,
            "proto": ROUTE_PROTOCOL,
        }
        others = _mtus_bytes(route)
        # "replace" changes the first route to a destination, which is ours if there is one.
        verb = "replace" if others else "add"
        rtnetlink.route(verb, **route, metrics={"mtu": min([mtu_bytes, *others])})
    table.route, table.mtu_bytes = route, mtu_bytes


def _widen(table: Table) -> None:
    route = table.route
    if not route:
        return
    with netlink.rtnetlink(f"widening the way to {route['dst']}") as rtnetlink:
        if others := _mtus_bytes(route):
            rtnetlink.route("replace", **route, metrics={"mtu": min(others)})
        else:
            rtnetlink.route("del", **route)


def _mtus_bytes(route: dict[str, Any]) -> list[int]:
    return [table.mtu_bytes for table in _tables.values() if table.route == route]


async def undo() -> None:
    """Remove the tables and routes of this or an earlier channel, and learned path MTUs."""
    for family, name in tables(nft("list tables", as_json=True), ANY):
        nft(f"delete table {family} {name}")
    with netlink.rtnetlink("restoring the routes") as rtnetlink:
        for route in netlink.routes(rtnetlink):
            if route["proto"] == ROUTE_PROTOCOL:
                netlink.delete_route(rtnetlink, route)
        _forget_path_mtus(rtnetlink)


def _forget_path_mtus(rtnetlink: IPRoute) -> None:
    """Add again each route with a learned path MTU; flushing the route cache may not help."""
    routes = netlink.routes(rtnetlink)
    if not any(route["flags"] & netlink.CLONED for route in routes):
        return
    for route in routes:
        by_gateway = route.get_attr("RTA_GATEWAY") and route["table"] == netlink.TABLE_MAIN
        if by_gateway and not route["flags"] & netlink.CLONED:
            netlink.delete_route(rtnetlink, route)
            netlink.add_route(rtnetlink, route)
    netlink.forget_tcp_metrics()
