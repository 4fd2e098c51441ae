"""Kernel messages that pyroute2 lacks, declared as its message classes.

pyroute2 finds the class of a nested attribute by the name in ``nla_map``. Import this module
through netlink.py.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink import (
    NETLINK_NETFILTER,
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    genlmsg,
    nla,
)
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import GenericNetlinkSocket
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, NFNL_SUBSYS_QUEUE, nfgen_msg
from pyroute2.netlink.nlsocket import NetlinkSocket
from pyroute2.netlink.rtnl import RTM_NEWQDISC, TC_H_ROOT
from pyroute2.netlink.rtnl.tcmsg import tcmsg

_DROP, _ACCEPT = 0, 1
# linux/netfilter/nfnetlink_queue.h, nf_tables.h, nfnetlink.h
PACKET, VERDICT, CONFIG = (NFNL_SUBSYS_QUEUE << 8 | kind for kind in range(3))
_BIND, _COPY_PACKET = 1, 2
_NEW_RULE = NFNL_SUBSYS_NFTABLES << 8 | 6
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NFQUEUE_REVISION = 3
# linux/tcp_metrics.h
_TCP_METRICS_DELETE = 2
_SO_RCVBUFFORCE = 33
_SOL_NETLINK, _NETLINK_NO_ENOBUFS = 270, 5
_BUFFER_BYTES = 8 * 1024 * 1024
_KERNEL_QUEUE_PACKETS = 65536
_MESSAGE_BYTES_MAX = 0xFFFF + 4096


class PacketMessage(nfgen_msg):
    """A packet that waits for its verdict."""

    nla_map = ((1, "NFQA_PACKET_HDR", "packet"), (10, "NFQA_PAYLOAD", "cdata"))

    class packet(nla):  # noqa: N801  # named as in nla_map
        """The packet's number, and the hook that queued it."""

        fields = (("number", "!I"), ("protocol", "!H"), ("hook", "B"))


class VerdictMessage(nfgen_msg):
    """A verdict on a packet."""

    nla_map = ((2, "NFQA_VERDICT_HDR", "verdict"),)

    class verdict(nla):  # noqa: N801  # named as in nla_map
        """The verdict, and the packet's number."""

        fields = (("verdict", "!I"), ("number", "!I"))


class ConfigMessage(nfgen_msg):
    """Settings of a queue."""

    nla_map = (
        (1, "NFQA_CFG_CMD", "command"),
        (2, "NFQA_CFG_PARAMS", "parameters"),
        (3, "NFQA_CFG_QUEUE_MAXLEN", "be32"),
    )

    class command(nla):  # noqa: N801  # named as in nla_map
        """Bind the queue to this socket."""

        fields = (("command", "B"), ("padding", "B"), ("family", "!H"))

    class parameters(nla):  # noqa: N801  # named as in nla_map
        """The number of bytes to copy from each packet."""

        fields = (("copied_bytes", "!I"), ("mode", "B"))


class RuleMessage(nfgen_msg):
    """A rule with one expression, a target of iptables (nft_compat)."""

    nla_map = (
        (1, "NFTA_RULE_TABLE", "asciiz"),
        (2, "NFTA_RULE_CHAIN", "asciiz"),
        (4, "NFTA_RULE_EXPRESSIONS", "*expression"),
    )

    class expression(nla):  # noqa: N801  # named as in nla_map
        """An expression."""

        nla_flags = NLA_F_NESTED
        nla_map = ((1, "NFTA_EXPR_NAME", "asciiz"), (2, "NFTA_EXPR_DATA", "target"))

        class target(nla):  # noqa: N801  # named as in nla_map
            """A target of iptables, by name and revision."""

            nla_flags = NLA_F_NESTED
            nla_map = (
                (1, "NFTA_TARGET_NAME", "asciiz"),
                (2, "NFTA_TARGET_REV", "be32"),
                (3, "NFTA_TARGET_INFO", "nfqueue"),
            )

            class nfqueue(nla):  # noqa: N801  # named as in nla_map
                """The settings of NFQUEUE, with the padding of its struct (xt_NFQUEUE.h)."""

                fields = (
                    ("number", "H"),
                    ("queues", "H"),
                    ("bypass", "H"),
                    ("padding", "H"),
                )


class NetemMessage(tcmsg):
    """A qdisc of the kind netem; pyroute2's own lacks the seed and times in nanoseconds."""

    nla_map = ((1, "TCA_KIND", "asciiz"), (2, "TCA_OPTIONS", "netem"))

    class netem(nla):  # noqa: N801  # named as in nla_map
        """The options (pkt_sched.h)."""

        fields = tuple(
            (name, "I") for name in ("delay", "limit", "loss", "gap", "duplicate", "jitter")
        )
        nla_map = (
            (3, "TCA_NETEM_REORDER", "reorder"),
            (6, "TCA_NETEM_RATE", "rate"),
            (10, "TCA_NETEM_LATENCY64", "int64"),
            (11, "TCA_NETEM_JITTER64", "int64"),
            (14, "TCA_NETEM_PRNG_SEED", "uint64"),
        )

        class reorder(nla):  # noqa: N801  # named as in nla_map
            """The probability that a packet is sent at once."""

            fields = (("probability", "I"), ("correlation", "I"))

        class rate(nla):  # noqa: N801  # named as in nla_map
            """The rate in bytes per second."""

            fields = (
                ("rate", "I"),
                ("packet_overhead", "i"),
                ("cell_size", "I"),
                ("cell_overhead", "i"),
            )


class Packet(NamedTuple):
    """A packet that waits for its verdict, and the copied part of it."""

    number: int
    hook: int
    content: bytes


class PacketQueue:
    """A queue of the packet filter (NFQUEUE): yields packets, takes verdicts."""

    def __init__(self, number: int, copied_bytes: int) -> None:
        self._number = number
        self._socket = NetlinkSocket(family=NETLINK_NETFILTER)
        try:
            self._bind(copied_bytes)
        except BaseException:
            self._socket.close()
            raise

    def _bind(self, copied_bytes: int) -> None:
        self._socket.bind()
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        # A packet that does not fit is lost, as on a busy path; that is no error.
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
        with in_this_kernel():
            for setting in config(copied_bytes):
                message = ConfigMessage()
                message["res_id"] = self._number
                message["attrs"] = [setting]
                self._socket.nlm_request(message, CONFIG, NLM_F_REQUEST | NLM_F_ACK)
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor, which is readable while packets wait."""
        return int(self._socket.fileno())

    def packets(self, at_most: int) -> Iterator[Packet]:
        """Yield the packets that have arrived."""
        for _ in range(at_most):
            try:
                data = self._socket.recv(_MESSAGE_BYTES_MAX)
            except OSError:
                return
            if packet := parse(data):
                yield packet

    def verdict(self, number: int, *, passes: bool) -> None:
        """Let a packet pass, or drop it."""
        self._socket.sendto(verdict_on(self._number, number, passes=passes), (0, 0))

    def close(self) -> None:
        """Return the queue to the kernel."""
        self._socket.close()


@contextlib.contextmanager
def in_this_kernel() -> Iterator[None]:
    """Turn the kernel's refusal into an error that names the missing feature."""
    try:
        yield
    except NetlinkError as error:
        raise OSError(
            error.code, "this kernel lacks netfilter's queue or its NFQUEUE target"
        ) from None


def config(copied_bytes: int) -> list[tuple[str, Any]]:
    """Return the settings of a queue, in the order that the kernel requires."""
    return [
        ("NFQA_CFG_CMD", {"command": _BIND, "family": socket.AF_INET}),
        ("NFQA_CFG_PARAMS", {"copied_bytes": copied_bytes, "mode": _COPY_PACKET}),
        ("NFQA_CFG_QUEUE_MAXLEN", _KERNEL_QUEUE_PACKETS),
    ]


def parse(data: bytes) -> Optional[Packet]:
    """Return the packet in a message, or None for another kind of message."""
    message = PacketMessage(data)
    message.decode()
    if message["header"]["type"] != PACKET:
        return None
    header = message.get_attr("NFQA_PACKET_HDR")
    return Packet(header["number"], header["hook"], message.get_attr("NFQA_PAYLOAD"))


def verdict_on(queue: int, number: int, *, passes: bool) -> bytes:
    """Return the message with a queue's verdict on a packet."""
    message = VerdictMessage()
    message["header"] = {"type": VERDICT, "flags": NLM_F_REQUEST}
    message["res_id"] = queue
    verdict = {"verdict": _ACCEPT if passes else _DROP, "number": number}
    message["attrs"] = [("NFQA_VERDICT_HDR", verdict)]
    message.encode()
    return bytes(message.data)


def queue_rule(table: str, chain: str, number: int) -> RuleMessage:
    """Return the rule that queues packets, and lets them pass if no program listens."""
    nfqueue = {"number": number, "queues": 1, "bypass": 1}
    target = [
        ("NFTA_TARGET_NAME", "NFQUEUE"),
        ("NFTA_TARGET_REV", _NFQUEUE_REVISION),
        ("NFTA_TARGET_INFO", nfqueue),
    ]
    expression = [("NFTA_EXPR_NAME", "target"), ("NFTA_EXPR_DATA", {"attrs": target})]
    message = RuleMessage()
    message["nfgen_family"] = socket.AF_INET
    message["header"] = {
        "type": _NEW_RULE,
        "flags": NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND,
    }
    message["attrs"] = [
        ("NFTA_RULE_TABLE", table),
        ("NFTA_RULE_CHAIN", chain),
        ("NFTA_RULE_EXPRESSIONS", [{"attrs": expression}]),
    ]
    return message


def add_queue_rule(table: str, chain: str, number: int) -> None:
    """Add the rule in a transaction of its own."""
    with NetlinkSocket(family=NETLINK_NETFILTER) as netfilter, in_this_kernel():
        netfilter.bind()
        rule = queue_rule(table, chain, number)
        batch = [_batch(_BATCH_BEGIN), rule, _batch(_BATCH_END)]
        # The generator sends as it is read.
        list(netfilter.nlm_request_batch(batch))


def _batch(kind: int) -> nfgen_msg:
    message = nfgen_msg()
    message["header"] = {"type": kind, "flags": NLM_F_REQUEST}
    message["res_id"] = NFNL_SUBSYS_NFTABLES
    return message


def netem_qdisc(index: int, options: dict[str, Any]) -> NetemMessage:
    """Return the message that makes netem a device's root."""
    message = NetemMessage()
    message["index"] = index
    message["parent"] = TC_H_ROOT
    message["attrs"] = [("TCA_KIND", "netem"), ("TCA_OPTIONS", options)]
    return message


def add_netem(route: IPRoute, index: int, options: dict[str, Any]) -> None:
    """Make netem a device's root."""
    flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    route.nlm_request(netem_qdisc(index, options), msg_type=RTM_NEWQDISC, msg_flags=flags)


def delete_tcp_metrics() -> None:
    """Delete TCP's memory of all peers."""
    with GenericNetlinkSocket() as generic:
        generic.bind("tcp_metrics", genlmsg)
        message = genlmsg()
        message["cmd"] = _TCP_METRICS_DELETE
        message["version"] = 1
        generic.nlm_request(message, generic.prid, NLM_F_REQUEST | NLM_F_ACK)
