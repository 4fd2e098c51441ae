"""The kernel's links, addresses, routes, qdiscs and packet queues, by netlink(7).

pyroute2 does the work. The first operation that needs it imports it, since the import costs
more CPU time than most operations.
"""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pyroute2.iproute.linux import IPRoute

    from netlinkmessages import PacketQueue

# The flag of routes that the kernel created by itself (rtnetlink(7)).
CLONED = 0x200
# The kernel adds and deletes routes of this protocol with the addresses.
BY_KERNEL = 2
# The flag of an address that is not tested for duplicates.
NODAD = 0x02
# The flag of an address that has a lifetime of preference, and none of it left (closed.sh).
DEPRECATED = 0x20
LIVES_FOR_EVER_S = 0xFFFFFFFF
# How hosts have their IPv6 addresses.
AS_ALL = {"flags": NODAD, "cacheinfo": {"preferred": 0, "valid": LIVES_FOR_EVER_S}}
TABLE_MAIN = 254
LOOPBACK = 1
SCOPE_GLOBAL, SCOPE_LINK = 0, 253
# The parent of a qdisc that is a device's root (tc(8)).
ROOT = 0xFFFFFFFF


class Qdisc(NamedTuple):
    """A queueing discipline, and the number of packets that it sent and dropped."""

    kind: str
    packets: int
    drops: int


def load() -> None:
    """Import pyroute2 as an empty package.

    The needed parts are then imported by name. pyroute2's own ``__init__`` imports all its
    tools, which costs twice the CPU time.
    """
    if "pyroute2" not in sys.modules:
        spec = importlib.util.find_spec("pyroute2")
        if spec is None:
            raise RuntimeError("pyroute2 is not installed (Debian: python3-pyroute2)")
        sys.modules["pyroute2"] = importlib.util.module_from_spec(spec)


@contextlib.contextmanager
def rtnetlink(doing: str) -> Iterator[IPRoute]:
    """Yield a socket of the kernel's routing messages (rtnetlink(7)).

    ``doing`` is the beginning of the error if the kernel refuses.
    """
    load()
    from pyroute2.iproute.linux import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as route:
        try:
            yield route
        except NetlinkError as error:
            raise RuntimeError(f"{doing}: {error.args[1]}") from None


def routes(route: IPRoute) -> list[Any]:
    """Return the IPv4 routes of all tables, including those that the kernel learned."""
    return list(route.get_routes(family=socket.AF_INET))


def add_route(route: IPRoute, message: Any) -> None:
    """Add a route from a listing."""
    from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST
    from pyroute2.netlink.rtnl import RTM_NEWROUTE

    flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    route.nlm_request(message, msg_type=RTM_NEWROUTE, msg_flags=flags)


def add_address(route: IPRoute, message: Any) -> None:
    """Add an address from a listing, as it was."""
    settings: dict[str, Any] = {}
    if message["family"] == socket.AF_INET6:
        deprecated = message["flags"] & DEPRECATED
        settings = dict(AS_ALL) if deprecated else {"flags": message["flags"] & NODAD}
    for name in ("label", "broadcast"):
        value = message.get_attr(f"IFA_{name.upper()}")
        settings |= {name: value} if value else {}
    route.addr("add", **_address(message), **settings)
    if message["index"] == LOOPBACK and message["family"] == socket.AF_INET6:
        # The kernel's own ::1 has no such route.
        route.route("del", dst="::1/128", oif=LOOPBACK, family=socket.AF_INET6)


def delete_address(route: IPRoute, message: Any) -> None:
    """Delete an address from a listing."""
    route.addr("del", **_address(message))


def _address(message: Any) -> dict[str, Any]:
    fields = {name: message[name] for name in ("index", "prefixlen", "family", "scope")}
    return {"address": message.get_attr("IFA_ADDRESS"), **fields}


def static_routes(route: IPRoute, family: int) -> list[Any]:
    """Return the routes of a family that the kernel did not add or learn."""
    return [
        message
        for message in route.get_routes(family=family, table=TABLE_MAIN)
        if message["proto"] != BY_KERNEL and not message["flags"] & CLONED
    ]


def delete_route(route: IPRoute, message: Any) -> None:
    """Delete a route from a listing."""
    from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST
    from pyroute2.netlink.rtnl import RTM_DELROUTE

    route.nlm_request(message, msg_type=RTM_DELROUTE, msg_flags=NLM_F_REQUEST | NLM_F_ACK)


def root_qdiscs(route: IPRoute, index: int) -> list[Qdisc]:
    """Return the root qdisc of a device."""
    qdiscs = []
    for message in route.get_qdiscs(index):
        if message["parent"] == ROOT:
            counts = message.get_attr("TCA_STATS2")
            packets = counts.get_attr("TCA_STATS_BASIC")["packets"]
            drops = counts.get_attr("TCA_STATS_QUEUE")["drops"]
            qdiscs.append(Qdisc(message.get_attr("TCA_KIND"), packets, drops))
    return qdiscs


def add_netem(route: IPRoute, index: int, options: dict[str, Any]) -> None:
    """Make tc-netem(8) a device's root; ``options`` are those of netlinkmessages.NetemMessage."""
    load()
    import netlinkmessages

    netlinkmessages.add_netem(route, index, options)


def packet_queue(number: int, copied_bytes: int) -> PacketQueue:
    """Open a queue of packets that copies this many bytes of each."""
    load()
    import netlinkmessages

    return netlinkmessages.PacketQueue(number, copied_bytes)


def hand_over(table: str, chain: str, number: int) -> None:
    """Add a rule that sends packets to a queue, with iptables' target NFQUEUE."""
    load()
    import netlinkmessages

    netlinkmessages.add_queue_rule(table, chain, number)


def forget_tcp_metrics() -> None:
    """Delete TCP's memory of its peers (ip-tcp_metrics(8))."""
    load()
    import netlinkmessages

    netlinkmessages.delete_tcp_metrics()
