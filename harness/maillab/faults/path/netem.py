"""A path with delay, loss, a low rate or disorder."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import get_args

from maillab.errors import BadInput
from maillab.faults import counters
from maillab.faults.path.packetfilter import check_address
from maillab.faults.path.partition import Direction
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness

_PERCENT_MAX = 100
_MOST, _FRESH_MIN_MS = 0.8, 8
# The mark on duplicates from our packet queue (images/inside/network/netqueue.py).
_COPY_MARK = 0x6D6D
_IMPAIRED = ("lost", "over the limit", "delayed", "duplicated", "reordered")


@fault(
    proof="test_path.py::test_symptom_one_way_is_slow",
    host="router",
    example={"delay_s": "0.01", "loss_percent": "1"},
)
@dataclass(frozen=True)
class Netem:
    """Delay, jitter, loss, rate, reordering and duplication, as defined by tc-netem(8).

    Acts on both directions separately, or on one: "in" is towards the host, "out" away from
    it. Restrict it to one ``peer`` (an address or a network). On a router it acts on packets
    that come from the peer and go to it.

    Jitter is uniform around the delay. Reordered packets overtake delayed ones. The rate
    counts whole IP packets; ``limit_packets`` limits those that wait. ``seed`` makes random
    choices repeatable. The witness's source names the program that acts: netem, if the kernel
    has it, for everything that leaves ("out" without a peer), except for duplication alone,
    which netem does not count; otherwise maillab's own packet queue.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss_percent: float = 0.0
    rate_bit_s: float = 0.0
    reorder_percent: float = 0.0
    duplicate_percent: float = 0.0
    limit_packets: int = 1000
    direction: Direction = "both"
    peer: str = ""
    seed: int = 1

    def __post_init__(self) -> None:
        check_address(self, "peer", self.peer)
        for name in ("loss_percent", "reorder_percent", "duplicate_percent"):
            if not 0 <= getattr(self, name) <= _PERCENT_MAX:
                raise BadInput(
                    f"{self!r}: {name} must be 0 to {_PERCENT_MAX}, not {getattr(self, name)}"
                )
        if self.direction not in get_args(Direction):
            raise BadInput(
                f"{self!r}: unknown direction {self.direction!r} "
                f"(choose from {', '.join(get_args(Direction))})"
            )
        wrong = [self.delay_s, self.loss_percent, self.rate_bit_s, self.duplicate_percent]
        if min(*wrong, self.jitter_s) < 0 or not any(wrong):
            raise BadInput(
                f"{self!r}: impairs nothing; give delay_s, loss_percent, rate_bit_s or "
                "duplicate_percent a value above 0"
            )
        if self.jitter_s > self.delay_s:
            raise BadInput(f"{self!r}: jitter_s must be at most delay_s: no packet arrives early")
        if self.reorder_percent and not self.delay_s:
            raise BadInput(f"{self!r}: reorder_percent needs delay_s: some packets overtake others")
        if self.limit_packets < 1:
            raise BadInput(f"{self!r}: limit_packets must be >= 1")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Impair the host's packets. Those that wait at the end of the block pass at once."""
        settings = asdict(self)
        direction, peer = settings.pop("direction"), settings.pop("peer")
        with counters.watching(host, self._wire()) as seen:
            helper = host.network.raw_socket_helper() if self.duplicate_percent else ""
            begun = host.agent.call(
                "impair", direction=direction, peer=peer, settings=settings, helper=helper
            )
            counted = f"packets impaired by {begun['by']}, seed {self.seed}"
            witness = Witness(repr(self), host.name, counted)
            try:
                yield witness
            finally:
                by_netem = begun["by"] == "netem"
                kernel = _qdisc(host, begun["name"]) if by_netem else seen()
                counts: dict[str, int] = host.agent.call("repair", name=begun["name"])["counts"]
                summary = ", ".join(f"{count} {what}" for what, count in counts.items())
                witness.source = f"{counted} ({summary})"
                # A packet that was delayed and duplicated counts twice. Netem delays every packet.
                whole = counts.get("seen", 0) if by_netem and self._delays else 0
                did = whole or sum(counts.get(what, 0) for what in _IMPAIRED)
                counters.agree(witness, did, self._seen(kernel, by_netem=by_netem))

    @property
    def _delays(self) -> bool:
        return bool(self.delay_s or self.rate_bit_s)

    def _seen(self, kernel: Counter[str], *, by_netem: bool) -> int:
        if by_netem:
            return kernel["drops"] + (kernel["packets"] if self._delays else 0)
        return kernel["late"] + kernel["copies"] + kernel["away"]

    def _wire(self) -> str:
        """Return rules on both sides of maillab's queue (images/inside/network/netqueue.py).

        Addresses and the IP id identify a packet. Packets in the set "away" were lost, or still
        wait. If the queue cuts a large packet, the first piece stands for all.
        """
        # A lower limit could not be distinguished from the pace of a busy machine.
        fresh_ms = max(_FRESH_MIN_MS, round((self.delay_s - self.jitter_s) * _MOST * 1000))
        packet = "ip saddr . ip daddr . ip id"
        kind = "typeof ip saddr . ip daddr . ip id; size 65535"
        chains = ""
        for name, hook, interface, field, before, after in (
            ("in", "prerouting", "iifname", "saddr", "raw - 11", "raw - 9"),
            ("out", "postrouting", "oifname", "daddr", "srcnat + 9", "srcnat + 11"),
        ):
            if self.direction not in ("both", name):
                continue
            which = f'{interface} != "lo" meta mark != {_COPY_MARK}'
            which += f" ip {field} {self.peer}" if self.peer else ""
            chains += f"""
  chain before_{name} {{
    type filter hook {hook} priority {before};
    {which} add @away {{ {packet} }} update @fresh {{ {packet} }}
  }}
  chain after_{name} {{
    type filter hook {hook} priority {after};
    {which} {packet} @away {packet} != @fresh counter comment "late"
    {which} delete @away {{ {packet} }}
  }}"""
        return f"""
table ip TABLE {{
  set away {{ {kind}; flags dynamic; }}
  set fresh {{ {kind}; flags dynamic,timeout; timeout {fresh_ms}ms; }}{chains}
  chain output {{
    type filter hook output priority 0;
    meta mark {_COPY_MARK} counter comment "copies"
  }}
}}
"""


def _qdisc(host: Host, name: str) -> Counter[str]:
    """Return netem's counts from tc(8) for the device at the end of the name."""
    device = name.rpartition(" ")[2]
    argv = ["tc", "-s", "-j", "qdisc", "show", "dev", device, "root"]
    shown = host.agent.call("run", argv=argv)["stdout"]
    kernel: Counter[str] = Counter()
    for qdisc in json.loads(shown or "[]"):
        if qdisc.get("kind") == "netem":
            kernel.update({what: qdisc.get(what, 0) for what in ("packets", "drops")})
    return kernel
