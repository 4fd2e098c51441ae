"""A host's telephone line: down but for calls, slow, and hung up where one wants.

The line is the host's interface. While it is down, packets are lost in the hooks
of nftables' netdev family, where their senders are not told. In a call tbf(8)
gives each direction the line's rate; what comes in goes through an ifb device
first, since only what leaves a device can be made to wait.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import packetfilter

TABLE = "maillab_line"
INTERFACES = Path("/sys/class/net")
INTERFACE = "eth0"
INWARD = "maillab-line"
# A modem's buffer: holds what a mail session has under way, without loss.
BUFFER_BYTES = 200_000
# A packet's own header, which tbf(8) counts along, with room to spare.
HEADER_BYTES = 100

Counts = dict[str, dict[str, int]]

# The rate of the line there is, and the counts with which its call began.
_rates: list[int] = []
_calls: list[Counts] = []


async def tool(*argv: str) -> None:
    """Run ip(8) or tc(8)."""
    process = await asyncio.create_subprocess_exec(*argv, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {said.decode().strip()}")


def nft(*commands: str) -> None:
    """Have nftables run commands as one transaction."""
    packetfilter.nft("\n".join(commands))


def rules(*, up: bool, hang_up: bool = False) -> list[str]:
    """What happens to IP packets; ARP passes, which a telephone line does not have."""
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
    """Packets and bytes, carried and lost, out and in, since the line is one."""
    listed = json.loads(packetfilter.nft(f"list counters table netdev {TABLE}", as_json=True))
    counters = [entry["counter"] for entry in listed["nftables"] if "counter" in entry]
    return {one["name"]: {unit: one[unit] for unit in ("packets", "bytes")} for one in counters}


def difference(after: Counts, before: Counts) -> Counts:
    """What was counted in between."""
    return {
        name: {unit: count - before[name][unit] for unit, count in units.items()}
        for name, units in after.items()
    }


async def line_start(rate_bit_s: int) -> dict[str, Any]:
    """Make the interface a line, and leave it down."""
    if _rates:
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
    _rates.append(rate_bit_s)
    return {}


async def line_call(hang_up_after_bytes: int) -> dict[str, Any]:
    """Put the line up until it is hung up; by itself after so many bytes, unless that is 0."""
    if _calls:
        raise RuntimeError("the line is up already: one call at a time")
    # A packet larger than the burst would never pass.
    burst = int((INTERFACES / INTERFACE / "mtu").read_text()) + HEADER_BYTES
    shape = ("tbf", "rate", f"{_rates[0]}bit", "burst", str(burst), "limit", str(BUFFER_BYTES))
    await tool("tc", "qdisc", "add", "dev", INTERFACE, "root", *shape)
    await tool("ip", "link", "add", INWARD, "type", "ifb")
    await tool("tc", "qdisc", "add", "dev", INWARD, "root", *shape)
    await tool("ip", "link", "set", INWARD, "up")
    _calls.append(counted())
    hang_up = hang_up_after_bytes > 0
    quota = f"add quota netdev {TABLE} hang_up {{ over {hang_up_after_bytes} bytes; }}"
    nft(*([quota] if hang_up else []), *rules(up=True, hang_up=hang_up))
    return {}


async def line_hang_up() -> dict[str, Any]:
    """Put the line down; returns what passed in the call, and what was lost behind it."""
    if not _calls:
        return {}
    before = _calls.pop()
    # What is lost from here on is no longer of the call.
    lost = {name: count for name, count in counted().items() if name.startswith("lost")}
    nft(*rules(up=False))
    after = counted() | lost
    quotas = packetfilter.nft(f"list quotas table netdev {TABLE}")
    if "hang_up" in quotas:
        nft(f"delete quota netdev {TABLE} hang_up")
    # What the modem still holds goes with the call.
    await tool("tc", "qdisc", "del", "dev", INTERFACE, "root")
    await tool("ip", "link", "del", INWARD)
    return dict(difference(after, before))


async def line_counts() -> dict[str, Any]:
    """What the line carried and lost so far."""
    return dict(counted())


async def line_stop() -> dict[str, Any]:
    """Make the line an ordinary interface again; returns what it carried and lost."""
    await line_hang_up()
    counts = counted()
    nft(f"delete table netdev {TABLE}")
    _rates.clear()
    return dict(counts)


async def heal() -> None:
    """Lift what a scenario left."""
    if _rates:
        await line_stop()


OPERATIONS = {
    operation.__name__: operation
    for operation in (line_start, line_call, line_hang_up, line_counts, line_stop)
}
