"""Rules of nftables and routes that a fault, or a cure, adds to the host and takes away again.

Each set of rules is a table of its own, so that they nest and go in any order, and
nobody else's are touched. Their counters say how often they acted.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from pathlib import Path
from typing import Any, Optional

PREFIX = "maillab_filter_"
# Marks our routes (ip-route(8) "protocol"); none of /etc/iproute2/rt_protos has it.
ROUTE_PROTOCOL = "109"

# By the table that came with it: a route and its MTU in bytes.
_narrowed: dict[str, tuple[list[str], int]] = {}


def nft(script: str, *, as_json: bool = False) -> str:
    """Have nftables do what a script says, as one transaction; returns what it lists."""
    # Only the agent's image has it; the rest of this module is tested without.
    from nftables import Nftables  # noqa: PLC0415

    filter_ = Nftables()
    filter_.set_json_output(as_json)
    status, out, error = filter_.cmd(script)
    if status:
        raise RuntimeError(
            f"nftables: {error.strip()} (if a feature is missing, it needs a newer kernel, "
            "or one that has it as a module)"
        )
    return str(out)


def tables(listed: str) -> list[tuple[str, str]]:
    """Family and name of each of our tables in a listing as JSON."""
    entries = [entry["table"] for entry in json.loads(listed)["nftables"] if "table" in entry]
    return [(one["family"], one["name"]) for one in entries if one["name"].startswith(PREFIX)]


def counters(listed: str) -> dict[str, int]:
    """The packets that a table's rules counted, by the rules' comments."""
    packets: dict[str, int] = {}
    for entry in json.loads(listed)["nftables"]:
        rule = entry.get("rule", {})
        for part in rule.get("expr", ()):
            if isinstance(part, dict) and isinstance(part.get("counter"), dict):
                comment = rule.get("comment", "")
                packets[comment] = packets.get(comment, 0) + part["counter"]["packets"]
    return packets


def filled(rules: str, table: str, devices: list[str]) -> str:
    """Rules with the words TABLE and DEVICES replaced."""
    rules = re.sub(r"\bTABLE\b", table, rules)
    return re.sub(r"\bDEVICES\b", "{ " + ", ".join(devices) + " }", rules)


def devices() -> list[str]:
    """The interfaces that lead away from the host."""
    return sorted(path.name for path in Path("/sys/class/net").iterdir() if path.name != "lo")


async def filter_add(rules: str, narrow: Optional[dict[str, Any]] = None) -> dict[str, Any]:
    """Add a table, in which ``TABLE`` is its name and ``DEVICES`` all interfaces but lo.

    ``narrow`` is a destination and the MTU, in bytes, of the way there from now on.
    Returns the table's name; where anything fails, nothing was added.
    """
    taken = {name for _, name in tables(nft("list tables", as_json=True))}
    name = next(f"{PREFIX}{n}" for n in itertools.count(1) if f"{PREFIX}{n}" not in taken)
    if narrow:
        await _narrow(name, **narrow)
    try:
        nft(filled(rules, name, devices()))
    except RuntimeError:
        await _widen(name)
        raise
    return {"table": name}


async def filter_remove(table: str) -> dict[str, Any]:
    """Take a table away again; returns the packets its rules counted, by their comments."""
    await _widen(table)
    packets: dict[str, int] = {}
    for family, name in tables(nft("list tables", as_json=True)):
        if name == table:
            packets = counters(nft(f"list table {family} {name}", as_json=True))
            nft(f"delete table {family} {name}")
    return {"packets": packets}


async def _narrow(table: str, destination: str, mtu_bytes: int) -> None:
    """Route to a destination as before, but with an MTU of its own, or the least of several."""
    (way,) = json.loads(await _ip("-j", "route", "get", destination.partition("/")[0]))
    device_mtu_bytes = int(Path(f"/sys/class/net/{way['dev']}/mtu").read_text())
    if mtu_bytes >= device_mtu_bytes:
        raise RuntimeError(
            f"an MTU of {mtu_bytes} narrows nothing: {way['dev']} has {device_mtu_bytes}; "
            "take a smaller one"
        )
    via = ["via", way["gateway"]] if "gateway" in way else []
    route = [destination, *via, "dev", way["dev"], "protocol", ROUTE_PROTOCOL]
    others = _mtus_bytes(route)
    # Replaced is the first route to a destination: ours where there is one, else somebody's.
    verb = "replace" if others else "add"
    await _ip("route", verb, *route, "mtu", str(min([mtu_bytes, *others])))
    _narrowed[table] = route, mtu_bytes


async def _widen(table: str) -> None:
    if table not in _narrowed:
        return
    route, _ = _narrowed.pop(table)
    if others := _mtus_bytes(route):
        await _ip("route", "replace", *route, "mtu", str(min(others)))
    else:
        await _ip("route", "del", *route)


def _mtus_bytes(route: list[str]) -> list[int]:
    return [mtu_bytes for same, mtu_bytes in _narrowed.values() if same == route]


async def _ip(*arguments: str, stdin: str = "") -> str:
    process = await asyncio.create_subprocess_exec(
        *("ip", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate(stdin.encode())
    if process.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {error.decode().strip()}")
    return out.decode()


async def heal() -> None:
    """Remove what was left, by us or by whoever was here before us, and learned path MTUs."""
    _narrowed.clear()
    for family, name in tables(nft("list tables", as_json=True)):
        nft(f"delete table {family} {name}")
    await _ip("route", "flush", "protocol", ROUTE_PROTOCOL)
    await _forget_path_mtus()


async def _forget_path_mtus() -> None:
    """Set routes anew that path MTUs were learned for; "ip route flush cache" may not."""
    if await _ip("route", "show", "cache"):
        routes = [one for one in (await _ip("route", "show")).splitlines() if " via " in one]
        await _ip("-batch", "-", stdin="".join(f"route del {r}\nroute add {r}\n" for r in routes))
        await _ip("tcp_metrics", "flush")


OPERATIONS = {operation.__name__: operation for operation in (filter_add, filter_remove)}
