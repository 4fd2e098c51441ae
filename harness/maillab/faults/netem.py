"""A path that is slow, lossy, narrow or disorderly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import get_args

from maillab.errors import BadInput
from maillab.faults._filter import check_address
from maillab.faults.partition import Direction
from maillab.host import Host
from maillab.record import Witness

_PERCENT_MAX = 100
_IMPAIRED = ("lost", "over the limit", "delayed", "duplicated", "reordered")


@dataclass(frozen=True)
class Netem:
    """Delay, jitter, loss, rate, reordering and duplication, as tc-netem(8) means them.

    Both ways (each by itself), or one: "in" is towards the host, "out" away from it;
    for one ``peer`` (an address or a network), or everybody. On a router it concerns
    what comes from the peer and goes to it.

    Jitter is even, around the delay. Reordered packets go ahead of those delayed. The
    rate counts whole IP packets, ``limit_packets`` those that wait. Dice fall by the
    ``seed``. The witness's source names what does it: netem, where the kernel has it,
    for everything that leaves ("out" and no peer) unless it is only duplicated, which
    netem does not count; else a queue of our own.
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
                raise BadInput(f"{self!r}: {name}: from 0 to {_PERCENT_MAX}")
        if self.direction not in get_args(Direction):
            raise BadInput(f"{self!r}: direction: one of {', '.join(get_args(Direction))}")
        wrong = [self.delay_s, self.loss_percent, self.rate_bit_s, self.duplicate_percent]
        if min(*wrong, self.jitter_s) < 0 or not any(wrong):
            raise BadInput(
                f"{self!r}: impairs nothing; needs delay_s, loss_percent, rate_bit_s or "
                "duplicate_percent above 0"
            )
        if self.jitter_s > self.delay_s:
            raise BadInput(f"{self!r}: jitter_s: at most delay_s, packets do not arrive early")
        if self.reorder_percent and not self.delay_s:
            raise BadInput(f"{self!r}: reorder_percent: needs delay_s, which some go ahead of")
        if self.limit_packets < 1:
            raise BadInput(f"{self!r}: limit_packets: at least 1")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Impair the host's packets; what waits in the end goes on at once."""
        settings = asdict(self)
        direction, peer = settings.pop("direction"), settings.pop("peer")
        begun = host.agent.call("impair", direction=direction, peer=peer, settings=settings)
        counted = f"packets impaired by {begun['by']}, seed {self.seed}"
        witness = Witness(repr(self), host.name, counted)
        try:
            yield witness
        finally:
            counts: dict[str, int] = host.agent.call("repair", name=begun["name"])["counts"]
            told = ", ".join(f"{count} {what}" for what, count in counts.items())
            witness.source = f"{counted} ({told})"
            # One that was delayed and duplicated counts twice. Netem delays all that it sees.
            delayed = begun["by"] == "netem" and (self.delay_s or self.rate_bit_s)
            whole = counts.get("seen", 0) if delayed else 0
            witness.count = whole or sum(counts.get(what, 0) for what in _IMPAIRED)
