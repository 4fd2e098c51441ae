"""The state of the network namespace as text, for comparison before and after a fault."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import netlink
import packetfilter
from operations import operation

SYSCTLS = Path("/proc/sys/net/ipv4")
# Fields left out of messages (rtnetlink(7)): counters, times, and values that the settings
# below contain as well.
_LEFT_OUT = re.compile(
    r"STATS|CACHEINFO|CARRIER_|EXPIRES|^IFLA_AF_SPEC$|^UNKNOWN$|^(attrs|header|event|__align)$"
)


@operation(text="")
async def netstate() -> dict[str, Any]:
    """Return links, addresses, routes, rules, queueing disciplines, packet filter and sysctls.

    Values that time or traffic change are left out: counters, the lifetime of an address,
    the neighbour table, and learned path MTUs.
    """
    text = "\n".join([*_links_to_qdiscs(), packetfilter.nft("list ruleset", stateless=True)])
    return {"text": text + sysctls()}


def _links_to_qdiscs() -> Iterator[str]:
    with netlink.rtnetlink("reading the state of the network") as route:
        kinds = {
            "link": route.get_links(),
            "address": route.get_addr(),
            "route": route.get_routes(),
            "rule": route.get_rules(),
            "qdisc": route.get_qdiscs(),
        }
        for kind, messages in kinds.items():
            for message in messages:
                if kind != "route" or not message["flags"] & netlink.CLONED:
                    yield f"{kind} {json.dumps(lasting(message), default=repr)}"


def lasting(value: Any) -> Any:
    """Return a message without its counters and times."""
    if isinstance(value, dict):
        parts = [*value.items(), *(slot[:2] for slot in value.get("attrs", ()))]
        return {name: lasting(part) for name, part in parts if not _LEFT_OUT.search(name)}
    if isinstance(value, (list, tuple)):
        return [lasting(part) for part in value]
    return value


def sysctls() -> str:
    """Return the IPv4 settings of the namespace, one per line."""
    lines = []
    for path in sorted(SYSCTLS.rglob("*")):
        name = path.relative_to(SYSCTLS).as_posix()
        if path.is_file() and not name.startswith("neigh/"):
            try:
                lines.append(f"net.ipv4.{name.replace('/', '.')} = {path.read_text().strip()}\n")
            except OSError:
                # Write-only, such as route/flush.
                continue
    return "".join(lines)
