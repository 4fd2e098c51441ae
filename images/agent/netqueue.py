"""Delay, jitter, loss, rate, reordering and duplication of the host's packets.

By netem (tc-netem(8)) where the kernel has it and it can do what is asked: what
leaves, for every peer. Else by a queue of our own: the packet filter hands packets
over (NFQUEUE, netlink(7)) and gets a verdict on each when its time has come. They
come one by one, large ones already cut as they will be on the wire. If this program
dies, they pass untouched.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

import packetfilter

# Copies that we send ourselves carry it, so that they are not queued again.
COPY_MARK = 0x6D6D
PREROUTING, POSTROUTING = 0, 4

_DROP, _ACCEPT = 0, 1
_SO_MARK = 36
_SO_RCVBUFFORCE = 33
_SOL_NETLINK, _NETLINK_NO_ENOBUFS = 270, 5
_NETLINK_NETFILTER = 12
_NFNL_NFTABLES, _NFNL_QUEUE = 10, 3
_PACKET, _VERDICT, _CONFIG = range(3)
_REQUEST, _ACK, _CREATE_APPEND = 1, 4, 0xC00
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
# Enough for an IPv4 header, which says how long the packet is.
_HEADER_BYTES, _WHOLE_BYTES = 64, 0xFFFF
_KERNEL_QUEUE_PACKETS = 65536
_BUFFER_BYTES = 8 * 1024 * 1024
_PACKETS_AT_ONCE = 64


@dataclass
class Settings:
    """What is wrong with the path one way; as tc-netem(8) means it."""

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
    """Decides when each packet goes on; knows no clock and no socket.

    The dice are thrown in the same order for each packet, so that the seed and the
    number of a packet settle its fate.
    """

    settings: Settings
    counts: dict[str, int] = field(default_factory=dict)
    _busy_until_s: float = 0.0

    def __post_init__(self) -> None:
        self._dice = random.Random(self.settings.seed)  # noqa: S311  # to be repeated, not secret

    def plan(self, now_s: float, size_bytes: int, waiting_packets: int = 0) -> list[float]:
        """When a packet that comes now goes on: once, twice (its copy), or never."""
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
    """One queue of the kernel's: takes packets, gives each its verdict in time."""

    def __init__(self, number: int, settings: Settings) -> None:
        self._number = number
        self._shapers = {hook: Shaper(settings) for hook in (PREROUTING, POSTROUTING)}
        self._waiting: dict[int, asyncio.TimerHandle] = {}
        self._passing = False
        self._loop = asyncio.get_running_loop()
        self._socket = _netlink()
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        # What does not fit is lost, as on a path that is too busy, and no error.
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
        copied = _WHOLE_BYTES if settings.duplicate_percent else _HEADER_BYTES
        for attribute in (
            _attribute(1, struct.pack("!BxH", 1, socket.AF_INET)),
            _attribute(2, struct.pack("!IB", copied, 2)),
            _attribute(3, struct.pack("!I", _KERNEL_QUEUE_PACKETS)),
        ):
            self._socket.send(_message(_queue_type(_CONFIG), number, attribute, _REQUEST | _ACK))
            _check(self._socket.recv(4096))
        self._copies = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._copies.setsockopt(socket.SOL_SOCKET, _SO_MARK, COPY_MARK)
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._take)

    def counts(self) -> dict[str, int]:
        """What was done, both ways together."""
        total: dict[str, int] = {}
        for shaper in self._shapers.values():
            for what, count in shaper.counts.items():
                total[what] = total.get(what, 0) + count
        return total

    def let_pass(self) -> None:
        """Let everything go on at once, from now on and what waits."""
        self._passing = True
        for number, timer in list(self._waiting.items()):
            timer.cancel()
            self._verdict(number, _ACCEPT)

    def close(self) -> None:
        """Give the queue back to the kernel."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._copies.close()

    def _take(self) -> None:
        for _ in range(_PACKETS_AT_ONCE):
            try:
                data = self._socket.recv(_WHOLE_BYTES + 4096)
            except OSError:
                return
            if _HEADER.unpack_from(data)[1] != _queue_type(_PACKET):
                continue
            attributes = _attributes(data[_HEADER.size + 4 :])
            number, hook = struct.unpack("!IxxB", attributes[1])
            self._decide(number, hook, attributes[10])

    def _decide(self, number: int, hook: int, packet: bytes) -> None:
        now_s = self._loop.time()
        if self._passing:
            self._verdict(number, _ACCEPT)
            return
        (size_bytes,) = struct.unpack_from("!H", packet, 2)
        plan = self._shapers[hook].plan(now_s, size_bytes, len(self._waiting))
        if not plan:
            self._verdict(number, _DROP)
            return
        copy = packet if len(plan) > 1 else b""
        if plan[0] <= now_s:
            self._verdict(number, _ACCEPT, copy)
        else:
            timer = self._loop.call_at(plan[0], self._verdict, number, _ACCEPT, copy)
            self._waiting[number] = timer

    def _verdict(self, number: int, verdict: int, copy: bytes = b"") -> None:
        self._waiting.pop(number, None)
        attribute = _attribute(2, struct.pack("!II", verdict, number))
        self._socket.send(_message(_queue_type(_VERDICT), self._number, attribute))
        if copy:
            self._copies.sendto(copy, (socket.inet_ntoa(copy[16:20]), 0))


def _netlink() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    opened.bind((0, 0))
    return opened


def _queue_type(kind: int) -> int:
    return _NFNL_QUEUE << 8 | kind


def _attribute(kind: int, value: bytes) -> bytes:
    padding = b"\0" * (-len(value) % 4)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + padding


def _nested(kind: int, *attributes: bytes) -> bytes:
    return _attribute(0x8000 | kind, b"".join(attributes))


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        found[kind & 0x3FFF] = data[_ATTRIBUTE.size : length]
        data = data[length + -length % 4 :]
    return found


def _message(
    kind: int, resource: int, payload: bytes = b"", flags: int = _REQUEST, family: int = 0
) -> bytes:
    body = struct.pack("!BBH", family, 0, resource) + payload
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def _check(answer: bytes) -> None:
    (number,) = struct.unpack_from("=i", answer, _HEADER.size)
    if number:
        raise OSError(-number, "netfilter's queue or its NFQUEUE target is not in this kernel")


def _lead_to_queue(table: str, number: int) -> None:
    """Have a chain of ours hand over what comes to it.

    By nft_queue, or where the kernel lacks that, by iptables' target of the same
    purpose (nft_compat), which nft(8) can show but not add. Both let packets pass
    where nobody listens.
    """
    try:
        packetfilter.nft(f"add rule ip {table} handover queue flags bypass to {number}")
    except RuntimeError:
        target = (
            _attribute(1, b"NFQUEUE\0"),
            _attribute(2, struct.pack("!I", 3)),
            _attribute(3, struct.pack("=HHHxx", number, 1, 1)),
        )
        expression = _nested(1, _attribute(1, b"target\0"), _nested(2, *target))
        rule = (
            _attribute(1, table.encode() + b"\0")
            + _attribute(2, b"handover\0")
            + _nested(4, expression)
        )
        flags = _REQUEST | _ACK | _CREATE_APPEND
        with _netlink() as filter_:
            filter_.send(
                _message(0x10, _NFNL_NFTABLES)
                + _message(_NFNL_NFTABLES << 8 | 6, 0, rule, flags, socket.AF_INET)
                + _message(0x11, _NFNL_NFTABLES)
            )
            _check(filter_.recv(4096))


def rules(direction: str, peer: str) -> str:
    """What is handed over: neither our own copies nor what stays on the host."""
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


def netem(settings: Settings) -> list[str]:
    """The arguments of netem that mean the same."""
    words = ["netem", "limit", str(settings.limit_packets)]
    if settings.delay_s or settings.jitter_s:
        words += ["delay", f"{settings.delay_s * 1e6:.0f}us", f"{settings.jitter_s * 1e6:.0f}us"]
    if settings.loss_percent:
        words += ["loss", "random", f"{settings.loss_percent}%"]
    if settings.duplicate_percent:
        words += ["duplicate", f"{settings.duplicate_percent}%"]
    if settings.reorder_percent:
        words += ["reorder", f"{settings.reorder_percent}%"]
    if settings.rate_bit_s:
        words += ["rate", f"{settings.rate_bit_s:.0f}bit"]
    return [*words, "seed", str(settings.seed)]


def netem_counts(settings: Settings, direction: str, peer: str) -> bool:
    """Whether netem can do it, and its counters then show that it did.

    They count what passed, which all was delayed, and what was lost; copies they do not.
    """
    everything = direction == "out" and not peer
    return everything and bool(
        settings.delay_s or settings.rate_bit_s or not settings.duplicate_percent
    )


_queues: dict[str, Queue] = {}
_NETEM = "netem on "


async def _tc(*arguments: str) -> Optional[str]:
    process = await asyncio.create_subprocess_exec(
        "tc",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    out, _ = await process.communicate()
    return None if process.returncode else out.decode()


async def _by_netem(settings: Settings) -> str:
    """Have the kernel do it, if it can and nobody else's queue is there; else nothing."""
    (device, *others) = packetfilter.devices()
    shown = json.loads(await _tc("-j", "qdisc", "show", "dev", device, "root") or "[]")
    if others or any(one["kind"] != "noqueue" for one in shown):
        return ""
    added = await _tc("qdisc", "add", "dev", device, "root", *netem(settings))
    return "" if added is None else device


async def impair(
    direction: str, peer: str, settings: dict[str, Any], *, kernel: bool = True
) -> dict[str, Any]:
    """Impair packets from now on; returns a name for it and which program does it."""
    wrong = Settings(**settings)
    if kernel and netem_counts(wrong, direction, peer):
        device = await _by_netem(wrong)
        if device:
            return {"name": f"{_NETEM}{device}", "by": "netem"}
    table = (await packetfilter.filter_add(rules(direction, peer)))["table"]
    number = int(table.removeprefix(packetfilter.PREFIX))
    try:
        _queues[table] = Queue(number, wrong)
        _lead_to_queue(table, number)
    except BaseException:
        await _end(table)
        raise
    return {"name": table, "by": "the userspace queue"}


async def repair(name: str) -> dict[str, Any]:
    """Impair no more; what waits goes on at once. Returns what was done to how many packets."""
    if name.startswith(_NETEM):
        device = name.removeprefix(_NETEM)
        shown = json.loads(await _tc("-s", "-j", "qdisc", "show", "dev", device, "root") or "[]")
        await _tc("qdisc", "del", "dev", device, "root")
        seen = sum(one.get("packets", 0) + one.get("drops", 0) for one in shown)
        return {"counts": {"seen": seen, "lost": sum(one.get("drops", 0) for one in shown)}}
    return {"counts": await _end(name)}


async def _end(table: str) -> dict[str, int]:
    queue = _queues.pop(table, None)
    if queue is not None:
        # First, since the kernel drops what waits when a rule's hook goes.
        queue.let_pass()
    await packetfilter.filter_remove(table)
    if queue is None:
        return {}
    queue.close()
    return queue.counts()


async def heal() -> None:
    """End all of it, also what an agent that died has left."""
    for name in list(_queues):
        await repair(name)
    for device in packetfilter.devices():
        shown = json.loads(await _tc("-j", "qdisc", "show", "dev", device, "root") or "[]")
        if any(one["kind"] == "netem" for one in shown):
            await repair(f"{_NETEM}{device}")


OPERATIONS: dict[str, Callable[..., Any]] = {"impair": impair, "repair": repair}
