"""A host's telephone line: slow, up only during calls, and cut where a scenario wants.

The line is the host's interface. While it is down, packets are lost in the hooks of
nftables' netdev family, where the sender sees no error. During a call, tbf(8) limits each
direction to the line's rate. Incoming packets pass an ifb device first, since only packets
that leave a device can be delayed.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import netlink
import packetfilter
from operations import Handles, operation

TABLE = "maillab_line"
INTERFACES = Path("/sys/class/net")
INTERFACE = "eth0"
INWARD = "maillab-line"
# A modem's buffer: holds the data that a mail session has in flight, without loss.
BUFFER_BYTES = 200_000
# A packet's link-layer header, which tbf(8) counts, with a margin.
HEADER_BYTES = 100

Counts = dict[str, dict[str, int]]


@dataclass
class Line:
    """The line that a host has, and the counts at the beginning of its call, if any."""

    rate_bit_s: int
    before_call: Optional[Counts] = None


def nft(*commands: str) -> None:
    """Run commands of nftables as one transaction."""
    packetfilter.nft("\n".join(commands))


def rules(*, up: bool, hang_up: bool = False) -> list[str]:
    """Return the rules for IP packets; ARP passes, since a telephone line has none."""
    commands = []
    for chain in ("out", "in"):
        ours = f"netdev {TABLE} {chain}"
        ip = f"add rule {ours} meta protocol ip"
        commands.append(f"flush chain {ours}")
        if hang_up:
            commands.append(f"{ip} quota name hang_up counter name lost_{chain} drop")
        if up:
            through = f'fwd to "{INWARD}"' if chain == "in" else "accept"
            commands.append(f"{ip} counter name carried_{chain} {through}")
        else:
            commands.append(f"{ip} counter name lost_{chain} drop")
    return commands


def counted() -> Counts:
    """Return packets and bytes, carried and lost, out and in, since the line was set up."""
    listed = json.loads(packetfilter.nft(f"list counters table netdev {TABLE}", as_json=True))
    counters = [entry["counter"] for entry in listed["nftables"] if "counter" in entry]
    return {
        counter["name"]: {unit: counter[unit] for unit in ("packets", "bytes")}
        for counter in counters
    }


def difference(after: Counts, before: Counts) -> Counts:
    """Return the difference between two counts."""
    return {
        name: {unit: count - before[name][unit] for unit, count in units.items()}
        for name, units in after.items()
    }


@operation()
async def line_start(rate_bit_s: int) -> dict[str, Any]:
    """Make the interface a line, and leave it down."""
    if _lines:
        raise RuntimeError("this host has a dialup line already")
    hooks = {"out": "egress", "in": "ingress"}
    nft(
        f"add table netdev {TABLE}",
        *(f"add counter netdev {TABLE} carried_{chain}" for chain in hooks),
        *(f"add counter netdev {TABLE} lost_{chain}" for chain in hooks),
        *(
            f"add chain netdev {TABLE} {chain} "
            f'{{ type filter hook {hook} device "{INTERFACE}" priority 0; }}'
            for chain, hook in hooks.items()
        ),
        *rules(up=False),
    )
    _lines.add(Line(rate_bit_s))
    return {}


@operation()
async def line_call(hang_up_after_bytes: int) -> dict[str, Any]:
    """Bring the line up. Hang up after ``hang_up_after_bytes``, unless that is 0."""
    (line,) = _lines.values()
    if line.before_call is not None:
        raise RuntimeError("the line is up already: one call at a time")
    # A packet larger than the burst would never pass.
    burst = int((INTERFACES / INTERFACE / "mtu").read_text()) + HEADER_BYTES
    shape = {"rate": f"{line.rate_bit_s}bit", "burst": burst, "limit": BUFFER_BYTES}
    with netlink.rtnetlink("making the interface a line") as route:
        route.tc("add", "tbf", socket.if_nametoindex(INTERFACE), **shape)
        route.link("add", ifname=INWARD, kind="ifb")
        inward = socket.if_nametoindex(INWARD)
        route.tc("add", "tbf", inward, **shape)
        route.link("set", index=inward, state="up")
    line.before_call = counted()
    hang_up = hang_up_after_bytes > 0
    quota = f"add quota netdev {TABLE} hang_up {{ over {hang_up_after_bytes} bytes; }}"
    nft(*([quota] if hang_up else []), *rules(up=True, hang_up=hang_up))
    return {}


def unshape() -> None:
    """Remove the rate limit from both directions."""
    with netlink.rtnetlink("making the line an interface") as route:
        route.tc("del", index=socket.if_nametoindex(INTERFACE))
        route.link("del", index=socket.if_nametoindex(INWARD))


@operation(counts={})
async def line_hang_up() -> dict[str, Any]:
    """Put the line down; return the packets that the call carried and that it lost."""
    for line in _lines.values():
        return {"counts": _hang_up(line)}
    return {"counts": {}}


def _hang_up(line: Line) -> Counts:
    before, line.before_call = line.before_call, None
    if before is None:
        return {}
    # Packets lost from now on no longer belong to the call.
    lost = {name: count for name, count in counted().items() if name.startswith("lost")}
    nft(*rules(up=False))
    after = counted() | lost
    quotas = packetfilter.nft(f"list quotas table netdev {TABLE}")
    if "hang_up" in quotas:
        nft(f"delete quota netdev {TABLE} hang_up")
    # Data that the modem still holds is lost with the call.
    unshape()
    return difference(after, before)


@operation(counts={})
async def line_counts() -> dict[str, Any]:
    """Return the line's counts of packets carried and lost so far."""
    return {"counts": counted()}


@operation()
async def line_stop() -> dict[str, Any]:
    """Make the line an ordinary interface again."""
    if _lines:
        (handle,) = _lines
        await _lines.undo(handle)
    else:
        # A channel that died left it.
        await _stop(Line(0))
    return {}


async def _stop(line: Line) -> None:
    _hang_up(line)
    nft(f"delete table netdev {TABLE}")


# At most one.
_lines: Handles[Line] = Handles(__name__, _stop)


async def undo() -> None:
    """Hang up the line that an agent that died has left; packetfilter removes its table."""
    if (INTERFACES / INWARD).exists():
        unshape()
