"""Delay, jitter, loss, rate, reordering and duplication of the host's packets.

netem (tc-netem(8)) does it if the kernel has it and it can: for outgoing packets, to every
peer. Otherwise this program does: the packet filter queues packets (NFQUEUE, netlink(7))
and gets a verdict on each when its time has come. The packets arrive one by one; the kernel
has already cut large ones to their size on the wire. If this program dies, packets pass
untouched.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Optional

import netlink
import packetfilter
import rawsockets
from operations import Handles, operation

# The mark on duplicates that this program sends, so that they are not queued again.
COPY_MARK = 0x6D6D
PREROUTING, POSTROUTING = 0, 4

_SO_MARK = 36
# Enough for an IPv4 header, which contains the packet's length.
_HEADER_BYTES, _WHOLE_BYTES = 64, 0xFFFF
_PACKETS_AT_ONCE = 64


@dataclass
class Settings:
    """The impairments of one direction, as defined by tc-netem(8)."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss_percent: float = 0.0
    rate_bit_s: float = 0.0
    reorder_percent: float = 0.0
    duplicate_percent: float = 0.0
    limit_packets: int = 1000
    seed: int = 1


@dataclass
class Shaper:
    """Decides when each packet is sent; uses neither a clock nor a socket.

    It draws the random numbers in the same order for each packet, so that the seed and the
    number of a packet determine its fate.
    """

    settings: Settings
    counts: dict[str, int] = field(default_factory=dict)
    _busy_until_s: float = 0.0

    def __post_init__(self) -> None:
        self._dice = random.Random(self.settings.seed)  # noqa: S311  # repeatable, not secret

    def plan(self, now_s: float, size_bytes: int, waiting_packets: int = 0) -> list[float]:
        """Return when a packet that arrives now is sent: once, twice (its copy), or never."""
        wrong = self.settings
        lost, copied, early, wobble = (self._dice.random() for _ in range(4))
        self._count("seen")
        if lost * 100 < wrong.loss_percent:
            self._count("lost")
            return []
        if waiting_packets >= wrong.limit_packets:
            self._count("over the limit")
            return []
        leaves_s = now_s
        if wrong.rate_bit_s:
            leaves_s = max(now_s, self._busy_until_s) + size_bytes * 8 / wrong.rate_bit_s
            self._busy_until_s = leaves_s
        if early * 100 < wrong.reorder_percent:
            self._count("reordered")
        else:
            leaves_s += max(0.0, wrong.delay_s + wrong.jitter_s * (2 * wobble - 1))
        if leaves_s > now_s:
            self._count("delayed")
        if copied * 100 < wrong.duplicate_percent:
            self._count("duplicated")
            return [leaves_s, leaves_s]
        return [leaves_s]

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


class Queue:
    """One queue of the kernel: takes packets, and gives each its verdict in time."""

    def __init__(
        self, number: int, settings: Settings, copies: Optional[socket.socket] = None
    ) -> None:
        # Sends whole packets; needed for duplicates only.
        self._copies = copies
        self._shapers = {hook: Shaper(settings) for hook in (PREROUTING, POSTROUTING)}
        self._waiting: dict[int, asyncio.TimerHandle] = {}
        self._passing = False
        self._loop = asyncio.get_running_loop()
        copied_bytes = _WHOLE_BYTES if settings.duplicate_percent else _HEADER_BYTES
        self._kernel = netlink.packet_queue(number, copied_bytes)
        if copies is not None:
            copies.setsockopt(socket.SOL_SOCKET, _SO_MARK, COPY_MARK)
        self._loop.add_reader(self._kernel.fileno(), self._take)

    def counts(self) -> dict[str, int]:
        """Return what was done to how many packets, both directions together."""
        total: dict[str, int] = {}
        for shaper in self._shapers.values():
            for what, count in shaper.counts.items():
                total[what] = total.get(what, 0) + count
        return total

    def let_pass(self) -> None:
        """Send all waiting packets at once, and later ones without a delay."""
        self._passing = True
        for number, timer in list(self._waiting.items()):
            timer.cancel()
            self._verdict(number, passes=True)

    def close(self) -> None:
        """Return the queue to the kernel."""
        self._loop.remove_reader(self._kernel.fileno())
        self._kernel.close()
        if self._copies is not None:
            self._copies.close()

    def _take(self) -> None:
        for packet in self._kernel.packets(_PACKETS_AT_ONCE):
            self._decide(*packet)

    def _decide(self, number: int, hook: int, packet: bytes) -> None:
        now_s = self._loop.time()
        if self._passing:
            self._verdict(number, passes=True)
            return
        (size_bytes,) = struct.unpack_from("!H", packet, 2)
        plan = self._shapers[hook].plan(now_s, size_bytes, len(self._waiting))
        if not plan:
            self._verdict(number, passes=False)
            return
        copy = packet if len(plan) > 1 else b""
        if plan[0] <= now_s:
            self._verdict(number, passes=True, copy=copy)
        else:
            goes_on = functools.partial(self._verdict, number, passes=True, copy=copy)
            self._waiting[number] = self._loop.call_at(plan[0], goes_on)

    def _verdict(self, number: int, *, passes: bool, copy: bytes = b"") -> None:
        self._waiting.pop(number, None)
        self._kernel.verdict(number, passes=passes)
        if copy and self._copies is not None:
            self._copies.sendto(copy, (socket.inet_ntoa(copy[16:20]), 0))


def _lead_to_queue(table: str, number: int) -> None:
    """Let a chain of this program queue the packets that reach it.

    It uses nft_queue. If the kernel lacks that, it uses the target of iptables for the same
    purpose (nft_compat), which nft(8) can show but not add. Both let packets pass if no
    program listens.
    """
    try:
        packetfilter.nft(f"add rule ip {table} handover queue flags bypass to {number}")
    except RuntimeError:
        netlink.hand_over(table, "handover", number)


def rules(direction: str, peer: str) -> str:
    """Return the rules that queue packets, except our own copies and those on loopback."""
    chains = ""
    for name, hook, interface, field_ in (
        ("in", "prerouting", "iifname", "saddr"),
        ("out", "postrouting", "oifname", "daddr"),
    ):
        if direction in ("both", name):
            which = f"ip {field_} {peer}" if peer else ""
            chains += f"""
  chain {hook} {{
    type filter hook {hook} priority {"raw - 10" if name == "in" else "srcnat + 10"};
    {interface} != "lo" meta mark != {COPY_MARK} {which} counter jump handover
  }}"""
    return f"table ip TABLE {{\n  chain handover {{\n  }}{chains}\n}}\n"


def netem(settings: Settings) -> dict[str, Any]:
    """Return the same impairments as options of netem (netlinkmessages.NetemMessage)."""
    attributes: list[tuple[str, Any]] = []
    if settings.delay_s or settings.jitter_s:
        attributes.append(("TCA_NETEM_LATENCY64", round(settings.delay_s * 1e9)))
    if settings.jitter_s:
        attributes.append(("TCA_NETEM_JITTER64", round(settings.jitter_s * 1e9)))
    if settings.reorder_percent:
        odds = {"probability": _share(settings.reorder_percent)}
        attributes.append(("TCA_NETEM_REORDER", odds))
    if settings.rate_bit_s:
        # The field has no more bits: at 34 Gbit/s there is no limit.
        rate_bytes_s = min(round(settings.rate_bit_s) // 8, 0xFFFFFFFF)
        attributes.append(("TCA_NETEM_RATE", {"rate": rate_bytes_s}))
    attributes.append(("TCA_NETEM_PRNG_SEED", settings.seed))
    return {
        "limit": settings.limit_packets,
        "loss": _share(settings.loss_percent),
        "duplicate": _share(settings.duplicate_percent),
        # Every packet may be the one that overtakes.
        "gap": 1 if settings.reorder_percent else 0,
        "attrs": attributes,
    }


def _share(percent: float) -> int:
    """Return a probability as the kernel stores it: 2^32 - 1 is always."""
    return round(percent / 100 * 0xFFFFFFFF)


def netem_counts(settings: Settings, direction: str, peer: str) -> bool:
    """Return True if netem can do it, and its counters then prove that it did.

    netem counts the packets that passed, all of them delayed, and those lost, but no copies.
    """
    if direction != "out" or peer:
        return False
    if settings.reorder_percent and not settings.delay_s:
        # Without a delay no packet waits, so none can be overtaken; tc(8) refuses that, too.
        return False
    return bool(settings.delay_s or settings.rate_bit_s or not settings.duplicate_percent)


_NETEM = "netem on "


def _by_netem(settings: Settings) -> str:
    """Let the kernel do it if it can and no other queue is in place; return "" otherwise."""
    (device, *others) = packetfilter.devices()
    index = socket.if_nametoindex(device)
    with contextlib.suppress(RuntimeError), netlink.rtnetlink(f"netem on {device}") as route:
        free = all(qdisc.kind == "noqueue" for qdisc in netlink.root_qdiscs(route, index))
        if free and not others:
            netlink.add_netem(route, index, netem(settings))
            return device
    return ""


@operation(name="", by="")
async def impair(
    direction: str, peer: str, settings: dict[str, Any], *, kernel: bool = True, helper: str = ""
) -> dict[str, Any]:
    """Impair packets from now on; return a name for it and the program that does it.

    Duplicates need a ``helper``, given by its token (rawsockets.py).
    """
    wrong = Settings(**settings)
    if wrong.duplicate_percent and not helper:
        raise ValueError("duplicate_percent needs a helper container")
    copies = await rawsockets.raw_socket(helper) if helper else None
    if kernel and netem_counts(wrong, direction, peer):
        device = _by_netem(wrong)
        if device:
            if copies is not None:
                copies.close()
            return {"name": _by_kernel.add(device, f"{_NETEM}{device}"), "by": "netem"}
    table = (await packetfilter.filter_add(rules(direction, peer)))["table"]
    number = int(table.removeprefix(packetfilter.PREFIX))
    try:
        _queues.add((table, Queue(number, wrong, copies)), table)
        _lead_to_queue(table, number)
    except BaseException:
        await repair(table)
        raise
    return {"name": table, "by": "the userspace queue"}


@operation(counts={})
async def repair(name: str) -> dict[str, Any]:
    """Stop impairing; send waiting packets at once. Return what was done to how many packets."""
    if name in _queues:
        return {"counts": await _queues.undo(name)}
    if name in _by_kernel:
        return {"counts": await _by_kernel.undo(name)}
    # Another channel set it, or there is none.
    if name.startswith(_NETEM):
        return {"counts": _remove_netem(name.removeprefix(_NETEM))}
    await packetfilter.filter_remove(name)
    return {"counts": {}}


def _remove_netem(device: str) -> dict[str, int]:
    index = socket.if_nametoindex(device)
    with netlink.rtnetlink(f"netem on {device}") as route:
        qdiscs = netlink.root_qdiscs(route, index)
        if any(qdisc.kind == "netem" for qdisc in qdiscs):
            route.tc("del", index=index)
    lost = sum(qdisc.drops for qdisc in qdiscs)
    return {"seen": lost + sum(qdisc.packets for qdisc in qdiscs), "lost": lost}


async def _end_queue(table_and_queue: tuple[str, Queue]) -> dict[str, int]:
    table, queue = table_and_queue
    # First, since the kernel drops waiting packets when a rule's hook is removed.
    queue.let_pass()
    await packetfilter.filter_remove(table)
    queue.close()
    return queue.counts()


async def _end_netem(device: str) -> dict[str, int]:
    return _remove_netem(device)


# The queues by table.
_queues: Handles[tuple[str, Queue]] = Handles(__name__, _end_queue)
# The devices on which the kernel impairs packets for this channel.
_by_kernel: Handles[str] = Handles(__name__, _end_netem)


async def undo() -> None:
    """Remove the netem that an agent that died has left in the kernel."""
    for device in packetfilter.devices():
        _remove_netem(device)
